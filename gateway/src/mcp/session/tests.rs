use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn session() -> Session {
    Session {
        nonce: [7; 16],
        principal: [9; 16],
        revision: Revision::V20250618,
        capabilities: Capabilities::ROOTS.with(Capabilities::ELICITATION),
        client: ClientInfo {
            name: "client".into(),
            version: "1.2.3".into(),
        },
        expires: 1_900_000_000,
        upstream: Some(UpstreamSession {
            revision: Revision::V20250326,
            id: (*b"upstream-id").into(),
        }),
    }
}

#[test]
fn what_is_written_is_read() {
    let mut session = session();
    assert_eq!(Session::decode(&session.encode().unwrap()), Ok(session.clone()));
    session.upstream = None;
    session.client = ClientInfo::default();
    let bytes = session.encode().unwrap();
    assert_eq!(Session::decode(&bytes), Ok(session));
    assert!(bytes.len() < 64);
}

#[test]
fn the_largest_fits_into_a_token() {
    use crate::mcp::seal::{Sealer, TokenKind};
    let mut session = session();
    session.client = ClientInfo {
        name: "n".repeat(500).into(),
        version: "v".repeat(500).into(),
    };
    session.upstream.as_mut().unwrap().id = vec![b'x'; MAX_UPSTREAM_ID_BYTES].into();
    let sealer = Sealer::new("g", "k", [("k", &[1; 32][..])]).unwrap();
    assert!(
        sealer
            .seal(TokenKind::Session, "/mcp", &session.encode().unwrap())
            .is_ok()
    );
    session.upstream.as_mut().unwrap().id = vec![b'x'; MAX_UPSTREAM_ID_BYTES + 1].into();
    assert_eq!(session.encode(), Err(TooLong));
}

#[test]
fn it_ends_at_its_expiry() {
    assert!(!session().is_expired(1_899_999_999));
    assert!(session().is_expired(1_900_000_000));
}

#[test]
fn every_shorter_or_longer_text_is_refused() {
    let bytes = session().encode().unwrap();
    for length in 0..bytes.len() {
        assert_eq!(Session::decode(&bytes[..length]), Err(NotASession), "{length}");
    }
    assert_eq!(Session::decode(&[&bytes[..], b"x"].concat()), Err(NotASession));
    let mut other = bytes.clone();
    other[0] = 2;
    assert_eq!(Session::decode(&other), Err(NotASession));
}

#[rstest]
#[case(json!({}), 0, json!({}), json!({}))]
#[case(json!({"roots": {}}), 1, json!({"roots": {}}), json!({"roots": {}}))]
#[case(json!({"roots": {"listChanged": true}}), 3, json!({"roots": {"listChanged": true}}), json!({"roots": {}}))]
#[case(json!({"roots": {"listChanged": false}}), 1, json!({"roots": {}}), json!({"roots": {}}))]
#[case(json!({"sampling": {"tools": {}, "context": {"x": 1}}}), 0x1C, json!({"sampling": {"tools": {}, "context": {}}}), json!({"sampling": {"tools": {}, "context": {}}}))]
#[case(json!({"elicitation": {}}), 0x20, json!({"elicitation": {}}), json!({"elicitation": {}}))]
#[case(json!({"elicitation": {"url": {}, "form": {}}, "roots": {}}), 0xE1, json!({"roots": {}, "elicitation": {"form": {}, "url": {}}}), json!({"roots": {}, "elicitation": {"form": {}, "url": {}}}))]
#[case(json!({"roots": true, "sampling": null, "elicitation": [], "experimental": {"x": {}}, "extensions": {"a/b": {}}, "tasks": {}}), 0, json!({}), json!({}))]
fn capabilities_are_known_bits(
    #[case] given: Value,
    #[case] bits: u16,
    #[case] session: Value,
    #[case] stateless: Value,
) {
    let read = Capabilities::read(given.to_string().as_bytes());
    assert_eq!(read.bits(), bits);
    let json = |era| serde_json::from_slice::<Value>(&read.to_json(era)).unwrap();
    assert_eq!(json(Era::Session), session);
    assert_eq!(json(Era::Stateless), stateless);
    assert_eq!(Capabilities::read(&read.to_json(Era::Session)), read);
    assert_eq!(Capabilities::from_bits(bits), Some(read));
}

#[test]
fn features_that_are_off_are_taken_away() {
    let all = Capabilities::from_bits(0xFF).unwrap();
    let rest = all.without(
        Capabilities::SAMPLING
            .with(Capabilities::SAMPLING_TOOLS)
            .with(Capabilities::SAMPLING_CONTEXT),
    );
    assert!(!rest.has(Capabilities::SAMPLING) && rest.has(Capabilities::ROOTS) && !rest.is_empty());
    assert_eq!(Capabilities::from_bits(0x100), None);
}

#[rstest]
#[case(r#"{"name":"a\u0062","version":"1","title":"x"}"#, "ab", "1")]
#[case(r#"{"name":5,"version":"\ud800"}"#, "", "")]
#[case("{}", "", "")]
#[case("", "", "")]
#[case("[]", "", "")]
fn client_info_is_read(#[case] raw: &str, #[case] name: &str, #[case] version: &str) {
    let info = ClientInfo::read(raw.as_bytes());
    assert_eq!((&*info.name, &*info.version), (name, version));
    let json: Value = serde_json::from_slice(&info.to_json()).unwrap();
    assert_eq!(json, json!({"name": name, "version": version}));
}

#[test]
fn client_info_is_cut_between_characters() {
    let raw = json!({"name": "é".repeat(100), "version": "x".repeat(100)}).to_string();
    let info = ClientInfo::read(raw.as_bytes());
    assert_eq!((info.name.len(), info.version.len()), (64, 64));
    let odd = json!({"name": format!("x{}", "é".repeat(100))}).to_string();
    assert_eq!(ClientInfo::read(odd.as_bytes()).name.len(), 63);
}

proptest! {
    #[test]
    fn any_session_comes_back(
        nonce in any::<[u8; 16]>(), principal in any::<[u8; 16]>(), revision in 1..=5u8, bits in 0..=0xFFu16,
        name in "\\PC{0,20}", version in "\\PC{0,20}", expires in any::<u64>(),
        upstream in proptest::option::of((1..=5u8, proptest::collection::vec(any::<u8>(), 0..=MAX_UPSTREAM_ID_BYTES))),
    ) {
        let session = Session {
            nonce, principal, expires,
            revision: Revision::from_code(revision).unwrap(),
            capabilities: Capabilities::from_bits(bits).unwrap(),
            client: ClientInfo { name: truncate(&name).into(), version: truncate(&version).into() },
            upstream: upstream.map(|(code, id)| UpstreamSession { revision: Revision::from_code(code).unwrap(), id: id.into() }),
        };
        prop_assert_eq!(Session::decode(&session.encode().unwrap()), Ok(session));
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        // What is read is written back the same: there is one spelling.
        if let Ok(session) = Session::decode(&bytes) {
            prop_assert_eq!(&session.encode().unwrap(), &bytes);
        }
        let versioned = [&[1][..], &bytes].concat();
        if let Ok(session) = Session::decode(&versioned) {
            prop_assert_eq!(session.encode().unwrap(), versioned);
        }
        prop_assert!(Capabilities::read(&bytes).bits() <= 0xFF);
        prop_assert!(ClientInfo::read(&bytes).name.len() <= MAX_INFO_BYTES);
    }
}
