//! The effective configuration: built as a whole, never changed, loaded once per request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use portcullis_config::{Config, Loaded, Profile};

use crate::app::host::Hosts;
use crate::auth::authorize::Policy;
use crate::auth::{Authenticator, metadata};
use crate::mcp::seal::Sealer;
use crate::proxy::sets::Sets;
use crate::proxy::upstream::Upstream;
use crate::ratelimit::RateLimits;
use crate::web::documents::Documents;
use crate::web::headers::SecurityHeaders;
use crate::web::origin::Origins;
use crate::web::proxies::Proxies;

/// What one request is judged by.
pub struct Snapshot {
    /// Tells this snapshot from every other of the process.
    pub id: u64,
    /// As it was loaded.
    pub config: Config,
    /// SHA-256 of the files' bytes.
    pub hash: String,
    /// `namespace/name` of the gateway, for audit.
    pub name: String,
    /// Names it answers to.
    pub hosts: Hosts,
    /// Who is believed about where a client calls from.
    pub proxies: Proxies,
    /// Whose web pages may call.
    pub origins: Origins,
    /// What everybody may read.
    pub documents: Documents,
    /// What every answer to a client carries.
    pub security: Arc<SecurityHeaders>,
    /// Who may come in.
    pub auth: Authenticator,
    /// What they may do.
    pub policy: Policy,
    /// How often.
    pub limits: RateLimits,
    /// Seals what clients carry.
    pub sealer: Sealer,
    /// The gateway's own `serverInfo`.
    pub server_info: Bytes,
    /// Named sets of tools.
    pub sets: Sets,
    /// The servers.
    pub upstreams: Vec<Arc<Upstream>>,
    by_path: HashMap<Box<str>, usize>,
}

impl Snapshot {
    /// Puts the parts together.
    pub fn new(
        loaded: &Loaded,
        auth: Authenticator,
        policy: Policy,
        limits: RateLimits,
        sealer: Sealer,
        upstreams: Vec<Arc<Upstream>>,
    ) -> Self {
        let config = loaded.config.clone();
        let tls = config.listen.public.tls.is_some();
        let names = std::iter::once(&config.gateway.public_host).chain(&config.gateway.additional_hosts);
        let by_path = upstreams
            .iter()
            .enumerate()
            .map(|(at, upstream)| (upstream.path_name.clone(), at))
            .collect();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            hash: loaded.hash.clone(),
            name: format!("{}/{}", config.gateway.namespace, config.gateway.name),
            hosts: Hosts::new(names.map(String::as_str), tls),
            proxies: Proxies::new(&config.network),
            origins: Origins::new(
                &config.web.cors,
                &metadata::origin(&config),
                config.gateway.profile == Profile::Development,
            ),
            documents: Documents::new(&config.web.well_known, &metadata::origin(&config)),
            security: Arc::new(SecurityHeaders::new(config.web.headers, tls)),
            auth,
            policy,
            limits,
            sealer,
            server_info: server_info(&config.gateway.name),
            sets: Sets::new(&config.tool_sets),
            upstreams,
            by_path,
            config,
        }
    }

    /// The server with this name in paths.
    pub fn upstream(&self, path_name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.get(*self.by_path.get(path_name)?)
    }
}

fn server_info(name: &str) -> Bytes {
    let info = serde_json::json!({"name": name, "title": "Portcullis MCP gateway", "version": env!("CARGO_PKG_VERSION")});
    Bytes::from(info.to_string())
}
