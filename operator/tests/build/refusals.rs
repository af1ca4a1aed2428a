//! What is not built, and what is said instead.

use portcullis_operator::render::input::Input;
use portcullis_operator::validate::reasons;
use rstest::rstest;

use crate::verdicts::{gateway, server, server_with, validated, verdicts};
use crate::worlds::{rendered_yaml, settings};

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
