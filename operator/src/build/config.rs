//! The gateway's configuration, from its spec and its servers. Every field of the spec is taken apart by name, so that a
//! field nobody passes on does not compile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time;

use portcullis_config as config;
use portcullis_config::{auth, limits, listen, policy, server};

use super::volumes;
use crate::api::names::{gateway_child, gateway_peers};
use crate::api::v1alpha1 as api;
use crate::identity::Key;
use crate::settings::Settings;
use crate::validate::gateway::{PublicTransport, named_server};
use crate::validate::{Attached, Ca, ValidatedGateway};

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
        servers: _, // decides what is in `gateway.servers`
        auth,
        authorization,
        rate_limits,
        limits,
        tls: _,     // is `gateway.transport`
        network: _, // a matter of the NetworkPolicy
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
        limits: bounds(limits),
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

fn methods(methods: &api::Auth) -> auth::Auth {
    let api::Auth {
        jwt,
        api_keys,
        anonymous,
    } = methods;
    auth::Auth {
        jwt: jwt.iter().map(issuer).collect(),
        api_keys: api_keys
            .as_ref()
            .map(|api::ApiKeys { secret_name: _ }| auth::ApiKeys {
                dir: volumes::api_keys_dir(),
            }),
        anonymous: anonymous
            .as_ref()
            .map(|api::Anonymous { reason }| auth::Anonymous {
                reason: reason.clone(),
            }),
        protected_resource: auth::ProtectedResource::default(),
    }
}

fn issuer(jwt: &api::Jwt) -> auth::Jwt {
    let api::Jwt {
        name,
        issuer,
        audiences,
        jwks,
        algorithms,
        claims: api::Claims {
            subject,
            groups,
            scopes,
        },
        required_claims,
    } = jwt;
    auth::Jwt {
        name: name.to_string(),
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        jwks: key_set(jwks),
        algorithms: algorithms.iter().map(|one| algorithm(*one)).collect(),
        claims: auth::Claims {
            subject: subject.clone(),
            groups: groups.clone(),
            scopes: scopes.clone(),
        },
        required_claims: required_claims.clone(),
    }
}

fn key_set(jwks: &api::Jwks) -> auth::Jwks {
    let api::Jwks {
        uri,
        ca_bundle,
        allow_private_addresses,
        config_map,
        inline,
    } = jwks;
    match (uri, config_map) {
        (Some(url), _) => auth::Jwks::Uri(auth::JwksUri {
            url: url.clone(),
            ca_bundle: ca_bundle.as_ref().map(mounted),
            allow_private_addresses: *allow_private_addresses,
        }),
        (None, Some(api::ConfigMapKeyRef { config_map_name, key })) => {
            auth::Jwks::File(volumes::trust_path(config_map_name, key))
        }
        // Exactly one is set; were it none, the empty text is no key set and admits nobody.
        (None, None) => auth::Jwks::Inline(inline.clone().unwrap_or_default()),
    }
}

fn mounted(bundle: &api::CaBundle) -> auth::CaBundle {
    auth::CaBundle::File(volumes::trust_path(&bundle.config_map_name, &bundle.key))
}

fn algorithm(algorithm: api::Algorithm) -> auth::Algorithm {
    match algorithm {
        api::Algorithm::RS256 => auth::Algorithm::RS256,
        api::Algorithm::PS256 => auth::Algorithm::PS256,
        api::Algorithm::ES256 => auth::Algorithm::ES256,
        api::Algorithm::ES384 => auth::Algorithm::ES384,
        api::Algorithm::EdDSA => auth::Algorithm::EdDSA,
    }
}

fn subject(subject: &api::SubjectRef) -> policy::SubjectRef {
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

fn rule(rule: &api::AccessRule, gateway: &Key) -> policy::Rule {
    let api::AccessRule {
        name,
        action,
        principals,
        servers,
        tools,
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
        tools: Some(tools.clone()),
        expires: expires.as_ref().map(|time| time.0),
    }
}

fn rate_limit(limit: &api::RateLimit, gateway: &Key) -> limits::RateLimit {
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
                methods: methods
                    .as_ref()
                    .map(|methods| methods.iter().map(|method| method.as_str().to_owned()).collect()),
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
    }
}

fn upstream(attached: &Attached) -> server::Server {
    let upstream = &attached.upstream;
    let api::McpServerSpec {
        gateway_refs: _, // decided that it is here
        remote: _,
        service: _,
        container: _,   // are `upstream.url`, `upstream.ca` and `upstream.address_policy`
        credentials: _, // is `upstream.credential`
        trust: _,       // is part of `attached.quarantined`
        quarantine,
        tools,
        limits,
    } = &upstream.server.spec;
    server::Server {
        name: upstream.key.name.to_string(),
        namespace: upstream.key.namespace.to_string(),
        prefix: upstream.prefix.clone(),
        url: upstream.url.clone(),
        address_policy: upstream.address_policy,
        ca_bundle: upstream.ca.as_ref().map(|ca| match ca {
            Ca::Mounted(bundle) => mounted(bundle),
            Ca::Inline(text) => auth::CaBundle::Inline(text.clone()),
        }),
        credential: upstream.credential.as_ref().map(credential),
        quarantine: attached.quarantined.then(|| server::Quarantine {
            except_for: quarantine.except_for.iter().map(subject).collect(),
        }),
        tools: server::Tools {
            allow: tools.allow.clone(),
            deny: tools.deny.clone(),
        },
        limits: server::ServerLimits {
            timeout: limits.timeout.into(),
            max_concurrent: count(limits.max_concurrent),
        },
    }
}

fn credential(header: &api::HeaderCredential) -> server::HeaderCredential {
    let api::HeaderCredential {
        name,
        prefix,
        secret_ref: api::SecretKeyRef { secret_name, key },
    } = header;
    server::HeaderCredential {
        name: name.clone(),
        prefix: prefix.clone(),
        file: volumes::secret_path(secret_name, key),
    }
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
