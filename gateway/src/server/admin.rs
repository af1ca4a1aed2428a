//! The port of the platform: `/livez`, `/readyz`, `/metrics`. Plaintext, read-only, fenced by policy.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::server::connection::{ConnInfo, Handler};
use crate::server::readiness::Readiness;
use crate::spawn::Spawner;
use crate::telemetry::metrics::{self, Metrics};

/// Answers the platform.
#[derive(Clone)]
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    spawner: Spawner,
}

impl Admin {
    /// Shows these.
    pub fn new(metrics: Arc<Metrics>, readiness: Readiness, spawner: Spawner) -> Self {
        Self {
            metrics,
            readiness,
            spawner,
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/livez" | "/readyz" | "/metrics" if !is_read(method) => not_allowed(),
            "/livez" if self.spawner.is_broken() => {
                plain(StatusCode::INTERNAL_SERVER_ERROR, "a background task failed\n")
            }
            "/livez" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let pending = self.readiness.pending();
                if pending.is_empty() {
                    plain(StatusCode::OK, "ok\n")
                } else {
                    plain(StatusCode::SERVICE_UNAVAILABLE, pending.join("\n") + "\n")
                }
            }
            "/metrics" => {
                let mut response = plain(StatusCode::OK, self.metrics.render());
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                response
            }
            _ => plain(StatusCode::NOT_FOUND, ""),
        }
    }
}

impl Handler for Admin {
    type Body = Full<Bytes>;

    async fn call(&self, _: &ConnInfo, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.answer(request.method(), request.uri().path())
    }
}

/// May be asked without changing anything?
pub(crate) fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

pub(crate) fn not_allowed() -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

pub(crate) fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn admin() -> Admin {
        Admin::new(Metrics::new(0.0), Readiness::new(), Spawner::new())
    }

    #[rstest]
    #[case(Method::GET, "/livez", 200)]
    #[case(Method::GET, "/readyz", 200)]
    #[case(Method::HEAD, "/readyz", 200)]
    #[case(Method::GET, "/metrics", 200)]
    #[case(Method::POST, "/livez", 405)]
    #[case(Method::DELETE, "/metrics", 405)]
    #[case(Method::GET, "/", 404)]
    #[case(Method::POST, "/config", 404)]
    #[case(Method::GET, "/metrics/", 404)]
    fn paths_and_methods(#[case] method: Method, #[case] path: &str, #[case] status: u16) {
        assert_eq!(admin().answer(&method, path).status(), status);
    }

    #[tokio::test]
    async fn readiness_names_what_is_missing() {
        let admin = admin();
        let gate = admin.readiness.gate("tls", "no certificate");
        let response = admin.answer(&Method::GET, "/readyz");
        assert_eq!(response.status(), 503);
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap();
        assert_eq!(body.to_bytes(), "tls: no certificate\n");
        gate.open();
        assert_eq!(admin.answer(&Method::GET, "/readyz").status(), 200);
    }

    #[tokio::test]
    async fn a_dead_task_makes_the_process_not_alive() {
        let admin = admin();
        admin.spawner.spawn("faulty", async { panic!("on purpose") });
        tokio::task::yield_now().await;
        assert_eq!(admin.answer(&Method::GET, "/livez").status(), 500);
    }

    #[test]
    fn metrics_have_the_type_that_scrapers_ask_for() {
        let response = admin().answer(&Method::GET, "/metrics");
        assert_eq!(response.headers()[CONTENT_TYPE], metrics::CONTENT_TYPE);
    }
}
