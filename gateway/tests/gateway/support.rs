//! A gateway, MCP servers and a client, each as small as it can be while speaking over real sockets.

#[path = "support/client.rs"]
mod client;
#[path = "support/server.rs"]
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_config::api_key;
use portcullis_gateway::app::{App, Public};
use portcullis_gateway::config::load::load;
use portcullis_gateway::config::watch::{Configuration, Outcome, Rebuild};
use portcullis_gateway::net::Resolver;
use portcullis_gateway::run::{Application as _, Services};
use portcullis_gateway::server::drain::Drain;
use portcullis_gateway::server::limits::ConnectionLimits;
use portcullis_gateway::server::listener::Listener;
use portcullis_gateway::server::readiness::Readiness;
use portcullis_gateway::server::tls::{Transport, swappable};
use portcullis_gateway::spawn::Spawner;
use portcullis_gateway::telemetry::audit::Audit;
use portcullis_gateway::telemetry::metrics::{Metrics, Port};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub(crate) use self::client::{Answer, Client, META, assert_dressed};
pub(crate) use self::server::{Seen, Server, Speaks, json_answer};

/// A gateway on a loopback port, with its configuration in a folder of its own.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) app: Arc<App>,
    pub(crate) folder: PathBuf,
    configuration: Arc<Configuration>,
    spawner: Spawner,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.spawner.stop_token().cancel();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// API keys of the clients `alice` and `bob`.
pub(crate) const ALICE: u8 = 1;

pub(crate) const BOB: u8 = 2;

pub(crate) fn key(client: u8) -> String {
    api_key::mint(&[client; 32])
}

/// A configuration for these servers (`a/NAME`, prefix NAME), with `more` as further top-level YAML.
pub(crate) fn config(servers: &[(&str, SocketAddr)], more: &str) -> String {
    let list: Vec<Value> = servers
        .iter()
        .map(|(name, address)| {
            json!({"name":name,"namespace":"a","prefix":name,"url":format!("http://{address}/mcp"),"addressPolicy":"Loopback"})
        })
        .collect();
    let mut base = json!({
        "formatVersion": 1,
        "gateway": {"name":"g","namespace":"a","profile":"Development","publicHost":"gateway.test"},
        "listen": {"public": {"address":"127.0.0.1:0","plaintext":{"reason":"test"}}},
        "auth": {"apiKeys": {"dir":"keys"}},
        "rules": [{"name":"all","action":"Allow","principals":{"anyAuthenticated":true},"servers":["*"],"tools":["*"]}],
        "servers": list,
    });
    let more: Value = serde_yaml::from_str(if more.is_empty() { "{}" } else { more }).unwrap();
    for (name, value) in more.as_object().unwrap() {
        base[name] = value.clone();
    }
    serde_yaml::to_string(&base).unwrap()
}

impl Gateway {
    pub(crate) async fn start(text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!(
            "portcullis-test-{}-{:x}",
            std::process::id(),
            rand::random::<u64>()
        ));
        std::fs::create_dir_all(folder.join("keys")).unwrap();
        for (name, client) in [("alice", ALICE), ("bob", BOB)] {
            let digest = portcullis_config::keys::sha256_hex(key(client).as_bytes());
            std::fs::write(folder.join("keys").join(name), format!("sha256:{digest}\n")).unwrap();
        }
        std::fs::write(folder.join("session-key"), [9; 32]).unwrap();
        std::fs::write(folder.join("gateway.yaml"), text).unwrap();
        let metrics = Metrics::new(0.0);
        let spawner = Spawner::new();
        let audit = std::fs::File::create(folder.join("audit")).unwrap();
        let services = Services {
            audit: Audit::start(
                audit,
                metrics.audit_written.clone(),
                metrics.audit_dropped.clone(),
            )
            .unwrap(),
            drain: Drain::new(metrics.drain_stage.clone()),
            readiness: Readiness::new(),
            spawner: spawner.clone(),
            metrics: Arc::clone(&metrics),
        };
        let app = App::new(services, Resolver::system(Duration::from_secs(5)));
        let path = folder.join("gateway.yaml");
        let loaded = load(&path).unwrap();
        let limits = ConnectionLimits::public(&loaded.config.limits);
        let configuration = Configuration::start(
            &path,
            Arc::clone(&app) as Arc<dyn Rebuild>,
            Arc::clone(&metrics),
            loaded,
        )
        .unwrap();
        app.start().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(
            limits,
            swappable(Transport::Plaintext),
            Public(Arc::clone(&app)),
            metrics.connections(Port::Public),
        );
        spawner.spawn("public", listener.run(socket, spawner.stop_token().clone()));
        Self {
            address,
            app,
            folder,
            configuration,
            spawner,
        }
    }

    /// Replaces the configuration, and waits until it is in force.
    pub(crate) fn reload(&self, text: &str) -> Outcome {
        std::fs::write(self.folder.join("gateway.yaml"), text).unwrap();
        self.configuration.look(std::time::Instant::now())
    }

    /// Looks at the files again.
    pub(crate) fn look(&self) -> Outcome {
        self.configuration.look(std::time::Instant::now())
    }

    /// What was recorded so far.
    pub(crate) async fn audit(&self) -> Vec<Value> {
        // The writer gathers for a moment.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let text = std::fs::read_to_string(self.folder.join("audit")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn client(&self, who: u8) -> Client {
        Client {
            address: self.address,
            token: Some(key(who)),
            path: "/mcp".into(),
            session: None,
        }
    }
}
