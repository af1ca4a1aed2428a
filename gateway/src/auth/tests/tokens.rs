//! What a token says, how it is signed, and whom it is meant for.

use rstest::rstest;
use serde_json::{Value, json};

use super::{FEDERATED, corp, judge, reason};
use crate::auth::testing::{
    Fake, ISSUER, NOW, ORIGIN, Signer, b64, bearer, claims_with, config, good_claims, jwks,
};
use crate::auth::{AuthFailure, AuthShared, Authenticator, Endpoint};

#[rstest]
#[case::rs256(Signer::rsa("k"))]
#[case::ps256(Signer::pss("k"))]
#[case::es256(Signer::es256("k"))]
#[case::es384(Signer::es384("k"))]
#[case::eddsa(Signer::ed25519("k"))]
fn a_good_token_of_each_algorithm_tells_who_is_calling(#[case] signer: Signer) {
    let auth = corp(&format!("algorithms: [{}]", signer.alg), &[signer.jwk()]);
    let who = judge(&auth, &signer.token(&good_claims())).unwrap();
    assert_eq!((&*who.method, &*who.subject), ("corp", "alice"));
    assert_eq!(
        who.groups.iter().map(|g| &**g).collect::<Vec<_>>(),
        ["analysts", "staff"]
    );
    assert_eq!(
        who.scopes.iter().map(|s| &**s).collect::<Vec<_>>(),
        ["mcp:tools", "mcp:admin"]
    );
    assert_eq!(who.expires, Some(NOW + 600));
}

#[rstest]
#[case::rs256(Signer::rsa("k"), "ES256")]
#[case::ps256(Signer::pss("k"), "RS256")]
#[case::es256(Signer::es256("k"), "RS256, ES384")]
#[case::es384(Signer::es384("k"), "ES256")]
#[case::eddsa(Signer::ed25519("k"), "RS256, ES256")]
fn an_algorithm_that_is_not_configured_is_refused(#[case] signer: Signer, #[case] configured: &str) {
    let auth = corp(&format!("algorithms: [{configured}]"), &[signer.jwk()]);
    assert_eq!(
        reason(judge(&auth, &signer.token(&good_claims()))),
        "the token's algorithm is not accepted"
    );
}

#[test]
fn a_tampered_token_is_refused_whatever_part_was_changed() {
    let signer = Signer::rsa("k");
    let auth = corp("", &[signer.jwk()]);
    let token = signer.token(&good_claims());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let other_payload = b64(claims_with(&json!({"sub": "root"})).to_string());
    let other_header = b64(json!({"alg": "RS256", "kid": "k", "x": 1}).to_string());
    let mut bytes = signature.to_owned().into_bytes();
    bytes[20] = if bytes[20] == b'A' { b'B' } else { b'A' };
    let other_signature = String::from_utf8(bytes).unwrap();
    for forged in [
        format!("{header}.{other_payload}.{signature}"),
        format!("{other_header}.{payload}.{signature}"),
        format!("{header}.{payload}.{other_signature}"),
        format!("{header}.{payload}.{}", b64([0; 256])),
        format!("{header}.{payload}.AA"),
    ] {
        assert_eq!(reason(judge(&auth, &forged)), "the token's signature is wrong");
    }
    judge(&auth, &token).unwrap();
}

/// Algorithm confusion: the header says what the attacker wants.
#[rstest]
#[case::none(json!({"alg": "none"}), "")]
#[case::none_with_kid(json!({"alg": "none", "kid": "k"}), "AA")]
#[case::none_in_capitals(json!({"alg": "NONE", "kid": "k"}), "AA")]
#[case::hmac(json!({"alg": "HS256", "kid": "k"}), "hmac")]
#[case::missing(json!({"kid": "k"}), "AA")]
#[case::null(json!({"alg": null, "kid": "k"}), "AA")]
#[case::number(json!({"alg": 7, "kid": "k"}), "AA")]
#[case::lower_case(json!({"alg": "rs256", "kid": "k"}), "AA")]
#[case::other_family(json!({"alg": "ES256", "kid": "k"}), "AA")]
#[case::critical(json!({"alg": "RS256", "kid": "k", "crit": ["exp"]}), "sign")]
#[case::critical_null(json!({"alg": "RS256", "kid": "k", "crit": null}), "sign")]
#[case::logout_token(json!({"alg": "RS256", "kid": "k", "typ": "logout+jwt"}), "sign")]
#[case::dpop_proof(json!({"alg": "RS256", "kid": "k", "typ": "dpop+jwt"}), "sign")]
#[case::embedded_key(json!({"alg": "ES256", "jwk": "own"}), "own")]
fn a_header_cannot_choose_how_it_is_verified(#[case] mut header: Value, #[case] signature: &str) {
    let signer = Signer::rsa("k");
    let attacker = Signer::es256("k");
    let auth = corp("algorithms: [RS256, ES256]", &[signer.jwk()]);
    if header["jwk"] == "own" {
        header["jwk"] = attacker.jwk();
    }
    let signed = format!("{}.{}", b64(header.to_string()), b64(good_claims().to_string()));
    let signature = match signature {
        // The public key as if it were a shared secret, in the form in which libraries were fooled.
        "hmac" => {
            let secret = signer.jwk()["n"].as_str().unwrap().to_owned();
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
            b64(aws_lc_rs::hmac::sign(&key, signed.as_bytes()))
        }
        "sign" => b64(signer.sign(signed.as_bytes())),
        "own" => b64(attacker.sign(signed.as_bytes())),
        text => text.to_owned(),
    };
    assert!(matches!(
        judge(&auth, &format!("{signed}.{signature}")),
        Err(AuthFailure::Invalid { .. })
    ));
}

#[rstest]
#[case("JWT")]
#[case("at+jwt")]
#[case("application/AT+JWT")]
fn access_tokens_may_say_so(#[case] typ: &str) {
    let signer = Signer::rsa("k");
    let auth = corp("", &[signer.jwk()]);
    let header = json!({"alg": "RS256", "kid": "k", "typ": typ});
    judge(
        &auth,
        &signer.token_of(&header.to_string(), &good_claims().to_string()),
    )
    .unwrap();
}

#[rstest]
#[case::issuer_unknown(json!({"iss": "https://evil.example.com"}), "the token's issuer is unknown")]
#[case::issuer_with_slash(json!({"iss": "https://idp.example.com/"}), "the token's issuer is unknown")]
#[case::issuer_missing(json!({"iss": null}), "the token names no issuer")]
#[case::issuer_number(json!({"iss": 1}), "the token names no issuer")]
#[case::issuer_list(json!({"iss": [ISSUER]}), "the token names no issuer")]
#[case::audience_foreign(json!({"aud": "https://other.example.com"}), "the token is meant for somebody else")]
#[case::audience_prefix(json!({"aud": "https://mcp.example.com.evil.example"}), "the token is meant for somebody else")]
#[case::audience_other_port(json!({"aud": "https://mcp.example.com:8443"}), "the token is meant for somebody else")]
#[case::audience_http(json!({"aud": "http://mcp.example.com"}), "the token is meant for somebody else")]
#[case::audience_missing(json!({"aud": null}), "the token names no audience")]
#[case::audience_empty(json!({"aud": []}), "the token is meant for somebody else")]
#[case::audience_number(json!({"aud": 1}), "the token names no audience")]
#[case::audience_object(json!({"aud": {"a": ORIGIN}}), "the token names no audience")]
#[case::audience_other_server(json!({"aud": "https://mcp.example.com/servers/files/mcp"}), "the token is meant for another endpoint")]
#[case::audience_below_mcp(json!({"aud": "https://mcp.example.com/mcp/x"}), "the token is meant for another endpoint")]
#[case::expired(json!({"exp": NOW - 60}), "the token has expired")]
#[case::expired_long_ago(json!({"exp": 0}), "the token has expired")]
#[case::expired_negative(json!({"exp": -5}), "the token has expired")]
#[case::expired_fraction(json!({"exp": 1_799_999_939.5}), "the token has expired")]
#[case::never_expires(json!({"exp": null}), "the token never expires")]
#[case::expiry_text(json!({"exp": "1900000000"}), "a time in the token is no number")]
#[case::not_yet(json!({"nbf": NOW + 61}), "the token is not valid yet")]
#[case::not_before_text(json!({"nbf": "0"}), "a time in the token is no number")]
#[case::subject_missing(json!({"sub": null}), "the token has no subject")]
#[case::subject_number(json!({"sub": 7}), "the token has no subject")]
#[case::subject_empty(json!({"sub": ""}), "the token's subject is empty, too long or unprintable")]
#[case::subject_line_break(json!({"sub": "a\nb"}), "the token's subject is empty, too long or unprintable")]
#[case::subject_long(json!({"sub": "a".repeat(513)}), "the token's subject is empty, too long or unprintable")]
#[case::groups_object(json!({"groups": {"a": 1}}), "the token's groups are no list of names")]
#[case::groups_mixed(json!({"groups": ["a", 1]}), "the token's groups are no list of names")]
#[case::groups_many(json!({"groups": vec!["g"; 257]}), "the token's groups are no list of names")]
#[case::scopes_number(json!({"scope": 1}), "the token's scopes are no list of names")]
#[case::scopes_many(json!({"scope": "s ".repeat(257)}), "the token's scopes are no list of names")]
fn a_signed_token_that_says_the_wrong_thing_is_refused(#[case] changes: Value, #[case] expected: &str) {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    assert_eq!(
        reason(judge(&auth, &signer.token(&claims_with(&changes)))),
        expected
    );
}

#[rstest]
#[case::leeway_of_expiry(json!({"exp": NOW - 59}))]
#[case::leeway_of_start(json!({"nbf": NOW + 60}))]
#[case::fraction(json!({"exp": 1_800_000_000.5}))]
#[case::no_start(json!({"nbf": null}))]
#[case::origin_with_slash(json!({"aud": "https://mcp.example.com/"}))]
#[case::endpoint(json!({"aud": "https://mcp.example.com/mcp"}))]
#[case::one_of_several(json!({"aud": ["https://other.example.com", "https://mcp.example.com/mcp"]}))]
#[case::one_group(json!({"groups": "analysts"}))]
#[case::no_groups(json!({"groups": null}))]
#[case::scope_list(json!({"scope": ["a", "b"]}))]
#[case::many_groups(json!({"groups": vec!["g"; 256]}))]
fn a_signed_token_at_the_edge_of_what_is_allowed_passes(#[case] changes: Value) {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    judge(&auth, &signer.token(&claims_with(&changes))).unwrap();
}

#[rstest]
#[case::claim_twice(r#"{"iss":"https://idp.example.com","sub":"a","sub":"b","aud":"https://mcp.example.com","exp":1900000000}"#)]
#[case::issuer_twice(r#"{"iss":"https://idp.example.com","iss":"https://idp.example.com","sub":"a","aud":"https://mcp.example.com","exp":1900000000}"#)]
#[case::huge_number(
    r#"{"iss":"https://idp.example.com","sub":"a","aud":"https://mcp.example.com","exp":1e400}"#
)]
#[case::list(r#"["https://idp.example.com"]"#)]
#[case::cut(r#"{"iss":"https://idp.example.com""#)]
#[case::trailing(
    r#"{"iss":"https://idp.example.com","sub":"a","aud":"https://mcp.example.com","exp":1900000000} x"#
)]
fn malformed_claims_are_refused_though_they_are_signed(#[case] payload: &str) {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    let token = signer.token_of(r#"{"alg":"ES256","kid":"k"}"#, payload);
    assert!(matches!(judge(&auth, &token), Err(AuthFailure::Invalid { .. })));
}

#[test]
fn deep_claims_do_not_exhaust_the_stack() {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    let deep = format!(
        "{{\"iss\":\"{ISSUER}\",\"x\":{}{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let token = signer.token_of(r#"{"alg":"ES256","kid":"k"}"#, &deep);
    assert!(matches!(judge(&auth, &token), Err(AuthFailure::Invalid { .. })));
}

#[rstest]
#[case::there("tenant: acme", json!({"tenant": "acme"}), true)]
#[case::other("tenant: acme", json!({"tenant": "evil"}), false)]
#[case::absent("tenant: acme", json!({}), false)]
#[case::list("tenant: acme", json!({"tenant": ["acme"]}), false)]
#[case::truth("email_verified: 'true'", json!({"email_verified": true}), true)]
#[case::number("level: '2'", json!({"level": 2}), true)]
#[case::null("tenant: 'null'", json!({"tenant": [null]}), false)]
fn required_claims_are_required(#[case] required: &str, #[case] changes: Value, #[case] passes: bool) {
    let signer = Signer::es256("k");
    let auth = corp(&format!("requiredClaims: {{{required}}}"), &[signer.jwk()]);
    assert_eq!(
        judge(&auth, &signer.token(&claims_with(&changes))).is_ok(),
        passes
    );
}

#[test]
fn claims_are_read_where_the_configuration_says() {
    let signer = Signer::es256("k");
    let fields = "claims: {subject: email, groups: 'https://x/roles', scopes: scp}, audiences: [api1]";
    let auth = corp(fields, &[signer.jwk()]);
    let claims = claims_with(&json!({
        "email": "a@example.com", "https://x/roles": ["admin"], "scp": ["read"], "aud": "api1",
    }));
    let who = judge(&auth, &signer.token(&claims)).unwrap();
    assert_eq!(&*who.subject, "a@example.com");
    assert_eq!((&*who.groups[0], &*who.scopes[0]), ("admin", "read"));
    assert_eq!((who.groups.len(), who.scopes.len()), (1, 1));
}

#[test]
fn an_audience_opens_its_endpoint_only_also_from_the_cache() {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    let aud = [
        "https://mcp.example.com/servers/files/mcp",
        "https://mcp.example.com/servers/ns.x/mcp",
    ];
    let headers = bearer(&signer.token(&claims_with(&json!({"aud": aud}))));
    for _ in 0..2 {
        let at = |endpoint| auth.authenticate(&headers, endpoint, false, NOW);
        assert!(at(Endpoint::Server("files")).is_ok());
        assert!(at(Endpoint::Server("ns.x")).is_ok());
        assert!(at(Endpoint::Set("files")).is_err());
        for other in ["file", "filess", "ns.files", "x", "", "files/mcp"] {
            assert_eq!(
                reason(at(Endpoint::Server(other))),
                "the token is meant for another endpoint"
            );
        }
        assert_eq!(reason(at(FEDERATED)), "the token is meant for another endpoint");
    }
}

#[test]
fn a_key_is_found_by_its_id_and_only_then_without_one_if_there_is_no_doubt() {
    let (one, two) = (Signer::es256("one"), Signer::es256("two"));
    let rsa = Signer::rsa("three");
    let auth = corp("", &[one.jwk(), two.jwk(), rsa.jwk()]);
    let claims = good_claims().to_string();
    judge(&auth, &two.token(&good_claims())).unwrap();
    // Signed with the key of another id.
    let swapped = two.token_of(r#"{"alg":"ES256","kid":"one"}"#, &claims);
    assert_eq!(reason(judge(&auth, &swapped)), "the token's signature is wrong");
    let unknown = two.token_of(r#"{"alg":"ES256","kid":"four"}"#, &claims);
    assert_eq!(reason(judge(&auth, &unknown)), "the token's key is unknown");
    let wrong_kind = two.token_of(r#"{"alg":"ES256","kid":"three"}"#, &claims);
    assert_eq!(
        reason(judge(&auth, &wrong_kind)),
        "the token's algorithm is not its key's"
    );
    let unnamed = two.token_of(r#"{"alg":"ES256"}"#, &claims);
    assert_eq!(
        reason(judge(&auth, &unnamed)),
        "the token names no key and several would fit"
    );
    judge(&auth, &rsa.token_of(r#"{"alg":"RS256"}"#, &claims)).unwrap();
}

#[test]
fn a_key_that_says_what_it_is_for_is_for_nothing_else() {
    let signer = Signer::rsa("k");
    let mut jwk = signer.jwk();
    jwk["alg"] = json!("PS256");
    let auth = corp("algorithms: [RS256, PS256]", &[jwk]);
    assert_eq!(
        reason(judge(&auth, &signer.token(&good_claims()))),
        "the token's algorithm is not its key's"
    );
    judge(&auth, &Signer::pss("k").token(&good_claims())).unwrap();
}

#[test]
fn tokens_of_one_issuer_do_not_pass_as_those_of_another() {
    let (a, b) = (Signer::es256("k"), Signer::es256("k"));
    let auth = config(
        "{jwt: [
            {name: corp, issuer: 'https://idp.example.com', jwks: {file: a}},
            {name: partner, issuer: 'https://partner.example.com', jwks: {file: b}}]}",
        "",
    );
    let files = Fake::default()
        .file("/m/a", jwks(&[a.jwk()]))
        .file("/m/b", jwks(&[b.jwk()]));
    let auth = Authenticator::build(&auth, &files, &AuthShared::new()).unwrap();
    let partners = claims_with(&json!({"iss": "https://partner.example.com"}));
    assert_eq!(&*judge(&auth, &a.token(&good_claims())).unwrap().method, "corp");
    assert_eq!(&*judge(&auth, &b.token(&partners)).unwrap().method, "partner");
    assert_eq!(
        reason(judge(&auth, &b.token(&good_claims()))),
        "the token's signature is wrong"
    );
    assert_eq!(
        reason(judge(&auth, &a.token(&partners))),
        "the token's signature is wrong"
    );
    // The same subject of two methods is two principals.
    let (one, two) = (
        judge(&auth, &a.token(&good_claims())).unwrap(),
        judge(&auth, &b.token(&partners)).unwrap(),
    );
    assert_ne!(one.key, two.key);
}
