//! The same input gives the same bytes, and a change touches what it has to and nothing else. New pods are the most
//! expensive thing that a change can cause.

use rstest::rstest;
use serde_json::{Map, Value};

use portcullis_operator::build::session_key::{KeyId, SessionKeys};
use portcullis_operator::identity::Key;
use portcullis_operator::validate::{self, DereferencedGateway, World};
use portcullis_operator::{build, render};

use crate::worlds::{WORLDS, issuer, label, rendered_with, rendered_yaml, settings, text};

#[test]
fn rendering_twice_gives_the_same_bytes() {
    for (world, _) in WORLDS {
        let yaml = || {
            let mut out = Vec::new();
            render::write_yaml(&mut out, &rendered_with(world, &settings()).objects).unwrap();
            out
        };
        assert_eq!(yaml(), yaml());
    }
}

#[test]
fn the_order_in_which_objects_arrive_does_not_matter() {
    let wide = text("./wide.yaml");
    let mut documents: Vec<&str> = wide.split("\n---\n").collect();
    let forward = rendered_yaml(&documents.join("\n---\n"));
    documents.reverse();
    let backward = rendered_yaml(&documents.join("\n---\n"));
    assert_eq!(forward, backward);
    assert!(forward.objects.len() > 20);
}

/// A gateway with one server, whose spec is changed by the tests.
fn base() -> Value {
    serde_yaml::from_str(
        "
apiVersion: v1
kind: List
items:
- apiVersion: portcullis.dev/v1alpha1
  kind: McpGateway
  metadata: {name: tools, namespace: agents}
  spec:
    publicHost: mcp.example.com
    tls: {secretName: tools-tls}
    auth: {apiKeys: {secretName: keys}}
    authorization:
      rules: [{name: all, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*']}]
- apiVersion: portcullis.dev/v1alpha1
  kind: McpServer
  metadata: {name: files, namespace: agents}
  spec:
    gatewayRefs: [{name: tools}]
    container:
      image: registry.example.com/files@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
      transport: {streamableHttp: {port: 8080}}
",
    )
    .unwrap()
}

/// Lays `change` over `value`.
fn merge(value: &mut Value, change: Value) {
    match (value, change) {
        (Value::Object(value), Value::Object(change)) => {
            for (key, change) in change {
                if change.is_null() {
                    value.remove(&key);
                } else {
                    merge(value.entry(key).or_insert(Value::Object(Map::new())), change);
                }
            }
        }
        (value, change) => *value = change,
    }
}

/// The objects that differ, once the spec of item `at` is changed.
fn changed(at: usize, change: &str) -> Vec<String> {
    let before = rendered_yaml(&serde_yaml::to_string(&base()).unwrap());
    let mut list = base();
    merge(
        &mut list["items"][at]["spec"],
        serde_yaml::from_str(change).unwrap(),
    );
    let after = rendered_yaml(&serde_yaml::to_string(&list).unwrap());
    assert_eq!(after.problems, Vec::<String>::new(), "{change}");
    let differs = |object: &&Value, others: &[Value]| !others.contains(object);
    let mut names: Vec<String> = before
        .objects
        .iter()
        .filter(|object| differs(object, &after.objects))
        .chain(
            after
                .objects
                .iter()
                .filter(|object| differs(object, &before.objects)),
        )
        .map(label)
        .map(|label| label.replace("agents ", ""))
        .collect();
    names.sort();
    names.dedup();
    names
}

const GATEWAY: usize = 0;
const SERVER: usize = 1;

#[rstest]
#[case::suspend("{suspend: true}")]
#[case::denial("{deniedSubjects: [{method: apiKeys, subject: leaver}]}")]
#[case::host("{publicHost: other.example.com}")]
#[case::hosts("{additionalHosts: [more.example.com]}")]
#[case::rules("{authorization: {rules: []}}")]
#[case::rate("{rateLimits: [{name: a, key: Gateway, requests: 1, per: 1s}]}")]
#[case::limits("{limits: {maxRequestBytes: 2Mi, requestTimeout: 10s, maxConnections: 5}}")]
#[case::logs("{telemetry: {logLevel: warn}}")]
#[case::profile("{profile: Development}")]
fn what_can_be_reloaded_is_reloaded(#[case] change: &str) {
    assert_eq!(changed(GATEWAY, change), ["ConfigMap tools-gateway"], "{change}");
}

#[rstest]
#[case::tools("{tools: {allow: [read]}}")]
#[case::prefix("{tools: {prefix: fs}}")]
#[case::quarantine("{quarantine: {enabled: false}}")]
#[case::limits("{limits: {timeout: 5s}}")]
fn a_servers_policy_is_reloaded_by_its_gateway(#[case] change: &str) {
    assert_eq!(changed(SERVER, change), ["ConfigMap tools-gateway"], "{change}");
}

#[rstest]
#[case::clients(GATEWAY, "{network: {ingressFrom: [{podSelector: {}}, {namespaceSelector: {}}]}}", &["NetworkPolicy tools-gateway"])]
#[case::replicas(GATEWAY, "{workload: {replicas: 5}}", &["Deployment tools-gateway"])]
#[case::one_replica(GATEWAY, "{workload: {replicas: 1}}", &["Deployment tools-gateway", "PodDisruptionBudget tools-gateway"])]
#[case::more_of_a_server(SERVER, "{container: {replicas: 2}}", &["ConfigMap tools-gateway", "Deployment files-server", "PodDisruptionBudget files-server", "Service files-server-pods"])]
#[case::image(SERVER, "{container: {image: 'x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee'}}", &["Deployment files-server"])]
#[case::a_port(SERVER, "{container: {transport: {streamableHttp: {port: 8081}}}}",
    &["ConfigMap tools-gateway", "Deployment files-server", "NetworkPolicy files-server", "NetworkPolicy tools-gateway", "Service files-server"])]
#[case::plaintext(GATEWAY, "{tls: {secretName: null, plaintext: {reason: mesh}}}",
    &["ConfigMap tools-gateway", "Deployment tools-gateway", "NetworkPolicy tools-gateway", "Service tools-gateway"])]
#[case::longest_call(GATEWAY, "{limits: {maxCallDuration: 20m}}", &["ConfigMap tools-gateway", "Deployment tools-gateway"])]
#[case::credential(SERVER, "{credentials: {none: null, header: {name: Authorization, secretRef: {secretName: s, key: k}}}}",
    &["ConfigMap tools-gateway", "Deployment tools-gateway"])]
fn other_changes_touch_what_they_must(#[case] at: usize, #[case] change: &str, #[case] expected: &[&str]) {
    assert_eq!(changed(at, change), expected, "{change}");
}

fn id(letter: char) -> KeyId {
    KeyId::parse(&letter.to_string().repeat(16)).unwrap()
}

/// What a gateway's Deployment and configuration are with these keys.
fn with_keys(session_keys: SessionKeys) -> (Value, Value) {
    let yaml = serde_yaml::to_string(&base()).unwrap();
    let mut input = render::input::Input::default();
    input.add_text(&yaml, "test", "agents").unwrap();
    let inputs = DereferencedGateway {
        key: Key::new("agents", "tools"),
        world: World {
            gateways: input.gateways.clone(),
            ..World::default()
        },
        session_keys,
        token_issuer: issuer(),
    };
    let valid = validate::gateway(&inputs, &settings()).unwrap();
    let resources = build::gateway(&valid, &settings()).unwrap().resources;
    (
        build::value(&resources.deployments[0]),
        build::value(&resources.config_maps[0]),
    )
}

#[test]
fn rotating_a_session_key_starts_no_pods() {
    let first = with_keys(SessionKeys {
        seal_with: id('m'),
        also_accepted: vec![],
        ahead: vec![id('a'), id('z')],
    });
    let accepting = with_keys(SessionKeys {
        seal_with: id('m'),
        also_accepted: vec![id('z')],
        ahead: vec![id('a')],
    });
    let sealing = with_keys(SessionKeys {
        seal_with: id('z'),
        also_accepted: vec![id('m')],
        ahead: vec![id('a')],
    });
    assert_eq!(first.0, accepting.0);
    assert_eq!(accepting.0, sealing.0);
    assert!(
        first.1 != accepting.1 && accepting.1 != sealing.1,
        "the configuration says each step"
    );
}
