//! The host that a request names: a page in somebody's browser must not reach the gateway under another name (DNS
//! rebinding). Whose pages may call is in `web::origin`.

use std::collections::HashSet;

use http::{HeaderMap, Uri, header};

use crate::web::origin::without_port;

/// The names a gateway answers to.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Lower case, the scheme's own port left out.
    names: HashSet<Box<str>>,
    default_port: &'static str,
}

/// `Host` is absent, doubled, malformed, or names somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignHost;

/// The longest name looked at.
const MAX_LEN: usize = 300;

impl Hosts {
    /// `names` are `host[:port]`.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, tls: bool) -> Self {
        let default_port = if tls { ":443" } else { ":80" };
        Self {
            names: names.map(|name| normal(name, default_port)).collect(),
            default_port,
        }
    }

    /// Judges a request's `Host` (or `:authority`).
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ForeignHost> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), uri.authority()) {
            (Some(host), authority) => {
                let host = host.to_str().map_err(|_| ForeignHost)?;
                // HTTP/2 allows both, and they must agree.
                if authority.is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(host)) {
                    return Err(ForeignHost);
                }
                host
            }
            (None, Some(authority)) => authority.as_str(),
            (None, None) => return Err(ForeignHost),
        };
        if hosts.next().is_some() || !self.knows(host) {
            return Err(ForeignHost);
        }
        Ok(())
    }

    fn knows(&self, host: &str) -> bool {
        // Clients nearly always write the name as it is configured: no copy then.
        host.len() <= MAX_LEN
            && (self.names.contains(host) || self.names.contains(&*normal(host, self.default_port)))
    }
}

fn normal(name: &str, default_port: &str) -> Box<str> {
    let name = without_port(name, default_port).unwrap_or(name);
    name.to_ascii_lowercase().into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn check(tls: bool, uri: &str, headers: &[(&'static str, &'static str)]) -> Result<(), ForeignHost> {
        let hosts = Hosts::new(
            ["MCP.example.com", "tools-gateway.agents.svc", "b.example:8443"].into_iter(),
            tls,
        );
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        hosts.check(&uri.parse().unwrap(), &map)
    }

    #[rstest]
    #[case(&[("host", "mcp.example.com")], Ok(()))]
    #[case(&[("host", "mcp.example.com:443")], Ok(()))]
    #[case(&[("host", "Mcp.Example.Com")], Ok(()))]
    #[case(&[("host", "tools-gateway.agents.svc")], Ok(()))]
    #[case(&[("host", "mcp.example.com:80")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com:8443")], Err(ForeignHost))]
    #[case(&[("host", "evil.example.com")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com"), ("host", "mcp.example.com")], Err(ForeignHost))]
    #[case(&[], Err(ForeignHost))]
    #[case(&[("host", "")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com.")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com:")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com:443:443")], Err(ForeignHost))]
    #[case(&[("host", "b.example:8443")], Ok(()))]
    #[case(&[("host", "b.example:8443:443")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com:0443")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com.evil.com")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com@evil.com")], Err(ForeignHost))]
    #[case(&[("host", "evil.com@mcp.example.com")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com, evil.com")], Err(ForeignHost))]
    #[case(&[("host", "mcp.example.com/")], Err(ForeignHost))]
    #[case(&[("host", "127.0.0.1")], Err(ForeignHost))]
    #[case(&[("host", "[::1]:443")], Err(ForeignHost))]
    #[case(&[("host", "[::ffff:127.0.0.1]")], Err(ForeignHost))]
    #[case(&[("host", "localhost")], Err(ForeignHost))]
    fn heads_are_judged(
        #[case] headers: &[(&'static str, &'static str)],
        #[case] expected: Result<(), ForeignHost>,
    ) {
        assert_eq!(check(true, "/mcp", headers), expected);
    }

    #[test]
    fn http2_names_the_host_in_its_target() {
        assert_eq!(check(true, "https://mcp.example.com/mcp", &[]), Ok(()));
        assert_eq!(check(true, "https://evil.example/mcp", &[]), Err(ForeignHost));
        assert_eq!(
            check(true, "https://mcp.example.com/mcp", &[("host", "evil.example")]),
            Err(ForeignHost)
        );
    }

    #[test]
    fn without_tls_the_default_port_is_80() {
        assert_eq!(check(false, "/mcp", &[("host", "mcp.example.com:80")]), Ok(()));
        assert_eq!(
            check(false, "/mcp", &[("host", "mcp.example.com:443")]),
            Err(ForeignHost)
        );
    }
}
