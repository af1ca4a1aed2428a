//! Names on the federated endpoint: `PREFIX__TOOL`, at most 64 characters.
//!
//! A name is only ever made here and found again in a table; nothing splits one.

use aws_lc_rs::digest;

/// The most characters of a name; the tightest bound among the clients in use.
pub const MAX: usize = 64;

/// What stands between a server's prefix and its tool's own name. No prefix holds it.
pub const SEPARATOR: &str = "__";

/// The federated name of `tool` on the server with `prefix`. A name that would be too long is cut and gets eight hex
/// digits of a hash of the whole, so that two long names stay two names.
pub fn federated(prefix: &str, tool: &str) -> String {
    let whole = format!("{prefix}{SEPARATOR}{tool}");
    if whole.chars().count() <= MAX {
        return whole;
    }
    let hash = digest::digest(&digest::SHA256, whole.as_bytes());
    let tail: String = portcullis_config::keys::hex(hash.as_ref())
        .chars()
        .take(8)
        .collect();
    let head: String = whole.chars().take(MAX - tail.len() - 1).collect();
    format!("{head}_{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_names_are_joined() {
        assert_eq!(federated("files", "read_file"), "files__read_file");
    }

    #[test]
    fn long_names_stay_apart() {
        let a = federated("files", &"x".repeat(100));
        let b = federated("files", &"x".repeat(101));
        assert!(a.len() == MAX && b.len() == MAX && a != b);
        assert!(a.starts_with("files__xxx"));
    }

    proptest! {
        #[test]
        fn no_name_is_too_long(prefix in "[a-z-]{1,40}", tool in "\\PC{0,200}") {
            prop_assert!(federated(&prefix, &tool).chars().count() <= MAX);
        }
    }
}
