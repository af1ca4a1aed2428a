//! One server: how it is named and where it is.

use url::Url;

use super::Check;
use super::limits::server_rate_limit;
use crate::server::{AddressPolicy, Server};

pub(super) fn server(check: &mut Check<'_>, server: &Server) {
    let at = |field: &str| format!("servers[{}].{field}", server.full_name());
    check.that(
        !server.name.is_empty() && !server.name.contains(['/', '.']),
        at("name"),
        "must be a DNS label",
    );
    check.that(
        !server.namespace.is_empty() && !server.namespace.contains(['/', '.']),
        at("namespace"),
        "must be a DNS label",
    );
    check.that(
        is_prefix(&server.prefix),
        at("prefix"),
        "letters, digits, dashes and single underscores, a letter or digit first and no underscore last: two underscores \
         in a row part prefix and tool, and with a third nobody could say where the tool's name begins",
    );
    match Url::parse(&server.url) {
        Ok(url) => {
            let scheme = match server.address_policy {
                AddressPolicy::Public | AddressPolicy::Private => url.scheme() == "https",
                AddressPolicy::Cluster | AddressPolicy::Loopback => {
                    matches!(url.scheme(), "http" | "https")
                }
            };
            check.that(scheme, at("url"), "must be https outside the cluster");
            check.that(url.host().is_some(), at("url"), "names no host");
            check.that(
                url.username().is_empty() && url.password().is_none(),
                at("url"),
                "must not carry a user or a password: use credential",
            );
        }
        Err(err) => check.that(false, at("url"), err.to_string()),
    }
    if let Some(credential) = &server.credential {
        let token = !credential.name.is_empty()
            && credential
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        check.that(token, at("credential.name"), "must be a header name");
    }
    if let Some(oauth) = &server.oauth_client_credentials {
        check.that(
            server.credential.is_none(),
            at("oauthClientCredentials"),
            "must not stand beside credential",
        );
        let https = match Url::parse(&oauth.token_url) {
            Ok(url) => {
                url.scheme() == "https"
                    || url.scheme() == "http" && oauth.address_policy == AddressPolicy::Loopback
            }
            Err(_) => false,
        };
        check.that(
            https,
            at("oauthClientCredentials.tokenUrl"),
            "must be an https URL",
        );
        check.that(
            !oauth.client_id.is_empty(),
            at("oauthClientCredentials.clientId"),
            "must not be empty",
        );
    }
    check.that(
        server.limits.max_concurrent > 0,
        at("limits.maxConcurrent"),
        "must be at least 1",
    );
    check.that(
        !server.limits.timeout.get().is_zero(),
        at("limits.timeout"),
        "must be longer than nothing",
    );
    check.that(
        server.limits.max_response_bytes != Some(0),
        at("limits.maxResponseBytes"),
        "must be at least 1",
    );
    let breaker = server.limits.circuit_breaker;
    check.that(
        breaker.failures > 0 && !breaker.open_for.get().is_zero(),
        at("limits.circuitBreaker"),
        "failures must be at least 1, and openFor longer than nothing",
    );
    check.unique(
        &at("rateLimits"),
        server.rate_limits.iter().map(|limit| limit.name.as_str()),
    );
    for limit in &server.rate_limits {
        server_rate_limit(check, limit, &at(""));
    }
}

/// As the definition of `McpServer` has it: `^[A-Za-z0-9](_?[-A-Za-z0-9])*$`.
fn is_prefix(prefix: &str) -> bool {
    prefix.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !prefix.ends_with('_')
        && !prefix.contains("__")
        && prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}
