//! Session keys: what is kept of them, what is not, and that their names can be found again.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use portcullis_config::keys::{self, Purpose};
use portcullis_operator::build::meta::Owner;
use portcullis_operator::build::session_key::{
    CREATED, KEY_ID, KeyId, Marker, SECRET_ENTRY, SECRET_TYPE, SessionKeys, marker, mounted_by, name, secret,
    status_fingerprint,
};
use portcullis_operator::identity::{Identity, Key};
use proptest::prelude::*;

use crate::worlds::{one, rendered};

fn owner() -> Owner {
    Owner::gateway(Identity {
        key: Key::new("agents", "tools"),
        uid: "11111111-1111-4111-8111-111111111111".into(),
    })
}

fn id(byte: u8) -> KeyId {
    KeyId::from_random([byte; 10])
}

const KEY: [u8; 32] = [0x5a; 32];

#[test]
fn a_marker_holds_the_fingerprint_that_the_status_port_shows_and_nothing_of_the_key() {
    let marker = marker(&owner(), &id(1), &KEY);
    let seed = keys::derive(&KEY, Purpose::Status).unwrap();
    let shown = keys::fingerprint(&keys::ed25519_spki(&seed));
    assert_eq!(status_fingerprint(&KEY), shown);
    let read = Marker::read(&marker, "tools").unwrap();
    assert_eq!(read.status_fingerprint, shown);
    assert_eq!(read.id, id(1));
    assert!(!read.created, "that is noted once the Secret exists");
    let text = serde_json::to_string(&marker).unwrap();
    for secret in [
        keys::hex(&KEY),
        keys::hex(&seed),
        "Wlpa".to_owned(),
        "ZZZZ".to_owned(),
    ] {
        assert!(!text.contains(&secret), "{secret} in {text}");
    }
    assert_eq!(marker.immutable, Some(true));
    assert_eq!(
        marker.metadata.owner_references.as_ref().unwrap()[0].kind,
        "McpGateway"
    );
}

#[test]
fn a_noted_marker_is_created() {
    let mut marker = marker(&owner(), &id(1), &KEY);
    let notes = marker.metadata.annotations.get_or_insert_default();
    notes.insert(CREATED.to_owned(), "true".to_owned());
    assert!(Marker::read(&marker, "tools").unwrap().created);
}

#[test]
fn a_forged_or_foreign_marker_is_none() {
    let good = marker(&owner(), &id(1), &KEY);
    assert!(Marker::read(&good, "other").is_none(), "of another gateway");
    let mut renamed = good.clone();
    renamed.metadata.name = Some(name("tools", &id(2)));
    assert!(Marker::read(&renamed, "tools").is_none());
    let mut unlabelled = good.clone();
    unlabelled.metadata.labels.as_mut().unwrap().remove(KEY_ID);
    assert!(Marker::read(&unlabelled, "tools").is_none());
    let mut emptied = good.clone();
    emptied.data = None;
    assert!(Marker::read(&emptied, "tools").is_none());
    let mut garbled = good;
    garbled
        .data
        .as_mut()
        .unwrap()
        .values_mut()
        .for_each(|value| value.truncate(10));
    assert!(Marker::read(&garbled, "tools").is_none());
}

#[test]
fn a_secret_goes_with_its_marker_and_never_changes() {
    let mut marker = marker(&owner(), &id(1), &KEY);
    assert!(
        secret(&marker, &id(1), &KEY).is_none(),
        "only what the API server returned can own"
    );
    marker.metadata.uid = Some("22222222-2222-4222-8222-222222222222".into());
    let secret = secret(&marker, &id(1), &KEY).unwrap();
    assert_eq!(secret.metadata.name, marker.metadata.name);
    assert_eq!(secret.metadata.namespace.as_deref(), Some("agents"));
    let owners = secret.metadata.owner_references.unwrap();
    assert_eq!(owners.len(), 1);
    assert_eq!(
        (owners[0].kind.as_str(), owners[0].uid.as_str()),
        ("ConfigMap", "22222222-2222-4222-8222-222222222222")
    );
    assert_eq!(secret.immutable, Some(true));
    assert_eq!(secret.type_.as_deref(), Some(SECRET_TYPE));
    assert_eq!(secret.data.unwrap()[SECRET_ENTRY].0, KEY);
}

#[test]
fn names_chosen_ahead_are_found_again_in_the_template() {
    let objects = &rendered("quickstart").objects;
    let deployment = one(objects, "Deployment", "tools-gateway");
    let deployment: Deployment = serde_json::from_value(deployment.clone()).unwrap();
    let found: Vec<String> = mounted_by(&deployment, "tools")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "placeholderaaaaa",
            "placeholderbbbbb",
            "placeholderccccc",
            "placeholderddddd"
        ]
    );
    assert!(mounted_by(&deployment, "other").is_empty());
    assert!(mounted_by(&Deployment::default(), "tools").is_empty());
}

#[test]
fn the_sealing_key_comes_first_and_nothing_comes_twice() {
    let keys = SessionKeys {
        seal_with: id(9),
        also_accepted: vec![id(3), id(9), id(1), id(3)],
        ahead: vec![id(1), id(7)],
    };
    let existing: Vec<&KeyId> = keys.existing();
    assert_eq!(existing[0], &id(9));
    assert_eq!(existing.len(), 3);
    let mounted = keys.mounted();
    assert_eq!(mounted.len(), 4);
    assert!(mounted.is_sorted());
}

proptest! {
    #[test]
    fn an_id_is_one_for_the_gateway_too(random: [u8; 10]) {
        let id = KeyId::from_random(random);
        prop_assert_eq!(KeyId::parse(id.as_str()), Some(id.clone()));
        prop_assert!((1..=16).contains(&id.as_str().len()));
        prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }

    #[test]
    fn no_bit_of_an_id_is_lost(a: [u8; 10], b: [u8; 10]) {
        let ids: BTreeSet<KeyId> = [a, b].into_iter().map(KeyId::from_random).collect();
        prop_assert_eq!(ids.len() == 1, a == b);
    }

    #[test]
    fn what_is_no_id_is_not_taken_for_one(text in "\\PC{0,20}") {
        prop_assume!(text.len() != 16 || !text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)));
        prop_assert_eq!(KeyId::parse(&text), None);
    }
}
