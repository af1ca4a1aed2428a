//! The API server's HTTP face, as a service that a client is built on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::select::Selector;
use super::store::{Event, Place, Preconditions, Refusal, not_found};
use super::{ApiServer, Call, Fault, Watcher, counts, rights};

type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

#[derive(Clone)]
pub struct Service(pub ApiServer);

impl tower::Service<Request<Body>> for Service {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move { Ok(answer(server, request).await) })
    }
}

/// A request, taken apart.
struct Asked {
    call: Call,
    query: HashMap<String, String>,
    apply: bool,
    manager: String,
    body: Value,
}

async fn answer(server: ApiServer, request: Request<Body>) -> Response<Answer> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    match path.as_str() {
        "/.well-known/openid-configuration" => {
            return json_answer(200, &json!({"issuer": "https://issuer.test"}));
        }
        "/openid/v1/jwks" => {
            let key =
                json!({"kid": "k", "kty": "RSA", "alg": "RS256", "use": "sig", "n": "AQAB", "e": "AQAB"});
            return json_answer(200, &json!({"keys": [key]}));
        }
        _ => {}
    }
    let bytes = body.collect().await.expect("a body in memory").to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let query: HashMap<String, String> = parts
        .uri
        .query()
        .map(|query| {
            url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect()
        })
        .unwrap_or_default();
    let mut call = parse(&parts.method, &path, query.contains_key("watch"));
    if call.name.is_empty() && call.verb == "create" {
        call.name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    }
    let asked = Asked {
        apply: parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/apply-patch")),
        manager: query
            .get("fieldManager")
            .cloned()
            .unwrap_or_else(|| "unknown".into()),
        call,
        query,
        body,
    };
    let fault = server.fault_for(&asked.call);
    match fault {
        Some(Fault::Refuse(code)) => {
            server.log(&asked.call, code);
            let reason = if code == 409 { "Conflict" } else { "InternalError" };
            return refusal(&Refusal(code, reason, "a fault was asked for".into()));
        }
        Some(Fault::Hang) => {
            server.log(&asked.call, 0);
            std::future::pending::<()>().await;
        }
        Some(Fault::DoAndHang | Fault::DoAndCrash) | None => {}
    }
    let response = server.serve(asked);
    match fault {
        Some(Fault::DoAndHang) => std::future::pending().await,
        Some(Fault::DoAndCrash) => {
            server.crashed.send_modify(|count| *count += 1);
            std::future::pending().await
        }
        Some(Fault::Refuse(_) | Fault::Hang) | None => response,
    }
}

/// Takes a path such as `/apis/apps/v1/namespaces/NS/deployments/NAME/status` apart.
fn parse(method: &Method, path: &str, watch: bool) -> Call {
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let group = if parts[0] == "api" {
        parts.drain(..2);
        ""
    } else {
        let group = parts[1];
        parts.drain(..3);
        group
    };
    let namespace = if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        let namespace = parts[1];
        parts.drain(..2);
        namespace
    } else {
        ""
    };
    let plural = parts[0];
    let name = parts.get(1).copied().unwrap_or_default();
    let verb = match (method.as_str(), name.is_empty(), watch) {
        ("GET", true, true) => "watch",
        ("GET", true, false) => "list",
        ("GET", false, _) => "get",
        ("POST", ..) => "create",
        ("PUT", ..) => "update",
        ("PATCH", ..) => "patch",
        ("DELETE", ..) => "delete",
        other => panic!("{other:?} is nothing the operator does"),
    };
    Call {
        verb,
        resource: if group.is_empty() {
            plural.to_owned()
        } else {
            format!("{plural}.{group}")
        },
        sub: parts.get(2).map(|sub| (*sub).to_owned()),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        code: 0,
    }
}

impl ApiServer {
    fn fault_for(&self, call: &Call) -> Option<Fault> {
        let mut inner = self.lock();
        if !counts(call) {
            return None;
        }
        let number = inner.counted;
        inner.counted += 1;
        inner.faults.as_mut().and_then(|faults| faults(number, call))
    }

    fn log(&self, call: &Call, code: u16) {
        self.lock().calls.push(Call { code, ..call.clone() });
    }

    fn serve(&self, asked: Asked) -> Response<Answer> {
        let call = asked.call.clone();
        let outcome = self.carry_out(asked);
        let code = match &outcome {
            Ok(_) => 200,
            Err(Refusal(code, ..)) => *code,
        };
        self.log(&call, code);
        outcome.unwrap_or_else(|refused| refusal(&refused))
    }

    fn carry_out(&self, asked: Asked) -> Result<Response<Answer>, Refusal> {
        let Asked {
            call,
            query,
            apply,
            manager,
            body,
        } = asked;
        let place = Place::new(&call.resource, &call.namespace, &call.name);
        if self.lock().unknown.contains(&call.resource) {
            return Err(Refusal(
                404,
                "NotFound",
                "the server could not find the requested resource".into(),
            ));
        }
        if call.verb == "list"
            && let Some(failed) = self.lock().unlisted.get_mut(&call.resource)
        {
            *failed += 1;
            return Err(Refusal(
                500,
                "InternalError",
                "etcdserver: request timed out".into(),
            ));
        }
        if !rights::permits(call.verb, &call.resource, call.sub.as_deref()) {
            return Err(Refusal(403, "Forbidden", format!("no right to {}", call.line())));
        }
        let sub = call.sub.as_deref();
        let object = match call.verb {
            "get" => self.get(&place).ok_or_else(|| not_found(&place))?,
            "list" => self.listing(&call, &Selector::from_query(&query)),
            "watch" => return Ok(self.watch(&call, &query)),
            "create" => self.change(|store| store.create(&place, &manager, body))?,
            "update" => self.change(|store| store.replace(&place, body))?,
            "patch" if apply => {
                assert_eq!(
                    query.get("force").map(String::as_str),
                    Some("true"),
                    "only forced applies are understood"
                );
                self.change(|store| store.apply(&place, sub, &manager, &body))?
            }
            "patch" => self.change(|store| store.merge(&place, sub, &manager, &body))?,
            "delete" => {
                let text = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
                let preconditions = Preconditions {
                    uid: text("uid"),
                    version: text("resourceVersion"),
                };
                self.change(|store| store.delete(&place, &preconditions))?
            }
            other => unreachable!("{other}"),
        };
        Ok(json_answer(200, &object))
    }

    fn listing(&self, call: &Call, selector: &Selector) -> Value {
        let inner = self.lock();
        let items: Vec<&Value> = inner
            .store
            .of_resource(&call.resource)
            .filter(|(place, _)| call.namespace.is_empty() || place.namespace == call.namespace)
            .map(|(_, object)| object)
            .filter(|object| selector.selects(object))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "List",
            "metadata": {"resourceVersion": inner.store.version.to_string()},
            "items": items,
        })
    }

    fn watch(&self, call: &Call, query: &HashMap<String, String>) -> Response<Answer> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let watcher = Watcher {
            resource: call.resource.clone(),
            namespace: (!call.namespace.is_empty()).then(|| call.namespace.clone()),
            selector: Selector::from_query(query),
            events: sender,
        };
        let since: u64 = query
            .get("resourceVersion")
            .and_then(|version| version.parse().ok())
            .unwrap_or(0);
        let mut inner = self.lock();
        for event in inner.store.events.iter().filter(|event| event.version > since) {
            if let Some(line) = watch_line(&watcher, event) {
                watcher.events.send(Ok(line)).expect("the receiver is here");
            }
        }
        inner.watchers.push(watcher);
        drop(inner);
        let lines = futures::stream::unfold(receiver, |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((line, receiver))
        });
        let body =
            StreamBody::new(lines.map(|line| line.map(|line| hyper::body::Frame::data(Bytes::from(line)))));
        Response::new(body.boxed_unsync())
    }
}

/// What a watcher is told of an event: one line, or nothing.
pub fn watch_line(watcher: &Watcher, event: &Event) -> Option<Vec<u8>> {
    let concerned = watcher.resource == event.place.resource
        && watcher
            .namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == event.place.namespace);
    if !concerned {
        return None;
    }
    let selected = |object: &Option<Value>| object.clone().filter(|object| watcher.selector.selects(object));
    let (kind, mut object) = match (selected(&event.old), selected(&event.new)) {
        (None, None) => return None,
        (None, Some(new)) => ("ADDED", new),
        (Some(_), Some(new)) => ("MODIFIED", new),
        (Some(old), None) => ("DELETED", old),
    };
    object["metadata"]["resourceVersion"] = json!(event.version.to_string());
    let mut line = json!({"type": kind, "object": object}).to_string().into_bytes();
    line.push(b'\n');
    Some(line)
}

fn json_answer(code: u16, body: &Value) -> Response<Answer> {
    Response::builder()
        .status(StatusCode::from_u16(code).expect("a status code"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(
            Full::new(Bytes::from(body.to_string()))
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
        .expect("a response")
}

fn refusal(Refusal(code, reason, message): &Refusal) -> Response<Answer> {
    json_answer(
        *code,
        &json!({
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
        }),
    )
}
