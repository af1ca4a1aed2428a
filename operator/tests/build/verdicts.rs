//! Which server attaches to which gateway, and what is said when it does not. Both controllers must say the same.

use std::collections::BTreeMap;

use portcullis_operator::identity::Key;
use portcullis_operator::render::input::Input;
use portcullis_operator::settings::{Scope, Settings};
use portcullis_operator::validate::{
    self, DereferencedGateway, DereferencedServer, Problem, ServerInputs, TokenIssuer, ValidatedGateway,
    World, reasons,
};
use rstest::rstest;

use crate::worlds::{issuer, rendered_yaml, settings};

/// A gateway called `agents/tools`.
fn gateway(spec: &str) -> String {
    format!(
        "
apiVersion: portcullis.dev/v1alpha1
kind: McpGateway
metadata: {{name: tools, namespace: agents}}
spec:
  publicHost: mcp.example.com
  tls: {{secretName: tools-tls}}
  auth: {{apiKeys: {{secretName: keys}}}}
{}
---
",
        indent(spec)
    )
}

/// A remote server that names `agents/tools`.
fn server(namespace: &str, name: &str, spec: &str) -> String {
    let metadata = format!("{{name: {name}, namespace: {namespace}}}");
    server_with(&metadata, spec)
}

fn server_with(metadata: &str, spec: &str) -> String {
    format!(
        "
apiVersion: portcullis.dev/v1alpha1
kind: McpServer
metadata: {metadata}
spec:
  gatewayRefs: [{{name: tools, namespace: agents}}]
  remote: {{url: https://remote.example.com/mcp}}
{}
---
",
        indent(spec)
    )
}

fn indent(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

fn world(yaml: &str) -> World {
    let mut input = Input::default();
    input
        .add_text(yaml, "test", "agents")
        .unwrap_or_else(|error| panic!("{error:#}"));
    World {
        servers: input
            .servers
            .iter()
            .map(|(key, server)| {
                let inputs = ServerInputs {
                    server: server.clone(),
                    namespace_labels: input.namespaces.get(&*key.namespace).cloned(),
                    service: None,
                    endpoint_slices: Vec::new(),
                    ca_bundle: None,
                };
                (key.clone(), inputs)
            })
            .collect(),
        gateways: input.gateways,
    }
}

fn keys() -> portcullis_operator::build::session_key::SessionKeys {
    portcullis_operator::build::session_key::SessionKeys {
        seal_with: portcullis_operator::build::session_key::KeyId::from_random([7; 10]),
        also_accepted: Vec::new(),
        ahead: Vec::new(),
    }
}

fn validated(yaml: &str, settings: &Settings) -> Result<ValidatedGateway, Vec<Problem>> {
    let inputs = DereferencedGateway {
        key: Key::new("agents", "tools"),
        world: world(yaml),
        session_keys: keys(),
        token_issuer: TokenIssuer { ..issuer() },
    };
    validate::gateway(&inputs, settings)
}

/// The reason of each server's refusal at `agents/tools`, as the gateway sees it; empty where it attaches. The servers'
/// own view must be the same.
fn verdicts(yaml: &str, settings: &Settings) -> BTreeMap<String, &'static str> {
    let gateway = validated(yaml, settings).unwrap();
    let world = world(yaml);
    gateway
        .servers
        .iter()
        .map(|(key, verdict)| {
            let inputs = DereferencedServer {
                key: key.clone(),
                world: world.clone(),
            };
            let own = validate::server(&inputs, settings).unwrap();
            assert_eq!(own.gateways[&gateway.identity.key], *verdict, "{key}");
            (
                key.to_string(),
                verdict.as_ref().map_or_else(|problem| problem.reason, |_| ""),
            )
        })
        .collect()
}

#[rstest]
#[case::same_is_the_default("", "agents", "")]
#[case::same_keeps_others_out("", "team", reasons::NAMESPACE_NOT_ADMITTED)]
#[case::all("servers: {namespaces: {from: All}}", "team", "")]
#[case::selected(
    "servers: {namespaces: {from: Selector, selector: {matchLabels: {mcp: 'yes'}}}}",
    "team",
    ""
)]
#[case::not_selected(
    "servers: {namespaces: {from: Selector, selector: {matchLabels: {mcp: 'no'}}}}",
    "team",
    reasons::NAMESPACE_NOT_ADMITTED
)]
#[case::by_expression(
    "servers: {namespaces: {from: Selector, selector: {matchExpressions: [{key: mcp, operator: NotIn, values: ['no']}]}}}",
    "team",
    ""
)]
#[case::its_own_namespace_must_be_selected_too(
    "servers: {namespaces: {from: Selector, selector: {matchLabels: {mcp: 'yes'}}}}",
    "agents",
    reasons::NAMESPACE_NOT_ADMITTED
)]
#[case::unknown_labels_admit_nobody(
    "servers: {namespaces: {from: Selector, selector: {}}}",
    "unknown",
    reasons::NAMESPACE_NOT_ADMITTED
)]
fn both_sides_must_agree(#[case] spec: &str, #[case] namespace: &str, #[case] expected: &str) {
    let yaml = [
        gateway(spec),
        server(namespace, "files", ""),
        "{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {mcp: 'yes'}}}\n---\n".into(),
        "{apiVersion: v1, kind: Namespace, metadata: {name: agents}}\n---\n".into(),
    ]
    .concat();
    assert_eq!(
        verdicts(&yaml, &settings())[&format!("{namespace}/files")],
        expected
    );
}

#[test]
fn all_means_the_watched_ones_and_a_selector_needs_more_rights() {
    let mut settings = settings();
    settings.scope = Scope::Namespaces(["agents".into(), "team".into()].into());
    let all = gateway("servers: {namespaces: {from: All}}");
    let yaml = [
        all.as_str(),
        &server("team", "files", ""),
        &server("stray", "files", ""),
    ]
    .concat();
    let found = verdicts(&yaml, &settings);
    assert_eq!(found["team/files"], "");
    assert_eq!(found["stray/files"], reasons::NAMESPACE_NOT_ADMITTED);
    let selector = gateway("servers: {namespaces: {from: Selector, selector: {}}}");
    let problems = validated(&selector, &settings).unwrap_err();
    assert_eq!(problems[0].reason, reasons::SELECTOR_NEEDS_CLUSTER_SCOPE);
}

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn container(image: &str) -> String {
    format!(
        "
apiVersion: portcullis.dev/v1alpha1
kind: McpServer
metadata: {{name: files, namespace: agents}}
spec:
  gatewayRefs: [{{name: tools}}, {{name: other}}]
  container: {{image: '{image}', transport: {{streamableHttp: {{port: 8080}}}}}}
---
"
    )
}

#[rstest]
#[case::tag_under_production("x:1", "Production", "Development", reasons::IMAGE_DIGEST_REQUIRED)]
#[case::digest_under_production(&format!("x@{DIGEST}"), "Production", "Development", "")]
#[case::tag_and_digest(&format!("x:1@{DIGEST}"), "Production", "Production", "")]
#[case::tag_under_development("x:1", "Development", "Development", "")]
#[case::the_strictest_counts("x:1", "Development", "Production", reasons::IMAGE_DIGEST_REQUIRED)]
#[case::half_a_digest("x@sha256:0123", "Production", "Development", reasons::IMAGE_DIGEST_REQUIRED)]
#[case::another_kind_of_digest(
    "x@md5:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "Production",
    "Development",
    reasons::IMAGE_DIGEST_REQUIRED
)]
#[case::capitals(&format!("x@{}", DIGEST.to_uppercase()), "Production", "Development", reasons::IMAGE_DIGEST_REQUIRED)]
fn production_takes_digests_only(
    #[case] image: &str,
    #[case] profile: &str,
    #[case] other: &str,
    #[case] expected: &str,
) {
    let yaml = [
        gateway(&format!("profile: {profile}")),
        gateway(&format!("profile: {other}")).replace("name: tools,", "name: other,"),
        container(image),
    ]
    .concat();
    assert_eq!(verdicts(&yaml, &settings())["agents/files"], expected);
    let deployed = rendered_yaml(&yaml)
        .objects
        .iter()
        .any(|object| object["metadata"]["name"] == "files-server" && object["kind"] == "Deployment");
    assert_eq!(deployed, expected.is_empty(), "what is refused does not run");
}

#[test]
fn a_production_gateway_that_does_not_admit_the_server_does_not_count() {
    let yaml = [
        gateway("profile: Development"),
        gateway("profile: Production").replace(
            "name: tools, namespace: agents",
            "name: strict, namespace: elsewhere",
        ),
        container("x:1").replace("{name: other}", "{name: strict, namespace: elsewhere}"),
    ]
    .concat();
    assert_eq!(verdicts(&yaml, &settings())["agents/files"], "");
}

#[test]
fn the_oldest_server_keeps_its_prefix() {
    let dated = |name: &str, date: &str| {
        server_with(
            &format!("{{name: {name}, namespace: agents, creationTimestamp: '{date}'}}"),
            "tools: {prefix: fs}",
        )
    };
    let yaml = [
        gateway(""),
        dated("aaa", "2026-03-01T00:00:00Z"),
        dated("bbb", "2026-01-01T00:00:00Z"),
        dated("ccc", "2026-02-01T00:00:00Z"),
        server("agents", "ddd", "tools: {prefix: fs}"),
        server("agents", "eee", ""),
    ]
    .concat();
    let found = verdicts(&yaml, &settings());
    assert_eq!(found["agents/bbb"], "");
    assert_eq!(found["agents/eee"], "");
    for name in ["aaa", "ccc", "ddd"] {
        assert_eq!(
            found[&format!("agents/{name}")],
            reasons::PREFIX_CONFLICT,
            "{name}"
        );
    }
}

#[test]
fn a_default_prefix_can_be_anothers_choice() {
    let yaml = [
        gateway("servers: {namespaces: {from: All}}"),
        server_with(
            "{name: files, namespace: team, creationTimestamp: '2026-01-01T00:00:00Z'}",
            "",
        ),
        server_with(
            "{name: rival, namespace: agents, creationTimestamp: '2026-02-01T00:00:00Z'}",
            "tools: {prefix: team-files}",
        ),
        server_with(
            "{name: team-files, namespace: agents, creationTimestamp: '2026-03-01T00:00:00Z'}",
            "",
        ),
    ]
    .concat();
    let found = verdicts(&yaml, &settings());
    assert_eq!(found["team/files"], "");
    assert_eq!(found["agents/rival"], reasons::PREFIX_CONFLICT);
    assert_eq!(found["agents/team-files"], reasons::PREFIX_CONFLICT);
}

#[test]
fn who_is_not_admitted_holds_no_prefix() {
    let yaml = [
        gateway(""),
        server_with(
            "{name: squatter, namespace: team, creationTimestamp: '2026-01-01T00:00:00Z'}",
            "tools: {prefix: fs}",
        ),
        server_with(
            "{name: files, namespace: agents, creationTimestamp: '2026-02-01T00:00:00Z'}",
            "tools: {prefix: fs}",
        ),
    ]
    .concat();
    assert_eq!(verdicts(&yaml, &settings())["agents/files"], "");
}

#[rstest]
#[case::untrusted_under_production("Production", "", true)]
#[case::untrusted_under_development("Development", "", false)]
#[case::released("Production", "quarantine: {enabled: false}", false)]
#[case::asked_for("Development", "quarantine: {enabled: true}", true)]
fn quarantine_is_the_default_under_production(
    #[case] profile: &str,
    #[case] spec: &str,
    #[case] expected: bool,
) {
    let yaml = [
        gateway(&format!("profile: {profile}")),
        server("agents", "files", spec),
    ]
    .concat();
    let gateway = validated(&yaml, &settings()).unwrap();
    assert_eq!(gateway.attached().next().unwrap().quarantined, expected);
}

#[rstest]
#[case::both_ends(
    "tls: {plaintext: {reason: x}}",
    reasons::INVALID_SPEC,
    "exactly one of secretName and plaintext"
)]
#[case::empty_peer("network: {ingressFrom: [{}]}", reasons::INVALID_PEER, "needs podSelector")]
#[case::outside(
    "network: {ingressFrom: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.168.0.0/16]}}]}",
    reasons::INVALID_PEER,
    "does not lie within"
)]
#[case::all_of_it(
    "network: {ingressFrom: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}",
    reasons::INVALID_PEER,
    "does not lie within"
)]
#[case::no_range(
    "network: {ingressFrom: [{ipBlock: {cidr: 10.0.0.0}}]}",
    reasons::INVALID_PEER,
    "no range"
)]
#[case::metadata(
    "auth: {jwt: [{name: corp, issuer: 'https://a.example', jwks: {uri: 'https://169.254.169.254/jwks', allowPrivateAddresses: true}}]}",
    reasons::ADDRESS_REFUSED,
    "169.254.169.254"
)]
#[case::private(
    "auth: {jwt: [{name: corp, issuer: 'https://a.example', jwks: {uri: 'https://10.0.0.1/jwks'}}]}",
    reasons::ADDRESS_REFUSED,
    "allowPrivateAddresses"
)]
#[case::mapped(
    "auth: {jwt: [{name: corp, issuer: 'https://a.example', jwks: {uri: 'https://[::ffff:127.0.0.1]/jwks', allowPrivateAddresses: true}}]}",
    reasons::ADDRESS_REFUSED,
    "127.0.0.1"
)]
fn a_gateway_that_cannot_be_built_says_why(#[case] spec: &str, #[case] reason: &str, #[case] words: &str) {
    // Later keys win, so that a case can replace what the helper wrote.
    let mut yaml: serde_yaml::Value = serde_yaml::from_str(&gateway("").replace("---", "")).unwrap();
    let change: serde_yaml::Mapping = serde_yaml::from_str(spec).unwrap();
    let fields = yaml["spec"].as_mapping_mut().unwrap();
    for (key, value) in change {
        match fields.get_mut(&key).and_then(serde_yaml::Value::as_mapping_mut) {
            Some(known) => known.extend(value.as_mapping().unwrap().clone()),
            None => {
                fields.insert(key, value);
            }
        }
    }
    let problems = validated(&serde_yaml::to_string(&yaml).unwrap(), &settings()).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].reason, reason);
    assert!(problems[0].message.contains(words), "{}", problems[0].message);
}

/// What the schema's rules refuse is refused once more by the gateway's own code, before it is written.
#[rstest]
#[case::anonymous(
    "auth: {apiKeys: {secretName: keys}, anonymous: {reason: x}}",
    "auth.anonymous"
)]
#[case::debug("telemetry: {logLevel: debug}", "telemetry.logLevel")]
#[case::no_limits("rateLimits: []", "rateLimits")]
#[case::unknown_method(
    "authorization: {rules: [{name: r, action: Allow, principals: {method: corp, subjects: [a]}, servers: ['*'], tools: ['*']}]}",
    "no method of auth"
)]
fn nothing_is_written_that_the_gateway_would_refuse(#[case] spec: &str, #[case] words: &str) {
    let yaml = if spec.starts_with("auth:") {
        gateway(spec).replace("  auth: {apiKeys: {secretName: keys}}\n", "")
    } else {
        gateway(spec)
    };
    let rendered = rendered_yaml(&yaml);
    assert!(rendered.objects.is_empty());
    assert_eq!(rendered.problems.len(), 1);
    assert!(rendered.problems[0].contains(words), "{}", rendered.problems[0]);
}

#[test]
fn what_does_not_fit_into_a_config_map_is_refused() {
    let rules: Vec<String> = (0..128)
        .map(|at| {
            let tools: Vec<String> = (0..64).map(|tool| format!("{at}-{tool}-{}", "x".repeat(110))).collect();
            format!("  - {{name: r{at}, action: Allow, principals: {{anyAuthenticated: true}}, servers: ['*'], tools: [{}]}}", tools.join(", "))
        })
        .collect();
    let yaml = gateway(&format!("authorization:\n  rules:\n{}", rules.join("\n")));
    let rendered = rendered_yaml(&yaml);
    assert!(rendered.objects.is_empty(), "the gateway stays as it was");
    assert!(
        rendered.problems[0].contains(reasons::CONFIG_TOO_LARGE),
        "{}",
        rendered.problems[0]
    );
}

/// Whoever may attach servers cannot fill the configuration up: the gateway can always be told to suspend.
#[test]
fn newcomers_neither_push_out_what_is_served_nor_block_the_gateway() {
    let globs = |word: &str| {
        let list: Vec<String> = (0..256)
            .map(|at| format!("{at}-{word}-{}", "x".repeat(115)))
            .collect();
        list.join(", ")
    };
    let spec = format!(
        "tools: {{allow: [{}], deny: [{}]}}",
        globs("allow"),
        globs("deny")
    );
    let servers: String = (0..16)
        .map(|at| {
            let date = format!("2026-01-{:02}T00:00:00Z", 20 - at);
            server_with(
                &format!("{{name: s{at:02}, namespace: agents, creationTimestamp: '{date}'}}"),
                &spec,
            )
        })
        .collect();
    let small = server_with(
        "{name: small, namespace: agents, creationTimestamp: '2026-05-01T00:00:00Z'}",
        "",
    );
    let yaml = [gateway("suspend: true"), servers, small].concat();
    let found = verdicts(&yaml, &settings());
    let full: Vec<&str> = found
        .iter()
        .filter(|(_, reason)| **reason == reasons::CONFIG_TOO_LARGE)
        .map(|(name, _)| name.as_str())
        .collect();
    // s00 is the youngest of the large ones.
    assert_eq!(
        full,
        [
            "agents/s00",
            "agents/s01",
            "agents/s02",
            "agents/s03",
            "agents/s04",
            "agents/s05"
        ]
    );
    assert_eq!(found["agents/s06"], "", "the oldest stay");
    assert_eq!(found["agents/small"], "", "there is room for a small one");
    let objects = rendered_yaml(&yaml).objects;
    let config = objects
        .iter()
        .find(|object| object["kind"] == "ConfigMap")
        .expect("the gateway is built");
    assert!(
        config["data"]["gateway.yaml"]
            .as_str()
            .unwrap()
            .contains("suspend: true")
    );
}

#[test]
fn a_server_cannot_fill_its_gateway_with_certificates() {
    let bundle = |lines: usize| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: ca, namespace: team}}, data: {{ca.crt: \"-----BEGIN CERTIFICATE-----\\n{}\"}}}}\n---\n",
            "x".repeat(lines * 64)
        )
    };
    let yaml = |lines| {
        let server = server("team", "files", "").replace(
            "remote: {url: https://remote.example.com/mcp}",
            "remote: {url: https://remote.example.com/mcp, tls: {caBundle: {configMapName: ca}}}",
        );
        [
            gateway("servers: {namespaces: {from: All}}"),
            server,
            bundle(lines),
        ]
        .concat()
    };
    assert_eq!(rendered_yaml(&yaml(1000)).problems, Vec::<String>::new());
    let problems = rendered_yaml(&yaml(1100)).problems;
    assert!(problems[0].contains(reasons::CA_BUNDLE_TOO_LARGE), "{problems:?}");
}

#[test]
fn a_typo_in_a_file_is_refused() {
    let mut input = Input::default();
    let error = input
        .add_text(&gateway("rateLimit: []"), "file.yaml", "agents")
        .unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "file.yaml, document 1: unknown fields: spec.rateLimit"
    );
}
