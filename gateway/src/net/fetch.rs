//! One bounded GET: key sets and the like. No redirects, no cookies, no cache.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use portcullis_config::server::AddressPolicy;
use url::Url;

use super::connect::{ConnectError, Connector};
use super::pool::{ExchangeError, Pool};
use super::resolve::Resolver;
use super::target::{BadTarget, Target};
use super::trust::{self, TrustError};

/// Fetches documents.
#[derive(Clone)]
pub struct Fetcher {
    resolver: Resolver,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// The trust anchors.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exchange.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// Another status than 200; redirects are not followed.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// Too large, or cut off.
    #[error("the answer is larger than {0} bytes, or was cut off")]
    Body(usize),
    /// Too slow.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Fetcher {
    /// Resolves by `resolver`.
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver }
    }

    /// The document at `url`: at most `max_bytes`, within `timeout`, trusting `ca` (PEM) or else the public anchors.
    pub async fn get(
        &self,
        url: &Url,
        policy: AddressPolicy,
        ca: Option<&[u8]>,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Bytes, FetchError> {
        let target = Target::new(url, policy)?;
        let roots = ca.map_or_else(|| Ok(trust::public_roots()), trust::bundle_roots)?;
        let pool = Pool::new(
            Connector::new(self.resolver.clone(), trust::client_config(roots)),
            target,
        );
        tokio::time::timeout(timeout, get(&pool, max_bytes))
            .await
            .unwrap_or(Err(FetchError::Timeout(timeout)))
    }
}

async fn get(pool: &Pool, max_bytes: usize) -> Result<Bytes, FetchError> {
    let target = pool.target();
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = target.path.clone();
    request
        .headers_mut()
        .insert(header::HOST, target.authority.clone());
    request
        .headers_mut()
        .insert(header::ACCEPT, http::HeaderValue::from_static("application/json"));
    request
        .headers_mut()
        .insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    let (response, _lease) = pool.send(request, None).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), max_bytes).collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|_| FetchError::Body(max_bytes))
}
