//! The committed definitions are the ones the types generate. `UPDATE=1` rewrites them.

use std::path::{Path, PathBuf};

use portcullis_operator::crds;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds")
}

#[test]
fn the_committed_files_are_what_the_types_generate() {
    let directory = directory();
    let mut expected = Vec::new();
    for crd in crds::all() {
        let path = directory.join(crds::file_name(&crd));
        let content = crds::file_content(&crd).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &content).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == content,
            "{} is stale: UPDATE=1 cargo test -p portcullis-operator --test crds",
            path.display()
        );
        expected.push(path.file_name().unwrap().to_owned());
    }
    let mut found: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "a file of crds/ belongs to no kind");
}

#[test]
fn client_side_apply_has_room_for_each_definition() {
    // kubectl keeps the whole object in an annotation, and annotations may hold 256 KiB together.
    for crd in crds::all() {
        let size = serde_json::to_string(&crd).unwrap().len();
        assert!(size < 200 * 1024, "{} takes {size} bytes", crds::file_name(&crd));
    }
}
