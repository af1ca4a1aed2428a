//! The gateway's configuration, from its spec and its servers. Every field of the spec is taken apart by name, so that a
//! field nobody passes on does not compile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time;

use portcullis_config as config;
use portcullis_config::{limits, listen, server};

use self::auth::methods;
use self::policy::{rate_limit, rule, server_rate_limit, subject, tool_set};
use self::web::web;
use super::volumes;
use crate::api::names::{gateway_child, gateway_peers};
use crate::api::v1alpha1 as api;
use crate::identity::Key;
use crate::settings::Settings;
use crate::validate::gateway::PublicTransport;
use crate::validate::{Attached, Ca, ValidatedGateway};

mod auth;
mod credential;
mod policy;
mod web;

/// How long a gateway keeps accepting after it was told to end: endpoints propagate late.
const GRACE: config::Duration = config::Duration::from_secs(5);
/// What the end of a process may take beyond the longest call.
const WIND_UP: time::Duration = time::Duration::from_secs(15);

/// The configuration that the pods of `gateway` load.
pub fn config(gateway: &ValidatedGateway, settings: &Settings) -> config::Config {
    let api::McpGatewaySpec {
        profile,
        public_host,
        additional_hosts,
        suspend,
        denied_subjects,
        servers:
            api::Servers {
                namespaces: _, // decides what is in `gateway.servers`
                tool_names,
            },
        tool_sets,
        auth,
        authorization,
        rate_limits,
        features,
        limits,
        web: seen,
        tls: _, // is `gateway.transport`
        network:
            api::Network {
                ingress_from: _,    // a matter of the NetworkPolicy
                trusted_proxies: _, // are `gateway.trusted_proxies`
                only_from_proxies,
                public_health,
            },
        audit,
        telemetry,
        workload: _, // a matter of the Deployment
    } = gateway.spec();
    let key = &gateway.identity.key;
    config::Config {
        format_version: config::FORMAT_VERSION,
        gateway: config::Gateway {
            id: gateway.identity.uid.clone(),
            name: key.name.to_string(),
            namespace: key.namespace.to_string(),
            profile: match profile {
                api::Profile::Production => config::Profile::Production,
                api::Profile::Development => config::Profile::Development,
            },
            public_host: public_host.clone(),
            additional_hosts: hosts(additional_hosts, key, settings),
            suspend: *suspend,
            denied_subjects: denied_subjects.iter().map(subject).collect(),
        },
        listen: listen(gateway, settings),
        session_keys: Some(session_keys(gateway)),
        auth: methods(auth),
        rules: authorization.rules.iter().map(|one| rule(one, key)).collect(),
        rate_limits: rate_limits.iter().map(|one| rate_limit(one, key)).collect(),
        features: on(*features),
        tool_names: names(*tool_names),
        tool_sets: tool_sets.iter().map(|one| tool_set(one, key)).collect(),
        limits: bounds(limits),
        network: config::Network {
            trusted_proxies: gateway.trusted_proxies.clone(),
            only_from_proxies: *only_from_proxies,
            public_health: public_health.clone(),
        },
        web: web(seen),
        servers: gateway.attached().map(upstream).collect(),
        audit: config::Audit {
            stdout: audit.stdout.is_some(),
        },
        telemetry: config::Telemetry {
            log_level: log_level(telemetry.log_level),
        },
        shutdown: shutdown(limits),
    }
}

/// How the process ends. The longest call that is permitted may finish.
pub fn shutdown(limits: &api::GatewayLimits) -> config::Shutdown {
    let deadline = limits.max_call_duration.get() + WIND_UP;
    let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    config::Shutdown {
        grace: GRACE,
        deadline: config::Duration::from_millis(millis),
    }
}

/// The names a gateway is called by: the spec's, and those of its own Service.
fn hosts(additional: &[String], key: &Key, settings: &Settings) -> Vec<String> {
    let service = gateway_child(&key.name);
    let namespace = &key.namespace;
    let own = [
        service.clone(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.{}", settings.cluster.domain),
    ];
    let mut hosts: Vec<String> = additional.iter().cloned().chain(own).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn listen(gateway: &ValidatedGateway, settings: &Settings) -> listen::Listen {
    let any: IpAddr = if settings.cluster.has_ipv6() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let at = |port| SocketAddr::new(any, port);
    let key = &gateway.identity.key;
    let public = match &gateway.transport {
        PublicTransport::Tls { secret_name } => {
            let (cert_file, key_file) = volumes::tls_paths(secret_name);
            listen::Public {
                address: at(config::PORT_TLS),
                tls: Some(listen::TlsFiles { cert_file, key_file }),
                plaintext: None,
            }
        }
        PublicTransport::Plaintext { reason } => listen::Public {
            address: at(config::PORT_PLAINTEXT),
            tls: None,
            plaintext: Some(listen::Plaintext {
                reason: reason.clone(),
            }),
        },
    };
    listen::Listen {
        public,
        metrics: Some(at(config::PORT_METRICS)),
        status: Some(listen::StatusListener {
            address: at(config::PORT_STATUS),
            token: Some(listen::StatusToken {
                issuer: gateway.token_issuer.issuer.clone(),
                audience: config::STATUS_AUDIENCE.to_owned(),
                subject: settings.operator.subject(),
                jwks: gateway.token_issuer.jwks.clone(),
            }),
        }),
        // Also with one replica: a second one must not mean new pods for the first.
        peer: Some(listen::Peer {
            address: at(config::PORT_PEER),
            service: format!(
                "{}.{}.svc.{}",
                gateway_peers(&key.name),
                key.namespace,
                settings.cluster.domain
            ),
        }),
    }
}

fn session_keys(gateway: &ValidatedGateway) -> listen::SessionKeys {
    let keys = &gateway.session_keys;
    listen::SessionKeys {
        seal_with: keys.seal_with.to_string(),
        keys: keys
            .existing()
            .into_iter()
            .map(|id| listen::SessionKey {
                id: id.to_string(),
                file: volumes::session_key_path(id),
            })
            .collect(),
    }
}

fn mounted(bundle: &api::CaBundle) -> config::auth::CaBundle {
    config::auth::CaBundle::File(volumes::trust_path(&bundle.config_map_name, &bundle.key))
}

fn on(features: api::Features) -> config::Features {
    let api::Features {
        prompts,
        resources,
        completions,
        elicitation,
        sampling,
        roots,
        logging,
        subscriptions,
    } = features;
    config::Features {
        prompts,
        resources,
        completions,
        elicitation,
        sampling,
        roots,
        logging,
        subscriptions,
    }
}

fn names(names: api::ToolNames) -> config::ToolNames {
    let api::ToolNames { prefix } = names;
    config::ToolNames {
        prefix: match prefix {
            api::Prefix::Always => config::Prefix::Always,
            api::Prefix::OnConflict => config::Prefix::OnConflict,
            api::Prefix::Never => config::Prefix::Never,
        },
    }
}

fn narrowed(features: api::ServerFeatures) -> config::ServerFeatures {
    let api::ServerFeatures {
        prompts,
        resources,
        completions,
        elicitation,
        sampling,
        roots,
        logging,
        subscriptions,
    } = features;
    config::ServerFeatures {
        prompts,
        resources,
        completions,
        elicitation,
        sampling,
        roots,
        logging,
        subscriptions,
    }
}

/// A count that the schema keeps above zero; below it, the one that permits least.
fn count(count: i32) -> u32 {
    u32::try_from(count).unwrap_or_default()
}

fn bounds(limits: &api::GatewayLimits) -> limits::Limits {
    let api::GatewayLimits {
        max_request_bytes,
        max_response_bytes,
        max_event_bytes,
        max_header_bytes,
        max_json_depth,
        request_timeout,
        max_call_duration,
        stream_idle_timeout,
        header_timeout,
        max_connections,
        max_concurrent_requests,
        max_sessions_per_client,
        max_streams_per_client,
        max_stream_age,
        memory_budget,
    } = limits;
    limits::Limits {
        max_request_bytes: max_request_bytes.bytes(),
        max_response_bytes: max_response_bytes.bytes(),
        max_event_bytes: max_event_bytes.bytes(),
        max_header_bytes: max_header_bytes.bytes(),
        max_json_depth: count(*max_json_depth),
        request_timeout: (*request_timeout).into(),
        max_call_duration: (*max_call_duration).into(),
        header_timeout: (*header_timeout).into(),
        stream_idle_timeout: (*stream_idle_timeout).into(),
        max_connections: count(*max_connections),
        max_concurrent_requests: count(*max_concurrent_requests),
        max_sessions_per_client: count(*max_sessions_per_client),
        max_streams_per_client: count(*max_streams_per_client),
        max_stream_age: (*max_stream_age).into(),
        memory_budget: memory_budget.bytes(),
    }
}

/// How many bytes a server takes up in the file.
pub fn size(attached: &Attached) -> usize {
    let list = [upstream(attached)];
    serde_yaml::to_string(&list).map_or(usize::MAX, |text| text.len())
}

fn upstream(attached: &Attached) -> server::Server {
    let upstream = &attached.upstream;
    let api::McpServerSpec {
        gateway_refs: _, // decided that it is here
        remote: _,
        service: _,
        container,      // are `upstream.url`, `upstream.ca` and `upstream.address_policy`
        credentials: _, // is `upstream.credential`
        trust: _,       // is part of `attached.quarantined`
        protocol: api::Protocol { revision },
        quarantine,
        tools,
        features,
        limits,
        rate_limits,
    } = &upstream.server.spec;
    server::Server {
        name: upstream.key.name.to_string(),
        namespace: upstream.key.namespace.to_string(),
        prefix: upstream.prefix.clone(),
        url: upstream.url.clone(),
        address_policy: upstream.address_policy,
        ca_bundle: upstream.ca.as_ref().map(|ca| match ca {
            Ca::Mounted(bundle) => mounted(bundle),
            Ca::Inline(text) => config::auth::CaBundle::Inline(text.clone()),
        }),
        credential: upstream.credential.as_ref().and_then(credential::header),
        oauth_client_credentials: upstream.credential.as_ref().and_then(credential::oauth),
        quarantine: attached.quarantined.then(|| server::Quarantine {
            except_for: quarantine.except_for.iter().map(subject).collect(),
        }),
        revision: pinned(*revision).or(of_transport(container.as_ref())),
        tools: server::Tools {
            allow: tools.allow.clone(),
            deny: tools.deny.clone(),
        },
        features: narrowed(*features),
        limits: server::ServerLimits {
            timeout: limits.timeout.into(),
            max_concurrent: count(limits.max_concurrent),
            max_response_bytes: limits.max_response_bytes.as_ref().map(api::ByteSize::bytes),
            circuit_breaker: server::CircuitBreaker {
                failures: count(limits.circuit_breaker.failures),
                open_for: limits.circuit_breaker.open_for.into(),
            },
        },
        rate_limits: rate_limits.iter().map(server_rate_limit).collect(),
    }
}

fn pinned(revision: api::Revision) -> Option<server::Revision> {
    match revision {
        api::Revision::Auto => None,
        api::Revision::V20241105 => Some(server::Revision::V20241105),
        api::Revision::V20250326 => Some(server::Revision::V20250326),
        api::Revision::V20250618 => Some(server::Revision::V20250618),
        api::Revision::V20251125 => Some(server::Revision::V20251125),
        api::Revision::V20260728 => Some(server::Revision::V20260728),
    }
}

/// What a container's transport says of the revision.
fn of_transport(container: Option<&api::Container>) -> Option<server::Revision> {
    let sse = container.is_some_and(|container| container.transport.sse.is_some());
    sse.then_some(server::Revision::V20241105)
}

fn log_level(level: api::LogLevel) -> config::file::LogLevel {
    match level {
        api::LogLevel::Error => config::file::LogLevel::Error,
        api::LogLevel::Warn => config::file::LogLevel::Warn,
        api::LogLevel::Info => config::file::LogLevel::Info,
        api::LogLevel::Debug => config::file::LogLevel::Debug,
        api::LogLevel::Trace => config::file::LogLevel::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_keeps_its_name() {
        assert_eq!(pinned(api::Revision::default()), None);
        for revision in [
            api::Revision::V20241105,
            api::Revision::V20250326,
            api::Revision::V20250618,
            api::Revision::V20251125,
            api::Revision::V20260728,
        ] {
            let named = serde_json::to_value(revision).unwrap();
            assert_eq!(serde_json::to_value(pinned(revision).unwrap()).unwrap(), named);
        }
    }
}
