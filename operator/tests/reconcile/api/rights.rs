//! The rights that `controller.rs` documents, held against every request: one that is not there is refused, and shows.

/// Resource, subresource included, and verbs.
const RIGHTS: &[(&str, &[&str])] = &[
    ("mcpgateways.portcullis.dev", &["list", "watch"]),
    ("mcpservers.portcullis.dev", &["list", "watch"]),
    ("mcpgateways.portcullis.dev/status", &["patch"]),
    ("mcpservers.portcullis.dev/status", &["patch"]),
    ("namespaces", &["list", "watch"]),
    ("services", &["get", "list", "watch", "create", "patch", "delete"]),
    ("endpointslices.discovery.k8s.io", &["list", "watch"]),
    (
        "configmaps",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    ("secrets", &["create"]),
    (
        "serviceaccounts",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    (
        "networkpolicies.networking.k8s.io",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    (
        "poddisruptionbudgets.policy",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    (
        "deployments.apps",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    ("replicasets.apps", &["list", "watch"]),
    ("pods", &["list", "watch"]),
    ("pods/status", &["patch"]),
    ("events.events.k8s.io", &["create", "patch"]),
    ("leases.coordination.k8s.io", &["get", "create", "update"]),
];

pub fn permits(verb: &str, resource: &str, sub: Option<&str>) -> bool {
    let resource = match sub {
        Some(sub) => format!("{resource}/{sub}"),
        None => resource.to_owned(),
    };
    RIGHTS
        .iter()
        .any(|(known, verbs)| *known == resource && verbs.contains(&verb))
}

/// The table of `controller.rs` says the same as the one above.
#[test]
fn the_documented_rights_are_the_tested_ones() {
    let docs = include_str!("../../../src/controller.rs");
    let mut documented = Vec::new();
    for line in docs
        .lines()
        .filter(|line| line.starts_with("//! | ") && !line.contains("---"))
    {
        let cells: Vec<&str> = line.trim_start_matches("//!").split('|').map(str::trim).collect();
        let [_, group, resources, verbs, ..] = cells[..] else {
            continue;
        };
        if matches!(group, "group" | "(URLs)") {
            continue;
        }
        for resource in resources.replace("(own namespace)", "").split(',') {
            let (plural, sub) = match resource.trim().split_once('/') {
                Some((plural, sub)) => (plural, format!("/{sub}")),
                None => (resource.trim(), String::new()),
            };
            let name = match group {
                "\"\"" => format!("{plural}{sub}"),
                group => format!("{plural}.{group}{sub}"),
            };
            let mut verbs: Vec<&str> = verbs.split(',').map(str::trim).collect();
            verbs.sort_unstable();
            documented.push((name, verbs));
        }
    }
    documented.sort();
    let mut tested: Vec<(String, Vec<&str>)> = RIGHTS
        .iter()
        .map(|(name, verbs)| {
            let mut verbs = verbs.to_vec();
            verbs.sort_unstable();
            ((*name).to_owned(), verbs)
        })
        .collect();
    tested.sort();
    assert_eq!(documented, tested);
}
