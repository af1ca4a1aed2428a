//! A test's bench: the API server, the cluster, and operators that can be started, stopped and killed.

use std::sync::Arc;
use std::time::Duration;

use portcullis_operator::controller::{self, Ctx, OperatorVitals, Parts};
use portcullis_operator::lease::Leadership;
use portcullis_operator::metrics::Metrics;
use portcullis_operator::settings::{Cluster as Ranges, Dns, Operator as Who, Scope, Settings};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::ApiServer;
use crate::api::store::Place;
use crate::cluster::Cluster;

pub const GATEWAYS: &str = "mcpgateways.portcullis.dev";
pub const SERVERS: &str = "mcpservers.portcullis.dev";

pub struct Bench {
    pub api: ApiServer,
    pub cluster: Cluster,
}

/// An operator under test.
pub struct Running {
    pub ctx: Arc<Ctx>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Dies without a word, as by SIGKILL.
    pub fn kill(self) {
        self.task.abort();
        // What it had spawned dies with it.
        self.stop.cancel();
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    pub fn vitals(&self) -> OperatorVitals {
        OperatorVitals(Arc::clone(&self.ctx))
    }
}

pub fn settings() -> Settings {
    Settings {
        operator: Who {
            namespace: "portcullis-system".into(),
            pod_labels: [("app".to_owned(), "portcullis".to_owned())].into(),
            service_account: "portcullis-operator".into(),
        },
        scope: Scope::Cluster,
        cluster: Ranges::default(),
        gateway_image: "portcullis-gateway:test".into(),
        dns: Dns::default(),
        monitoring: Vec::new(),
        user_namespaces: false,
        fence_probe: Some("198.19.0.1:443".parse().unwrap()),
    }
}

impl Bench {
    pub fn new() -> Self {
        let api = ApiServer::new();
        let (cluster, running) = Cluster::start(&api);
        drop(running);
        Self { api, cluster }
    }

    /// An operator that nobody contests.
    pub fn operator(&self) -> Running {
        self.operator_under(Leadership::uncontested())
    }

    pub fn operator_under(&self, leadership: Leadership) -> Running {
        let stop = CancellationToken::new();
        let ctx = Ctx::new(Parts {
            client: self.api.client(),
            leadership,
            metrics: Metrics::new(),
            settings: settings(),
            fetch: Arc::new(self.cluster.clone()),
            instance: "operator".into(),
            stop: stop.clone(),
        });
        let task = tokio::spawn(controller::run(Arc::clone(&ctx)));
        Running { ctx, stop, task }
    }

    /// A gateway `tools` and a server `files` behind it.
    pub fn gateway_and_server(&self) {
        self.api.create(GATEWAYS, &gateway("tools"));
        self.api.create(SERVERS, &server("files", "tools"));
    }

    /// Waits until a condition says so, and fails the test if it never does.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let patience = Duration::from_secs(30 * 60);
        let waiting = async {
            let mut changes = self.api.subscribe();
            while !holds(self) {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        };
        if tokio::time::timeout(patience, waiting).await.is_err() {
            let calls: Vec<String> = self
                .api
                .calls()
                .iter()
                .map(|call| format!("{} {}", call.line(), call.code))
                .collect();
            let tail = &calls[calls.len().saturating_sub(30)..];
            panic!(
                "never: {what}\ngateway: {:#}\nserver: {:#}\nlast calls: {tail:#?}",
                self.status(GATEWAYS, "tools"),
                self.status(SERVERS, "files")
            );
        }
    }

    pub async fn until_ready(&self) {
        self.until_serving().await;
        self.quiet_for(120).await;
    }

    /// The same, with less patience: for tests that do this a hundred times.
    pub async fn until_settled(&self) {
        self.until_serving().await;
        self.quiet_for(20).await;
    }

    pub async fn until_serving(&self) {
        self.until("gateway and server are ready", |bench| {
            bench.is(GATEWAYS, "tools", "Ready", "True") && bench.is(SERVERS, "files", "Ready", "True")
        })
        .await;
    }

    /// Waits until the operator has had nothing to do for a while.
    pub async fn quiet(&self) {
        self.quiet_for(120).await;
    }

    async fn quiet_for(&self, secs: u64) {
        loop {
            self.api.forget_calls();
            tokio::time::sleep(Duration::from_secs(secs)).await;
            if self.api.calls().is_empty() {
                return;
            }
        }
    }

    pub fn status(&self, resource: &str, name: &str) -> Value {
        self.api
            .get(&Place::new(resource, "agents", name))
            .map(|object| object["status"].clone())
            .unwrap_or_default()
    }

    pub fn condition(&self, resource: &str, name: &str, type_: &str) -> Value {
        let status = self.status(resource, name);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .into_iter()
            .find(|one| one["type"] == json!(type_))
            .unwrap_or_default()
    }

    pub fn is(&self, resource: &str, name: &str, type_: &str, status: &str) -> bool {
        let object = self
            .api
            .get(&Place::new(resource, "agents", name))
            .unwrap_or_default();
        let condition = self.condition(resource, name, type_);
        condition["status"] == json!(status)
            && condition["observedGeneration"] == object["metadata"]["generation"]
    }

    pub fn reason(&self, resource: &str, name: &str, type_: &str) -> String {
        self.condition(resource, name, type_)["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Everything that Portcullis made, without what differs between two runs.
    pub fn made(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .api
            .all()
            .into_iter()
            .filter(|(_, object)| {
                object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == json!("portcullis")
            })
            .filter(|(place, _)| !["pods", "replicasets.apps"].contains(&place.resource.as_str()))
            .map(|(place, _)| {
                let key = place.name.contains("-session-");
                let name = if key {
                    "(session key)".to_owned()
                } else {
                    place.name
                };
                format!("{} {}/{name}", place.resource, place.namespace)
            })
            .collect();
        lines.sort();
        lines
    }
}

pub fn place(resource: &str, name: &str) -> Place {
    Place::new(resource, "agents", name)
}

pub fn gateway(name: &str) -> Value {
    // As the API server stores it: with the schema's defaults.
    let spec = json!({
        "profile": "Development",
        "publicHost": "mcp.example.com",
        "auth": {"apiKeys": {"secretName": "agent-keys"}},
        "authorization": {"rules": [{
            "name": "all", "action": "Allow", "principals": {"method": "apiKeys", "clients": ["ci"]},
            "servers": ["files"], "tools": ["*"],
        }]},
        "tls": {"secretName": "tools-tls"},
    });
    json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "McpGateway",
        "metadata": {"namespace": "agents", "name": name}, "spec": spec,
    })
}

pub fn server(name: &str, gateway: &str) -> Value {
    json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "agents", "name": name},
        "spec": {
            "gatewayRefs": [{"name": gateway}],
            "container": {
                "image": "registry.example.com/files@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "transport": {"streamableHttp": {"port": 8080}},
            },
        },
    })
}
