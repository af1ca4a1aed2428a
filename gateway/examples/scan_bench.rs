//! What the protocol modules cost per message, printed in nanoseconds: `cargo run --release --example scan_bench`.
//!
//! Each figure is the least of many rounds: what else the machine does can only add to it.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring tool for developers"
)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use portcullis_gateway::mcp::edit::Patch;
use portcullis_gateway::mcp::envelope::Message;
use portcullis_gateway::mcp::era::{check_stateless, era};
use portcullis_gateway::mcp::headers::McpHeaders;
use portcullis_gateway::mcp::meta::StatelessMeta;
use portcullis_gateway::mcp::revision::Revision;
use portcullis_gateway::mcp::scan::{Member, elements};
use portcullis_gateway::mcp::seal::{Sealer, TokenKind};
use portcullis_gateway::mcp::session::{Capabilities, ClientInfo, Session};
use portcullis_gateway::mcp::sse::{Event, Parser, encode};

const ROUNDS: u32 = 200;
const CALLS: u32 = 2_000;

const SESSION_CALL: &str = r#"{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"search_documents","arguments":{"query":"quarterly report on network policy enforcement","limit":10,"filters":{"author":"alice@example.com","tags":["security","kubernetes"]}},"_meta":{"progressToken":"b7e1c0d2-5f7e-4a55-9c7e-2f0a"}}}"#;

const STATELESS_CALL: &str = r#"{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"search_documents","arguments":{"query":"quarterly report"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},"io.modelcontextprotocol/clientInfo":{"name":"example-client","version":"1.0.0"}}}}"#;

fn measure<T>(name: &str, bytes: usize, mut work: impl FnMut() -> T) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(work());
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(CALLS));
    }
    let nanoseconds = best * 1e9;
    #[allow(clippy::cast_precision_loss, reason = "sizes are small")]
    let rate = bytes as f64 / best / 1e6;
    println!("{name:<46} {nanoseconds:>9.0} ns {bytes:>8} B {rate:>7.0} MB/s");
}

fn main() {
    let call = Bytes::from_static(SESSION_CALL.as_bytes());
    measure("scan tools/call (session)", call.len(), || {
        Message::from_client(call.clone(), 64).unwrap()
    });
    let stateless = Bytes::from_static(STATELESS_CALL.as_bytes());
    measure("scan tools/call (stateless)", stateless.len(), || {
        Message::from_client(stateless.clone(), 64).unwrap()
    });
    measure("  the same with serde_json::Value", stateless.len(), || {
        serde_json::from_slice::<serde_json::Value>(&stateless).unwrap()
    });

    let message = Message::from_client(stateless.clone(), 64).unwrap();
    let headers = McpHeaders {
        version: Some(b"2026-07-28"),
        method: Some(b"tools/call"),
        name: Some(b"search_documents"),
        ..McpHeaders::default()
    };
    measure("era and header agreement", stateless.len(), || {
        era(&headers, &message).unwrap();
        check_stateless(&headers, &message)
    });

    let session = Message::from_client(call.clone(), 64).unwrap();
    measure("edit id, name and progress token", call.len(), || {
        let mut patch = Patch::new(session.bytes());
        patch
            .replace(session.span(Member::Id).unwrap(), b"1234567")
            .replace(session.span(Member::Name).unwrap(), b"\"search\"")
            .replace(session.span(Member::MetaProgressToken).unwrap(), b"7654321");
        patch.apply().unwrap()
    });
    let meta = StatelessMeta::new(b"{}", Some(br#"{"name":"c","version":"1"}"#), None);
    measure("put stateless _meta into a session's call", call.len(), || {
        let mut patch = Patch::new(session.bytes());
        meta.put_into(&session, &mut patch);
        patch.apply().unwrap()
    });

    let text = "word \\\"quoted\\\" and more text, as tools answer with; ".repeat(1200);
    let reply = Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":42,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#
    ));
    measure("scan a reply of 60 KB text", reply.len(), || {
        Message::from_server(reply.clone(), 64).unwrap()
    });
    let small = Bytes::from_static(
        br#"{"jsonrpc":"2.0","id":42,"result":{"content":[{"type":"text","text":"Echo: hello"}]}}"#,
    );
    measure("scan a small reply", small.len(), || {
        Message::from_server(small.clone(), 64).unwrap()
    });
    let tools = Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{}]}}}}"#,
        tools(100)
    ));
    measure("scan a list of 100 tools", tools.len(), || {
        Message::from_server(tools.clone(), 64).unwrap()
    });
    let list = Message::from_server(tools.clone(), 64).unwrap();
    measure("walk it", tools.len(), || {
        elements(list.bytes(), list.span(Member::ResultTools).unwrap()).count()
    });

    let sealer = Sealer::new(
        "0b1f9f0c-5d5c-4e2e-8f0a-b8b4f1c7f3aa",
        "k1",
        [("k1", &[7; 32][..])],
    )
    .unwrap();
    let seed = Session {
        nonce: [1; 16],
        principal: [2; 16],
        revision: Revision::V20251125,
        capabilities: Capabilities::ROOTS,
        client: ClientInfo {
            name: "example-client".into(),
            version: "1.0.0".into(),
        },
        expires: 1_900_000_000,
        upstream: None,
    };
    let encoded = seed.encode().unwrap();
    let token = sealer.seal(TokenKind::Session, "/mcp", &encoded).unwrap();
    measure("seal a session id", token.len(), || {
        sealer.seal(TokenKind::Session, "/mcp", &encoded).unwrap()
    });
    measure("open a session id", token.len(), || {
        Session::decode(&sealer.open(TokenKind::Session, "/mcp", token.as_bytes()).unwrap()).unwrap()
    });

    let event = encode(&Event::message(small));
    measure("parse an event", event.len(), || {
        let mut parser = Parser::new(1 << 20);
        parser.push(event.clone());
        parser.next_event().unwrap().unwrap()
    });
    let large = encode(&Event::message(reply));
    measure("parse an event of 60 KB", large.len(), || {
        let mut parser = Parser::new(1 << 20);
        parser.push(large.clone());
        parser.next_event().unwrap().unwrap()
    });
}

fn tools(count: usize) -> String {
    let tool = |n: usize| {
        format!(
            r#"{{"name":"tool_{n}","description":"Does the thing that its name says, with the arguments that its schema asks for.","inputSchema":{{"type":"object","properties":{{"query":{{"type":"string","description":"What to look for"}},"limit":{{"type":"integer","minimum":1}}}},"required":["query"]}}}}"#
        )
    };
    (0..count).map(tool).collect::<Vec<_>>().join(",")
}
