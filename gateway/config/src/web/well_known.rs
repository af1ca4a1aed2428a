//! Documents for everybody: `robots.txt`, `security.txt` (RFC 9116) and custom ones under `/.well-known/`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most custom files.
pub const MAX_CUSTOM: usize = 16;
/// The longest document, in bytes.
pub const MAX_DOCUMENT: usize = 16 << 10;
/// The longest name of a custom file.
pub const MAX_NAME: usize = 64;
/// Names that custom files cannot have: the gateway's own documents stand there, and whatever begins like the last.
pub const OWN_NAMES: [&str; 3] = ["robots.txt", "security.txt", "oauth-protected-resource"];

/// What everybody may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WellKnown {
    /// `/robots.txt` and `/.well-known/robots.txt`.
    pub robots: String,
    /// `/.well-known/security.txt`. Absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_txt: Option<SecurityTxt>,
    /// `/.well-known/NAME`, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, String>,
}

impl Default for WellKnown {
    fn default() -> Self {
        Self {
            robots: "User-agent: *\nDisallow: /\n".to_owned(),
            security_txt: None,
            custom: BTreeMap::new(),
        }
    }
}

/// Whom to tell of a weakness (RFC 9116). An empty text is an absent field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecurityTxt {
    /// URIs, the preferred one first.
    pub contacts: Vec<String>,
    /// When what is said here is to be considered stale.
    pub expires: Timestamp,
    /// Language tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_languages: Vec<String>,
    /// URI of the policy for reports.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// URI of a key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub encryption: String,
    /// URI of a page that thanks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub acknowledgments: String,
    /// URI of this document. Empty: it derives from the public host, where the gateway speaks TLS.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub canonical: String,
    /// URI of open positions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hiring: String,
}

impl SecurityTxt {
    /// Its fields with one value each that are there, by their registered names.
    pub fn links(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("Encryption", &self.encryption),
            ("Acknowledgments", &self.acknowledgments),
            ("Canonical", &self.canonical),
            ("Policy", &self.policy),
            ("Hiring", &self.hiring),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.as_str()))
        .filter(|(_, value)| !value.is_empty())
    }
}
