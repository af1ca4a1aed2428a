//! One key of a set: is it usable, and what for?

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use portcullis_config::auth::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest key id.
const MAX_KID_BYTES: usize = 256;

/// Moduli in bits: what aws-lc verifies with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What an exponent may have in bytes; all in use have three.
const MAX_EXPONENT_BYTES: usize = 5;

/// The members of a key that are looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Any private part.
    d: Option<serde::de::IgnoredAny>,
}

/// What a key is made of, checked.
pub(super) struct Material {
    /// What it may be used for.
    pub(super) algorithms: &'static [Algorithm],
    /// The public key.
    pub(super) decoding: DecodingKey,
    /// Its public bytes, for the fingerprint.
    pub(super) bytes: Vec<u8>,
}

/// Reads one key: its id and what it is made of, or why it is not usable.
pub(super) fn read(raw: &RawValue) -> Result<(Option<Box<str>>, Material), &'static str> {
    let jwk: Jwk = serde_json::from_str(raw.get()).map_err(|_| "is malformed")?;
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return Err("is not for signatures");
    }
    if jwk
        .key_ops
        .as_ref()
        .is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
    {
        return Err("is not for verifying");
    }
    if jwk.d.is_some() {
        return Err("its private part is published with it");
    }
    if jwk.kid.as_ref().is_some_and(|id| id.len() > MAX_KID_BYTES) {
        return Err("its id is too long");
    }
    let mut material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => rsa(&jwk)?,
        ("EC", Some("P-256")) => ec(&jwk, 32, &[Algorithm::ES256])?,
        ("EC", Some("P-384")) => ec(&jwk, 48, &[Algorithm::ES384])?,
        ("OKP", Some("Ed25519")) => ed25519(&jwk)?,
        ("EC" | "OKP", _) => return Err("is on a curve that is not supported"),
        ("oct", _) => return Err("is a shared secret"),
        _ => return Err("is of a type that is not supported"),
    };
    if let Some(name) = &jwk.alg {
        let algorithm = algorithm(name).ok_or("is for an algorithm that is not supported")?;
        material.algorithms = material
            .algorithms
            .chunks(1)
            .find(|one| one.contains(&algorithm))
            .ok_or("is for an algorithm of another key type")?;
    }
    Ok((jwk.kid.map(Into::into), material))
}

/// The algorithm of a registered name.
pub(in crate::auth) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "PS256" => Some(Algorithm::PS256),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        // RFC 9864 names the curve too.
        "EdDSA" | "Ed25519" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

fn decode(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("lacks a part")?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "has a part that is not base64url")
}

fn rsa(jwk: &Jwk) -> Result<Material, &'static str> {
    let mut modulus = decode(jwk.n.as_ref())?;
    let exponent = decode(jwk.e.as_ref())?;
    // Some issuers write a sign byte, which RFC 7518 forbids and which does no harm.
    while modulus.first() == Some(&0) {
        modulus.remove(0);
    }
    let bits = modulus
        .first()
        .map_or(0, |top| modulus.len() * 8 - top.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("is an RSA key of less than 2048 or more than 8192 bits");
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !odd(&modulus)
        || !odd(&exponent)
        || exponent == [1]
        || exponent.first() == Some(&0)
        || exponent.len() > MAX_EXPONENT_BYTES
    {
        return Err("is no RSA key");
    }
    Ok(Material {
        algorithms: &[Algorithm::RS256, Algorithm::PS256],
        decoding: DecodingKey::from_rsa_raw_components(&modulus, &exponent),
        bytes: [&modulus[..], &exponent].concat(),
    })
}

fn ec(jwk: &Jwk, bytes: usize, algorithms: &'static [Algorithm]) -> Result<Material, &'static str> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
    let (x, y) = (decode(jwk.x.as_ref())?, decode(jwk.y.as_ref())?);
    if x.len() != bytes || y.len() != bytes {
        return Err("has coordinates of another length than its curve");
    }
    let point = [&[4], &x[..], &y].concat();
    let verification = match bytes {
        32 => &ECDSA_P256_SHA256_FIXED,
        _ => &ECDSA_P384_SHA384_FIXED,
    };
    ParsedPublicKey::new(verification, &point).map_err(|_| "is not a point of its curve")?;
    Ok(Material {
        algorithms,
        decoding: DecodingKey::from_ec_der(&point),
        bytes: point,
    })
}

fn ed25519(jwk: &Jwk) -> Result<Material, &'static str> {
    let x = decode(jwk.x.as_ref())?;
    if x.len() != 32 {
        return Err("is no Ed25519 key");
    }
    Ok(Material {
        algorithms: &[Algorithm::EdDSA],
        decoding: DecodingKey::from_ed_der(&x),
        bytes: x,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Signer, b64};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn try_read(jwk: &Value) -> Result<Vec<Algorithm>, &'static str> {
        let raw = RawValue::from_string(jwk.to_string()).unwrap();
        read(&raw).map(|(_, material)| material.algorithms.to_vec())
    }

    #[test]
    fn each_kind_of_key_is_for_its_algorithms() {
        assert_eq!(
            try_read(&Signer::rsa("k").jwk()),
            Ok(vec![Algorithm::RS256, Algorithm::PS256])
        );
        assert_eq!(try_read(&Signer::es256("k").jwk()), Ok(vec![Algorithm::ES256]));
        assert_eq!(try_read(&Signer::es384("k").jwk()), Ok(vec![Algorithm::ES384]));
        assert_eq!(try_read(&Signer::ed25519("k").jwk()), Ok(vec![Algorithm::EdDSA]));
    }

    #[rstest]
    #[case(json!({"alg": "PS256"}), Ok(vec![Algorithm::PS256]))]
    #[case(json!({"key_ops": ["verify"]}), Ok(vec![Algorithm::RS256, Algorithm::PS256]))]
    #[case(json!({"alg": "RS512"}), Err("is for an algorithm that is not supported"))]
    #[case(json!({"alg": "HS256"}), Err("is for an algorithm that is not supported"))]
    #[case(json!({"alg": "RSA-OAEP"}), Err("is for an algorithm that is not supported"))]
    #[case(json!({"alg": "ES256"}), Err("is for an algorithm of another key type"))]
    #[case(json!({"use": "enc"}), Err("is not for signatures"))]
    #[case(json!({"key_ops": ["sign"]}), Err("is not for verifying"))]
    #[case(json!({"key_ops": []}), Err("is not for verifying"))]
    #[case(json!({"d": "AQAB"}), Err("its private part is published with it"))]
    #[case(json!({"kid": "k".repeat(257)}), Err("its id is too long"))]
    #[case(json!({"kid": 7}), Err("is malformed"))]
    #[case(json!({"n": b64([0xff; 128])}), Err("is an RSA key of less than 2048 or more than 8192 bits"))]
    #[case(json!({"n": b64([&[0x7f], &[0xff; 255][..]].concat())}), Err("is an RSA key of less than 2048 or more than 8192 bits"))]
    #[case(json!({"n": b64([&[0; 200], &[0xff; 128][..]].concat())}), Err("is an RSA key of less than 2048 or more than 8192 bits"))]
    #[case(json!({"n": b64([0xff; 1025])}), Err("is an RSA key of less than 2048 or more than 8192 bits"))]
    #[case(json!({"n": ""}), Err("is an RSA key of less than 2048 or more than 8192 bits"))]
    #[case(json!({"n": b64([0xfe; 256])}), Err("is no RSA key"))]
    #[case(json!({"e": "AQ"}), Err("is no RSA key"))]
    #[case(json!({"e": "Ag"}), Err("is no RSA key"))]
    #[case(json!({"e": ""}), Err("is no RSA key"))]
    #[case(json!({"e": b64([1; 6])}), Err("is no RSA key"))]
    #[case(json!({"n": "a b"}), Err("has a part that is not base64url"))]
    #[case(json!({"n": null}), Err("lacks a part"))]
    #[case(json!({"kty": "oct", "k": "c2VjcmV0"}), Err("is a shared secret"))]
    #[case(json!({"kty": "AKP"}), Err("is of a type that is not supported"))]
    #[case(json!({"kty": "EC", "crv": "secp256k1"}), Err("is on a curve that is not supported"))]
    fn an_rsa_key_is_used_only_as_it_says(
        #[case] changes: Value,
        #[case] expected: Result<Vec<Algorithm>, &str>,
    ) {
        let mut jwk = Signer::rsa("k").jwk();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        assert_eq!(try_read(&jwk), expected);
    }

    #[rstest]
    #[case(json!({"x": b64([1; 32])}), "is not a point of its curve")]
    #[case(json!({"x": b64([1; 31])}), "has coordinates of another length than its curve")]
    #[case(json!({"crv": "P-384"}), "has coordinates of another length than its curve")]
    #[case(json!({"crv": "Ed25519"}), "is on a curve that is not supported")]
    #[case(json!({"y": null}), "lacks a part")]
    fn a_point_must_be_on_its_curve(#[case] changes: Value, #[case] expected: &str) {
        let mut jwk = Signer::es256("k").jwk();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        assert_eq!(try_read(&jwk), Err(expected));
    }

    #[test]
    fn an_ed25519_key_has_32_bytes() {
        let mut jwk = Signer::ed25519("k").jwk();
        jwk["x"] = json!(b64([1; 57]));
        assert_eq!(try_read(&jwk), Err("is no Ed25519 key"));
    }
}
