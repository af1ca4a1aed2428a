//! One thing after another on one connection; one that fails does not end the others.

use std::time::Duration;

use rmcp::ServiceError;
use rmcp::model::{CallToolRequestParams, CallToolResult, PaginatedRequestParams};
use serde_json::{Map, Value, json};

use crate::client::{Connection, emit};
use crate::options::{Options, Step};

pub async fn run(connection: &Connection, options: &Options) -> bool {
    let mut failed = false;
    for (number, step) in options.steps.iter().enumerate() {
        let done = tokio::time::timeout(options.timeout, one(connection, step)).await;
        let ok = match done {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                emit("error", as_event(&error));
                false
            }
            Err(_) => {
                emit(
                    "error",
                    json!({ "kind": "transport", "message": "the step took too long" }),
                );
                false
            }
        };
        failed |= !ok;
        emit("step", json!({ "number": number, "ok": ok }));
    }
    failed
}

async fn one(connection: &Connection, step: &Step) -> Result<(), ServiceError> {
    match step {
        Step::List => {
            let (mut names, mut cursor) = (Vec::new(), None);
            for _ in 0..100 {
                let asked = PaginatedRequestParams::default().with_cursor(cursor);
                let page = connection.list_tools(Some(asked)).await?;
                names.extend(page.tools.into_iter().map(|tool| tool.name.into_owned()));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            emit("tools", json!({ "tools": names }));
        }
        Step::Call(tool) => {
            let result = call(connection, &tool.tool, &tool.arguments).await?;
            emit("result", result_event(&tool.tool, &result));
        }
        Step::Progress(tool) => {
            connection.service().expects_progress();
            let result = call(connection, &tool.tool, &tool.arguments).await?;
            connection.service().finished().await;
            emit("result", result_event(&tool.tool, &result));
        }
        Step::Answer { tool, content } => {
            connection.service().will_answer(content.clone());
            let result = call(connection, &tool.tool, &tool.arguments).await?;
            emit("result", result_event(&tool.tool, &result));
        }
        Step::Beside {
            tool,
            refused,
            refused_arguments,
            times,
            after,
        } => {
            let slow = call(connection, &tool.tool, &tool.arguments);
            let beside = async {
                tokio::time::sleep(Duration::from_secs_f64(after.unwrap_or(0.1))).await;
                let mut refusals = Vec::new();
                for _ in 0..times.unwrap_or(1) {
                    if let Err(error) = call(connection, refused, refused_arguments).await {
                        refusals.push(as_event(&error));
                    }
                }
                refusals
            };
            tokio::pin!(slow, beside);
            // Whether the slow one is still at work when the others have been refused.
            let (result, refusals, unfinished) = tokio::select! {
                result = &mut slow => (result, beside.await, false),
                refusals = &mut beside => (slow.await, refusals, true),
            };
            let result = result_event(&tool.tool, &result?);
            emit(
                "beside",
                json!({ "refusals": refusals, "unfinished": unfinished, "result": result }),
            );
        }
    }
    Ok(())
}

async fn call(
    connection: &Connection,
    tool: &str,
    arguments: &Map<String, Value>,
) -> Result<CallToolResult, ServiceError> {
    let asked = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.clone());
    connection.call_tool(asked).await
}

fn result_event(tool: &str, result: &CallToolResult) -> Value {
    let text: Vec<&str> = result
        .content
        .iter()
        .filter_map(|block| block.as_text())
        .map(|text| text.text.as_str())
        .collect();
    json!({ "tool": tool, "isError": result.is_error.unwrap_or_default(), "text": text, "structured": result.structured_content })
}

fn as_event(error: &ServiceError) -> Value {
    match error {
        ServiceError::McpError(sent) => {
            json!({ "kind": "rpc", "message": sent.message, "code": sent.code.0, "data": sent.data })
        }
        other => json!({ "kind": "transport", "message": format!("{other:?}") }),
    }
}
