//! Who may do what, and how often.

use portcullis_config::{limits, policy};

use super::count;
use crate::api::v1alpha1 as api;
use crate::identity::Key;
use crate::validate::gateway::named_server;

/// A principal.
pub(super) fn subject(subject: &api::SubjectRef) -> policy::SubjectRef {
    let api::SubjectRef { method, subject } = subject;
    policy::SubjectRef {
        method: method.clone(),
        subject: subject.clone(),
    }
}

/// A server as rules and limits name it in the file: always with its namespace.
fn full_name(text: &str, gateway: &Key) -> String {
    if text == "*" {
        return text.to_owned();
    }
    named_server(text, gateway).to_string()
}

/// A rule.
pub(super) fn rule(rule: &api::AccessRule, gateway: &Key) -> policy::Rule {
    let api::AccessRule {
        name,
        action,
        principals,
        servers,
        tools,
        prompts,
        resources,
        when,
        expires,
    } = rule;
    let api::Principals {
        method,
        subjects,
        groups,
        scopes,
        clients,
        any_authenticated,
    } = principals;
    policy::Rule {
        name: name.to_string(),
        action: match action {
            api::Action::Allow => policy::Action::Allow,
            api::Action::Deny => policy::Action::Deny,
            api::Action::Audit => policy::Action::Audit,
        },
        principals: policy::Principals {
            method: method.clone(),
            subjects: subjects.clone(),
            groups: groups.clone(),
            scopes: scopes.clone(),
            clients: clients.clone(),
            any_authenticated: any_authenticated.unwrap_or(false),
        },
        servers: servers.iter().map(|text| full_name(text, gateway)).collect(),
        tools: tools.clone(),
        prompts: prompts.clone(),
        resources: resources.clone(),
        when: when.clone(),
        expires: expires.as_ref().map(|time| time.0),
    }
}

/// A set of tools.
pub(super) fn tool_set(set: &api::ToolSet, gateway: &Key) -> portcullis_config::ToolSet {
    let api::ToolSet { name, servers, tools } = set;
    portcullis_config::ToolSet {
        name: name.to_string(),
        servers: servers.iter().map(|text| full_name(text, gateway)).collect(),
        tools: tools.clone(),
    }
}

/// A rate limit.
pub(super) fn rate_limit(limit: &api::RateLimit, gateway: &Key) -> limits::RateLimit {
    let burst = limit.effective_burst();
    let api::RateLimit {
        name,
        key,
        matches,
        requests,
        per,
        burst: _, // in force above
    } = limit;
    limits::RateLimit {
        name: name.to_string(),
        key: match key {
            api::LimitKey::Client => limits::LimitKey::Client,
            api::LimitKey::Ip => limits::LimitKey::Ip,
            api::LimitKey::Server => limits::LimitKey::Server,
            api::LimitKey::Tool => limits::LimitKey::Tool,
            api::LimitKey::ClientTool => limits::LimitKey::ClientTool,
            api::LimitKey::Gateway => limits::LimitKey::Gateway,
        },
        matches: matches.as_ref().map(
            |api::LimitMatch {
                 methods,
                 servers,
                 tools,
             }| limits::LimitMatch {
                methods: methods.as_deref().map(names),
                servers: servers
                    .as_ref()
                    .map(|servers| servers.iter().map(|text| full_name(text, gateway)).collect()),
                tools: tools.clone(),
            },
        ),
        requests: count(*requests),
        per: (*per).into(),
        burst,
    }
}

/// A limit that a server has for itself. The gateway adds which server that is.
pub(super) fn server_rate_limit(limit: &api::ServerRateLimit) -> limits::RateLimit {
    let burst = limit.effective_burst();
    let api::ServerRateLimit {
        name,
        key,
        matches,
        requests,
        per,
        burst: _, // in force above
    } = limit;
    limits::RateLimit {
        name: name.to_string(),
        key: match key {
            api::ServerLimitKey::Server => limits::LimitKey::Server,
            api::ServerLimitKey::Tool => limits::LimitKey::Tool,
            api::ServerLimitKey::ClientTool => limits::LimitKey::ClientTool,
        },
        matches: matches
            .as_ref()
            .map(|api::ServerLimitMatch { methods, tools }| limits::LimitMatch {
                methods: methods.as_deref().map(names),
                servers: None,
                tools: tools.clone(),
            }),
        requests: count(*requests),
        per: (*per).into(),
        burst,
    }
}

fn names(methods: &[api::McpMethod]) -> Vec<String> {
    methods.iter().map(|method| method.as_str().to_owned()).collect()
}
