//! The MCP server behind the proxies: one tool, JSON answers, as little work per call as possible.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::call::{Era, TOOL, answer, member};
use crate::wire::{self, Frame};

/// What the server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Calls of the tool.
    pub(crate) calls: Cell<u64>,
    /// Messages with an `Authorization` header.
    pub(crate) authorized: Cell<u64>,
    sessions: Cell<u64>,
}

/// A server of one era.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it saw.
    pub(crate) seen: Rc<Seen>,
}

impl Upstream {
    /// Starts on a port of its own choice, within the caller's `LocalSet`.
    pub(crate) async fn start(era: Era) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Rc::<Seen>::default();
        let for_task = Rc::clone(&seen);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Rc::clone(&for_task);
                tokio::task::spawn_local(async move {
                    // A broken connection shows at the other end of the proxy, where every answer is checked.
                    if let Err(error) = serve(stream, era, &seen).await {
                        eprintln!("upstream ({}): {error:#}", era.as_str());
                    }
                });
            }
        });
        Ok(Self { address, seen })
    }
}

async fn serve(mut stream: TcpStream, era: Era, seen: &Seen) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(16 << 10);
    let mut output = Vec::with_capacity(4 << 10);
    loop {
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
        let mut done = 0;
        while let Some(rest) = input.get(done..)
            && let Some(frame) = wire::frame(rest)?
        {
            let (head, body) = rest
                .get(..frame.end)
                .and_then(|message| message.split_at_checked(frame.head))
                .context("a frame lies within its buffer")?;
            respond(era, seen, &frame, head, body, &mut output);
            done += frame.end;
        }
        input.drain(..done);
        if !output.is_empty() && stream.write_all(&output).await.is_err() {
            return Ok(());
        }
        output.clear();
    }
}

/// Appends the whole answer, head and body.
fn respond(era: Era, seen: &Seen, frame: &Frame, head: &[u8], body: &[u8], output: &mut Vec<u8>) {
    if frame.authorized {
        seen.authorized.set(seen.authorized.get() + 1);
    }
    let id = member(body, b"\"id\":", |byte| matches!(byte, b',' | b'}'));
    let method = member(body, b"\"method\":\"", |byte| *byte == b'"');
    let (status, extra, body) = match (id, method.unwrap_or_default()) {
        (Some(id), "tools/call") if frame.session == (era == Era::Session) => {
            let name = member(body, b"\"name\":\"", |byte| *byte == b'"');
            match member(body, b"\"text\":\"", |byte| *byte == b'"') {
                Some(text) if name == Some(TOOL) => {
                    seen.calls.set(seen.calls.get() + 1);
                    ("200 OK", String::new(), answer(era, id, text))
                }
                _ => ("200 OK", String::new(), error(id, -32602)),
            }
        }
        (Some(id), "tools/list") => ("200 OK", String::new(), tools(era, id)),
        (Some(id), "server/discover") if era == Era::Stateless => ("200 OK", String::new(), discover(id)),
        (Some(id), "initialize") if era == Era::Session => {
            let number = seen.sessions.get();
            seen.sessions.set(number + 1);
            (
                "200 OK",
                format!("Mcp-Session-Id: bench-{number:026x}\r\n"),
                initialize(id),
            )
        }
        (Some(id), _) => ("400 Bad Request", String::new(), error(id, -32601)),
        (None, _) if head.starts_with(b"DELETE ") => ("200 OK", String::new(), String::new()),
        (None, _) => ("202 Accepted", String::new(), String::new()),
    };
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/json\r\n"
    };
    let length = body.len();
    for part in [
        "HTTP/1.1 ",
        status,
        "\r\n",
        kind,
        &extra,
        "Content-Length: ",
        &length.to_string(),
        "\r\n\r\n",
        &body,
    ] {
        output.extend_from_slice(part.as_bytes());
    }
}

fn error(id: &str, code: i32) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#)
}

fn tools(era: Era, id: &str) -> String {
    let cache = match era {
        Era::Session => "",
        Era::Stateless => r#""resultType":"complete","ttlMs":60000,"cacheScope":"public","#,
    };
    let tool = |name: &str| {
        format!(
            r#"{{"name":"{name}","description":"Repeats a text.","inputSchema":{{"type":"object","properties":{{"text":{{"type":"string"}},"limit":{{"type":"integer"}}}},"required":["text"]}}}}"#
        )
    };
    let list = ["add", TOOL, "search_code", "search_docs"].map(tool).join(",");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{cache}"tools":[{list}]}}}}"#)
}

fn discover(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},"ttlMs":60000,"cacheScope":"public","_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"bench","version":"1.0.0"}}}}}}}}"#
    )
}

fn initialize(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"bench","version":"1.0.0"}}}}}}"#
    )
}
