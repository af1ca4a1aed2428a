//! Names to addresses, in pure Rust: a static binary cannot use the C library's resolver, and the gateway has to see
//! each address before it connects.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Resolves names by the system's configuration (`/etc/resolv.conf`, `/etc/hosts`), with a cache that keeps to the
/// records' time to live, capped.
#[derive(Clone, Debug)]
pub struct Resolver {
    inner: TokioResolver,
}

/// A name gave no address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the name {name} does not resolve: {cause}")]
pub struct ResolveError {
    name: String,
    cause: String,
}

impl Resolver {
    /// Answers are kept for at most `max_ttl`, whatever the record says.
    pub fn system(max_ttl: Duration) -> Self {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "the system's resolver configuration cannot be read: only /etc/hosts and literal addresses resolve");
            TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(Vec::new()),
                TokioRuntimeProvider::default(),
            )
        });
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        options.positive_max_ttl = Some(max_ttl);
        options.negative_max_ttl = Some(Duration::from_secs(1).min(max_ttl));
        let inner = builder
            .build()
            .expect("a resolver without TLS has nothing that can fail to build");
        Self { inner }
    }

    /// The addresses of `host`, a name or a literal address (IPv6 with or without brackets). Never empty.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let literal = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = literal.parse() {
            return Ok(vec![address]);
        }
        let fail = |cause: String| ResolveError {
            name: host.to_owned(),
            cause,
        };
        let found = self
            .inner
            .lookup_ip(absolute(host).as_ref())
            .await
            .map_err(|error| fail(error.to_string()))?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            Err(fail("no address".into()))
        } else {
            Ok(addresses)
        }
    }
}

/// A name with a dot is taken as it stands, so that a search domain cannot answer for it; `NAME` and `NAME.NS.svc`
/// go through the search list, as cluster users expect.
fn absolute(host: &str) -> std::borrow::Cow<'_, str> {
    let searched = host.rsplit('.').next() == Some("svc");
    if host.contains('.') && !host.ends_with('.') && !searched {
        std::borrow::Cow::Owned(format!("{host}."))
    } else {
        std::borrow::Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_names_go_through_the_search_list() {
        assert_eq!(absolute("idp.example.com"), "idp.example.com.");
        assert_eq!(absolute("idp.example.com."), "idp.example.com.");
        assert_eq!(absolute("files.agents.svc"), "files.agents.svc");
        assert_eq!(absolute("files"), "files");
        assert_eq!(
            absolute("files.agents.svc.cluster.local"),
            "files.agents.svc.cluster.local."
        );
    }

    #[tokio::test]
    async fn literal_addresses_and_the_hosts_file_need_no_server() {
        let resolver = Resolver::system(Duration::from_secs(30));
        assert_eq!(
            resolver.resolve("10.1.2.3").await.unwrap(),
            ["10.1.2.3".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(
            resolver.resolve("[::1]").await.unwrap(),
            ["::1".parse::<IpAddr>().unwrap()]
        );
        assert!(
            resolver
                .resolve("localhost")
                .await
                .unwrap()
                .iter()
                .all(IpAddr::is_loopback)
        );
    }
}
