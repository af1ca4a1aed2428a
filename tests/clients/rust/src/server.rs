//! A server of both eras on loopback.

use std::time::Duration;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::InputResponses;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, ElicitRequest, ElicitRequestParams, InputRequest,
    InputRequests, InputRequiredResult, ProgressNotificationParam, ProtocolVersion, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Clone)]
struct Server {
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
struct Message {
    message: String,
}

#[derive(Deserialize, JsonSchema)]
struct Work {
    steps: u32,
    seconds: f64,
}

fn question() -> ElicitRequestParams {
    let schema =
        json!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] });
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: "What is your name?".into(),
        requested_schema: serde_json::from_value(schema).expect("a schema of a form"),
    }
}

fn text(words: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(words)]).into()
}

fn greeting(answer: &Value) -> CallToolResponse {
    match answer["content"]["name"].as_str() {
        Some(name) if answer["action"] == "accept" => text(format!("Hello {name}")),
        _ => text(format!(
            "No name: {}",
            answer["action"].as_str().unwrap_or("nothing")
        )),
    }
}

#[tool_router]
impl Server {
    #[tool(description = "Gives the message back")]
    async fn echo(&self, Parameters(Message { message }): Parameters<Message>) -> String {
        format!("Echo: {message}")
    }

    #[tool(description = "Takes its time and tells how far it is")]
    async fn slow(
        &self,
        Parameters(Work { steps, seconds }): Parameters<Work>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let steps = steps.clamp(1, 100);
        for step in 1..=steps {
            tokio::time::sleep(Duration::from_secs_f64(
                seconds.clamp(0.0, 60.0) / f64::from(steps),
            ))
            .await;
            if let Some(token) = context.meta.get_progress_token() {
                let told =
                    ProgressNotificationParam::new(token, f64::from(step)).with_total(f64::from(steps));
                context.peer.notify_progress(told).await.ok();
            }
        }
        Ok(text(format!("{steps} steps")))
    }

    #[tool(description = "Asks the user for a name")]
    async fn ask(
        &self,
        InputResponses(answers): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if context.protocol_version() == Some(ProtocolVersion::V_2026_07_28) {
            if let Some(answer) = answers.as_ref().and_then(|answers| answers.get("name")) {
                return Ok(greeting(&json!(answer)));
            }
            let mut asked = InputRequests::new();
            asked.insert(
                "name".into(),
                InputRequest::Elicitation(ElicitRequest::new(question())),
            );
            return Ok(InputRequiredResult::new(Some(asked), Some("asked".into())).into());
        }
        let answer = context.peer.create_elicitation(question()).await;
        let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(greeting(&json!(answer)))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

pub async fn serve(port: u16) -> anyhow::Result<()> {
    let service: StreamableHttpService<Server, LocalSessionManager> = StreamableHttpService::new(
        || {
            Ok(Server {
                tool_router: Server::tool_router(),
            })
        },
        std::sync::Arc::default(),
        StreamableHttpServerConfig::default(),
    );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?;
    Ok(())
}
