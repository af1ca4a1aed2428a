//! Connects, and says what it is connected to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, Implementation,
    ProgressNotificationParam, ProtocolVersion,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ErrorData, RoleClient};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::options::{Era, Options};
use crate::steps;

pub type Connection = RunningService<RoleClient, User>;

/// Who is asked and told.
#[derive(Clone)]
pub struct User {
    asked: bool,
    content: Arc<Mutex<Option<Value>>>,
    /// Whether the last step of a progress has been told.
    finished: watch::Sender<bool>,
}

impl User {
    /// What the next question is answered with; nothing declines.
    pub fn will_answer(&self, content: Option<Value>) {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = content;
    }
}

impl User {
    pub fn expects_progress(&self) {
        self.finished.send_replace(false);
    }

    /// The SDK hands out notifications beside results: the last one may still be on its way when the result is there.
    pub async fn finished(&self) {
        let mut finished = self.finished.subscribe();
        let told = finished.wait_for(|finished| *finished);
        tokio::time::timeout(Duration::from_secs(2), told).await.ok();
    }
}

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let capabilities = if self.asked {
            ClientCapabilities::builder().enable_elicitation().build()
        } else {
            ClientCapabilities::default()
        };
        ClientConfig::new(capabilities, Implementation::new("portcullis-test-client", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else {
            return Ok(ElicitResult::new(ElicitationAction::Cancel));
        };
        emit("asked", json!({ "message": message }));
        let content = self
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(match content {
            Some(content) => ElicitResult::new(ElicitationAction::Accept).with_content(content),
            None => ElicitResult::new(ElicitationAction::Decline),
        })
    }

    async fn on_progress(&self, step: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        emit(
            "progress",
            json!({ "progress": step.progress, "total": step.total, "message": step.message }),
        );
        if step.total.is_some_and(|total| step.progress >= total) {
            self.finished.send_replace(true);
        }
    }
}

/// One line of JSON.
pub fn emit(event: &str, mut members: Value) {
    members["event"] = event.into();
    println!("{members}");
}

pub async fn run(options: &Options) -> u8 {
    let mut transport = StreamableHttpClientTransportConfig::with_uri(options.url.clone());
    if let Some(token) = &options.token {
        transport = transport.auth_header(token.clone());
    }
    let stateless = vec![ProtocolVersion::V_2026_07_28];
    let lifecycle = match options.era {
        Era::Session => ClientLifecycleMode::Initialize,
        Era::Stateless => ClientLifecycleMode::Discover {
            preferred_versions: stateless,
        },
        Era::Auto => ClientLifecycleMode::Auto {
            preferred_versions: stateless,
            legacy_version: None,
        },
    };
    let user = User {
        asked: options.asked,
        content: Arc::default(),
        finished: watch::Sender::new(false),
    };
    let transport = StreamableHttpClientTransport::from_config(transport);
    let connecting = user.serve_with_lifecycle(transport, lifecycle);
    let connection = match tokio::time::timeout(options.timeout, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            emit(
                "error",
                json!({ "kind": "transport", "message": format!("{error:?}") }),
            );
            return 3;
        }
        Err(_) => {
            emit(
                "error",
                json!({ "kind": "transport", "message": "no connection in time" }),
            );
            return 3;
        }
    };
    let server = connection.peer_info();
    let protocol = server.as_ref().map(|server| server.protocol_version.to_string());
    let era = if protocol.as_deref() == Some(ProtocolVersion::V_2026_07_28.as_str()) {
        "stateless"
    } else {
        "session"
    };
    emit(
        "connected",
        json!({ "sdk": "rust rmcp 3.11.0", "era": era, "protocol": protocol }),
    );
    let failed = steps::run(&connection, options).await;
    connection.cancel().await.ok();
    u8::from(failed)
}
