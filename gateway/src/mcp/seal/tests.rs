use proptest::prelude::*;
use rstest::rstest;

use super::*;

const OLD: (&str, &[u8]) = ("k1", &[1; 32]);
const NEW: (&str, &[u8]) = ("k2", &[2; 32]);

fn sealer(gateway: &str, seal_with: &str, keys: &[(&'static str, &'static [u8])]) -> Sealer {
    Sealer::new(gateway, seal_with, keys.iter().copied()).unwrap()
}

#[test]
fn what_was_sealed_opens_where_it_belongs() {
    let ours = sealer("g", "k1", &[OLD]);
    let token = ours.seal(TokenKind::Session, "/mcp", b"secret").unwrap();
    assert!(
        token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    );
    assert_eq!(
        ours.open(TokenKind::Session, "/mcp", token.as_bytes()).unwrap(),
        b"secret"
    );
    assert_ne!(token, ours.seal(TokenKind::Session, "/mcp", b"secret").unwrap());
}

#[test]
fn and_nowhere_else() {
    let ours = sealer("g", "k1", &[OLD]);
    let token = ours.seal(TokenKind::Session, "/mcp", b"secret").unwrap();
    for kind in [
        TokenKind::Cursor,
        TokenKind::RequestState,
        TokenKind::Task,
        TokenKind::Event,
    ] {
        assert_eq!(ours.open(kind, "/mcp", token.as_bytes()), Err(NotOurs));
    }
    for endpoint in ["", "/mcp/", "/servers/a/mcp"] {
        assert_eq!(
            ours.open(TokenKind::Session, endpoint, token.as_bytes()),
            Err(NotOurs)
        );
    }
    for gateway in ["", "h", "g/"] {
        let theirs = sealer(gateway, "k1", &[OLD]);
        assert_eq!(
            theirs.open(TokenKind::Session, "/mcp", token.as_bytes()),
            Err(NotOurs)
        );
    }
    // The parts of the place cannot be shifted into one another.
    let shifted = sealer("g/m", "k1", &[OLD]);
    let token = sealer("g", "k1", &[OLD])
        .seal(TokenKind::Session, "/mcp", b"x")
        .unwrap();
    assert_eq!(
        shifted.open(TokenKind::Session, "cp", token.as_bytes()),
        Err(NotOurs)
    );
}

#[test]
fn keys_rotate() {
    let before = sealer("g", "k1", &[OLD]);
    let during = sealer("g", "k2", &[OLD, NEW]);
    let after = sealer("g", "k2", &[NEW]);
    let old = before.seal(TokenKind::Session, "/mcp", b"x").unwrap();
    let new = during.seal(TokenKind::Session, "/mcp", b"x").unwrap();
    let opens =
        |sealer: &Sealer, token: &str| sealer.open(TokenKind::Session, "/mcp", token.as_bytes()).is_ok();
    assert!(opens(&during, &old) && opens(&during, &new) && opens(&after, &new));
    assert!(!opens(&before, &new) && !opens(&after, &old));
    // Another key under a known id opens nothing.
    assert!(!opens(&sealer("g", "k1", &[("k1", &[9; 32])]), &old));
}

#[rstest]
#[case(Sealer::new("g", "", [("", &[1; 32][..])]), SealerError::KeyId(String::new()))]
#[case(Sealer::new("g", "K", [("K", &[1; 32][..])]), SealerError::KeyId("K".into()))]
#[case(Sealer::new("g", "x", [OLD]), SealerError::NoSealingKey("x".into()))]
#[case(Sealer::new("g", "k1", [OLD, OLD]), SealerError::Twice("k1".into()))]
#[case(Sealer::new("g", "k1", [("k1", &[1; 31][..])]), SealerError::TooShort("k1".into(), keys::KeyTooShort(31)))]
fn a_bad_set_of_keys_is_refused(#[case] built: Result<Sealer, SealerError>, #[case] error: SealerError) {
    assert_eq!(built.unwrap_err(), error);
}

#[test]
fn a_token_has_a_greatest_length() {
    let ours = sealer("g", "k1", &[OLD]);
    let fits = (MAX_TOKEN_BYTES / 4 * 3) - 2 - 2 - NONCE_LEN - TAG_LEN;
    let token = ours.seal(TokenKind::Cursor, "/mcp", &vec![7; fits]).unwrap();
    assert!(token.len() <= MAX_TOKEN_BYTES);
    assert_eq!(
        ours.open(TokenKind::Cursor, "/mcp", token.as_bytes()).unwrap(),
        vec![7; fits]
    );
    assert_eq!(
        ours.seal(TokenKind::Cursor, "/mcp", &vec![7; fits + 1]),
        Err(SealError::TooLong)
    );
    let long = "A".repeat(MAX_TOKEN_BYTES + 4);
    assert_eq!(
        ours.open(TokenKind::Cursor, "/mcp", long.as_bytes()),
        Err(NotOurs)
    );
}

#[test]
fn what_travels_in_bodies_only_may_be_longer() {
    let ours = sealer("g", "k1", &[OLD]);
    let fits = (MAX_STATE_BYTES / 4 * 3) - 2 - 2 - NONCE_LEN - TAG_LEN;
    let state = TokenKind::RequestState;
    let token = ours.seal(state, "/mcp", &vec![7; fits]).unwrap();
    assert!(token.len() <= MAX_STATE_BYTES);
    assert_eq!(ours.open(state, "/mcp", token.as_bytes()).unwrap().len(), fits);
    assert_eq!(
        ours.seal(state, "/mcp", &vec![7; fits + 1]),
        Err(SealError::TooLong)
    );
    let long = "A".repeat(MAX_STATE_BYTES + 4);
    assert_eq!(ours.open(state, "/mcp", long.as_bytes()), Err(NotOurs));
}

#[test]
fn nothing_secret_is_printed() {
    assert_eq!(
        format!("{:?}", sealer("g", "k1", &[OLD, NEW])),
        "Sealer { keys: 2, .. }"
    );
}

proptest! {
    #[test]
    fn any_flipped_bit_is_noticed(plain in proptest::collection::vec(any::<u8>(), 0..100), bit in any::<proptest::sample::Index>()) {
        let ours = sealer("g", "k1", &[OLD, NEW]);
        let token = ours.seal(TokenKind::Session, "/mcp", &plain).unwrap();
        prop_assert_eq!(ours.open(TokenKind::Session, "/mcp", token.as_bytes()).unwrap(), plain);
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&token).unwrap();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let changed = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        prop_assert_eq!(ours.open(TokenKind::Session, "/mcp", changed.as_bytes()), Err(NotOurs));
        // The text too: other spellings of the same bytes are not accepted.
        let mut text = token.into_bytes();
        let at = bit / 8 % text.len();
        text[at] ^= 1 << (bit % 8);
        prop_assert_eq!(ours.open(TokenKind::Session, "/mcp", &text), Err(NotOurs));
    }

    #[test]
    fn cut_or_foreign_text_is_refused(text in proptest::collection::vec(any::<u8>(), 0..200), cut in any::<proptest::sample::Index>()) {
        let ours = sealer("g", "k1", &[OLD]);
        prop_assert_eq!(ours.open(TokenKind::Session, "/mcp", &text), Err(NotOurs));
        let token = ours.seal(TokenKind::Session, "/mcp", &text).unwrap();
        let cut = &token.as_bytes()[..cut.index(token.len())];
        prop_assert_eq!(ours.open(TokenKind::Session, "/mcp", cut), Err(NotOurs));
        let coded = BASE64_URL_SAFE_NO_PAD.encode(&text);
        prop_assert_eq!(ours.open(TokenKind::Session, "/mcp", coded.as_bytes()), Err(NotOurs));
    }
}
