//! What browsers and scanners see of the public port.

pub mod well_known;

use serde::{Deserialize, Serialize};

pub use well_known::{SecurityTxt, WellKnown};

/// The longest life of HSTS, in seconds: two years.
pub const MAX_HSTS: u32 = 63_072_000;

/// The public port beside MCP itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Web {
    /// Headers of every answer.
    #[serde(default)]
    pub headers: Headers,
    /// Pages of other origins that may call.
    #[serde(default)]
    pub cors: Cors,
    /// What everybody may read.
    #[serde(default)]
    pub well_known: WellKnown,
}

/// Whose web pages may call, besides those of the gateway's own origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cors {
    /// Exact origins, such as `https://app.example.com`; or `*`, which is every page of the web.
    pub allowed_origins: Vec<String>,
    /// Pages may send what the browser holds for this host, such as a client certificate. Never with `*`.
    pub allow_credentials: bool,
}

/// What of the headers on every answer can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Headers {
    /// Who may show an answer in a frame.
    pub frame_options: FrameOptions,
    /// `max-age` of `Strict-Transport-Security` in seconds, on TLS. 0: the header is not sent.
    pub hsts: u32,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            frame_options: FrameOptions::Deny,
            hsts: 31_536_000,
        }
    }
}

/// Who may show an answer in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameOptions {
    /// Nobody.
    #[default]
    #[serde(rename = "DENY")]
    Deny,
    /// Pages of the same origin.
    #[serde(rename = "SAMEORIGIN")]
    SameOrigin,
}
