//! What is remembered of tokens and of keys, and for how long.

use std::sync::Arc;

use portcullis_config::status::ReferenceState;
use rstest::rstest;
use serde_json::{Value, json};

use super::{FEDERATED, corp, judge, reason, with_keys};
use crate::auth::testing::{Fake, NOW, Signer, bearer, claims_with, config, good_claims, jwks, jwt_config};
use crate::auth::{AuthFailure, AuthShared, Authenticator};

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

const REMOTE: &str = "{jwt: [{name: corp, issuer: 'https://idp.example.com', jwks: {uri: {url: 'https://idp.example.com/jwks', caBundle: {file: ca}}}}]}";

#[tokio::test(start_paused = true)]
async fn a_missing_trust_anchor_keeps_the_last_good_one_and_never_means_the_public_ones() {
    let signer = Signer::es256("k");
    let document = jwks(&[signer.jwk()]);
    let shared = AuthShared::new();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    let fetch = move |request: crate::auth::jwks::store::Request| {
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
