//! Sealed tokens: what clients carry for us and can neither read nor change (session ids, cursors, ...).
//!
//! Layout, in base64url without padding: version, length of the key's id, the key's id in clear, nonce, ciphertext with
//! its tag (AES-256-GCM-SIV, RFC 8452, which forgives a repeated nonce). The additional data hold everything in clear
//! and where the token belongs: kind, gateway, endpoint. A token is good at the place it was made for and nowhere else.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use portcullis_config::keys::{self, Purpose};

/// The longest token that travels in headers.
pub const MAX_TOKEN_BYTES: usize = 2048;
/// The longest one that travels in bodies only: those have a limit of their own, and a server's state may hold all that
/// was answered so far.
pub const MAX_STATE_BYTES: usize = 64 << 10;

const VERSION: u8 = 1;
const TAG_LEN: usize = 16;
const MAX_KEY_ID_BYTES: usize = 16;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A session id.
    Session,
    /// A list's cursor.
    Cursor,
    /// An upstream's `requestState`.
    RequestState,
    /// An upstream's task id.
    Task,
    /// An event id.
    Event,
    /// A call that waits on a replica.
    Parked,
}

impl TokenKind {
    /// The longest token of this kind.
    const fn longest(self) -> usize {
        match self {
            Self::RequestState => MAX_STATE_BYTES,
            Self::Session | Self::Cursor | Self::Task | Self::Event | Self::Parked => MAX_TOKEN_BYTES,
        }
    }

    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"session",
            Self::Cursor => b"cursor",
            Self::RequestState => b"requestState",
            Self::Task => b"task",
            Self::Event => b"event",
            Self::Parked => b"parked",
        }
    }
}

/// Not a token of ours, or not one for this place. Why is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token of this gateway for this place")]
pub struct NotOurs;

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It would be longer than tokens of its kind may be.
    #[error("what the token would carry is too long")]
    TooLong,
    /// The system gave no random bytes.
    #[error("no random bytes")]
    NoRandom,
}

/// Why there is no sealer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealerError {
    /// A key's id is not 1 to 16 characters of `[a-z0-9]`.
    #[error("the key id {0:?} is not 1 to 16 characters of [a-z0-9]")]
    KeyId(String),
    /// Two keys have one id.
    #[error("the key id {0:?} stands twice")]
    Twice(String),
    /// A session key is too short.
    #[error("key {0:?}: {1}")]
    TooShort(String, keys::KeyTooShort),
    /// The key that seals is not among the keys.
    #[error("there is no key {0:?} to seal with")]
    NoSealingKey(String),
}

/// One key, derived for sealing.
struct Key {
    id: Box<[u8]>,
    aead: LessSafeKey,
}

/// Seals with one key, opens with all.
pub struct Sealer {
    gateway: Box<[u8]>,
    keys: Box<[Key]>,
    sealing: usize,
}

impl Sealer {
    /// From session keys by id. `gateway` is the gateway's id.
    pub fn new<'k>(
        gateway: &str,
        seal_with: &str,
        session_keys: impl IntoIterator<Item = (&'k str, &'k [u8])>,
    ) -> Result<Self, SealerError> {
        let mut keys: Vec<Key> = Vec::new();
        for (id, secret) in session_keys {
            let valid = (1..=MAX_KEY_ID_BYTES).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !valid {
                return Err(SealerError::KeyId(id.into()));
            }
            if keys.iter().any(|key| *key.id == *id.as_bytes()) {
                return Err(SealerError::Twice(id.into()));
            }
            let secret = keys::derive(secret, Purpose::Seal)
                .map_err(|short| SealerError::TooShort(id.into(), short))?;
            let unbound =
                UnboundKey::new(&AES_256_GCM_SIV, &secret).expect("the key has the algorithm's length");
            keys.push(Key {
                id: id.as_bytes().into(),
                aead: LessSafeKey::new(unbound),
            });
        }
        let sealing = keys
            .iter()
            .position(|key| *key.id == *seal_with.as_bytes())
            .ok_or_else(|| SealerError::NoSealingKey(seal_with.into()))?;
        Ok(Self {
            gateway: gateway.as_bytes().into(),
            keys: keys.into(),
            sealing,
        })
    }

    /// Seals `plaintext` for one kind of use at one endpoint (its path).
    pub fn seal(&self, kind: TokenKind, endpoint: &str, plaintext: &[u8]) -> Result<String, SealError> {
        let key = self.keys.get(self.sealing).ok_or(SealError::NoRandom)?;
        let head = 2 + key.id.len() + NONCE_LEN;
        let length = head + plaintext.len() + TAG_LEN;
        if length.div_ceil(3) * 4 > kind.longest() {
            return Err(SealError::TooLong);
        }
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::NoRandom)?;
        let mut token = Vec::with_capacity(length);
        token.push(VERSION);
        token.push(u8::try_from(key.id.len()).map_err(|_| SealError::TooLong)?);
        token.extend_from_slice(&key.id);
        token.extend_from_slice(&nonce);
        let mut body = plaintext.to_vec();
        let aad = self.additional(kind, endpoint, &key.id);
        key.aead
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
            .map_err(|_| SealError::TooLong)?;
        token.append(&mut body);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(token))
    }

    /// Opens a token made by [`Self::seal`] for the same kind and endpoint.
    pub fn open(&self, kind: TokenKind, endpoint: &str, token: &[u8]) -> Result<Vec<u8>, NotOurs> {
        if token.len() > kind.longest() {
            return Err(NotOurs);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| NotOurs)?;
        let (&[version, id_len], rest) = bytes.split_first_chunk().ok_or(NotOurs)?;
        if version != VERSION {
            return Err(NotOurs);
        }
        let (id, rest) = rest.split_at_checked(id_len.into()).ok_or(NotOurs)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(NotOurs)?;
        let key = self.keys.iter().find(|key| *key.id == *id).ok_or(NotOurs)?;
        let aad = self.additional(kind, endpoint, id);
        let mut body = body.to_vec();
        let length = key
            .aead
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut body)
            .map_err(|_| NotOurs)?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// Everything that is not secret but must not change. Each part goes with its length, so that no two places give
    /// the same bytes.
    fn additional(&self, kind: TokenKind, endpoint: &str, key_id: &[u8]) -> Vec<u8> {
        let parts = [key_id, kind.label(), &self.gateway, endpoint.as_bytes()];
        let mut aad = Vec::with_capacity(1 + parts.iter().map(|part| part.len() + 8).sum::<usize>());
        aad.push(VERSION);
        for part in parts {
            aad.extend_from_slice(&(part.len() as u64).to_le_bytes());
            aad.extend_from_slice(part);
        }
        aad
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
