//! Host and Origin: what keeps a web page in somebody's browser from calling the gateway (DNS rebinding).

use std::collections::HashSet;

use http::{HeaderMap, Uri, header};

/// The names a gateway answers to, and the web origins that may call it.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Lower case, the scheme's own port left out.
    names: HashSet<Box<str>>,
    /// Lower case, with scheme, the scheme's own port left out.
    origins: HashSet<Box<str>>,
    default_port: &'static str,
}

/// What is wrong with a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `Host` is absent, doubled, malformed, or names somebody else.
    Host,
    /// `Origin` is present and not one of ours.
    Origin,
}

/// The longest name looked at.
const MAX_LEN: usize = 300;

impl Hosts {
    /// `names` are `host[:port]`; the first is the public one, and its origin is allowed to call.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, tls: bool) -> Self {
        let default_port = if tls { ":443" } else { ":80" };
        let scheme = if tls { "https://" } else { "http://" };
        let names: Vec<Box<str>> = names.map(|name| normal(name, default_port)).collect();
        let origins = names
            .first()
            .map(|public| format!("{scheme}{public}").into_boxed_str())
            .into_iter()
            .collect();
        Self {
            names: names.into_iter().collect(),
            origins,
            default_port,
        }
    }

    /// Judges a request's `Host` (or `:authority`) and `Origin`.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), uri.authority()) {
            (Some(host), authority) => {
                let host = host.to_str().map_err(|_| Refusal::Host)?;
                // HTTP/2 allows both, and they must agree.
                if authority.is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(host)) {
                    return Err(Refusal::Host);
                }
                host
            }
            (None, Some(authority)) => authority.as_str(),
            (None, None) => return Err(Refusal::Host),
        };
        if hosts.next().is_some() || !self.knows(host) {
            return Err(Refusal::Host);
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return Ok(());
        };
        let known = origins.next().is_none()
            && origin.to_str().is_ok_and(|origin| {
                origin.len() <= MAX_LEN && self.origins.contains(&*normal(origin, self.default_port))
            });
        if known { Ok(()) } else { Err(Refusal::Origin) }
    }

    fn knows(&self, host: &str) -> bool {
        // Clients nearly always write the name as it is configured: no copy then.
        host.len() <= MAX_LEN
            && (self.names.contains(host) || self.names.contains(&*normal(host, self.default_port)))
    }
}

fn normal(name: &str, default_port: &str) -> Box<str> {
    let name = name.strip_suffix(default_port).unwrap_or(name);
    name.to_ascii_lowercase().into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn check(tls: bool, uri: &str, headers: &[(&'static str, &'static str)]) -> Result<(), Refusal> {
        let hosts = Hosts::new(["MCP.example.com", "tools-gateway.agents.svc"].into_iter(), tls);
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
    #[case(&[("host", "mcp.example.com:80")], Err(Refusal::Host))]
    #[case(&[("host", "mcp.example.com:8443")], Err(Refusal::Host))]
    #[case(&[("host", "evil.example.com")], Err(Refusal::Host))]
    #[case(&[("host", "mcp.example.com"), ("host", "mcp.example.com")], Err(Refusal::Host))]
    #[case(&[], Err(Refusal::Host))]
    #[case(&[("host", "")], Err(Refusal::Host))]
    #[case(&[("host", "mcp.example.com"), ("origin", "https://mcp.example.com")], Ok(()))]
    #[case(&[("host", "mcp.example.com"), ("origin", "https://mcp.example.com:443")], Ok(()))]
    #[case(&[("host", "mcp.example.com"), ("origin", "http://mcp.example.com")], Err(Refusal::Origin))]
    #[case(&[("host", "mcp.example.com"), ("origin", "https://evil.example")], Err(Refusal::Origin))]
    #[case(&[("host", "mcp.example.com"), ("origin", "null")], Err(Refusal::Origin))]
    #[case(&[("host", "mcp.example.com"), ("origin", "")], Err(Refusal::Origin))]
    #[case(&[("host", "mcp.example.com"), ("origin", "https://mcp.example.com"), ("origin", "https://evil.example")], Err(Refusal::Origin))]
    fn heads_are_judged(
        #[case] headers: &[(&'static str, &'static str)],
        #[case] expected: Result<(), Refusal>,
    ) {
        assert_eq!(check(true, "/mcp", headers), expected);
    }

    #[test]
    fn http2_names_the_host_in_its_target() {
        assert_eq!(check(true, "https://mcp.example.com/mcp", &[]), Ok(()));
        assert_eq!(check(true, "https://evil.example/mcp", &[]), Err(Refusal::Host));
        assert_eq!(
            check(true, "https://mcp.example.com/mcp", &[("host", "evil.example")]),
            Err(Refusal::Host)
        );
    }

    #[test]
    fn without_tls_the_default_port_is_80() {
        assert_eq!(check(false, "/mcp", &[("host", "mcp.example.com:80")]), Ok(()));
        assert_eq!(
            check(false, "/mcp", &[("host", "mcp.example.com:443")]),
            Err(Refusal::Host)
        );
    }
}
