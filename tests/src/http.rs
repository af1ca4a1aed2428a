//! A client on one keep-alive connection, as plain as a test needs it: TLS that trusts one CA, HTTP/1.1, JSON.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where a gateway is, and how it is trusted.
#[derive(Clone)]
pub struct Endpoint {
    /// `ADDRESS:PORT` to connect to.
    pub address: String,
    /// The name in the certificate and, with its port, in `Host`.
    pub name: String,
    /// `Host`.
    pub host: String,
    tls: Arc<ClientConfig>,
}

impl Endpoint {
    /// Trusts the CA in `pem` alone.
    pub fn new(address: String, name: &str, host: &str, pem: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.context("the CA is not PEM")?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address,
            name: name.to_owned(),
            host: host.to_owned(),
            tls: Arc::new(tls),
        })
    }

    /// The certificate the server shows to a new connection, as DER.
    pub async fn certificate(&self) -> Result<Vec<u8>> {
        let tcp = TcpStream::connect(&self.address).await?;
        let name = ServerName::try_from(self.name.clone())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await?;
        let shown = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        Ok(shown.context("no certificate")?.to_vec())
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body: of a stream the last event.
    pub body: Value,
}

/// One client: a connection that is opened when needed.
pub struct Client {
    endpoint: Endpoint,
    token: Option<String>,
    path: String,
    session: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client of `path` with a bearer token.
    pub fn new(endpoint: &Endpoint, path: &str, token: Option<&str>) -> Self {
        Self {
            endpoint: endpoint.clone(),
            token: token.map(str::to_owned),
            path: path.to_owned(),
            session: None,
            sender: None,
        }
    }

    /// Opens a session.
    pub async fn initialize(&mut self) -> Result<Answer> {
        let answer = self
            .post(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"system-test","version":"1"}}}"#, &[])
            .await?;
        if let Some(id) = answer.headers.get("mcp-session-id") {
            self.session = Some(id.to_str()?.to_owned());
        }
        Ok(answer)
    }

    /// Calls a tool in the session.
    pub async fn call(&mut self, tool: &str, arguments: &str) -> Result<Answer> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        );
        self.post(&body, &[]).await
    }

    /// Calls a tool statelessly.
    pub async fn call_stateless(&mut self, tool: &str, arguments: &str) -> Result<Answer> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}","arguments":{arguments},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
        );
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", tool),
        ];
        self.post(&body, &headers).await
    }

    /// Posts a message. A connection that was closed before it took the request is opened anew; nothing else is retried.
    pub async fn post(&mut self, body: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse()?;
        let map = request.headers_mut();
        map.insert("host", self.endpoint.host.parse()?);
        map.insert("content-type", "application/json".parse()?);
        map.insert("accept", "application/json, text/event-stream".parse()?);
        if let Some(token) = &self.token {
            map.insert("authorization", format!("Bearer {token}").parse()?);
        }
        if let (Some(session), true) = (&self.session, headers.is_empty()) {
            map.insert("mcp-session-id", session.parse()?);
        }
        for (name, value) in headers {
            map.insert(http::HeaderName::try_from(*name)?, value.parse()?);
        }
        loop {
            let fresh = self.sender.as_ref().is_none_or(SendRequest::is_closed);
            if fresh {
                self.sender = Some(self.connect().await?);
            }
            let sender = self.sender.as_mut().context("just connected")?;
            match sender.try_send_request(request).await {
                Ok(response) => return answer(response).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => {
                        self.sender = None;
                        request = unsent;
                    }
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let tcp = TcpStream::connect(&self.endpoint.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(self.endpoint.name.clone())?;
        let stream = TlsConnector::from(Arc::clone(&self.endpoint.tls))
            .connect(name, tcp)
            .await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn answer(response: http::Response<hyper::body::Incoming>) -> Result<Answer> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let text = std::str::from_utf8(&bytes)?;
    let stream = head
        .headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let json = if stream {
        text.lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .next_back()
    } else {
        Some(text)
    };
    let body = json
        .and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or(Value::Null);
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}
