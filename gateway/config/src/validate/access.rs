//! Who may call, and what: methods of authentication, rules, and tool sets.

use std::collections::HashSet;

use url::Url;

use super::Check;
use crate::auth::{Auth, Jwks, METHOD_API_KEYS, RESERVED_METHODS};
use crate::features::ToolSet;
use crate::policy::{Principals, Rule};

pub(super) fn auth(check: &mut Check<'_>, auth: &Auth, production: bool) {
    check.that(
        !auth.jwt.is_empty() || auth.api_keys.is_some() || auth.anonymous.is_some(),
        "auth",
        "at least one of jwt, apiKeys and anonymous is required",
    );
    if let Some(anonymous) = &auth.anonymous {
        check.that(
            !production,
            "auth.anonymous",
            "refused under Production: set profile to Development, or authenticate",
        );
        check.that(
            !anonymous.reason.trim().is_empty(),
            "auth.anonymous.reason",
            "say why",
        );
    }
    check.unique("auth.jwt", auth.jwt.iter().map(|jwt| jwt.name.as_str()));
    check.unique("auth.jwt.issuer", auth.jwt.iter().map(|jwt| jwt.issuer.as_str()));
    for jwt in &auth.jwt {
        let at = |field: &str| format!("auth.jwt[{}].{field}", jwt.name);
        check.that(!jwt.name.is_empty(), "auth.jwt.name", "must not be empty");
        check.that(
            !RESERVED_METHODS.contains(&jwt.name.as_str()),
            at("name"),
            format!("is reserved, as are {}", RESERVED_METHODS.join(", ")),
        );
        check.that(!jwt.issuer.is_empty(), at("issuer"), "must not be empty");
        check.that(!jwt.algorithms.is_empty(), at("algorithms"), "must not be empty");
        check.that(
            !jwt.claims.subject.is_empty(),
            at("claims.subject"),
            "must not be empty",
        );
        if let Jwks::Uri(uri) = &jwt.jwks {
            let https = Url::parse(&uri.url).is_ok_and(|url| url.scheme() == "https" && url.host().is_some());
            check.that(https, at("jwks.uri.url"), "must be an https URL");
        }
    }
}

pub(super) fn rule(check: &mut Check<'_>, rule: &Rule, methods: &HashSet<&str>) {
    let at = |field: &str| format!("rules[{}].{field}", rule.name);
    let Principals {
        method,
        subjects,
        groups,
        scopes,
        clients,
        any_authenticated,
    } = &rule.principals;
    let lists = [subjects, groups, scopes, clients];
    check.that(
        method.is_some() || *any_authenticated || lists.iter().any(|list| list.is_some()),
        at("principals"),
        "names nobody: set anyAuthenticated: true if everybody is meant",
    );
    check.that(
        lists
            .iter()
            .all(|list| list.as_ref().is_none_or(|list| !list.is_empty())),
        at("principals"),
        "an empty list matches nobody: leave it out, or fill it",
    );
    check.that(
        method.is_some() || (subjects.is_none() && groups.is_none() && scopes.is_none()),
        at("principals.method"),
        "required beside subjects, groups and scopes: they belong to a method",
    );
    if let Some(method) = method {
        check.that(
            methods.contains(method.as_str()),
            at("principals.method"),
            format!("{method:?} is no method of auth"),
        );
        check.that(
            clients.is_none() || method == METHOD_API_KEYS,
            at("principals.clients"),
            "clients are those of method apiKeys",
        );
    }
    for (field, globs) in [
        ("tools", &rule.tools),
        ("prompts", &rule.prompts),
        ("resources", &rule.resources),
    ] {
        check.that(
            globs.as_ref().is_none_or(|globs| !globs.is_empty()),
            at(field),
            "an empty list matches nothing: leave it out, or fill it",
        );
    }
    servers(check, &rule.servers, &at("servers"));
}

pub(super) fn tool_set(check: &mut Check<'_>, set: &ToolSet) {
    let at = |field: &str| format!("toolSets[{}].{field}", set.name);
    let is_label = (1..=63).contains(&set.name.len())
        && set
            .name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    check.that(is_label, at("name"), "must be a DNS label: it stands in a path");
    check.that(!set.tools.is_empty(), at("tools"), "names no tool");
    servers(check, &set.servers, &at("servers"));
}

/// Servers as rules and tool sets name them.
fn servers(check: &mut Check<'_>, servers: &[String], path: &str) {
    check.that(!servers.is_empty(), path, "names no server");
    for server in servers {
        check.that(
            server == "*"
                || server
                    .split_once('/')
                    .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()),
            path,
            format!("{server:?}: write namespace/name, or *"),
        );
    }
}
