//! What types alone cannot say. Every problem is named at once, with the place and the remedy.

use std::collections::HashSet;
use std::fmt;

use url::Url;

use crate::auth::{Auth, Jwks, RESERVED_METHODS};
use crate::features::ToolSet;
use crate::file::{Config, LogLevel, Profile};
use crate::limits::{Limits, RateLimit};
use crate::listen::{Listen, SessionKeys};
use crate::policy::{Principals, Rule};
use crate::server::{AddressPolicy, Server};

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
        rate_limit(&mut check, limit);
    }
    limits(&mut check, &config.limits);
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

fn listen(check: &mut Check<'_>, listen: &Listen) {
    check.that(
        listen.public.tls.is_some() != listen.public.plaintext.is_some(),
        "listen.public",
        "exactly one of tls and plaintext; plaintext needs a reason",
    );
    if let Some(plaintext) = &listen.public.plaintext {
        check.that(
            !plaintext.reason.trim().is_empty(),
            "listen.public.plaintext.reason",
            "say why",
        );
    }
    if let Some(status) = &listen.status {
        check.that(
            status.token.is_some() || status.address.ip().is_loopback(),
            "listen.status",
            "without a token it may listen on a loopback address only",
        );
    }
}

fn session_keys(check: &mut Check<'_>, keys: &SessionKeys) {
    check.unique("sessionKeys.keys", keys.keys.iter().map(|key| key.id.as_str()));
    for key in &keys.keys {
        check.that(
            (1..=16).contains(&key.id.len())
                && key
                    .id
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "sessionKeys.keys.id",
            format!("{:?}: 1 to 16 characters of a-z and 0-9", key.id),
        );
    }
    check.that(
        keys.keys.iter().any(|key| key.id == keys.seal_with),
        "sessionKeys.sealWith",
        "names no key of the list",
    );
}

fn auth(check: &mut Check<'_>, auth: &Auth, production: bool) {
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

fn rule(check: &mut Check<'_>, rule: &Rule, methods: &HashSet<&str>) {
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
            clients.is_none() || method == crate::auth::METHOD_API_KEYS,
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

fn tool_set(check: &mut Check<'_>, set: &ToolSet) {
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

fn rate_limit(check: &mut Check<'_>, limit: &RateLimit) {
    let at = |field: &str| format!("rateLimits[{}].{field}", limit.name);
    check.that(limit.requests > 0, at("requests"), "must be at least 1");
    check.that(limit.burst > 0, at("burst"), "must be at least 1");
    check.that(
        !limit.per.get().is_zero(),
        at("per"),
        "must be longer than nothing",
    );
    check.that(
        limit.per.get().as_secs() <= 86_400,
        at("per"),
        "must be at most 24h",
    );
}

fn limits(check: &mut Check<'_>, limits: &Limits) {
    let sizes = [
        ("maxRequestBytes", limits.max_request_bytes, 1 << 10, 64 << 20),
        ("maxResponseBytes", limits.max_response_bytes, 1 << 10, 256 << 20),
        ("maxEventBytes", limits.max_event_bytes, 1 << 10, 64 << 20),
        ("maxHeaderBytes", limits.max_header_bytes, 8 << 10, 1 << 20),
        ("maxJsonDepth", u64::from(limits.max_json_depth), 4, 512),
        ("maxConnections", u64::from(limits.max_connections), 1, 1_000_000),
        (
            "maxConcurrentRequests",
            u64::from(limits.max_concurrent_requests),
            1,
            1_000_000,
        ),
        (
            "maxSessionsPerClient",
            u64::from(limits.max_sessions_per_client),
            1,
            100_000,
        ),
    ];
    for (field, value, least, most) in sizes {
        check.that(
            (least..=most).contains(&value),
            format!("limits.{field}"),
            format!("must be between {least} and {most}, is {value}"),
        );
    }
    let times = [
        ("requestTimeout", limits.request_timeout),
        ("maxCallDuration", limits.max_call_duration),
        ("headerTimeout", limits.header_timeout),
        ("streamIdleTimeout", limits.stream_idle_timeout),
    ];
    for (field, value) in times {
        let secs = value.get().as_secs_f64();
        check.that(
            (0.1..=86_400.0).contains(&secs),
            format!("limits.{field}"),
            "must be between 100ms and 24h",
        );
    }
    check.that(
        limits.request_timeout <= limits.max_call_duration,
        "limits.maxCallDuration",
        "must be at least requestTimeout",
    );
}

fn server(check: &mut Check<'_>, server: &Server) {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use crate::{LoadError, parse};

    const GOOD: &str = "
formatVersion: 1
gateway: {id: u, name: tools, namespace: agents, publicHost: 'mcp.example.com'}
listen:
  public: {address: '0.0.0.0:8443', tls: {certFile: tls.crt, keyFile: tls.key}}
auth:
  jwt:
  - name: corp
    issuer: https://idp.example.com
    jwks: {uri: {url: 'https://idp.example.com/jwks'}}
rules:
- {name: r, action: Allow, principals: {method: corp, groups: [a]}, servers: [agents/files], tools: ['read_*']}
rateLimits:
- {name: c, key: Client, requests: 100, per: 1m, burst: 20}
servers:
- {name: files, namespace: agents, prefix: files, url: 'http://files.agents.svc:8080/mcp', addressPolicy: Cluster}
";

    fn problems(text: &str) -> String {
        match parse(text.as_bytes(), Path::new("/base")) {
            Ok(_) => String::new(),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn a_good_file_is_accepted_and_its_paths_are_resolved() {
        let loaded = parse(GOOD.as_bytes(), Path::new("/base")).unwrap();
        assert_eq!(
            loaded.config.listen.public.tls.as_ref().unwrap().cert_file,
            Path::new("/base/tls.crt")
        );
        let again = parse(loaded.config.to_yaml().unwrap().as_bytes(), Path::new("/other")).unwrap();
        assert_eq!(again.config, loaded.config);
    }

    #[rstest]
    #[case("a")]
    #[case("team-a-files")]
    #[case("a_b-")]
    #[case("7_A")]
    fn prefixes_that_the_definition_permits_are_accepted(#[case] prefix: &str) {
        let text = GOOD.replace("prefix: files", &format!("prefix: '{prefix}'"));
        assert_eq!(problems(&text), "");
    }

    #[test]
    fn another_version_is_refused_for_its_version() {
        let text = GOOD.replace("formatVersion: 1", "formatVersion: 2\nnewField: {}");
        assert!(matches!(
            parse(text.as_bytes(), Path::new("/")),
            Err(LoadError::Version(2))
        ));
    }

    #[rstest]
    #[case(
        "publicHost: 'mcp.example.com'",
        "publicHost: 'https://mcp.example.com'",
        "gateway.publicHost"
    )]
    #[case("publicHost: 'mcp.example.com'", "publicHost: 'a@b'", "gateway.publicHost")]
    #[case(
        "tls: {certFile: tls.crt, keyFile: tls.key}",
        "plaintext: {reason: ' '}",
        "plaintext.reason"
    )]
    #[case("tls: {certFile: tls.crt, keyFile: tls.key}", "address2: x", "unknown field")]
    #[case(
        ", tls: {certFile: tls.crt, keyFile: tls.key}",
        "",
        "exactly one of tls and plaintext"
    )]
    #[case("  jwt:", "  anonymous: {reason: x}\n  jwt:", "auth.anonymous")]
    #[case("name: corp", "name: apiKeys", "is reserved")]
    #[case("url: 'https://idp", "url: 'http://idp", "https URL")]
    #[case(
        "{uri: {url: 'https://idp.example.com/jwks'}}",
        "{}",
        "exactly one of uri, file and inline"
    )]
    #[case("method: corp, groups: [a]", "groups: [a]", "required beside subjects")]
    #[case("method: corp, groups: [a]", "method: corp, groups: []", "an empty list")]
    #[case("method: corp, groups: [a]", "method: other", "no method of auth")]
    #[case("method: corp, groups: [a]", "", "names nobody")]
    #[case("servers: [agents/files]", "servers: [files]", "write namespace/name")]
    #[case("servers: [agents/files]", "servers: []", "names no server")]
    #[case("tools: ['read_*']", "prompts: []", "rules[r].prompts")]
    #[case("tools: ['read_*']", "resources: []", "rules[r].resources")]
    #[case("rules:", "features: {completions: true}\nrules:", "features.completions")]
    #[case("rules:", "toolNames: {prefix: Sometimes}\nrules:", "unknown variant")]
    #[case(
        "rules:",
        "toolSets: [{name: A, servers: ['*'], tools: ['*']}]\nrules:",
        "toolSets[A].name"
    )]
    #[case(
        "rules:",
        "toolSets: [{name: a, servers: [files], tools: ['*']}]\nrules:",
        "toolSets[a].servers"
    )]
    #[case(
        "rules:",
        "toolSets: [{name: a, servers: ['*'], tools: []}]\nrules:",
        "toolSets[a].tools"
    )]
    #[case(
        "rules:",
        "toolSets: [{name: a, servers: ['*'], tools: ['*']}, {name: a, servers: ['*'], tools: ['*']}]\nrules:",
        "stands here twice"
    )]
    #[case("rules:", "features: {tools: true}\nrules:", "unknown field")]
    #[case("requests: 100", "requests: 0", "at least 1")]
    #[case("per: 1m", "per: 25h", "at most 24h")]
    #[case("prefix: files", "prefix: a__b", "two underscores")]
    #[case("prefix: files", "prefix: a_", "no underscore last")]
    #[case("prefix: files", "prefix: _a", "a letter or digit first")]
    #[case("prefix: files", "prefix: ''", "servers[agents/files].prefix")]
    #[case("prefix: files", "prefix: 'a+b'", "single underscores")]
    #[case("addressPolicy: Cluster", "addressPolicy: Public", "must be https")]
    #[case("url: 'http://files", "url: 'http://u:p@files", "user or a password")]
    #[case("rules:", "telemetry: {logLevel: debug}\nrules:", "telemetry.logLevel")]
    #[case("rules:", "limits: {maxRequestBytes: 1}\nrules:", "limits.maxRequestBytes")]
    #[case("rules:", "limits: {requestTimeout: 1h}\nrules:", "limits.maxCallDuration")]
    #[case("rules:", "unknown: 1\nrules:", "unknown field")]
    fn a_bad_value_is_named(#[case] good: &str, #[case] bad: &str, #[case] expected: &str) {
        assert!(GOOD.contains(good), "the table is stale: {good}");
        let found = problems(&GOOD.replace(good, bad));
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}
