//! What browsers and scanners see of the public port.

mod well_known;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::forbid;
use super::patterns;
pub use well_known::{SecurityTxt, WellKnown};

/// The public port beside MCP itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Web {
    /// Headers of every answer. Always there, errors included: X-Content-Type-Options: nosniff, Content-Security-Policy:
    /// default-src 'none', Referrer-Policy: no-referrer, and Cache-Control: no-store on all but public documents. No cookie
    /// passes in either direction, and no server's own Server or X-Powered-By.
    #[serde(default)]
    pub headers: WebHeaders,
    /// Whose web pages may call (CORS).
    #[serde(default)]
    pub cors: Cors,
    /// What everybody may read.
    #[serde(default)]
    pub well_known: WellKnown,
}

/// Whose web pages may call: those of publicHost by https (http with tls.plaintext), under profile Development those of
/// localhost too, and those listed here. A request of any other page is refused with 403. Clients that are no browsers
/// send no Origin, and are not concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = forbid(
    "!has(self.allowCredentials) || !self.allowCredentials || !has(self.allowedOrigins) || !('*' in self.allowedOrigins)",
    ".allowCredentials",
    "web.cors.allowCredentials is refused with the origin *: list the origins whose pages may call",
))]
pub struct Cors {
    /// Further origins, exact: scheme and host, and the port where it is not the scheme's own, such as
    /// `https://app.example.com`. * is every page of the web, under profile Development only. At most 64.
    #[serde(default)]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 268),
            regex(
                pattern = patterns::WEB_ORIGIN
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_origins: Vec<String>,
    /// Pages may send what their browser holds for this host: a client certificate or a password it asked for. Bearer
    /// tokens and API keys, which a page's script sends by itself, need it not. No cookie gets through either way.
    #[serde(default)]
    pub allow_credentials: bool,
}

/// What of the headers on every answer can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebHeaders {
    /// Who may show an answer in a frame: DENY is nobody, SAMEORIGIN pages of the same origin. X-Frame-Options and
    /// frame-ancestors of the Content-Security-Policy say it.
    #[serde(default)]
    pub frame_options: FrameOptions,
    /// For how many seconds browsers may reach this host by TLS only (max-age of Strict-Transport-Security, RFC 6797), sent
    /// where the gateway itself speaks TLS. 0 sends none. 0 to 63072000, two years.
    #[serde(default = "headers_default::hsts")]
    #[schemars(range(min = 0, max = 63_072_000))]
    pub hsts: i32,
}

field_defaults!(headers_default for WebHeaders {
    frame_options: FrameOptions = FrameOptions::Deny,
    hsts: i32 = 31_536_000,
});

/// Who may show an answer in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FrameOptions {
    /// Nobody.
    #[default]
    #[serde(rename = "DENY")]
    Deny,
    /// Pages of the same origin.
    #[serde(rename = "SAMEORIGIN")]
    SameOrigin,
}
