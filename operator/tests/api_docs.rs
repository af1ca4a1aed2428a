//! `docs/api.md` is written from the definitions. `UPDATE=1` rewrites it (`make generate`).

#[path = "support/reference.rs"]
mod reference;

use std::path::Path;

use portcullis_operator::crds;

#[test]
fn the_reference_says_what_the_definitions_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let wanted = reference::of(&crds::all());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/api.md is stale: make generate");
}

#[test]
fn every_field_of_the_reference_has_a_description() {
    let text = reference::of(&crds::all());
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 100, "{} fields", rows.len());
    for row in rows {
        let meaning = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(meaning.len() > 3, "{row}");
    }
}

#[test]
fn every_link_of_the_reference_leads_somewhere() {
    let text = reference::of(&crds::all());
    let headings: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_ascii_alphanumeric() || *c == ' ');
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect();
    let links: Vec<&str> = text
        .split("](#")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(links.len() > 20, "{} links", links.len());
    for link in links {
        assert!(headings.iter().any(|heading| heading == link), "#{link}");
    }
}
