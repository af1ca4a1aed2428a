//! The status port over a real handshake with a raw public key.

use std::sync::Arc;

use arc_swap::ArcSwap;
use portcullis_config::keys::{Purpose, derive, ed25519_spki};
use portcullis_config::status::Status;
use portcullis_gateway::server::limits::ConnectionLimits;
use portcullis_gateway::server::listener::{Listener, bind};
use portcullis_gateway::server::raw_key;
use portcullis_gateway::server::status::{Access, StatusPort, StatusSource};
use portcullis_gateway::server::tls::{Transport, swappable};
use portcullis_gateway::telemetry::metrics::{Metrics, Port};
use tokio_util::sync::CancellationToken;

use super::pinned::ask;

const SESSION_KEY: [u8; 32] = [7; 32];

struct Fixed;

impl StatusSource for Fixed {
    fn status(&self) -> Status {
        Status {
            gateway_id: "the id".into(),
            ..Status::default()
        }
    }
}

fn get(path: &str, method: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn the_pinned_key_is_shown_and_access_can_be_taken_away() {
    let identity = raw_key::identity(&SESSION_KEY, Purpose::Status).unwrap();
    let transport = Transport::tls(Arc::new(raw_key::server(identity).unwrap()));
    let access = Arc::new(ArcSwap::from_pointee(Access::Open));
    let listener = Listener::new(
        ConnectionLimits::internal(),
        swappable(transport),
        StatusPort::new(Arc::new(Fixed), Arc::clone(&access)),
        Metrics::new(0.0).connections(Port::Status),
    );
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(listener.run(socket, CancellationToken::new()));

    let spki = ed25519_spki(&derive(&SESSION_KEY, Purpose::Status).unwrap());
    let answer = ask(address, &spki, &get("/status", "GET")).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"gatewayId\":\"the id\""),
        "{answer}"
    );
    for (path, method, status) in [
        ("/", "GET", "404"),
        ("/metrics", "GET", "404"),
        ("/status", "POST", "405"),
        ("/status", "PUT", "405"),
        ("/status/", "GET", "404"),
    ] {
        let answer = ask(address, &spki, &get(path, method)).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{method} {path}: {answer}"
        );
    }
    // The key of another purpose is another identity.
    let peer = ed25519_spki(&derive(&SESSION_KEY, Purpose::Peer).unwrap());
    assert!(ask(address, &peer, &get("/status", "GET")).await.is_err());

    access.store(Arc::new(Access::Closed));
    for path in ["/status", "/", "/no-such-path"] {
        let answer = ask(address, &spki, &get(path, "GET")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        assert!(!answer.contains("the id"));
    }
}
