//! The worlds that are rendered, and the settings they are rendered with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use portcullis_operator::api::labels::Labels;
use portcullis_operator::build::meta;
use portcullis_operator::render::input::Input;
use portcullis_operator::render::{Rendered, render};
use portcullis_operator::settings::{Cluster, Dns, Operator, Scope, Settings};
use portcullis_operator::validate::TokenIssuer;
use serde_json::Value;

/// Each world by name, with its files: of `manifests/samples`, or (with a dot in front) of `worlds/`.
pub(crate) const WORLDS: [(&str, &[&str]); 5] = [
    ("quickstart", &["quickstart.yaml"]),
    ("development", &["gateway-development.yaml"]),
    ("limits", &["gateway-limits.yaml"]),
    (
        "jwt",
        &[
            "gateway-jwt.yaml",
            "server-container.yaml",
            "server-remote.yaml",
            "server-service.yaml",
            "./cluster.yaml",
        ],
    ),
    ("wide", &["./wide.yaml"]),
];

pub(crate) fn settings() -> Settings {
    let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Settings {
        operator: Operator {
            namespace: "portcullis-system".into(),
            pod_labels: Labels::from([
                ("app.kubernetes.io/component".into(), "operator".into()),
                ("app.kubernetes.io/name".into(), "portcullis".into()),
            ]),
            service_account: "portcullis-operator".into(),
        },
        scope: Scope::Cluster,
        cluster: Cluster {
            domain: "cluster.local".into(),
            pod_cidrs: ranges(&["10.244.0.0/16"]),
            service_cidrs: ranges(&["10.96.0.0/12"]),
            api_server: ranges(&["10.96.0.1/32", "172.30.0.10/32"]),
            ..Cluster::default()
        },
        gateway_image: "registry.example.com/portcullis-gateway@sha256:0000000000000000000000000000000000000000000000000000000000000000".into(),
        dns: Dns::default(),
        monitoring: vec![NetworkPolicyPeer {
            ip_block: None,
            namespace_selector: Some(meta::namespace("monitoring")),
            pod_selector: Some(meta::exactly(Labels::from([("app".into(), "prometheus".into())]))),
        }],
        user_namespaces: false,
        fence_probe: Some("10.96.0.1:443".parse().unwrap()),
    }
}

pub(crate) fn issuer() -> TokenIssuer {
    TokenIssuer {
        issuer: "https://kubernetes.default.svc.cluster.local".into(),
        jwks: r#"{"keys":[{"kid":"a","kty":"RSA","alg":"RS256","use":"sig","n":"vQ","e":"AQAB"}]}"#.into(),
    }
}

pub(crate) fn text(file: &str) -> String {
    // From this crate and from that of the system tests alike.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path: PathBuf = match file.strip_prefix("./") {
        Some(own) => root.join("operator/tests/build/worlds").join(own),
        None => root.join("manifests/samples").join(file),
    };
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a world's files hold.
pub(crate) fn input(world: &str) -> Input {
    let (_, files) = WORLDS
        .iter()
        .find(|(name, _)| *name == world)
        .expect("a world of that name");
    let mut input = Input::default();
    for file in *files {
        input
            .add_text(&text(file), file, "default")
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    input
}

/// A world with the usual settings, rendered once.
pub(crate) fn rendered(world: &str) -> &'static Rendered {
    static ALL: LazyLock<BTreeMap<&str, Rendered>> = LazyLock::new(|| {
        let settings = settings();
        WORLDS
            .iter()
            .map(|(name, _)| (*name, rendered_with(name, &settings)))
            .collect()
    });
    &ALL[world]
}

pub(crate) fn rendered_with(world: &str, settings: &Settings) -> Rendered {
    render(&input(world), settings, &issuer())
}

/// A world out of YAML.
pub(crate) fn rendered_yaml(yaml: &str) -> Rendered {
    let mut input = Input::default();
    input
        .add_text(yaml, "test", "agents")
        .unwrap_or_else(|error| panic!("{error:#}"));
    render(&input, &settings(), &issuer())
}

/// Every object of every world, each with the world's name.
pub(crate) fn everything(settings: &Settings) -> Vec<(&'static str, Value)> {
    WORLDS
        .iter()
        .flat_map(|(world, _)| {
            rendered_with(world, settings)
                .objects
                .into_iter()
                .map(|object| (*world, object))
        })
        .collect()
}

pub(crate) fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The one object of this kind and name.
pub(crate) fn one<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let mut found = objects
        .iter()
        .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let object = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two {kind} {name}");
    object
}

/// `namespace Kind name`.
pub(crate) fn label(object: &Value) -> String {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    format!(
        "{} {} {}",
        text("/metadata/namespace"),
        text("/kind"),
        text("/metadata/name")
    )
}
