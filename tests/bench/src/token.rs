//! An issuer of our own: an RSA key, its key set, and tokens of the size that identity providers make.

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// `iss` of the tokens.
pub(crate) const ISSUER: &str = "https://login.example.com/realms/agents";
/// The group that the rules permit.
pub(crate) const GROUP: &str = "platform-engineering";
/// About how long a token is to be.
const SIZE: usize = 900;
const KEY_ID: &str = "bench-2026";

/// Signs tokens.
pub(crate) struct Issuer {
    key: KeyPair,
}

impl Issuer {
    /// With a fresh RSA key of 2048 bits.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate(KeySize::Rsa2048).context("no RSA key")?;
        Ok(Self { key })
    }

    /// The key set (RFC 7517) that verifies the tokens.
    pub(crate) fn jwks(&self) -> anyhow::Result<String> {
        let (modulus, exponent) = numbers(self.key.public_key().as_ref()).context("not an RSA public key")?;
        let key = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent),
        });
        Ok(json!({ "keys": [key] }).to_string())
    }

    /// A token (RS256) of about 900 bytes for this subject and audience, good for a day.
    pub(crate) fn token(&self, subject: &str, audience: &str) -> anyhow::Result<String> {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "iss": ISSUER, "sub": subject, "aud": audience,
            "iat": now, "nbf": now, "exp": now + 86_400,
            "azp": "agents", "typ": "Bearer", "acr": "1", "sid": "2f0b1f3e-6a54-4c7e-9d0a-5b8f1c2d3e4f",
            "scope": "openid profile email tools:call",
            "groups": [GROUP, "on-call"],
        });
        let unpadded = self.sign(&claims.to_string())?.len();
        // Three bytes of claims are four of the token; the rest stands for what else identity providers put in.
        let padding = SIZE.saturating_sub(unpadded) * 3 / 4;
        if let Some(claims) = claims.as_object_mut() {
            let text = "x".repeat(padding.saturating_sub(r#","ctx":"""#.len()));
            claims.insert("ctx".into(), text.into());
        }
        self.sign(&claims.to_string())
    }

    fn sign(&self, claims: &str) -> anyhow::Result<String> {
        let head = json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID }).to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .context("signing failed")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, A.1.1), without leading zeros.
fn numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (both, _) = element(der, 0x30)?;
    let (modulus, rest) = element(both, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    Some((trim(modulus), trim(exponent)))
}

fn trim(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// The contents of the DER element at the start of `der`, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let length = bytes
            .iter()
            .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
        (length, rest)
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    #[test]
    fn tokens_are_of_ordinary_size_and_verify_against_the_key_set() {
        let issuer = Issuer::new().unwrap();
        let token = issuer.token("agent-7", "http://localhost:8080").unwrap();
        assert!((890..=910).contains(&token.len()), "{} bytes", token.len());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let jwks: serde_json::Value = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
        let part = |name: &str| {
            URL_SAFE_NO_PAD
                .decode(jwks["keys"][0][name].as_str().unwrap())
                .unwrap()
        };
        let key = RsaPublicKeyComponents {
            n: part("n"),
            e: part("e"),
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
            .unwrap();
    }
}
