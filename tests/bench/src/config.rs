//! The configurations of both proxies.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::call::{Era, HOST, TOOL};
use crate::token::{GROUP, ISSUER};

/// Where the servers behind the proxies listen.
#[derive(Clone, Copy)]
pub(crate) struct Upstreams {
    /// Session era.
    pub(crate) session: SocketAddr,
    /// Stateless era.
    pub(crate) stateless: SocketAddr,
}

impl Upstreams {
    const fn of(self, era: Era) -> SocketAddr {
        match era {
            Era::Session => self.session,
            Era::Stateless => self.stateless,
        }
    }
}

/// How many rules the gateway decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Three.
    Few,
    /// Two hundred, of which the last permits the call.
    Many,
}

/// The gateway's file (JSON is YAML): everything on that the target names, nothing off that is on by default.
pub(crate) fn gateway(
    public: SocketAddr,
    metrics: SocketAddr,
    upstreams: Upstreams,
    jwks: &Path,
    rules: Rules,
) -> String {
    let server = |era: Era| {
        json!({
            "name": era.server(), "namespace": "bench", "prefix": era.server(),
            "url": format!("http://{}/mcp", upstreams.of(era)), "addressPolicy": "Loopback",
            "limits": {"maxConcurrent": 1024},
        })
    };
    // Far more than the load can use up: counted and told on every answer, never refusing.
    let limit = |name: &str, key: &str| json!({"name": name, "key": key, "requests": 4_000_000_000_u32, "per": "1m", "burst": 1_000_000_000_u32});
    json!({
        "formatVersion": 1,
        "gateway": {"name": "bench", "namespace": "bench", "profile": "Production", "publicHost": HOST},
        "listen": {
            "public": {"address": public.to_string(), "plaintext": {"reason": "measured without TLS, as nginx is"}},
            "metrics": metrics.to_string(),
        },
        "auth": {"jwt": [{"name": "corp", "issuer": ISSUER, "jwks": {"file": jwks}, "algorithms": ["RS256"]}]},
        "rules": rules.render(),
        "rateLimits": [limit("per-client", "Client"), limit("per-tool", "Tool")],
        "limits": {"maxSessionsPerClient": 100_000, "maxStreamsPerClient": 100_000, "maxConcurrentRequests": 4096},
        "servers": Era::ALL.map(server),
        // So that clients have something to listen to.
        "features": {"subscriptions": true},
        "audit": {"stdout": true},
    })
    .to_string()
}

impl Rules {
    fn render(self) -> Vec<Value> {
        let rule = |name: String, action: &str, principals: Value, tools: Value| json!({"name": name, "action": action, "principals": principals, "servers": ["*"], "tools": tools});
        let permit = rule(
            "engineering-tools".into(),
            "Allow",
            json!({"method": "corp", "groups": [GROUP]}),
            json!(["search_*", "add", TOOL]),
        );
        let deny = rule(
            "nobody-deletes".into(),
            "Deny",
            json!({"anyAuthenticated": true}),
            json!(["delete_*", "drop_*"]),
        );
        let other = |number: usize| match number % 4 {
            // About others, about other groups, and about this principal's group but other tools.
            0 => rule(
                format!("subject-{number}"),
                "Allow",
                json!({"method": "corp", "subjects": [format!("robot-{number}")]}),
                json!(["*"]),
            ),
            1 => rule(
                format!("group-{number}"),
                "Allow",
                json!({"method": "corp", "groups": [format!("team-{number}")]}),
                json!(["*"]),
            ),
            2 => rule(
                format!("tools-{number}"),
                "Allow",
                json!({"method": "corp", "groups": [GROUP]}),
                json!([format!("tool_{number}_*"), format!("read_{number}_*")]),
            ),
            _ => rule(
                format!("deny-{number}"),
                "Deny",
                json!({"method": "corp", "groups": ["on-call"]}),
                json!([format!("danger_{number}_*")]),
            ),
        };
        match self {
            Self::Few => vec![
                deny,
                rule(
                    "on-call-restarts".into(),
                    "Allow",
                    json!({"method": "corp", "groups": ["on-call"]}),
                    json!(["restart_*"]),
                ),
                permit,
            ],
            Self::Many => std::iter::once(deny)
                .chain((0..198).map(other))
                .chain([permit])
                .collect(),
        }
    }
}

/// nginx as a plain reverse proxy of the same two endpoints: one process, keep-alive on both sides, HTTP/1.1 upstream,
/// no access log, no buffering of answers.
pub(crate) fn nginx(public: SocketAddr, upstreams: Upstreams, folder: &Path) -> String {
    let mut pools = String::new();
    let mut locations = String::new();
    for era in Era::ALL {
        let name = era.server();
        write!(
            pools,
            "
  upstream {name} {{
    server {};
    keepalive 512;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}",
            upstreams.of(era)
        )
        .expect("writing to a String does not fail");
        write!(
            locations,
            "
    location = {} {{ proxy_pass http://{name}/mcp; }}",
            era.path()
        )
        .expect("writing to a String does not fail");
    }
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 8192;
events {{
  worker_connections 4096;
  use epoll;
}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  tcp_nodelay on;
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_buffering off;{pools}
  server {{
    listen {public};{locations}
  }}
}}
"
    )
}
