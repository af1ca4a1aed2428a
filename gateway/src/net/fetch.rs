//! One bounded request, for key sets, tokens and the like. No redirects, no cookies, no cache.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
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

/// What is posted.
pub struct Form {
    /// `application/x-www-form-urlencoded`.
    pub body: String,
    /// `Authorization`.
    pub authorization: Option<HeaderValue>,
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
        let request = Request::new(Full::new(Bytes::new()));
        match self.send(request, url, policy, ca, max_bytes, timeout).await? {
            (StatusCode::OK, document) => Ok(document),
            (status, _) => Err(FetchError::Status(status)),
        }
    }

    /// Sends a form to `url`, and gives what is answered, whatever its status.
    pub async fn post(
        &self,
        url: &Url,
        policy: AddressPolicy,
        ca: Option<&[u8]>,
        form: Form,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let mut request = Request::new(Full::new(Bytes::from(form.body)));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        if let Some(authorization) = form.authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        self.send(request, url, policy, ca, max_bytes, timeout).await
    }

    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        url: &Url,
        policy: AddressPolicy,
        ca: Option<&[u8]>,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let target = Target::new(url, policy)?;
        let roots = ca.map_or_else(|| Ok(trust::public_roots()), trust::bundle_roots)?;
        *request.uri_mut() = target.path.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, target.authority.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let pool = Pool::new(
            Connector::new(self.resolver.clone(), trust::client_config(roots)),
            target,
        );
        let exchange = async {
            let (response, _lease) = pool.send(request, None).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), max_bytes).collect().await;
            let body = body.map_err(|_| FetchError::Body(max_bytes))?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(FetchError::Timeout(timeout)))
    }
}
