//! A client that writes its requests by hand.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A client that writes its requests by hand.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
    pub(crate) path: String,
    pub(crate) session: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// The messages of a stream.
    pub(crate) fn events(&self) -> Vec<Value> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn reason(&self) -> String {
        self.json()["error"]["data"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// What holds for every answer of the public port.
pub(crate) fn assert_dressed(headers: &HeaderMap) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'",
        ),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        let found: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(found, [value], "{name} of {headers:?}");
    }
    assert_eq!(headers.get_all("cache-control").iter().count(), 1, "{headers:?}");
    for name in [
        "set-cookie",
        "server",
        "x-powered-by",
        "strict-transport-security",
    ] {
        assert!(!headers.contains_key(name), "{name} in {headers:?}");
    }
}

pub(crate) const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

impl Client {
    pub(crate) fn at(&self, path: &str) -> Self {
        Self {
            path: path.into(),
            ..self.clone()
        }
    }

    /// Sends a request and gives the answer's head; the connection lives as long as the body.
    pub(crate) async fn open(
        &self,
        method: Method,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *request.method_mut() = method;
        *request.uri_mut() = self.path.parse().unwrap();
        let map = request.headers_mut();
        map.insert("host", "gateway.test".parse().unwrap());
        map.insert("content-type", "application/json".parse().unwrap());
        map.insert("accept", "application/json, text/event-stream".parse().unwrap());
        map.insert("cookie", "planted=client".parse().unwrap());
        if let Some(token) = &self.token {
            map.insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        if let Some(session) = &self.session {
            map.insert("mcp-session-id", session.parse().unwrap());
        }
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            if value.is_empty() {
                map.remove(&name);
            } else {
                map.insert(name, value.parse().unwrap());
            }
        }
        let response = sender.send_request(request).await.unwrap();
        assert_dressed(response.headers());
        response
    }

    pub(crate) async fn send(&self, method: Method, headers: &[(&str, &str)], body: &str) -> Answer {
        let (head, body) = self.open(method, headers, body).await.into_parts();
        let bytes = tokio::time::timeout(Duration::from_secs(20), body.collect())
            .await
            .expect("the answer hangs")
            .unwrap();
        let text = String::from_utf8(bytes.to_bytes().to_vec()).unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            text,
        }
    }

    pub(crate) async fn post(&self, body: &str) -> Answer {
        self.send(Method::POST, &[], body).await
    }

    /// Opens a session.
    pub(crate) async fn initialize(&self) -> Self {
        self.initialize_in("2025-11-25").await
    }

    /// Opens a session of that revision.
    pub(crate) async fn initialize_in(&self, revision: &str) -> Self {
        let answer = self
            .post(&format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{{"roots":{{}}}},"clientInfo":{{"name":"test","version":"1"}}}}}}"#))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let session = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let opened = Self {
            session: Some(session),
            ..self.clone()
        };
        let noted = opened
            .post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        assert_eq!(noted.status, StatusCode::ACCEPTED);
        opened
    }

    /// A call in a session.
    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> Answer {
        self.post(&format!(r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#))
            .await
    }

    /// A stateless request: `params` without braces.
    pub(crate) async fn stateless(&self, method: &str, name: Option<&str>, params: &str) -> Answer {
        let comma = if params.is_empty() { "" } else { "," };
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":41,"method":"{method}","params":{{{params}{comma}{META}}}}}"#);
        let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
        headers.extend(name.map(|name| ("mcp-name", name)));
        self.send(Method::POST, &headers, &body).await
    }
}
