//! Sealed tokens: one opens where it was made for, unchanged, and nothing else opens anywhere.

use std::sync::LazyLock;

use portcullis_gateway::mcp::seal::{NotOurs, SealError, Sealer, TokenKind};
use portcullis_gateway::mcp::session::Session;

const KINDS: [TokenKind; 6] = [
    TokenKind::Session,
    TokenKind::Cursor,
    TokenKind::RequestState,
    TokenKind::Task,
    TokenKind::Event,
    TokenKind::Parked,
];
const ENDPOINTS: [&str; 3] = ["/mcp", "/servers/a/s/mcp", ""];

/// Keys that nobody else has: what the fuzzer makes up cannot be sealed by them.
static OURS: LazyLock<Sealer> = LazyLock::new(|| sealer("a/g", &[("k1", 1), ("k2", 2)]));
/// The same gateway before its second key, and strangers.
static OTHERS: LazyLock<[Sealer; 3]> = LazyLock::new(|| {
    [
        sealer("a/g", &[("k2", 3)]),
        sealer("a/h", &[("k1", 1), ("k2", 2)]),
        sealer("a/g", &[("k1", 2), ("k2", 1)]),
    ]
});

fn sealer(gateway: &str, keys: &[(&'static str, u8)]) -> Sealer {
    let keys: Vec<_> = keys.iter().map(|(id, fill)| (*id, [*fill; 32])).collect();
    Sealer::new(gateway, "k2", keys.iter().map(|(id, key)| (*id, &key[..]))).expect("valid keys")
}

/// The bytes are a token that somebody made up, what a session id might hold, and a text to be sealed and what
/// is done to its token.
pub fn check(data: &[u8]) {
    for kind in KINDS {
        for endpoint in ENDPOINTS {
            assert_eq!(OURS.open(kind, endpoint, data), Err(NotOurs));
        }
    }
    if let Ok(session) = Session::decode(data) {
        assert_eq!(session.encode().expect("as long as it was"), data);
    }
    if let Some((choice, plain)) = data.split_first_chunk::<4>() {
        sealed(*choice, plain);
    }
}

fn sealed([kind, act, at, with]: [u8; 4], plain: &[u8]) {
    let place = usize::from(kind);
    let kind = KINDS[place % KINDS.len()];
    let endpoint = ENDPOINTS[place / KINDS.len() % ENDPOINTS.len()];
    let token = match OURS.seal(kind, endpoint, plain) {
        Ok(token) => token.into_bytes(),
        Err(fault) => {
            assert_eq!(fault, SealError::TooLong);
            assert!(plain.len() > 1024, "refused for {} bytes", plain.len());
            return;
        }
    };
    assert!(
        token
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
    );
    assert_eq!(OURS.open(kind, endpoint, &token).as_deref(), Ok(plain));
    for elsewhere in KINDS.iter().filter(|other| **other != kind) {
        assert_eq!(OURS.open(*elsewhere, endpoint, &token), Err(NotOurs));
    }
    for elsewhere in ENDPOINTS.iter().filter(|other| **other != endpoint) {
        assert_eq!(OURS.open(kind, elsewhere, &token), Err(NotOurs));
    }
    for stranger in &*OTHERS {
        assert_eq!(stranger.open(kind, endpoint, &token), Err(NotOurs));
    }
    let changed = changed(token, act, usize::from(at) << 8 | usize::from(with));
    assert_eq!(OURS.open(kind, endpoint, &changed), Err(NotOurs));
}

/// The token with some change that `act` and `how` choose; never the same text.
fn changed(mut token: Vec<u8>, act: u8, how: usize) -> Vec<u8> {
    let at = how % token.len();
    let letter = b"AQgw-_=+/ \n.\0"[how % 13];
    match act % 6 {
        0 => token[at] ^= 1 << (how % 8),
        1 => {
            token[at] = if token[at] == letter { b'B' } else { letter };
        }
        2 => token.truncate(at),
        3 => token.push(letter),
        4 => token.insert(at, letter),
        _ => {
            let last = token.len() - 1;
            let (one, other) = (token[at], token[last - at]);
            if one == other {
                token.push(one);
            } else {
                token.swap(at, last - at);
            }
        }
    }
    token
}
