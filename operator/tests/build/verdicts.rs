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
pub(crate) fn gateway(spec: &str) -> String {
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
pub(crate) fn server(namespace: &str, name: &str, spec: &str) -> String {
    let metadata = format!("{{name: {name}, namespace: {namespace}}}");
    server_with(&metadata, spec)
}

pub(crate) fn server_with(metadata: &str, spec: &str) -> String {
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

pub(crate) fn validated(yaml: &str, settings: &Settings) -> Result<ValidatedGateway, Vec<Problem>> {
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
pub(crate) fn verdicts(yaml: &str, settings: &Settings) -> BTreeMap<String, &'static str> {
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
