//! Fetching by a scripted issuer, in paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::auth::testing::{ISSUER, Signer, jwks};

/// An issuer that answers what it is told to and counts how often it is asked.
#[derive(Default)]
struct Idp {
    asked: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    answer: Mutex<Option<String>>,
    takes: Mutex<Duration>,
}

impl Idp {
    fn with(keys: &[&Signer]) -> Arc<Self> {
        let idp = Arc::new(Self::default());
        idp.serve(keys);
        idp
    }

    fn serve(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        *self.answer.lock().unwrap() = Some(jwks(&keys));
    }

    fn serve_text(&self, text: &str) {
        *self.answer.lock().unwrap() = Some(text.to_owned());
    }

    fn fail(&self) {
        *self.answer.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn fetch(self: &Arc<Self>) -> Arc<Fetch> {
        let idp = self.clone();
        Arc::new(move |request: Request| {
            assert_eq!(request.max_bytes, MAX_DOCUMENT_BYTES);
            let idp = idp.clone();
            async move {
                idp.asked.fetch_add(1, Ordering::SeqCst);
                let now = idp.at_once.fetch_add(1, Ordering::SeqCst) + 1;
                idp.most_at_once.fetch_max(now, Ordering::SeqCst);
                let takes = *idp.takes.lock().unwrap();
                tokio::time::sleep(takes).await;
                idp.at_once.fetch_sub(1, Ordering::SeqCst);
                let answer = idp.answer.lock().unwrap().clone();
                answer
                    .map(Bytes::from)
                    .ok_or_else(|| FetchFailed("connection refused".into()))
            }
            .boxed()
        })
    }
}

fn url() -> Url {
    "https://idp.example.com/jwks".parse().unwrap()
}

/// A registry that runs in the background of the test.
fn running(idp: &Arc<Idp>) -> Arc<Registry> {
    let registry = Arc::new(Registry::default());
    let (shared, fetch) = (registry.clone(), idp.fetch());
    tokio::spawn(async move { shared.run(fetch).await });
    registry
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const MOMENT: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_at_once_and_again_every_five_minutes_or_so() {
    let idp = Idp::with(&[&Signer::es256("a")]);
    let registry = running(&idp);
    let store = registry.store(ISSUER, url(), None, false);
    assert!(store.keys().is_none());
    pass(MOMENT).await;
    assert_eq!((store.keys().unwrap().count(), idp.asked()), (1, 1));
    pass(Duration::from_secs(269)).await;
    assert_eq!(idp.asked(), 1);
    pass(Duration::from_secs(61)).await;
    assert_eq!(idp.asked(), 2);
    pass(Duration::from_hours(1)).await;
    assert!((10..=16).contains(&idp.asked()), "{}", idp.asked());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_key_ids_causes_one_fetch_a_minute() {
    let idp = Idp::with(&[&Signer::es256("a")]);
    let registry = running(&idp);
    let store = registry.store(ISSUER, url(), None, false);
    pass(MOMENT).await;
    let before = idp.asked();
    for _ in 0..6_000 {
        store.want();
        pass(MOMENT).await;
    }
    assert!(idp.asked() - before <= 1, "{} in a minute", idp.asked() - before);
    for _ in 0..30_000 {
        store.want();
        pass(MOMENT).await;
    }
    assert!(
        (5..=7).contains(&(idp.asked() - before)),
        "{} in six minutes",
        idp.asked() - before
    );
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_there_soon_after_a_token_asked_for_it() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let idp = Idp::with(&[&old]);
    let registry = running(&idp);
    let mut changes = registry.changes();
    let store = registry.store(ISSUER, url(), None, false);
    pass(Duration::from_secs(100)).await;
    changes.mark_unchanged();
    idp.serve(&[&old, &new]);
    assert!(
        store
            .keys()
            .unwrap()
            .find(Some("new"), portcullis_config::auth::Algorithm::ES256)
            .is_err()
    );
    store.want();
    pass(MOMENT).await;
    assert!(
        store
            .keys()
            .unwrap()
            .find(Some("new"), portcullis_config::auth::Algorithm::ES256)
            .is_ok()
    );
    assert!(changes.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn keys_outlive_an_outage_of_a_day_and_no_longer() {
    let idp = Idp::with(&[&Signer::es256("a")]);
    let registry = running(&idp);
    let store = registry.store(ISSUER, url(), None, false);
    pass(MOMENT).await;
    idp.fail();
    pass(Duration::from_hours(23)).await;
    assert!(store.keys().is_some());
    assert_eq!(store.failure().as_deref(), Some("connection refused"));
    // Down for a day, it is asked about once a minute.
    assert!((1200..1600).contains(&idp.asked()), "{}", idp.asked());
    pass(Duration::from_secs(3600 + 700)).await;
    assert!(store.keys().is_none());
    idp.serve(&[&Signer::es256("b")]);
    pass(Duration::from_secs(67)).await;
    assert!(store.keys().is_some());
    assert_eq!(store.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failing_issuer_is_asked_again_sooner_at_first() {
    let idp = Arc::new(Idp::default());
    let registry = running(&idp);
    let store = registry.store(ISSUER, url(), None, false);
    pass(Duration::from_secs(10)).await;
    assert!((3..=5).contains(&idp.asked()), "{}", idp.asked());
    idp.serve(&[&Signer::es256("a")]);
    pass(Duration::from_secs(20)).await;
    assert!(store.keys().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_unusable_answer_is_a_failure_and_the_old_keys_stay() {
    let idp = Idp::with(&[&Signer::es256("a")]);
    let registry = running(&idp);
    let store = registry.store(ISSUER, url(), None, false);
    pass(MOMENT).await;
    let print = store.keys().unwrap().fingerprint();
    for answer in [
        "<html>",
        "{\"keys\":[]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}",
    ] {
        idp.serve_text(answer);
        pass(Duration::from_secs(400)).await;
        assert!(store.failure().is_some());
        assert!(store.has(print));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_issuer_is_given_up_and_never_asked_twice_at_once() {
    let idp = Idp::with(&[&Signer::es256("a")]);
    *idp.takes.lock().unwrap() = Duration::from_hours(1);
    let registry = running(&idp);
    let store = registry.store(ISSUER, url(), None, false);
    for _ in 0..600 {
        store.want();
        pass(Duration::from_secs(1)).await;
    }
    assert!(idp.asked() > 5);
    assert_eq!(store.failure().as_deref(), Some("no answer in time"));
    // A future that was given up was dropped, and never counted itself out.
    assert_eq!(idp.most_at_once.load(Ordering::SeqCst), idp.asked());
    *idp.takes.lock().unwrap() = Duration::from_secs(5);
    idp.at_once.store(0, Ordering::SeqCst);
    idp.most_at_once.store(0, Ordering::SeqCst);
    pass(Duration::from_mins(20)).await;
    assert_eq!(idp.most_at_once.load(Ordering::SeqCst), 1);
    assert!(store.keys().is_some());
}

#[tokio::test(start_paused = true)]
async fn configurations_share_a_store_and_the_last_one_takes_it_along() {
    let idp = Idp::with(&[&Signer::es256("a")]);
    let registry = running(&idp);
    let one = registry.store(ISSUER, url(), None, false);
    let two = registry.store(ISSUER, url(), None, false);
    assert!(Arc::ptr_eq(&one, &two));
    pass(MOMENT).await;
    assert_eq!(idp.asked(), 1);
    drop((one, two));
    pass(Duration::from_hours(1)).await;
    assert_eq!(idp.asked(), 1);
    assert!(registry.last(ISSUER, &url()).is_none());
}

#[tokio::test(start_paused = true)]
async fn another_trust_anchor_begins_with_the_keys_that_are_known() {
    let idp = Idp::with(&[&Signer::es256("a")]);
    let registry = running(&idp);
    let old = registry.store(ISSUER, url(), None, false);
    pass(MOMENT).await;
    idp.fail();
    let new = registry.store(ISSUER, url(), Some(Bytes::from_static(b"pem")), false);
    assert!(new.has(old.keys().unwrap().fingerprint()));
    pass(MOMENT).await;
    assert!(new.failure().is_some() && old.failure().is_none());
    // Another issuer at the same place inherits nothing.
    assert!(
        registry
            .store("https://other.example.com", url(), None, false)
            .keys()
            .is_none()
    );
}
