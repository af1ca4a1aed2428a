//! One hop to the replica that owns a session.
//!
//! The caller has authenticated the client and read the body; the owner does the rest. What the owner must know stands
//! in one header. A forwarded request is never forwarded again: if the replicas disagree for a moment about who owns a
//! session, the one that was asked serves it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use portcullis_config::server::AddressPolicy;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
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
    pools: Mutex<HashMap<SocketAddr, Arc<Pool>>>,
}

/// Replicas whose connections are kept; more than a gateway may have at once.
const MAX_POOLS: usize = 128;

impl Hop {
    /// Shows `identity` to the others.
    pub fn new(resolver: Resolver, identity: Identity) -> Self {
        Self {
            resolver,
            identity: ArcSwap::from_pointee(identity),
            pools: Mutex::default(),
        }
    }

    /// Shows another identity from now on; open connections of the old one are not used again.
    pub fn set_identity(&self, identity: Identity) {
        self.identity.store(Arc::new(identity));
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Sends a client's request to `to`.
    pub async fn forward(
        &self,
        to: SocketAddr,
        method: Method,
        path: Uri,
        client_headers: &HeaderMap,
        forwarded: &Forwarded,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Lease, Arc<Pool>), ExchangeError> {
        let pool = self.pool(to);
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
        let (response, lease) = pool.send(request, None).await?;
        Ok((response, lease, pool))
    }

    fn pool(&self, to: SocketAddr) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= MAX_POOLS {
            pools.clear();
        }
        Arc::clone(pools.entry(to).or_insert_with(|| {
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
            Arc::new(Pool::new(
                Connector::new(self.resolver.clone(), Arc::clone(&self.identity.load().client)),
                target,
            ))
        }))
    }
}

/// What the owner needs of the client's headers besides those of the protocol. Never the credential.
const PASSED: [HeaderName; 2] = [header::CONTENT_TYPE, header::ACCEPT];

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
        };
        assert_eq!(Forwarded::from_header(&forwarded.to_header()), Some(forwarded));
        assert_eq!(
            Forwarded::from_header(&HeaderValue::from_static("nonsense")),
            None
        );
    }
}
