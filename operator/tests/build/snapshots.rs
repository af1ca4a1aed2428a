//! Every object of every world as YAML, and every refusal. To accept a change: `INSTA_UPDATE=always cargo test`, and read
//! the difference. What must never change stands in `hardening`, `network` and `contract`, which no snapshot can relax.

use crate::worlds::{WORLDS, label, rendered};

#[test]
fn every_object_is_as_reviewed() {
    for (world, _) in WORLDS {
        for object in &rendered(world).objects {
            let name = format!("{world}__{}", label(object).replace([' ', '.'], "_"));
            let yaml = serde_yaml::to_string(object).unwrap();
            insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
                insta::assert_snapshot!(name, yaml);
            });
        }
    }
}

#[test]
fn every_refusal_is_as_reviewed() {
    for (world, _) in WORLDS {
        let rendered = rendered(world);
        let text = [rendered.problems.join("\n"), rendered.notes.join("\n")].join("\n\n");
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(format!("{world}__refusals"), text.trim());
        });
    }
}

#[test]
fn no_snapshot_is_left_over() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/snapshots");
    let wanted: std::collections::BTreeSet<String> = WORLDS
        .iter()
        .flat_map(|(world, _)| {
            let objects = &rendered(world).objects;
            let names = objects
                .iter()
                .map(|object| format!("{world}__{}", label(object).replace([' ', '.'], "_")));
            names.chain([format!("{world}__refusals")]).collect::<Vec<_>>()
        })
        .map(|name| format!("{name}.snap"))
        .collect();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            wanted.contains(&name) || name.ends_with(".snap.new"),
            "{name} belongs to no object"
        );
    }
}
