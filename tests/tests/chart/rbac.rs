//! The operator's rights: exactly those that it uses, each with its reason.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use system_tests::chart;

/// Verbs by `group/resource`, or by URL.
type Rights = BTreeMap<String, BTreeSet<String>>;

/// A role of the chart, by kind and the end of its name.
fn role<'a>(objects: &'a [Value], kind: &str, suffix: &str) -> Result<&'a Value> {
    objects
        .iter()
        .find(|object| {
            object["kind"] == kind
                && object["metadata"]["name"]
                    .as_str()
                    .is_some_and(|name| name.ends_with(suffix))
        })
        .with_context(|| format!("no {kind} *{suffix}"))
}

fn words(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn rights(role: &Value) -> Rights {
    let mut rights = Rights::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let mut names: Vec<String> = words(&rule["nonResourceURLs"])
            .into_iter()
            .map(str::to_owned)
            .collect();
        for group in words(&rule["apiGroups"]) {
            names.extend(
                words(&rule["resources"])
                    .iter()
                    .map(|resource| format!("{group}/{resource}")),
            );
        }
        for name in names {
            rights
                .entry(name)
                .or_default()
                .extend(words(&rule["verbs"]).into_iter().map(str::to_owned));
        }
    }
    rights
}

/// The rights as the controllers document them, which is also what the operator's own tests permit them. Those in the
/// operator's own namespace come second.
fn documented() -> Result<(Rights, Rights)> {
    let text = chart::read("operator/src/controller.rs")?;
    let (mut everywhere, mut at_home) = (Rights::new(), Rights::new());
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    for row in rows.filter(|row| !row.starts_with("group |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [group, resources, verbs, ..] = cells[..] else {
            continue;
        };
        for resource in resources.split(',').map(str::trim) {
            let verbs = verbs.split(',').map(|verb| verb.trim().to_owned()).collect();
            let (rights, resource) = match resource.strip_suffix(" (own namespace)") {
                Some(resource) => (&mut at_home, resource),
                None => (&mut everywhere, resource),
            };
            let name = match group {
                "(URLs)" => resource.to_owned(),
                "\"\"" => format!("/{resource}"),
                group => format!("{group}/{resource}"),
            };
            rights.insert(name, verbs);
        }
    }
    ensure!(
        everywhere.len() > 15 && at_home.len() == 1,
        "{everywhere:?} {at_home:?}"
    );
    Ok((everywhere, at_home))
}

#[test]
fn the_operator_may_do_what_its_controllers_document_and_nothing_else() -> Result<()> {
    let (everywhere, at_home) = documented()?;
    let objects = chart::variant(None)?;
    let found = rights(role(&objects, "ClusterRole", "-operator")?);
    ensure!(found == everywhere, "{found:#?} {everywhere:#?}");

    let leases = role(&objects, "Role", "-leases")?;
    let found = rights(leases);
    ensure!(found == at_home, "{found:#?} {at_home:#?}");
    // A create knows no name; everything else is held to the operator's own Lease.
    for rule in leases["rules"].as_array().context("rules")? {
        let named = rule["resourceNames"] == json!(["portcullis-operator"]);
        ensure!(named != (rule["verbs"] == json!(["create"])), "{rule}");
    }
    Ok(())
}

#[test]
fn no_variant_grants_anything_that_gives_more() -> Result<()> {
    for values in chart::variants()? {
        let objects = chart::variant(values.as_deref())?;
        for object in objects.iter().filter(|object| !object["rules"].is_null()) {
            let name = &object["metadata"]["name"];
            for (resource, verbs) in rights(object) {
                ensure!(!resource.contains('*'), "{name}: {resource}");
                for verb in &verbs {
                    let more = ["*", "escalate", "bind", "impersonate", "approve", "sign"];
                    ensure!(!more.contains(&verb.as_str()), "{name}: {verb} {resource}");
                }
                let forbidden = [
                    "/pods/exec",
                    "/pods/attach",
                    "/pods/ephemeralcontainers",
                    "/serviceaccounts/token",
                    "/nodes",
                ];
                ensure!(
                    !forbidden.iter().any(|word| resource.starts_with(word)),
                    "{name}: {resource}"
                );
                ensure!(
                    !resource.starts_with("rbac.authorization.k8s.io"),
                    "{name}: {resource}"
                );
                if resource.starts_with("/secrets") {
                    ensure!(
                        verbs == BTreeSet::from(["create".to_owned()]),
                        "{name}: {verbs:?} {resource}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn each_binding_gives_one_role_to_the_operators_account() -> Result<()> {
    let objects = chart::variant(None)?;
    let account = json!([{
        "kind": "ServiceAccount",
        "name": chart::one(&objects, "ServiceAccount")?["metadata"]["name"],
        "namespace": chart::NAMESPACE,
    }]);
    for (kind, of) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
        let binding = chart::one(&objects, kind)?;
        ensure!(binding["subjects"] == account, "{kind}");
        ensure!(binding["roleRef"]["kind"] == of, "{kind}");
        ensure!(
            binding["roleRef"]["name"] == binding["metadata"]["name"],
            "{kind}"
        );
    }
    Ok(())
}

#[test]
fn every_rule_says_why() -> Result<()> {
    for file in ["rbac.yaml", "rbac-aggregate.yaml"] {
        let text = chart::read(&format!("charts/portcullis/templates/{file}"))?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut reasons = BTreeSet::new();
        for pair in lines.windows(2) {
            let [before, line] = pair else { continue };
            if file == "rbac.yaml"
                && (line.starts_with("- apiGroups:") || line.starts_with("- nonResourceURLs:"))
            {
                ensure!(before.starts_with("# "), "no reason for {line}");
                reasons.insert(*before);
            }
        }
        ensure!(file != "rbac.yaml" || reasons.len() > 10, "{reasons:?}");
    }
    Ok(())
}

#[test]
fn people_get_the_kinds_by_the_clusters_own_roles_and_nobody_gets_status() -> Result<()> {
    let objects = chart::variant(None)?;
    let kinds = ["mcpgateways", "mcpservers"];
    for (suffix, targets) in [
        ("-view", "view edit admin"),
        ("-edit", "edit admin"),
        ("-admin", "admin"),
    ] {
        let role = role(&objects, "ClusterRole", suffix)?;
        for target in ["view", "edit", "admin"] {
            let label =
                &role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{target}")];
            ensure!(
                (label == "true") == targets.split(' ').any(|name| name == target),
                "{suffix}: {target}"
            );
        }
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        for (resource, verbs) in rights(role) {
            let writable = verbs.iter().any(|verb| writes.contains(&verb.as_str()));
            ensure!(writable == (suffix != "-view"), "{suffix}: {verbs:?} {resource}");
            ensure!(
                !writable
                    || kinds
                        .iter()
                        .any(|kind| resource == format!("portcullis.dev/{kind}")),
                "{suffix}: {resource}"
            );
        }
    }
    Ok(())
}
