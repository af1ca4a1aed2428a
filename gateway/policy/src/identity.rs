//! Who is calling.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use portcullis_config::auth::METHOD_ANONYMOUS;

use crate::authorize::Standing;

/// Names a principal in maps: what buckets are kept under and what sealed tokens are bound to.
pub type PrincipalKey = [u8; 16];

/// How far clocks may differ, in seconds.
pub const LEEWAY: u64 = 60;

/// A principal: (method, subject), with what its credential says about it. Groups and scopes belong to the method.
pub struct Identity {
    /// Name of the method that judged the credential.
    pub method: Arc<str>,
    /// The subject under that method.
    pub subject: Arc<str>,
    /// Groups, as the credential lists them.
    pub groups: Box<[Arc<str>]>,
    /// Scopes, as the credential lists them.
    pub scopes: Box<[Arc<str>]>,
    /// When the credential expires, in seconds since 1970, by its own word: see [`Identity::ends`].
    pub expires: Option<u64>,
    /// First half of SHA-256 over method, a zero byte, and subject.
    pub key: PrincipalKey,
    /// Which rules are about this principal, as found at its first request under the policy in force.
    pub(crate) standing: ArcSwapOption<Standing>,
}

impl Identity {
    /// A principal as its credential describes it.
    pub fn new(
        method: Arc<str>,
        subject: Arc<str>,
        groups: Box<[Arc<str>]>,
        scopes: Box<[Arc<str>]>,
        expires: Option<u64>,
    ) -> Self {
        let key = principal_key(&method, &subject);
        Self {
            method,
            subject,
            groups,
            scopes,
            expires,
            key,
            standing: ArcSwapOption::empty(),
        }
    }

    /// The one principal of callers without a credential, where those are let in.
    pub fn anonymous() -> Self {
        let name: Arc<str> = METHOD_ANONYMOUS.into();
        Self::new(name.clone(), name, Box::default(), Box::default(), None)
    }

    /// From when on the credential is no longer accepted, in seconds since 1970: clocks may differ. Streams end then, too.
    pub fn ends(&self) -> Option<u64> {
        self.expires.map(|expires| expires.saturating_add(LEEWAY))
    }

    /// Did nobody vouch for this caller?
    pub fn is_anonymous(&self) -> bool {
        &*self.method == METHOD_ANONYMOUS
    }
}

/// Debug output goes to logs: it names the principal and not what its token says.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("method", &self.method)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// The key of a principal. Method names hold no zero byte (the gateway's authenticator sees to it), so that no two
/// principals spell the same.
pub fn principal_key(method: &str, subject: &str) -> PrincipalKey {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(method.as_bytes());
    hash.update(&[0]);
    hash.update(subject.as_bytes());
    first_half(&hash.finish())
}

/// The first half of a SHA-256 digest.
pub fn first_half(digest: &digest::Digest) -> [u8; 16] {
    *digest.as_ref().first_chunk().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_and_subject_do_not_run_into_each_other() {
        assert_ne!(principal_key("ab", "c"), principal_key("a", "bc"));
        assert_ne!(principal_key("a", "b"), principal_key("b", "a"));
    }

    #[test]
    fn debug_output_tells_no_groups() {
        let who = Identity::new(
            "corp".into(),
            "alice".into(),
            ["secret-project".into()].into(),
            Box::default(),
            None,
        );
        assert!(!format!("{who:?}").contains("secret-project"));
    }
}
