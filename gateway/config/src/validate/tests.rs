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
#[case(
    "prefix: files",
    "prefix: files, rateLimits: [{name: a, key: Client, requests: 1, per: 1s, burst: 1}]",
    "servers[agents/files].rateLimits[a].key"
)]
#[case(
    "prefix: files",
    "prefix: files, rateLimits: [{name: a, key: Server, requests: 0, per: 1s, burst: 1}]",
    "servers[agents/files].rateLimits[a].requests"
)]
#[case(
    "prefix: files",
    "prefix: files, rateLimits: [{name: a, key: Tool, match: {servers: [a/b]}, requests: 1, per: 1s, burst: 1}]",
    "servers[agents/files].rateLimits[a].match.servers"
)]
#[case(
    "prefix: files",
    "prefix: files, rateLimits: [{name: a, key: Server, requests: 1, per: 1s, burst: 1}, \
     {name: a, key: Tool, requests: 1, per: 1s, burst: 1}]",
    "stands here twice"
)]
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
#[case(
    "rules:",
    "limits: {maxSessionsPerClient: 201}\nrules:",
    "limits.maxStreamsPerClient"
)]
#[case("rules:", "web: {headers: {hsts: 63072001}}\nrules:", "web.headers.hsts")]
#[case(
    "rules:",
    "web: {headers: {frameOptions: ALLOWALL}}\nrules:",
    "unknown variant"
)]
#[case(
    "rules:",
    "web: {cors: {allowedOrigins: ['*']}}\nrules:",
    "refused under Production"
)]
#[case(
    "rules:",
    "web: {cors: {allowedOrigins: ['*'], allowCredentials: true}}\nrules:",
    "web.cors.allowCredentials"
)]
#[case(
    "rules:",
    "web: {cors: {allowedOrigins: ['https://a.example/']}}\nrules:",
    "web.cors.allowedOrigins"
)]
#[case(
    "rules:",
    "web: {cors: {allowedOrigins: ['https://u@a.example']}}\nrules:",
    "web.cors.allowedOrigins"
)]
#[case(
    "rules:",
    "web: {cors: {allowedOrigins: ['null']}}\nrules:",
    "web.cors.allowedOrigins"
)]
#[case(
    "rules:",
    "web: {wellKnown: {custom: {security.txt: x}}}\nrules:",
    "a name of the gateway's own"
)]
#[case(
    "rules:",
    "web: {wellKnown: {custom: {oauth-protected-resourceful: x}}}\nrules:",
    "a name of the gateway's own"
)]
#[case(
    "rules:",
    "web: {wellKnown: {custom: {../mcp: x}}}\nrules:",
    "a letter or digit first"
)]
#[case(
    "rules:",
    "web: {wellKnown: {custom: {a/b: x}}}\nrules:",
    "a letter or digit first"
)]
#[case(
    "rules:",
    "web: {wellKnown: {securityTxt: {contacts: [], expires: '2027-01-01T00:00:00Z'}}}\nrules:",
    "at least one is required"
)]
#[case(
    "rules:",
    "web: {wellKnown: {securityTxt: {contacts: [security@example.com], expires: '2027-01-01T00:00:00Z'}}}\nrules:",
    "mailto:"
)]
#[case(
    "rules:",
    "web: {wellKnown: {securityTxt: {contacts: [\"mailto:a@b\\nPolicy: x\"], expires: '2027-01-01T00:00:00Z'}}}\nrules:",
    "securityTxt.contacts"
)]
#[case(
    "rules:",
    "web: {wellKnown: {securityTxt: {contacts: ['mailto:a@b'], expires: '2027-01-01T00:00:00Z', policy: 'http://a'}}}\nrules:",
    "(Policy)"
)]
#[case(
    "rules:",
    "network: {trustedProxies: [{cidr: 0.0.0.0/0, mode: XForwardedFor}]}\nrules:",
    "refused under Production"
)]
#[case(
    "rules:",
    "network: {trustedProxies: [{cidr: '::/0', mode: ProxyProtocol}]}\nrules:",
    "refused under Production"
)]
#[case(
    "rules:",
    "network: {trustedProxies: [{cidr: 10.0.0.1/8, mode: XForwardedFor}, {cidr: 10.0.0.0/8, mode: ProxyProtocol}]}\nrules:",
    "stands here twice"
)]
#[case(
    "rules:",
    "network: {trustedProxies: [{cidr: 10.0.0.0, mode: XForwardedFor}]}\nrules:",
    "cidr"
)]
#[case(
    "rules:",
    "network: {trustedProxies: [{cidr: 10.0.0.0/8, mode: Forwarded}]}\nrules:",
    "unknown variant"
)]
#[case(
    "rules:",
    "network: {onlyFromProxies: true}\nrules:",
    "network.onlyFromProxies"
)]
#[case("rules:", "network: {publicHealth: health}\nrules:", "network.publicHealth")]
#[case("rules:", "network: {publicHealth: /mcp}\nrules:", "network.publicHealth")]
#[case(
    "rules:",
    "network: {publicHealth: /servers/x/mcp}\nrules:",
    "network.publicHealth"
)]
#[case(
    "rules:",
    "network: {publicHealth: /.well-known/x}\nrules:",
    "network.publicHealth"
)]
#[case("rules:", "network: {publicHealth: /a/../b}\nrules:", "network.publicHealth")]
#[case("rules:", "network: {publicHealth: /}\nrules:", "network.publicHealth")]
#[case("rules:", "unknown: 1\nrules:", "unknown field")]
fn a_bad_value_is_named(#[case] good: &str, #[case] bad: &str, #[case] expected: &str) {
    assert!(GOOD.contains(good), "the table is stale: {good}");
    let found = problems(&GOOD.replace(good, bad));
    assert!(found.contains(expected), "{found:?} does not say {expected:?}");
}
