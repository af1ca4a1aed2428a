//! Documents for everybody.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::super::cel::{forbid, rule};

/// What everybody may read without a credential, by GET and HEAD. Each reading is counted and stands in the audit records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WellKnown {
    /// What crawlers are told, at /robots.txt and /.well-known/robots.txt. Default: that there is nothing for them. At most
    /// 16384 bytes.
    #[serde(default = "well_known_default::robots")]
    #[schemars(length(min = 1, max = 16384))]
    pub robots: String,
    /// Whom to tell of a weakness, at /.well-known/security.txt (RFC 9116). The condition SecurityTxtCurrent says whether it
    /// has expired, or is to hold for longer than a year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_txt: Option<SecurityTxt>,
    /// Further files at /.well-known/NAME, by name: text, or JSON where the name ends in .json, or has no ending and the text
    /// is JSON. At most 16, of 16384 bytes each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "files")]
    #[x_kube(validation = rule(
        "self.all(name, name.matches('^[A-Za-z0-9][-A-Za-z0-9_.]{0,63}$'))",
        "the name of a custom file has 1 to 64 letters, digits, -, _ and ., and begins with a letter or a digit",
    ))]
    #[x_kube(validation = forbid(
        "self.all(name, name != 'robots.txt' && name != 'security.txt' && !name.startsWith('oauth-protected-resource'))",
        "",
        "robots.txt, security.txt and oauth-protected-resource are the gateway's own: use web.wellKnown.robots, web.wellKnown.securityTxt and auth.protectedResource",
    ))]
    pub custom: BTreeMap<String, String>,
}

field_defaults!(well_known_default for WellKnown {
    robots: String = "User-agent: *\nDisallow: /\n".to_owned(),
    security_txt: Option<SecurityTxt> = None,
    custom: BTreeMap<String, String> = BTreeMap::new(),
});

/// The fields of security.txt (RFC 9116). An empty text is an absent field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityTxt {
    /// URIs for reports, the preferred one first: mailto:, https:// or tel:. 1 to 8.
    #[schemars(
        length(min = 1, max = 8),
        inner(
            length(max = 256),
            regex(
                pattern = CONTACT
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub contacts: Vec<String>,
    /// When readers are to consider it stale; less than a year ahead.
    pub expires: Time,
    /// Languages in which reports are understood, such as en. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(max = 35),
            regex(
                pattern = LANGUAGE
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub preferred_languages: Vec<String>,
    /// https URL of the policy for reports.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = LINK))]
    pub policy: String,
    /// Where the key for encrypted reports is: an https URL, openpgp4fpr: or dns:.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = KEY_LINK))]
    pub encryption: String,
    /// https URL of the page that thanks those who reported.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = LINK))]
    pub acknowledgments: String,
    /// https URL of this document. Default: that path at publicHost, none with tls.plaintext.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = LINK))]
    pub canonical: String,
    /// https URL of open positions.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = LINK))]
    pub hiring: String,
}

/// A way to tell somebody.
const CONTACT: &str = "^(mailto:|https://|tel:)[!-~]+$";
/// A language tag (RFC 5646).
const LANGUAGE: &str = "^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$";
/// A web page, or nothing.
const LINK: &str = "^(https://[!-~]+)?$";
/// A key, or nothing.
const KEY_LINK: &str = "^((https://|openpgp4fpr:|dns:)[!-~]+)?$";

fn files(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 16384},
    })
}
