//! The ports, and the keys that replicas have in common.

use super::Check;
use crate::listen::{Listen, SessionKeys};

pub(super) fn listen(check: &mut Check<'_>, listen: &Listen) {
    check.that(
        listen.public.tls.is_some() != listen.public.plaintext.is_some(),
        "listen.public",
        "exactly one of tls and plaintext; plaintext needs a reason",
    );
    if let Some(plaintext) = &listen.public.plaintext {
        check.that(
            !plaintext.reason.trim().is_empty(),
            "listen.public.plaintext.reason",
            "say why",
        );
    }
    if let Some(status) = &listen.status {
        check.that(
            status.token.is_some() || status.address.ip().is_loopback(),
            "listen.status",
            "without a token it may listen on a loopback address only",
        );
    }
}

pub(super) fn session_keys(check: &mut Check<'_>, keys: &SessionKeys) {
    check.unique("sessionKeys.keys", keys.keys.iter().map(|key| key.id.as_str()));
    for key in &keys.keys {
        check.that(
            (1..=16).contains(&key.id.len())
                && key
                    .id
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "sessionKeys.keys.id",
            format!("{:?}: 1 to 16 characters of a-z and 0-9", key.id),
        );
    }
    check.that(
        keys.keys.iter().any(|key| key.id == keys.seal_with),
        "sessionKeys.sealWith",
        "names no key of the list",
    );
}
