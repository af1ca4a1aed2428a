//! The matrix of credentials against [`Authenticator`]: what passes, and what must not.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use portcullis_config::api_key::{digest_line, mint};
use portcullis_config::status::ReferenceState;
use rstest::rstest;
use serde_json::{Value, json};

use super::testing::{
    Fake, ISSUER, NOW, ORIGIN, Signer, b64, bearer, claims_with, config, good_claims, jwks, jwt_config,
};
use super::{AuthFailure, AuthShared, Authenticator, Endpoint};

const FEDERATED: Endpoint<'static> = Endpoint::Federated;

fn with_keys(keys: &[Value]) -> Fake {
    Fake::default().file("/m/jwks", jwks(keys))
}

fn corp(fields: &str, keys: &[Value]) -> Authenticator {
    Authenticator::build(&jwt_config(fields), &with_keys(keys), &AuthShared::new()).unwrap()
}

fn reason(result: Result<Arc<super::Identity>, AuthFailure>) -> &'static str {
    match result {
        Err(AuthFailure::Invalid { reason }) => reason,
        other => panic!("not Invalid: {other:?}"),
    }
}

fn judge(auth: &Authenticator, token: &str) -> Result<Arc<super::Identity>, AuthFailure> {
    auth.authenticate(&bearer(token), FEDERATED, false, NOW)
}

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

#[rstest]
#[case::two_headers(&["Bearer {}", "Bearer {}"])]
#[case::two_headers_one_empty(&["Bearer {}", ""])]
#[case::two_in_one(&["Bearer {}, Bearer {}"])]
#[case::basic(&["Basic YTpi"])]
#[case::no_scheme(&["{}"])]
#[case::empty(&[""])]
#[case::scheme_only(&["Bearer"])]
#[case::scheme_and_space(&["Bearer "])]
#[case::tab(&["Bearer\t{}"])]
#[case::trailing(&["Bearer {} x"])]
#[case::four_parts(&["Bearer {}.AA"])]
#[case::two_parts(&["Bearer a.b"])]
#[case::opaque(&["Bearer opaque-token"])]
#[case::padding(&["Bearer {}="])]
#[case::query(&["Bearer ?access_token={}"])]
fn anything_but_one_bearer_token_is_invalid_never_missing(#[case] values: &[&str]) {
    let signer = Signer::es256("k");
    let auth = "{anonymous: {reason: demo}, jwt: [{name: corp, issuer: 'https://idp.example.com', jwks: {file: jwks}}]}";
    let auth =
        Authenticator::build(&config(auth, ""), &with_keys(&[signer.jwk()]), &AuthShared::new()).unwrap();
    let token = signer.token(&good_claims());
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(
            AUTHORIZATION,
            HeaderValue::try_from(value.replace("{}", &token)).unwrap(),
        );
    }
    // Not even where anonymous callers are let in: what is presented and bad never falls through.
    let result = auth.authenticate(&headers, FEDERATED, false, NOW);
    assert!(matches!(result, Err(AuthFailure::Invalid { .. })), "{result:?}");
}

#[rstest]
#[case("bearer {}")]
#[case("BEARER {}")]
#[case("Bearer   {}")]
fn the_scheme_is_read_as_http_has_it(#[case] value: &str) {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    let mut headers = HeaderMap::new();
    let value = value.replace("{}", &signer.token(&good_claims()));
    headers.insert(AUTHORIZATION, HeaderValue::try_from(value).unwrap());
    auth.authenticate(&headers, FEDERATED, false, NOW).unwrap();
}

#[test]
fn a_token_that_is_too_long_is_not_looked_at() {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    let long = signer.token(&claims_with(&json!({"x": "y".repeat(16 << 10)})));
    assert_eq!(reason(judge(&auth, &long)), "the credential is too long");
    let short = signer.token(&claims_with(&json!({"x": "y".repeat(8 << 10)})));
    judge(&auth, &short).unwrap();
}

#[test]
fn a_verified_token_is_remembered_until_it_expires() {
    let signer = Signer::es256("k");
    let shared = AuthShared::new();
    let auth = Authenticator::build(&jwt_config(""), &with_keys(&[signer.jwk()]), &shared).unwrap();
    let headers = bearer(&signer.token(&good_claims()));
    let at = |now| auth.authenticate(&headers, FEDERATED, false, now);
    let first = at(NOW).unwrap();
    assert_eq!(shared.remembered(), 1);
    assert!(Arc::ptr_eq(&first, &at(NOW + 1).unwrap()));
    assert!(Arc::ptr_eq(&first, &at(NOW + 659).unwrap()));
    assert_eq!(reason(at(NOW + 660)), "the token has expired");
}

#[test]
fn a_refused_token_is_not_remembered() {
    let signer = Signer::es256("k");
    let shared = AuthShared::new();
    let auth = Authenticator::build(&jwt_config(""), &with_keys(&[signer.jwk()]), &shared).unwrap();
    for changes in [json!({"aud": "x"}), json!({"exp": 1}), json!({"sub": ""})] {
        assert!(judge(&auth, &signer.token(&claims_with(&changes))).is_err());
    }
    assert_eq!(shared.remembered(), 0);
}

#[test]
fn a_rotated_key_takes_its_tokens_with_it_and_a_reload_alone_does_not() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let shared = AuthShared::new();
    let build = |keys: &[Value]| Authenticator::build(&jwt_config(""), &with_keys(keys), &shared).unwrap();
    let before = build(&[old.jwk()]);
    let token = old.token(&good_claims());
    let first = judge(&before, &token).unwrap();
    // The same keys in another order and with another unusable one beside them: nothing is verified anew.
    let same = build(&[json!({"kty": "oct", "k": "AA"}), old.jwk()]);
    assert!(Arc::ptr_eq(&first, &judge(&same, &token).unwrap()));
    // During the rotation both are good, after it the old one is not, though its token was remembered.
    let during = build(&[old.jwk(), new.jwk()]);
    judge(&during, &token).unwrap();
    judge(&during, &new.token(&good_claims())).unwrap();
    let after = build(&[new.jwk()]);
    assert_eq!(reason(judge(&after, &token)), "the token's key is unknown");
    judge(&after, &new.token(&good_claims())).unwrap();
}

#[rstest]
#[case::audience("audiences: [api1]", "audiences: [api2]", json!({"aud": "api1"}))]
#[case::required_claim("", "requiredClaims: {tenant: acme}", json!({}))]
#[case::algorithm("algorithms: [ES256]", "algorithms: [RS256]", json!({}))]
fn a_stricter_configuration_holds_for_remembered_tokens(
    #[case] before: &str,
    #[case] after: &str,
    #[case] changes: Value,
) {
    let signer = Signer::es256("k");
    let shared = AuthShared::new();
    let build =
        |fields| Authenticator::build(&jwt_config(fields), &with_keys(&[signer.jwk()]), &shared).unwrap();
    let token = signer.token(&claims_with(&changes));
    judge(&build(before), &token).unwrap();
    assert!(judge(&build(after), &token).is_err());
}

#[test]
fn a_denied_subject_is_refused_whatever_its_token_says_and_only_under_its_method() {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    let mallory = judge(&auth, &signer.token(&claims_with(&json!({"sub": "mallory"}))));
    assert_eq!(mallory.unwrap_err(), AuthFailure::Denied);
    judge(&auth, &signer.token(&claims_with(&json!({"sub": "leaked"})))).unwrap();
}

#[test]
fn a_denial_holds_for_a_remembered_token() {
    let signer = Signer::es256("k");
    let shared = AuthShared::new();
    let files = with_keys(&[signer.jwk()]);
    let mut free = jwt_config("");
    free.gateway.denied_subjects.clear();
    let token = signer.token(&claims_with(&json!({"sub": "mallory"})));
    let before = Authenticator::build(&free, &files, &shared).unwrap();
    let who = judge(&before, &token).unwrap();
    let after = Authenticator::build(&jwt_config(""), &files, &shared).unwrap();
    assert_eq!(judge(&after, &token).unwrap_err(), AuthFailure::Denied);
    assert!(after.is_denied(&who) && !before.is_denied(&who));
}

#[test]
fn without_keys_tokens_are_put_off_and_not_refused() {
    let signer = Signer::es256("k");
    let auth = Authenticator::build(&jwt_config(""), &Fake::default(), &AuthShared::new()).unwrap();
    assert_eq!(
        judge(&auth, &signer.token(&good_claims())).unwrap_err(),
        AuthFailure::NotReady
    );
    assert!(!auth.can_judge());
    assert_eq!(auth.references()[0].state, ReferenceState::Missing);
    assert_eq!(auth.waiting().len(), 1);
    // Whose issuer nobody knows is refused all the same.
    let foreign = signer.token(&claims_with(&json!({"iss": "https://evil.example.com"})));
    assert_eq!(reason(judge(&auth, &foreign)), "the token's issuer is unknown");
}

#[test]
fn an_unusable_key_file_is_reported() {
    let files = Fake::default().file("/m/jwks", "{}");
    let auth = Authenticator::build(&jwt_config(""), &files, &AuthShared::new()).unwrap();
    assert!(!auth.can_judge());
    assert_eq!(auth.references()[0].state, ReferenceState::Invalid);
}

#[test]
fn an_unusable_inline_key_set_is_a_problem_of_the_configuration() {
    let mut config = jwt_config("");
    config.auth.jwt[0].jwks = portcullis_config::auth::Jwks::Inline("{\"keys\":[]}".into());
    let problems = Authenticator::build(&config, &Fake::default(), &AuthShared::new())
        .err()
        .unwrap();
    assert_eq!(problems[0].path, "auth.jwt[corp].jwks.inline");
}

fn key(seed: u8) -> String {
    mint(&[seed; 32])
}

fn api_keys(clients: &[(&str, &str)]) -> Authenticator {
    let config = config("{apiKeys: {dir: keys}}", "");
    Authenticator::build(
        &config,
        &Fake::default().dir("/m/keys", clients),
        &AuthShared::new(),
    )
    .unwrap()
}

#[test]
fn api_keys_rotate_with_old_and_new_side_by_side() {
    let (old, new) = (digest_line(&key(1)), digest_line(&key(2)));
    let name = |auth: &Authenticator, seed| {
        auth.authenticate(&bearer(&key(seed)), FEDERATED, false, NOW)
            .map(|who| who.subject.to_string())
    };
    let before = api_keys(&[("ci", &old)]);
    assert_eq!(name(&before, 1).unwrap(), "ci");
    assert!(name(&before, 2).is_err());
    let during = api_keys(&[("ci", &format!("# old\n{old}\n\n# new\n{new}\n"))]);
    assert_eq!(
        (name(&during, 1).unwrap(), name(&during, 2).unwrap()),
        ("ci".into(), "ci".into())
    );
    let after = api_keys(&[("ci", &new)]);
    assert_eq!(name(&after, 2).unwrap(), "ci");
    assert!(matches!(
        name(&after, 1),
        Err(AuthFailure::Invalid {
            reason: "the API key is unknown"
        })
    ));
    assert_eq!(after.references()[0].state, ReferenceState::Present);
}

#[test]
fn a_key_with_a_typing_error_costs_no_digest() {
    let auth = api_keys(&[("ci", &digest_line(&key(1)))]);
    let broken = key(1).replace("pcl_A", "pcl_B");
    assert_eq!(reason(judge(&auth, &broken)), "the API key's checksum is wrong");
}

#[test]
fn an_api_key_client_can_be_locked_out() {
    let auth = api_keys(&[("leaked", &digest_line(&key(1))), ("fine", &digest_line(&key(2)))]);
    assert_eq!(judge(&auth, &key(1)).unwrap_err(), AuthFailure::Denied);
    assert_eq!(&*judge(&auth, &key(2)).unwrap().subject, "fine");
}

#[test]
fn a_missing_secret_is_reported_and_its_keys_are_put_off() {
    let auth = Authenticator::build(
        &config("{apiKeys: {dir: keys}}", ""),
        &Fake::default(),
        &AuthShared::new(),
    );
    let auth = auth.unwrap();
    assert_eq!(judge(&auth, &key(1)).unwrap_err(), AuthFailure::NotReady);
    assert_eq!(auth.references()[0].state, ReferenceState::Missing);
    assert!(!auth.can_judge());
}

#[test]
fn the_form_decides_who_judges_and_nobody_else_does() {
    let signer = Signer::es256("k");
    let only_tokens = corp("", &[signer.jwk()]);
    assert_eq!(
        reason(judge(&only_tokens, &key(1))),
        "API keys are not accepted here"
    );
    let only_keys = api_keys(&[("ci", &digest_line(&key(1)))]);
    assert_eq!(
        reason(judge(&only_keys, &signer.token(&good_claims()))),
        "tokens are not accepted here"
    );
}

#[test]
fn nobody_comes_in_without_a_credential_unless_everybody_may() {
    let auth = corp("", &[Signer::es256("k").jwk()]);
    let result = auth.authenticate(&HeaderMap::new(), FEDERATED, false, NOW);
    assert_eq!(result.unwrap_err(), AuthFailure::Missing);
    let open = Authenticator::build(
        &config("{anonymous: {reason: demo}}", ""),
        &Fake::default(),
        &AuthShared::new(),
    );
    let who = open
        .unwrap()
        .authenticate(&HeaderMap::new(), FEDERATED, false, NOW)
        .unwrap();
    assert!(who.is_anonymous());
}

#[test]
fn an_exhausted_address_passes_only_with_what_is_known_to_be_good() {
    let signer = Signer::es256("k");
    let auth = "{anonymous: {reason: demo}, apiKeys: {dir: keys}, jwt: [{name: corp, issuer: 'https://idp.example.com', jwks: {file: jwks}}]}";
    let files = with_keys(&[signer.jwk()]).dir("/m/keys", &[("ci", &digest_line(&key(1)))]);
    let auth = Authenticator::build(&config(auth, ""), &files, &AuthShared::new()).unwrap();
    let (known, fresh) = (
        signer.token(&good_claims()),
        signer.token(&claims_with(&json!({"jti": "2"}))),
    );
    judge(&auth, &known).unwrap();
    let exhausted = |headers: &HeaderMap| auth.authenticate(headers, FEDERATED, true, NOW);
    assert!(exhausted(&bearer(&known)).is_ok());
    assert!(exhausted(&bearer(&key(1))).is_ok());
    for headers in [
        HeaderMap::new(),
        bearer(&fresh),
        bearer(&key(2)),
        bearer("opaque"),
        bearer("a.b.c"),
    ] {
        assert_eq!(exhausted(&headers).unwrap_err(), AuthFailure::AddressExhausted);
    }
    // A fresh token passes again once the address may.
    judge(&auth, &fresh).unwrap();
}

#[test]
fn debug_output_and_reasons_hold_nothing_of_the_credential() {
    let signer = Signer::es256("k");
    let auth = corp("", &[signer.jwk()]);
    let token = signer.token(&claims_with(&json!({"sub": "canary-subject\n"})));
    let failure = format!("{:?}", judge(&auth, &token).unwrap_err());
    assert!(!failure.contains("canary"), "{failure}");
    let headers = bearer(&token);
    let presented = format!("{:?}", super::bearer::presented(&headers));
    assert_eq!(presented, "Ok(Jwt(..))");
}

const REMOTE: &str = "{jwt: [{name: corp, issuer: 'https://idp.example.com', jwks: {uri: {url: 'https://idp.example.com/jwks', caBundle: {file: ca}}}}]}";

#[tokio::test(start_paused = true)]
async fn a_missing_trust_anchor_keeps_the_last_good_one_and_never_means_the_public_ones() {
    let signer = Signer::es256("k");
    let document = jwks(&[signer.jwk()]);
    let shared = AuthShared::new();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    let fetch = move |request: super::jwks::store::Request| {
        seen.lock().unwrap().push(request.ca);
        let document = bytes::Bytes::from(document.clone());
        Box::pin(async move { Ok(document) }) as futures::future::BoxFuture<'static, _>
    };
    let mut changes = shared.key_changes();
    tokio::spawn(shared.clone().run(Arc::new(fetch)));
    let build = |files: Fake| Authenticator::build(&config(REMOTE, ""), &files, &shared).unwrap();

    // Not mounted yet: nothing is fetched.
    let early = build(Fake::default());
    tokio::time::sleep(std::time::Duration::from_mins(10)).await;
    assert_eq!(
        judge(&early, &signer.token(&good_claims())).unwrap_err(),
        AuthFailure::NotReady
    );
    assert_eq!(early.references()[0].state, ReferenceState::Missing);
    assert!(asked.lock().unwrap().is_empty() && !early.can_judge());

    let mounted = build(Fake::default().file("/m/ca", "pem"));
    assert_eq!(
        judge(&mounted, &signer.token(&good_claims())).unwrap_err(),
        AuthFailure::NotReady
    );
    assert_eq!(mounted.waiting(), ["auth.jwt[corp] has no keys: not fetched yet"]);
    changes.changed().await.unwrap();
    assert!(mounted.can_judge() && mounted.waiting().is_empty());
    judge(&mounted, &signer.token(&good_claims())).unwrap();

    let vanished = build(Fake::default());
    drop(mounted);
    judge(&vanished, &signer.token(&good_claims())).unwrap();
    assert_eq!(vanished.references()[0].state, ReferenceState::Missing);
    tokio::time::sleep(std::time::Duration::from_mins(20)).await;
    let asked = asked.lock().unwrap();
    assert!(asked.len() > 3);
    assert!(asked.iter().all(|ca| ca.as_deref() == Some(b"pem")));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_an_unknown_key_is_refused_at_once_and_asks_for_newer_keys() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let served = Arc::new(std::sync::Mutex::new(jwks(&[old.jwk()])));
    let serving = served.clone();
    let fetch = move |_| {
        let document = bytes::Bytes::from(serving.lock().unwrap().clone());
        Box::pin(async move { Ok(document) }) as futures::future::BoxFuture<'static, _>
    };
    let shared = AuthShared::new();
    tokio::spawn(shared.clone().run(Arc::new(fetch)));
    let text = REMOTE.replace(", caBundle: {file: ca}", "");
    let auth = Authenticator::build(&config(&text, ""), &Fake::default(), &shared).unwrap();
    tokio::time::sleep(std::time::Duration::from_mins(2)).await;
    judge(&auth, &old.token(&good_claims())).unwrap();
    *served.lock().unwrap() = jwks(&[new.jwk()]);
    assert_eq!(
        reason(judge(&auth, &new.token(&good_claims()))),
        "the token's key is unknown"
    );
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    judge(&auth, &new.token(&good_claims())).unwrap();
    // The old key is gone from the set, and with it what was remembered.
    assert_eq!(
        reason(judge(&auth, &old.token(&good_claims()))),
        "the token's key is unknown"
    );
}
