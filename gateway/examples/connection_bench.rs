//! What the connection layer costs beside bare hyper, in CPU time per request: run it with `--release`.
//!
//! The servers run as processes of their own on one CPU, the load on another; the least of several interleaved rounds
//! counts, because everything else that runs on the machine only adds.

#![allow(clippy::print_stdout, clippy::panic, reason = "a tool for a terminal")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_config::limits::Limits;
use portcullis_gateway::server::connection::{ConnInfo, Handler};
use portcullis_gateway::server::limits::ConnectionLimits;
use portcullis_gateway::server::listener::{Listener, bind};
use portcullis_gateway::server::tls::{Transport, swappable};
use portcullis_gateway::telemetry::metrics::{Metrics, Port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hello"}}}"#;
const ANSWER: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Echo: hello"}]}}"#;
const VARIANTS: [&str; 4] = ["bare", "bare-timer", "bare-flat", "listener"];
const ROUNDS: usize = 7;
const REQUESTS: usize = 40_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    match args.as_slice() {
        [mode, variant, port] if mode == "serve" => {
            let address: SocketAddr = format!("127.0.0.1:{port}").parse().expect("a port");
            runtime.block_on(serve(variant, address));
        }
        [] => runtime.block_on(compare()),
        _ => panic!("no arguments: compare; serve VARIANT PORT: be one of the servers"),
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes().len(), BODY.len());
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    response
}

#[derive(Clone)]
struct Answer;

impl Handler for Answer {
    type Body = Full<Bytes>;

    async fn call(&self, _: &ConnInfo, request: Request<Incoming>) -> Response<Full<Bytes>> {
        answer(request).await
    }
}

async fn serve(variant: &str, address: SocketAddr) {
    let socket = bind(address).expect("a free port");
    if variant == "listener" {
        let listener = Listener::new(
            ConnectionLimits::public(&Limits::default()),
            swappable(Transport::Plaintext),
            Answer,
            Metrics::new(0.0).connections(Port::Public),
        );
        listener.run(socket, CancellationToken::new()).await;
        return;
    }
    let mut builder = http1::Builder::new();
    match variant {
        // The header deadline as hyper keeps it.
        "bare-timer" => builder.timer(TokioTimer::new()),
        "bare-flat" => builder.writev(false).header_read_timeout(None),
        _ => builder.header_read_timeout(None),
    };
    let builder = Arc::new(builder);
    loop {
        let (stream, _) = socket.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("an open socket");
        let builder = Arc::clone(&builder);
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

/// A server on the first CPU.
struct Server {
    variant: &'static str,
    address: SocketAddr,
    child: Child,
}

impl Server {
    fn start(variant: &'static str, port: u16) -> Self {
        let own = std::env::current_exe().expect("a path");
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(own)
            .args(["serve", variant, &port.to_string()])
            .spawn()
            .expect("taskset");
        Self {
            variant,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
        }
    }

    /// Nanoseconds on a CPU so far.
    fn cpu(&self) -> u64 {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = std::fs::read_to_string(path).expect("the server runs");
        let first = text.split_whitespace().next().expect("three fields");
        first.parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn compare() {
    let own = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-cp", "1", &own]).output();
    pinned.expect("taskset");
    let servers: Vec<Server> = (0u16..)
        .zip(VARIANTS)
        .map(|(n, variant)| Server::start(variant, 39_310 + n))
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for connections in [1, 16, 64] {
        let mut least = [f64::INFINITY; VARIANTS.len()];
        for _ in 0..ROUNDS {
            for (server, least) in servers.iter().zip(&mut least) {
                let before = server.cpu();
                load(server.address, connections).await;
                #[expect(clippy::cast_precision_loss, reason = "a few seconds in nanoseconds")]
                let micros = (server.cpu() - before) as f64 / 1000.0 / REQUESTS as f64;
                *least = least.min(micros);
            }
        }
        for (server, least) in servers.iter().zip(least) {
            println!(
                "{connections:3} connections  {:12} {least:6.2} us/request",
                server.variant
            );
        }
    }
}

async fn load(address: SocketAddr, connections: usize) {
    let token = "t".repeat(900);
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2025-11-25\r\nmcp-session-id: {}\r\n\
         user-agent: bench\r\ncontent-length: {}\r\n\r\n{BODY}",
        "s".repeat(150),
        BODY.len()
    );
    let request = Arc::new(request.into_bytes());
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let request = Arc::clone(&request);
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("a connection");
                stream.set_nodelay(true).expect("an open socket");
                let mut buffer = vec![0; 4096];
                for _ in 0..REQUESTS / connections {
                    stream.write_all(&request).await.expect("an open connection");
                    let mut read = 0;
                    while !buffer
                        .get(..read)
                        .is_some_and(|bytes| bytes.ends_with(ANSWER.as_bytes()))
                    {
                        let rest = buffer.get_mut(read..).expect("a short answer");
                        read += stream.read(rest).await.expect("an answer");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no failure");
    }
}
