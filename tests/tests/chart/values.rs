//! What may be set: every value is described, unknown ones are refused, and so are those that contradict each other.

use anyhow::{Context as _, Result, ensure};
use rstest::rstest;
use serde_json::Value;
use system_tests::chart::{self, OPERATOR};

const CHARTS: [&str; 2] = [chart::OPERATOR, chart::CRDS];

#[test]
fn both_charts_pass_lint_in_every_variant() -> Result<()> {
    let mut runs = vec![vec![
        "lint".to_owned(),
        "--strict".to_owned(),
        "charts/portcullis-crds".to_owned(),
    ]];
    for values in chart::variants()? {
        let mut run = vec![
            "lint".to_owned(),
            "--strict".to_owned(),
            "charts/portcullis".to_owned(),
        ];
        if let Some(file) = values {
            run.extend(["--values".to_owned(), file.to_string_lossy().into_owned()]);
        }
        runs.push(run);
    }
    for run in runs {
        let output = chart::helm(&run)?;
        ensure!(
            output.status.success(),
            "{run:?}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(())
}

#[rstest]
#[case::unknown("replica=2", "additional properties 'replica' not allowed")]
#[case::unknown_within("log.lvl=debug", "additional properties 'lvl' not allowed")]
#[case::no_operator("replicas=0", "minimum: got 0, want 1")]
#[case::tag("image.tag=-x", "/image/tag")]
#[case::digest("image.digest=sha256:1", "/image/digest")]
#[case::pull_policy("image.pullPolicy=Sometimes", "/image/pullPolicy")]
#[case::gateway_pull_policy("gateway.image.pullPolicy=Always", "/gateway/image")]
#[case::range("cluster.podCIDRs={10.0.0.0}", "/cluster/podCIDRs/0")]
#[case::no_dns("dns.peers=null", "missing property 'peers'")]
#[case::no_number("replicas=null", "missing property 'replicas'")]
#[case::everybody_is_dns(
    "dns.peers[0].namespaceSelector=null,dns.peers[0].podSelector=null",
    "/dns/peers/0"
)]
#[case::no_dns_port("dns.ports={}", "/dns/ports")]
#[case::dns_port("dns.ports={53}", "/dns/ports/0")]
#[case::peer("monitoring.peers[0].podSelecter.matchLabels.app=prometheus", "podSelecter")]
#[case::peer_of_both_kinds(
    "monitoring.peers[0].podSelector.matchLabels.app=a,monitoring.peers[0].ipBlock.cidr=10.0.0.1/32",
    "/monitoring/peers/0"
)]
#[case::user("pod.user=Root", "/pod/user")]
#[case::label(
    "pod.labels.app\\.kubernetes\\.io/managed-by=portcullis",
    "invalid propertyName"
)]
#[case::no_memory_limit("pod.resources.limits.memory=null", "missing property 'memory'")]
#[case::free_form(
    "pod.securityContext.privileged=true",
    "additional properties 'securityContext' not allowed"
)]
#[case::duration("leaderElection.leaseDuration=half a minute", "/leaderElection/leaseDuration")]
#[case::probe("fenceProbe.address=kubernetes.default:443", "/fenceProbe/address")]
#[case::lease_too_short("leaderElection.leaseDuration=25s", "two operators could write at once")]
#[case::lease_in_fractions("leaderElection.leaseDuration=30500ms", "whole seconds")]
#[case::no_second_try("leaderElection.retryPeriod=8s", "at least twice retryPeriod")]
#[case::probe_and_none(
    "fenceProbe.enabled=false,fenceProbe.address=10.96.0.1:443",
    "fenceProbe.enabled is false"
)]
#[case::one_range_for_both(
    "cluster.podCIDRs={10.0.0.0/8},cluster.serviceCIDRs={10.0.0.0/8}",
    "in cluster.podCIDRs and in cluster.serviceCIDRs"
)]
#[case::request_without_limit("pod.resources.limits.cpu=null", "requests.cpu has no limit")]
fn what_is_wrong_is_refused(#[case] set: &str, #[case] expected: &str) {
    let refusal = refusal(set);
    assert!(refusal.contains(expected), "{refusal}");
}

/// Why Helm does not render the operator's chart with this setting.
fn refusal(set: &str) -> String {
    match chart::template(OPERATOR, &["--set", set]) {
        Ok(_) => panic!("{set} is accepted"),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn contradictions_are_told_all_at_once() {
    let set = "leaderElection.leaseDuration=20s,leaderElection.retryPeriod=9s";
    let refusal = refusal(set);
    assert!(
        refusal.contains("leaseDuration must") && refusal.contains("renewDeadline must"),
        "{refusal}"
    );
}

/// The schema's node behind a reference.
fn resolved<'a>(root: &'a Value, node: &'a Value) -> Result<&'a Value> {
    match node["$ref"].as_str() {
        Some(reference) => root
            .pointer(reference.trim_start_matches('#'))
            .with_context(|| format!("{reference} leads nowhere")),
        None => Ok(node),
    }
}

fn schema(name: &str) -> Result<Value> {
    Ok(serde_json::from_str(&chart::read(&format!(
        "charts/{name}/values.schema.json"
    ))?)?)
}

#[test]
fn no_object_of_the_schema_takes_what_it_does_not_know() -> Result<()> {
    fn walk(path: &str, node: &Value) -> Result<()> {
        if node.get("properties").is_some() {
            ensure!(node["additionalProperties"] == false, "{path} takes anything");
        }
        match node {
            Value::Object(members) => {
                for (name, member) in members {
                    walk(&format!("{path}/{name}"), member)?;
                }
            }
            Value::Array(items) => {
                for item in items {
                    walk(path, item)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
    for name in CHARTS {
        walk(name, &schema(name)?)?;
    }
    Ok(())
}

/// The keys of a values file, in order, each with its path and whether a description stands above it.
fn keys(text: &str) -> Vec<(Vec<&str>, bool)> {
    let mut found = Vec::new();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut described = false;
    for line in text.lines() {
        let content = line.trim_start();
        if content.starts_with('#') {
            described |= content.starts_with("# -- ");
            continue;
        }
        let key = content.split_once(':').map(|(key, _)| key);
        if let Some(key) = key.filter(|key| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')) {
            let indent = line.len() - content.len();
            parents.retain(|(depth, _)| *depth < indent);
            parents.push((indent, key));
            found.push((parents.iter().map(|(_, name)| *name).collect(), described));
        }
        described = false;
    }
    found
}

#[test]
fn every_value_is_described_and_has_a_default() -> Result<()> {
    fn walk<'a>(
        root: &'a Value,
        node: &'a Value,
        path: &mut Vec<&'a str>,
        keys: &[(Vec<&str>, bool)],
    ) -> Result<()> {
        let node = resolved(root, node)?;
        let described = keys
            .iter()
            .find(|(key, _)| key == path)
            .map(|(_, described)| *described);
        let at = path.join(".");
        if described == Some(true) {
            return Ok(());
        }
        // An image is the same whosever it is; `allOf` only takes something away from it.
        let node = node["allOf"]
            .get(0)
            .map_or(Ok(node), |first| resolved(root, first))?;
        let members = node["properties"]
            .as_object()
            .with_context(|| format!("{at} has no description"))?;
        for (name, member) in members {
            let elsewhere = path.as_slice() == ["gateway", "image"] && name == "pullPolicy";
            if name == "global" || elsewhere {
                continue;
            }
            path.push(name);
            walk(root, member, path, keys)?;
            path.pop();
        }
        Ok(())
    }
    for name in CHARTS {
        let text = chart::read(&format!("charts/{name}/values.yaml"))?;
        let schema = schema(name)?;
        walk(&schema, &schema, &mut Vec::new(), &keys(&text)).with_context(|| name)?;
    }
    Ok(())
}

/// What is printed after an installation.
fn notes(arguments: &[&str]) -> Result<String> {
    let install = [
        "install",
        chart::RELEASE,
        "charts/portcullis",
        "--namespace",
        chart::NAMESPACE,
        "--dry-run=client",
    ];
    let output = chart::helm(&[&install, arguments].concat())?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_once("\nNOTES:\n").context("no notes")?.1.to_owned())
}

#[test]
fn the_notes_name_the_next_command_and_every_weakening() -> Result<()> {
    let weakened = notes(&["--values", "charts/portcullis/ci/weakened-values.yaml"])?;
    for expected in [
        "helm install portcullis-crds",
        "pod-security.kubernetes.io/enforce=restricted",
        "WARNING: networkPolicy.enabled is false",
        "WARNING: admissionPolicy.enabled is false",
        "WARNING: fenceProbe.enabled is false",
        "WARNING: cluster.podCIDRs or cluster.serviceCIDRs is empty",
        "WARNING: replicas is 1",
        "WARNING: image.digest or gateway.image.digest is empty",
    ] {
        ensure!(weakened.contains(expected), "{expected} in\n{weakened}");
    }
    let hardened = notes(&["--values", "charts/portcullis/ci/hardened-values.yaml"])?;
    ensure!(!hardened.contains("WARNING"), "{hardened}");
    Ok(())
}
