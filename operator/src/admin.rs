//! The operator's own port: is it alive, is it ready, what did it count. Nothing can be changed through it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::metrics::{Gauges, Metrics};

/// What the port tells, read at each request.
pub trait Vitals: Send + Sync + 'static {
    /// What stands against being ready, one line each; empty when nothing does.
    fn not_ready(&self) -> Vec<String>;
    /// The values of the gauges.
    fn gauges(&self) -> Gauges;
}

struct Admin<V> {
    vitals: V,
    metrics: Metrics,
}

/// The routes of the port.
pub fn router<V: Vitals>(vitals: V, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz::<V>))
        .route("/metrics", get(metrics_text::<V>))
        .with_state(Arc::new(Admin { vitals, metrics }))
}

/// Serves the port until `stop`.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// The process answers: that is all that a restart could mend.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz<V: Vitals>(State(admin): State<Arc<Admin<V>>>) -> Response {
    let problems = admin.vitals.not_ready();
    if problems.is_empty() {
        return "ok\n".into_response();
    }
    let body = problems.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics_text<V: Vitals>(State(admin): State<Arc<Admin<V>>>) -> Response {
    match admin.metrics.text(admin.vitals.gauges()) {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    struct Fixed(Vec<String>);

    impl Vitals for Fixed {
        fn not_ready(&self) -> Vec<String> {
            self.0.clone()
        }

        fn gauges(&self) -> Gauges {
            Gauges::default()
        }
    }

    async fn ask(problems: &[&str], path: &str) -> (StatusCode, String) {
        let vitals = Fixed(problems.iter().map(ToString::to_string).collect());
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(vitals, Metrics::new()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_is_missing_and_liveness_does_not_care() {
        let (status, body) = ask(&["no mcpgateways.portcullis.dev"], "/readyz").await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "no mcpgateways.portcullis.dev\n")
        );
        assert_eq!(ask(&["x"], "/livez").await.0, StatusCode::OK);
        assert_eq!(ask(&[], "/readyz").await, (StatusCode::OK, "ok\n".into()));
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let (status, body) = ask(&[], "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn there_is_nothing_else() {
        assert_eq!(ask(&[], "/").await.0, StatusCode::NOT_FOUND);
    }
}
