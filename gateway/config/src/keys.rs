//! Keys that both binaries derive from a session key (RFC 5869, HKDF-SHA256): what seals tokens, and the identities
//! of the status and peer ports. The operator makes the session key once and afterwards knows only fingerprints.

use aws_lc_rs::digest;
use aws_lc_rs::hkdf;

/// The least length of a session key, in bytes.
pub const MIN_KEY_BYTES: usize = 32;

/// Salt of every derivation; a new one would be a new format.
const SALT: &[u8] = b"portcullis/session-key/v1";

/// DER prefix of an Ed25519 SubjectPublicKeyInfo (RFC 8410): the 32 bytes of the key follow.
const ED25519_SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// DER prefix of an Ed25519 PKCS#8 v1 private key (RFC 8410): the 32 bytes of the seed follow.
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What a derived key is for. Keys of different purposes tell nothing of one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// AES-256-GCM-SIV key for what clients carry.
    Seal,
    /// Ed25519 identity of the status port.
    Status,
    /// Ed25519 identity of both ends of the hop between replicas.
    Peer,
}

impl Purpose {
    const fn info(self) -> &'static [u8] {
        match self {
            Self::Seal => b"seal/aes-256-gcm-siv",
            Self::Status => b"status/ed25519",
            Self::Peer => b"peer/ed25519",
        }
    }
}

/// The session key is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session key has at least {MIN_KEY_BYTES} bytes, this one has {0}")]
pub struct KeyTooShort(pub usize);

/// Derives 32 bytes for `purpose`.
pub fn derive(session_key: &[u8], purpose: Purpose) -> Result<[u8; 32], KeyTooShort> {
    if session_key.len() < MIN_KEY_BYTES {
        return Err(KeyTooShort(session_key.len()));
    }
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(session_key);
    let mut out = [0; 32];
    let info = [purpose.info()];
    let okm = prk
        .expand(&info, hkdf::HKDF_SHA256)
        .expect("one block is within HKDF's limit");
    okm.fill(&mut out)
        .expect("the output is as long as the algorithm's block");
    Ok(out)
}

/// The PKCS#8 document of the Ed25519 key with this seed.
pub fn ed25519_pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    [&ED25519_PKCS8_PREFIX[..], seed].concat()
}

/// The SubjectPublicKeyInfo (what a raw-public-key handshake shows, RFC 7250) of the Ed25519 key with this seed.
pub fn ed25519_spki(seed: &[u8; 32]) -> Vec<u8> {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed");
    [&ED25519_SPKI_PREFIX[..], pair.public_key().as_ref()].concat()
}

/// SHA-256 of a public key's SubjectPublicKeyInfo in hex: what the operator keeps in place of the key.
pub fn fingerprint(spki: &[u8]) -> String {
    sha256_hex(spki)
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String does not fail");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_keys_give_different_bytes() {
        let a = derive(&[1; 32], Purpose::Seal).unwrap();
        let b = derive(&[1; 32], Purpose::Status).unwrap();
        let c = derive(&[1; 32], Purpose::Peer).unwrap();
        let d = derive(&[2; 32], Purpose::Seal).unwrap();
        assert!(a != b && b != c && a != c && a != d);
        assert_eq!(a, derive(&[1; 32], Purpose::Seal).unwrap());
    }

    #[test]
    fn a_short_key_is_refused() {
        assert_eq!(derive(&[0; 31], Purpose::Seal), Err(KeyTooShort(31)));
    }

    #[test]
    fn the_private_document_belongs_to_the_public_one() {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        let seed = derive(&[7; 32], Purpose::Peer).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&ed25519_pkcs8(&seed)).unwrap();
        assert!(ed25519_spki(&seed).ends_with(pair.public_key().as_ref()));
        assert_eq!(fingerprint(&ed25519_spki(&seed)).len(), 64);
    }
}
