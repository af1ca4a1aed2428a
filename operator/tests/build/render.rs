//! `portcullis render`, as it is called.

use std::path::PathBuf;

use clap::Parser;
use portcullis_operator::render::{RenderArgs, run};
use serde::Deserialize;
use serde_json::Value;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: RenderArgs,
}

fn file(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join(name).to_string_lossy().into_owned()
}

/// What it prints as objects, what it says besides, and whether it was content.
fn render(args: &[&str]) -> Result<(Vec<Value>, String, bool), String> {
    let command = Command::try_parse_from([&["render"], args].concat()).map_err(|error| error.to_string())?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(command.args, &mut out, &mut err).map_err(|error| format!("{error:#}"))?;
    let text = String::from_utf8(out).unwrap();
    let objects = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|object| !object.is_null())
        .collect();
    let content = format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS);
    Ok((objects, String::from_utf8(err).unwrap(), content))
}

#[test]
fn a_sample_comes_out_as_objects_that_can_be_applied() {
    let sample = file("manifests/samples/quickstart.yaml");
    let (objects, said, content) = render(&["-f", &sample, "--fence-probe", "10.96.0.1:443"]).unwrap();
    assert!(content, "{said}");
    assert_eq!(said, "");
    assert_eq!(objects.len(), 11);
    let deployments: Vec<&Value> = objects
        .iter()
        .filter(|object| object["kind"] == "Deployment")
        .collect();
    assert_eq!(deployments.len(), 2);
    assert!(
        deployments
            .iter()
            .all(|object| object["spec"]["replicas"].is_number()),
        "replicas are a field of it"
    );
    for kind in ["NetworkPolicy", "ServiceAccount"] {
        let at = |kind: &str| objects.iter().position(|object| object["kind"] == kind).unwrap();
        assert!(at(kind) < at("Deployment"), "{kind} comes before the pods");
    }
}

#[test]
fn without_a_word_on_the_api_it_assumes_the_usual_place_and_says_so() {
    let sample = file("manifests/samples/quickstart.yaml");
    let (objects, said, content) = render(&["-f", &sample]).unwrap();
    assert!(content, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("note: ") && said.contains("--fence-probe"),
        "{said}"
    );
    let (explicit, ..) = render(&["-f", &sample, "--fence-probe", "10.96.0.1:443"]).unwrap();
    assert_eq!(objects, explicit);
}

#[test]
fn what_is_refused_is_said_and_the_rest_is_printed() {
    let wide = file("operator/tests/build/worlds/wide.yaml");
    let (objects, said, content) = render(&["-f", &wide, "--no-fence-probe"]).unwrap();
    assert!(!content);
    assert!(objects.len() > 20);
    assert!(said.contains(
        "problem: McpServer team/alias at McpGateway platform/edge: ResolvedRefs=False/ExternalNameRefused"
    ));
    assert!(said.contains("note: McpGateway platform/edge: rules or limits name McpServer team/planned"));
}

#[test]
fn files_and_settings_that_cannot_be_used_are_errors() {
    let sample = file("manifests/samples/quickstart.yaml");
    assert!(render(&[]).is_err());
    assert!(
        render(&["-f", "/nowhere/at-all.yaml", "--no-fence-probe"])
            .unwrap_err()
            .contains("cannot open")
    );
    let twice = render(&["-f", &sample, "-f", &sample, "--no-fence-probe"]).unwrap_err();
    assert!(twice.contains("agents/tools stands there twice"), "{twice}");
    let dns = render(&["-f", &sample, "--no-fence-probe", "--dns-peers", "[]"]).unwrap_err();
    assert!(dns.contains("means everybody"), "{dns}");
}
