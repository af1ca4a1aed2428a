//! What types alone cannot say. Every problem is named at once, with the place and the remedy.

mod access;
mod limits;
mod listen;
mod network;
mod server;
#[cfg(test)]
mod tests;
mod web;

use std::collections::HashSet;
use std::fmt;

use url::Url;

use crate::auth::RESERVED_METHODS;
use crate::file::{Config, LogLevel, Profile};
use crate::server::Server;

use access::{auth, rule, tool_set};
use limits::{limits, rate_limit};
use listen::{listen, session_keys};
use network::network;
use server::server;
use web::web;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path such as `auth.jwt[corp].issuer`.
    pub path: String,
    /// What, and what to do about it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Collects problems under a path.
struct Check<'a> {
    found: &'a mut Vec<Problem>,
}

impl Check<'_> {
    fn that(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.found.push(Problem {
                path: path.into(),
                message: message.into(),
            });
        }
    }

    fn unique<'n>(&mut self, path: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = HashSet::new();
        for name in names {
            self.that(seen.insert(name), path, format!("{name:?} stands here twice"));
        }
    }
}

/// Everything that is wrong with `config`.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut check = Check { found: &mut found };
    let production = config.gateway.profile == Profile::Production;
    let host_ok = |host: &str| Url::parse(&format!("https://{host}/")).is_ok_and(|url| is_plain_origin(&url));
    check.that(
        host_ok(&config.gateway.public_host),
        "gateway.publicHost",
        "write host or host:port, without scheme or path",
    );
    for host in &config.gateway.additional_hosts {
        check.that(
            host_ok(host),
            "gateway.additionalHosts",
            format!("{host:?}: write host or host:port, without scheme or path"),
        );
    }
    check.that(
        !config.gateway.name.is_empty(),
        "gateway.name",
        "must not be empty",
    );
    check.that(
        !config.gateway.namespace.is_empty(),
        "gateway.namespace",
        "must not be empty",
    );
    check.that(
        !production || config.telemetry.log_level <= LogLevel::Info,
        "telemetry.logLevel",
        "debug and trace are refused under Production: they log what clients do",
    );
    listen(&mut check, &config.listen);
    if let Some(keys) = &config.session_keys {
        session_keys(&mut check, keys);
    }
    let sealed = config.session_keys.is_some();
    check.that(
        config.listen.peer.is_none() || sealed,
        "sessionKeys",
        "replicas need common keys: required beside listen.peer",
    );
    let token = config
        .listen
        .status
        .as_ref()
        .is_some_and(|status| status.token.is_some());
    check.that(
        !token || sealed,
        "sessionKeys",
        "the status port's identity derives from them: required beside token",
    );
    auth(&mut check, &config.auth, production);
    let methods: HashSet<&str> = config
        .auth
        .jwt
        .iter()
        .map(|jwt| jwt.name.as_str())
        .chain(RESERVED_METHODS.iter().copied())
        .collect();
    check.unique("rules", config.rules.iter().map(|rule| rule.name.as_str()));
    for one in &config.rules {
        rule(&mut check, one, &methods);
    }
    check.unique(
        "rateLimits",
        config.rate_limits.iter().map(|limit| limit.name.as_str()),
    );
    check.that(
        !production || !config.rate_limits.is_empty(),
        "rateLimits",
        "at least one is required under Production",
    );
    for limit in &config.rate_limits {
        rate_limit(&mut check, limit, "");
    }
    limits(&mut check, &config.limits);
    web(&mut check, &config.web, production);
    network(&mut check, &config.network, production);
    check.unique(
        "servers",
        config
            .servers
            .iter()
            .map(Server::full_name)
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str),
    );
    check.unique(
        "servers.prefix",
        config.servers.iter().map(|server| server.prefix.as_str()),
    );
    for one in &config.servers {
        server(&mut check, one);
    }
    let features = &config.features;
    check.that(
        !features.completions || features.prompts || features.resources,
        "features.completions",
        "completes arguments of prompts and resource templates: set features.prompts or features.resources too",
    );
    check.unique("toolSets", config.tool_sets.iter().map(|set| set.name.as_str()));
    for set in &config.tool_sets {
        tool_set(&mut check, set);
    }
    check.that(
        config.shutdown.grace < config.shutdown.deadline,
        "shutdown.deadline",
        "must be longer than shutdown.grace",
    );
    found
}

fn is_plain_origin(url: &Url) -> bool {
    url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.host_str().is_some_and(|host| !host.is_empty())
}
