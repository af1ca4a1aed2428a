//! A long stream through a gateway with little memory: what the client has not read, the gateway does not hold.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Gateway, PATIENCE, PLAIN, Ports, Scratch, ready, wait_for};

/// What passes.
const STREAM: usize = 50 << 20;
/// The memory that the gateway may take, in KiB.
const CAP: u64 = 64 << 10;
/// The text of a large answer.
pub(super) const LARGE: usize = 4 << 20;
/// The text of one event.
const EVENT: usize = 64 << 10;
/// What sockets between server and client may hold: the kernel's, twice, and not the gateway's.
const SOCKETS: usize = 24 << 20;

/// A server one of whose tools talks without end, as fast as it is listened to; another says much at once, a third little.
pub(super) struct Talker {
    pub(super) address: SocketAddr,
    said: Arc<AtomicUsize>,
}

impl Talker {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&said);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = Arc::clone(&count);
                std::thread::spawn(move || serve(stream, &said).ok());
            }
        });
        Self { address, said }
    }
}

fn serve(stream: TcpStream, said: &AtomicUsize) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        let message: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let id = &message["id"];
        let result = match message["method"].as_str() {
            Some("initialize") => {
                r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"talker","version":"1"}}"#
            }
            Some("tools/list") => {
                r#"{"tools":[{"name":"talk","inputSchema":{"type":"object"}},{"name":"large","inputSchema":{"type":"object"}},{"name":"small","inputSchema":{"type":"object"}}]}"#
            }
            Some("tools/call") if message["params"]["name"] == "large" => &large(),
            Some("tools/call") if message["params"]["name"] == "small" => r#"{"content":[]}"#,
            Some("tools/call") => {
                let token = &message["params"]["_meta"]["progressToken"];
                talk(&mut out, id, token, said)?;
                continue;
            }
            Some("notifications/initialized") => {
                out.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            _ => {
                out.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
        };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        out.write_all((head + &text).as_bytes())?;
    }
}

fn large() -> String {
    format!(
        r#"{{"content":[{{"type":"text","text":"{}"}}]}}"#,
        "x".repeat(LARGE)
    )
}

fn talk(
    out: &mut TcpStream,
    id: &serde_json::Value,
    token: &serde_json::Value,
    said: &AtomicUsize,
) -> std::io::Result<()> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let mut event = |text: &str| {
        let event = format!("data: {text}\n\n");
        write!(out, "{:x}\r\n{event}\r\n", event.len())?;
        Ok::<_, std::io::Error>(event.len())
    };
    let words = "x".repeat(EVENT);
    let mut number = 0;
    while said.load(Ordering::Relaxed) < STREAM {
        number += 1;
        let length = event(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{number},"message":"{words}"}}}}"#
        ))?;
        said.fetch_add(length, Ordering::Relaxed);
    }
    event(&format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#
    ))?;
    out.write_all(b"0\r\n\r\n")
}

/// What the process holds that no file does, in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.map_or(0, |number| number.parse().unwrap())
}

/// The most that it held until the end.
pub(super) fn watch(pid: u32, over: &Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let over = Arc::clone(over);
    std::thread::spawn(move || {
        let mut most = 0;
        while !over.load(Ordering::Relaxed) {
            most = most.max(memory(pid));
            std::thread::sleep(Duration::from_millis(2));
        }
        most
    })
}

#[test]
fn fifty_mebibytes_pass_within_sixty_four_also_to_a_client_that_reads_late() {
    let talker = Talker::start();
    let scratch = Scratch::new("capped");
    let ports = Ports::new();
    let more = format!(
        "rules: [{{name: r, action: Allow, principals: {{subjects: [anonymous], method: anonymous}}, servers: ['*'], tools: ['*']}}]\n\
         servers: [{{name: s, namespace: default, prefix: s, addressPolicy: Loopback, url: 'http://{}/mcp'}}]\n",
        talker.address
    );
    let text = ports.config(PLAIN, "{grace: 500ms, deadline: 20s}") + &more;
    let mut gateway = Gateway::start(&scratch.write("gateway.yaml", &text));
    gateway.says("started");
    wait_for("readiness", || ready(&ports));
    gateway.says("server verified");
    let over = Arc::<AtomicBool>::default();
    let watched = watch(gateway.child.id(), &over);

    let meta = r#""_meta":{"progressToken":"mine","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"talk","arguments":{{}},{meta}}}}}"#
    );
    let mut stream = TcpStream::connect(ports.public).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST /servers/s/mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n\
         Mcp-Name: talk\r\nContent-Length: {}\r\n\r\n{body}",
        ports.public,
        body.len()
    )
    .unwrap();
    // Nobody reads: the server comes to a stand.
    let said = || talker.said.load(Ordering::Relaxed);
    wait_for("the first word", || said() > 0);
    let mut last = (said(), Instant::now());
    while last.1.elapsed() < Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(10));
        if said() != last.0 {
            last = (said(), Instant::now());
        }
    }
    assert!(said() < SOCKETS, "{} bytes went somewhere", said());
    let mut read = 0;
    let mut tail = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        read += count;
        tail.extend_from_slice(&buffer[..count]);
        let keep = tail.len().saturating_sub(512);
        tail.drain(..keep);
    }
    over.store(true, Ordering::Relaxed);
    let most = watched.join().unwrap();
    let tail = String::from_utf8_lossy(&tail);
    assert!(read > STREAM, "{read}: {tail}");
    assert!(tail.contains(r#""id":"c","result":"#), "{tail}");
    assert!(0 < most && most < CAP, "{most} KiB");
}
