//! Where a URL leads, taken apart once.

use std::sync::Arc;

use http::{HeaderValue, Uri};
use portcullis_config::server::AddressPolicy;
use rustls_pki_types::ServerName;
use url::Url;

/// A URL ready to be connected to: host, port, TLS name, `Host` header and path.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name or literal address.
    pub host: Arc<str>,
    /// Port, the scheme's own when the URL names none.
    pub port: u16,
    /// The name in the certificate; absent for plaintext.
    pub tls_name: Option<ServerName<'static>>,
    /// `Host` header.
    pub authority: HeaderValue,
    /// Path and query, in origin form.
    pub path: Uri,
    /// Which addresses the host may resolve to.
    pub policy: AddressPolicy,
}

/// The URL cannot be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTarget(&'static str);

impl Target {
    /// Takes `url` apart. Accepts http and https without user information.
    pub fn new(url: &Url, policy: AddressPolicy) -> Result<Self, BadTarget> {
        let host = url.host_str().ok_or(BadTarget("the URL names no host"))?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(BadTarget("the URL's scheme is neither https nor http")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadTarget("the URL carries a user or a password"));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let tls_name = if tls {
            Some(
                ServerName::try_from(bare.to_owned())
                    .map_err(|_| BadTarget("the host cannot stand in a certificate"))?,
            )
        } else {
            None
        };
        let port = url
            .port_or_known_default()
            .ok_or(BadTarget("the URL names no port"))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            host: host.into(),
            port,
            tls_name,
            authority: HeaderValue::try_from(authority)
                .map_err(|_| BadTarget("the host cannot stand in a header"))?,
            path: path
                .parse()
                .map_err(|_| BadTarget("the path cannot stand in a request"))?,
            policy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://a.example/mcp?x=1", "a.example", 443, true, "a.example", "/mcp?x=1")]
    #[case("http://a.example:8080", "a.example", 8080, false, "a.example:8080", "/")]
    #[case(
        "https://[2001:4860::1]:8443/m",
        "[2001:4860::1]",
        8443,
        true,
        "[2001:4860::1]:8443",
        "/m"
    )]
    fn urls_are_taken_apart(
        #[case] url: &str,
        #[case] host: &str,
        #[case] port: u16,
        #[case] tls: bool,
        #[case] authority: &str,
        #[case] path: &str,
    ) {
        let target = Target::new(&url.parse().unwrap(), AddressPolicy::Public).unwrap();
        assert_eq!(
            (&*target.host, target.port, target.tls_name.is_some()),
            (host, port, tls)
        );
        assert_eq!(
            (
                target.authority.to_str().unwrap(),
                target.path.to_string().as_str()
            ),
            (authority, path)
        );
    }

    #[rstest]
    #[case("ftp://a.example/")]
    #[case("https://u:p@a.example/")]
    #[case("data:text/plain,x")]
    fn others_are_refused(#[case] url: &str) {
        assert!(Target::new(&url.parse().unwrap(), AddressPolicy::Public).is_err());
    }
}
