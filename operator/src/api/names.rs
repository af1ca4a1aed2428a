//! Names: what Kubernetes and Portcullis accept as one, and the names of the objects made for a gateway or a server.
//!
//! A name is checked where it enters (by the schema, and again on deserialisation), so that everything after it can
//! join names without asking whether the result still is one.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::ops::Deref;

use aws_lc_rs::digest;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Longest name of an McpGateway or an McpServer: with every suffix below it stays a DNS label.
pub const MAX_OBJECT_NAME: usize = 40;
/// Longest DNS label (RFC 1123), and longest label value.
pub const MAX_LABEL: usize = 63;
/// Longest DNS subdomain (RFC 1123).
pub const MAX_SUBDOMAIN: usize = 253;

/// Pattern of [`DnsLabel`].
pub const DNS_LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Pattern of [`DnsSubdomain`].
pub const DNS_SUBDOMAIN_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Pattern of [`DataKey`]: `.`, `..` and what starts with two dots is left out, as Kubernetes does.
pub const DATA_KEY_PATTERN: &str = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$";
/// Pattern of the name of an McpGateway or an McpServer, and of [`MemberName`].
pub const MEMBER_NAME_PATTERN: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";

/// The text is not a name of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}")]
pub struct InvalidName {
    text: String,
    kind: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, max $max:expr, pattern $pattern:expr, check $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if text.len() <= $max && check(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidName { text: text.chars().take(64).collect(), kind: $kind })
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "minLength": 1, "maxLength": $max, "pattern": $pattern})
            }
        }
    };
}

name_type!(
    /// A DNS label (RFC 1123): namespaces, Services.
    DnsLabel, "a DNS label: at most 63 of a-z, 0-9 and -, starting and ending with a letter or a digit",
    max MAX_LABEL, pattern DNS_LABEL_PATTERN, check is_dns_label
);
name_type!(
    /// A DNS subdomain (RFC 1123): Secrets, ConfigMaps, claims, priority classes.
    DnsSubdomain, "a DNS subdomain: at most 253 of a-z, 0-9, - and ., each part starting and ending with a letter or a digit",
    max MAX_SUBDOMAIN, pattern DNS_SUBDOMAIN_PATTERN, check |text| text.split('.').all(is_dns_label_of_any_length)
);
name_type!(
    /// A key in the data of a Secret or a ConfigMap.
    DataKey, "a key of a Secret or ConfigMap: at most 253 of letters, digits, -, _ and .",
    max MAX_SUBDOMAIN, pattern DATA_KEY_PATTERN, check is_data_key
);
name_type!(
    /// The name of an McpGateway or an McpServer, or of something in a list of theirs (a rule, a limit, a method).
    MemberName, "a name: at most 40 of a-z, 0-9 and -, starting with a letter and ending with a letter or a digit",
    max MAX_OBJECT_NAME, pattern MEMBER_NAME_PATTERN,
    check |text| is_dns_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
);

fn is_dns_label_of_any_length(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_dns_label_of_any_length(text)
}

fn is_data_key(text: &str) -> bool {
    !matches!(text, "" | ".")
        && !text.starts_with("..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Deployment, Service, ServiceAccount, ConfigMap, NetworkPolicy and PodDisruptionBudget of a gateway.
pub fn gateway_child(gateway: &str) -> String {
    join(&[gateway, "gateway"], MAX_LABEL)
}

/// Headless Service through which a gateway's replicas find each other.
pub fn gateway_peers(gateway: &str) -> String {
    join(&[gateway, "gateway-peers"], MAX_LABEL)
}

/// Deployment, Service, ServiceAccount and NetworkPolicy of a server that Portcullis runs.
pub fn server_child(server: &str) -> String {
    join(&[server, "server"], MAX_LABEL)
}

/// NetworkPolicy around pods of somebody else that stand for a server. Not the name of the policy of pods that Portcullis runs:
/// a server that turns from one into the other keeps that policy until those pods are gone.
pub fn server_fence(server: &str) -> String {
    join(&[server, "fence"], MAX_LABEL)
}

/// Headless Service of a server that Portcullis runs with several pods. It has a name of its own because a Service can
/// never change between having a cluster address and having none.
pub fn server_pods(server: &str) -> String {
    join(&[server, "server-pods"], MAX_LABEL)
}

/// First part of a server's federated tool names, unless it says another: its name, behind its namespace when that is
/// not the gateway's.
pub fn default_tool_prefix(server_namespace: &str, server: &str, gateway_namespace: &str) -> String {
    if server_namespace == gateway_namespace {
        server.to_owned()
    } else {
        join(&[server_namespace, server], MAX_LABEL)
    }
}

/// Joins `parts` with `-`. What would be longer than `max` is cut and ends in eight hex digits of a hash over all of
/// it, so that two names that differ only behind the cut still differ.
///
/// `max` must leave room for the hash; with less than ten characters there is none, and the hash alone remains.
pub fn join(parts: &[&str], max: usize) -> String {
    let whole = parts.join("-");
    if whole.len() <= max {
        return whole;
    }
    let hash = short_hash(&whole);
    let keep = max.saturating_sub(hash.len() + 1);
    let mut name: String = whole
        .char_indices()
        .take_while(|(at, c)| at + c.len_utf8() <= keep)
        .map(|(_, c)| c)
        .collect();
    // A cut may leave the separator, or a character no name may end with, at the seam.
    let seam = name.trim_end_matches(['-', '.', '_']).len();
    name.truncate(seam);
    if !name.is_empty() {
        name.push('-');
    }
    name.push_str(&hash);
    name
}

/// Eight hex digits of the SHA-256 of `text`.
pub fn short_hash(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let mut hex = String::with_capacity(8);
    for byte in digest.as_ref().iter().take(4) {
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("tools", true)]
    #[case("a", true)]
    #[case("t-1", true)]
    #[case("1t", false)]
    #[case("", false)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("A", false)]
    #[case("a.b", false)]
    #[case("a_b", false)]
    #[case("abcdefghijabcdefghijabcdefghijabcdefghij", true)]
    #[case("abcdefghijabcdefghijabcdefghijabcdefghijk", false)]
    fn member_names_start_with_a_letter_and_are_short(#[case] text: &str, #[case] good: bool) {
        assert_eq!(text.parse::<MemberName>().is_ok(), good, "{text}");
    }

    #[rstest]
    #[case("idp-ca", true)]
    #[case("a.b-c.d", true)]
    #[case("a..b", false)]
    #[case(".a", false)]
    #[case("a.-b", false)]
    #[case("A", false)]
    fn subdomains_are_labels_joined_by_dots(#[case] text: &str, #[case] good: bool) {
        assert_eq!(text.parse::<DnsSubdomain>().is_ok(), good, "{text}");
    }

    #[rstest]
    #[case("ca.crt", true)]
    #[case("A_b-c.d", true)]
    #[case("", false)]
    #[case("..", false)]
    #[case("..data", false)]
    #[case("a/b", false)]
    #[case("a b", false)]
    fn data_keys_are_plain_file_names(#[case] text: &str, #[case] good: bool) {
        assert_eq!(text.parse::<DataKey>().is_ok(), good, "{text}");
    }

    #[test]
    fn a_bad_name_in_yaml_is_named() {
        let err = serde_yaml::from_str::<DnsLabel>("Bad_Name").unwrap_err();
        assert!(err.to_string().contains("\"Bad_Name\" is not a DNS label"));
    }

    proptest! {
        #[test]
        fn children_of_any_legal_object_are_dns_labels(name in "[a-z][-a-z0-9]{0,38}[a-z0-9]") {
            for child in [gateway_child(&name), gateway_peers(&name), server_child(&name), server_pods(&name)] {
                prop_assert!(child.parse::<DnsLabel>().is_ok(), "{}", child);
                prop_assert!(child.starts_with(&name), "no hash is needed: {}", child);
            }
        }

        #[test]
        fn prefixes_of_any_legal_server_are_dns_labels(namespace in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?") {
            let prefix = default_tool_prefix(&namespace, &name, "elsewhere-entirely");
            prop_assert!(prefix.parse::<DnsLabel>().is_ok(), "{}", prefix);
            prop_assert!(!prefix.contains("__"));
        }

        #[test]
        fn joined_names_keep_within_bounds(parts in prop::collection::vec("\\PC{0,80}", 1..4), max in 10usize..64) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            prop_assert!(join(&parts, max).len() <= max);
        }

        #[test]
        fn names_that_differ_behind_the_cut_differ(head in "[a-z]{63}", a in "[a-z]{1,8}", b in "[a-z]{1,8}") {
            prop_assume!(a != b);
            prop_assert_ne!(join(&[&head, &a], MAX_LABEL), join(&[&head, &b], MAX_LABEL));
        }
    }
}
