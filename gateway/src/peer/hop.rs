//! One hop to the replica that owns a session.
//!
//! The caller has authenticated the client and read the body; the owner does the rest. What the owner must know stands
//! in one header. A forwarded request is never forwarded again: if the replicas disagree for a moment about who owns a
//! session, the one that was asked serves it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use portcullis_config::server::AddressPolicy;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::identity::Identity;
use super::life::Life;
use crate::net::pool::ExchangeError;
use crate::net::{Connector, Lease, Pool, Resolver, Target};

/// Carries [`Forwarded`].
pub const FORWARDED: HeaderName = HeaderName::from_static("portcullis-forwarded");

/// What one replica vouches for to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// The principal's method.
    pub method: String,
    /// The principal's subject.
    pub subject: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// When its credential ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// Where the client calls from.
    pub client: IpAddr,
    /// Stands in both replicas' audit records.
    pub request_id: String,
    /// The owner is told as well: this is for what is in flight where the session was before.
    #[serde(default)]
    pub copy: bool,
}

impl Forwarded {
    /// As a header value.
    pub fn to_header(&self) -> HeaderValue {
        let json = serde_json::to_vec(self).expect("plain strings and numbers always serialise");
        HeaderValue::try_from(URL_SAFE_NO_PAD.encode(json)).expect("base64url is a header value")
    }

    /// From a header value. `None`: not one of ours.
    pub fn from_header(value: &HeaderValue) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value.as_bytes()).ok()?).ok()
    }
}

/// Connections to the other replicas.
pub struct Hop {
    resolver: Resolver,
    identity: ArcSwap<Identity>,
    ways: Mutex<HashMap<SocketAddr, Way>>,
    /// Copies on their way.
    copies: Arc<Semaphore>,
}

/// The way to one replica.
#[derive(Clone)]
pub struct Way {
    /// Connections to it.
    pub pool: Arc<Pool>,
    /// Whether it lives.
    pub life: Arc<Life>,
}

/// Replicas whose connections are kept; more than a gateway may have at once.
const MAX_WAYS: usize = 128;
/// Copies that are sent at once; they are small, and whoever does not get one hears of nothing it would wait for in vain.
const MAX_COPIES: usize = 64;
/// How long one may take.
const COPY_TIME: Duration = Duration::from_secs(10);
/// The longest answer to one that is read.
const MAX_COPY_ANSWER: usize = 64 << 10;

impl Hop {
    /// Shows `identity` to the others.
    pub fn new(resolver: Resolver, identity: Identity) -> Self {
        Self {
            resolver,
            identity: ArcSwap::from_pointee(identity),
            ways: Mutex::default(),
            copies: Arc::new(Semaphore::new(MAX_COPIES)),
        }
    }

    /// Shows another identity from now on; open connections of the old one are not used again.
    pub fn set_identity(&self, identity: Identity) {
        self.identity.store(Arc::new(identity));
        self.ways.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Sends a client's request on its way.
    pub async fn forward(
        &self,
        way: &Way,
        method: Method,
        path: Uri,
        client_headers: &HeaderMap,
        forwarded: &Forwarded,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Lease), ExchangeError> {
        let pool = &way.pool;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path;
        let headers = request.headers_mut();
        headers.insert(header::HOST, pool.target().authority.clone());
        headers.insert(FORWARDED, forwarded.to_header());
        for name in &PASSED {
            for value in client_headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        for (name, value) in client_headers {
            if name.as_str().starts_with("mcp-") {
                headers.append(name, value.clone());
            }
        }
        pool.send(request, None).await
    }

    /// Sends a copy, whose answer says nothing. `Err`: nobody is there.
    pub async fn copy(
        &self,
        to: SocketAddr,
        method: Method,
        path: Uri,
        headers: &HeaderMap,
        forwarded: &Forwarded,
        body: Bytes,
    ) -> Result<(), ExchangeError> {
        let Ok(_place) = self.copies.try_acquire() else {
            tracing::debug!(replica = %to, "too many copies are on their way already");
            return Ok(());
        };
        let way = self.way(to);
        let sent = async {
            let (response, lease) = self.forward(&way, method, path, headers, forwarded, body).await?;
            if Limited::new(response.into_body(), MAX_COPY_ANSWER)
                .collect()
                .await
                .is_ok()
            {
                way.pool.put(lease);
            }
            Ok(())
        };
        tokio::time::timeout(COPY_TIME, sent).await.unwrap_or(Ok(()))
    }

    /// It is lost: its connections are used no more. A new one shows whether somebody is there.
    pub fn forget(&self, to: SocketAddr) {
        self.ways
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&to);
    }

    /// The way to a replica.
    pub fn way(&self, to: SocketAddr) -> Way {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if ways.len() >= MAX_WAYS {
            ways.clear();
        }
        let way = ways.entry(to).or_insert_with(|| {
            let target = Target {
                host: to.ip().to_string().into(),
                port: to.port(),
                tls_name: Some(ServerName::IpAddress(to.ip().into())),
                authority: HeaderValue::from_static("peer"),
                path: Uri::from_static("/"),
                // Whoever answers there has to show our key; replicas on one machine are for tests.
                policy: if to.ip().is_loopback() {
                    AddressPolicy::Loopback
                } else {
                    AddressPolicy::Cluster
                },
            };
            let tls = Arc::clone(&self.identity.load().client);
            let connector = Connector::new(self.resolver.clone(), tls);
            Way {
                pool: Arc::new(Pool::new(connector, target)),
                life: Arc::default(),
            }
        });
        way.clone()
    }
}

/// What the owner needs of the client's headers besides those of the protocol. Never the credential.
const PASSED: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    HeaderName::from_static("last-event-id"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_vouched_for_arrives_unchanged() {
        let forwarded = Forwarded {
            method: "corp".into(),
            subject: "zoë, \"x\"\r\n".into(),
            groups: vec!["a".into()],
            scopes: vec![],
            expires: Some(7),
            client: IpAddr::from([198, 18, 0, 1]),
            request_id: "r".into(),
            copy: false,
        };
        assert_eq!(Forwarded::from_header(&forwarded.to_header()), Some(forwarded));
        assert_eq!(
            Forwarded::from_header(&HeaderValue::from_static("nonsense")),
            None
        );
    }
}
