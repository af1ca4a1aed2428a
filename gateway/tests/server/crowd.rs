//! Many clients at their bounds at once: what they may take together is bounded too, and who wants little is served.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::capped::{LARGE, Talker, watch};
use super::{Gateway, PATIENCE, PLAIN, Ports, Scratch, ready, wait_for};

/// The memory that the gateway may take, in KiB: the budget of 16 MiB and as much for copies, what it takes when idle, and half a
/// mebibyte for each connection with what the allocator keeps. The crowd asks for four times as much.
const CAP: u64 = 110 << 10;
/// How many clients there are.
const CROWD: usize = 100;
/// The bytes that each sends of its request, and then nothing more.
const SENT: usize = 900 << 10;

fn head(host: SocketAddr, tool: &str, length: usize) -> String {
    format!(
        "POST /servers/s/mcp HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n\
         Mcp-Name: {tool}\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn body(tool: &str, padding: usize) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let padding = "x".repeat(padding);
    format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}","arguments":{{"padding":"{padding}"}},{meta}}}}}"#
    )
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Calls, and gives the whole answer.
fn call(to: SocketAddr, tool: &str) -> String {
    let mut stream = connect(to);
    let body = body(tool, 0);
    stream
        .write_all((head(to, tool, body.len()) + &body).as_bytes())
        .unwrap();
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Was it turned away for want of memory, by now?
fn is_refused(stream: &TcpStream) -> bool {
    let mut room = [0; 64];
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut room).unwrap_or(0);
    stream.set_nonblocking(false).unwrap();
    room[..seen].starts_with(b"HTTP/1.1 503")
}

#[test]
fn a_crowd_with_large_requests_and_answers_takes_no_more_than_the_budget() {
    let talker = Talker::start();
    let scratch = Scratch::new("crowd");
    let ports = Ports::new();
    let more = format!(
        "limits: {{memoryBudget: 16777216}}\n\
         rules: [{{name: r, action: Allow, principals: {{subjects: [anonymous], method: anonymous}}, servers: ['*'], tools: ['*']}}]\n\
         servers: [{{name: s, namespace: default, prefix: s, addressPolicy: Loopback, limits: {{maxConcurrent: 1000}}, url: 'http://{}/mcp'}}]\n",
        talker.address
    );
    let text = ports.config(PLAIN, "{grace: 500ms, deadline: 20s}") + &more;
    let mut gateway = Gateway::start(&scratch.write("gateway.yaml", &text));
    gateway.says("started");
    wait_for("readiness", || ready(&ports));
    gateway.says("server verified");
    let over = Arc::<AtomicBool>::default();
    let watched = watch(gateway.child.id(), &over);

    // Each sends most of a large request and then waits: together six times the budget.
    let large = body("small", SENT);
    let mut senders: Vec<TcpStream> = (0..CROWD)
        .map(|_| {
            let mut stream = connect(ports.public);
            let text = head(ports.public, "small", large.len()) + &large;
            let most = text.len() - 100;
            stream.write_all(&text.as_bytes()[..most]).ok();
            stream
        })
        .collect();
    wait_for("most to be turned away", || {
        senders.iter().filter(|stream| is_refused(stream)).count() > CROWD * 2 / 3
    });
    let (refused, mut held): (Vec<_>, Vec<_>) = senders.drain(..).partition(is_refused);
    assert!(held.len() > 3, "{} are still there", held.len());
    // Whoever wants little is served meanwhile.
    assert!(call(ports.public, "small").contains(r#""id":"c","result":"#));
    let said = rest(&mut refused.into_iter().next().unwrap()).to_ascii_lowercase();
    assert!(
        said.contains("retry-after") && said.contains("overloaded"),
        "{said}"
    );
    // Those that were let in are answered when they come to an end.
    for stream in &mut held {
        stream.write_all(&large.as_bytes()[large.len() - 100..]).ok();
    }
    let answers: Vec<String> = held.iter_mut().map(rest).collect();
    let served = answers
        .iter()
        .filter(|answer| answer.contains(r#""result":"#))
        .count();
    assert!(served > 3, "{served} of {} were served", answers.len());

    // The same with answers that nobody reads.
    let asking = body("large", 0);
    let mut readers: Vec<TcpStream> = (0..CROWD)
        .map(|_| {
            let mut stream = connect(ports.public);
            let text = head(ports.public, "large", asking.len()) + &asking;
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    wait_for("most to be turned away", || {
        readers.iter().filter(|stream| is_refused(stream)).count() > CROWD / 2
    });
    assert!(call(ports.public, "small").contains(r#""id":"c","result":"#));
    let answers: Vec<String> = readers.iter_mut().map(rest).collect();
    let whole = answers.iter().filter(|answer| answer.len() > LARGE).count();
    assert!(whole > 0, "nobody got the whole");
    drop(readers);
    // All of it is given back.
    wait_for("room again", || call(ports.public, "large").len() > LARGE);
    over.store(true, Ordering::Relaxed);
    let most = watched.join().unwrap();
    assert!(0 < most && most < CAP, "{most} KiB");
}
