//! API keys: 256 random bits with a prefix that secret scanners know and a checksum that a typing error breaks.
//!
//! `pcl_` + 43 characters of base64url + `_` + CRC-32 of all before it, in 8 hex digits. A key is minted once, shown
//! once, and kept as its SHA-256 digest only; since no other form is accepted, a weak key cannot exist.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::keys::hex;

/// What every key begins with.
pub const PREFIX: &str = "pcl_";

/// What every line of a stored key begins with.
pub const DIGEST_PREFIX: &str = "sha256:";

/// Random bytes in a key.
pub const RANDOM_BYTES: usize = 32;

/// Characters of a key.
pub const KEY_CHARS: usize = PREFIX.len() + 43 + 1 + 8;

/// SHA-256 of a key's text.
pub type Digest = [u8; 32];

/// Makes a key of `random`, which must come from a cryptographic generator.
pub fn mint(random: &[u8; RANDOM_BYTES]) -> String {
    let mut key = String::with_capacity(KEY_CHARS);
    key.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(random, &mut key);
    let checksum = crc32fast::hash(key.as_bytes());
    key.push('_');
    key.push_str(&hex(&checksum.to_be_bytes()));
    key
}

/// Could [`mint`] have made this? Exactly one text per key passes, so that no second spelling of a key exists.
pub fn is_well_formed(key: &str) -> bool {
    if key.len() != KEY_CHARS {
        return false;
    }
    let Some((body, checksum)) = key.split_at_checked(KEY_CHARS - 9) else {
        return false;
    };
    let Some(random) = body.strip_prefix(PREFIX) else {
        return false;
    };
    let Some(checksum) = checksum.strip_prefix('_') else {
        return false;
    };
    URL_SAFE_NO_PAD.decode(random).is_ok() && hex(&crc32fast::hash(body.as_bytes()).to_be_bytes()) == checksum
}

/// The digest under which a key is kept.
pub fn digest(key: &str) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    out
}

/// The line that stands for a key in a Secret.
pub fn digest_line(key: &str) -> String {
    format!("{DIGEST_PREFIX}{}", hex(&digest(key)))
}

/// A line of a stored key says something else than a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not `sha256:` and 64 hex digits, as `portcullis credential api-key` prints it")]
pub struct BadLine;

/// Reads one line. Blank lines and comments (`#`) give `None`.
pub fn parse_line(line: &str) -> Result<Option<Digest>, BadLine> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let digits = line.strip_prefix(DIGEST_PREFIX).ok_or(BadLine)?;
    if digits.len() != 64 {
        return Err(BadLine);
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = str::from_utf8(pair).map_err(|_| BadLine)?;
        // from_str_radix would also take a sign.
        if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadLine);
        }
        *byte = u8::from_str_radix(pair, 16).map_err(|_| BadLine)?;
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn a_known_key_keeps_its_form_over_releases() {
        let key = mint(&[0; 32]);
        assert_eq!(key, "pcl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_d5288844");
        assert_eq!(key.len(), KEY_CHARS);
    }

    #[rstest]
    #[case("")]
    #[case("pcl_")]
    #[case("pcl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_00000000")]
    #[case("PCL_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_d5288844")]
    #[case("pcl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_D5288844")]
    #[case("pcl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\u{e9}_d5288844")]
    fn other_texts_are_no_keys(#[case] text: &str) {
        assert!(!is_well_formed(text));
    }

    #[rstest]
    #[case("", Ok(false))]
    #[case("  # the old one", Ok(false))]
    #[case("sha256:zz", Err(BadLine))]
    #[case("pcl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_d5288844", Err(BadLine))]
    #[case(
        "sha256:+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1",
        Err(BadLine)
    )]
    fn lines_are_read_strictly(#[case] line: &str, #[case] expected: Result<bool, BadLine>) {
        assert_eq!(parse_line(line).map(|digest| digest.is_some()), expected);
    }

    proptest! {
        #[test]
        fn every_minted_key_is_well_formed_and_found_by_its_line(random: [u8; 32]) {
            let key = mint(&random);
            prop_assert!(is_well_formed(&key));
            prop_assert_eq!(parse_line(&digest_line(&key)), Ok(Some(digest(&key))));
        }

        #[test]
        fn a_key_with_one_other_character_is_refused(random: [u8; 32], at in 0..KEY_CHARS, with in "[A-Za-z0-9_-]") {
            let key = mint(&random);
            let mut broken = key.clone();
            broken.replace_range(at..=at, &with);
            prop_assume!(broken != key);
            prop_assert!(!is_well_formed(&broken));
        }

        #[test]
        fn hostile_text_never_panics(text in ".{0,80}") {
            prop_assert!(!is_well_formed(&text) || text.starts_with(PREFIX));
            prop_assert!(parse_line(&text).is_ok_and(|d| d.is_none() || text.contains(DIGEST_PREFIX)) || parse_line(&text).is_err());
        }
    }
}
