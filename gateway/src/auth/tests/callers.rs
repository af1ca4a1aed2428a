//! How a credential is presented, API keys, and who comes in without one.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use portcullis_config::api_key::{digest_line, mint};
use portcullis_config::status::ReferenceState;
use rstest::rstest;
use serde_json::json;

use super::{FEDERATED, corp, judge, reason, with_keys};
use crate::auth::testing::{Fake, NOW, Signer, bearer, claims_with, config, good_claims};
use crate::auth::{AuthFailure, AuthShared, Authenticator};

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
    let presented = format!("{:?}", crate::auth::bearer::presented(&headers));
    assert_eq!(presented, "Ok(Jwt(..))");
}
