//! What stands in front.

use std::collections::HashSet;

use super::Check;
use crate::network::{MAX_PROXIES, Network};

/// The longest path of [`Network::public_health`].
const MAX_PATH: usize = 64;

pub(super) fn network(check: &mut Check<'_>, network: &Network, production: bool) {
    const PROXIES: &str = "network.trustedProxies";
    let Network {
        trusted_proxies,
        only_from_proxies,
        public_health,
    } = network;
    check.that(
        trusted_proxies.len() <= MAX_PROXIES,
        PROXIES,
        format!("at most {MAX_PROXIES}"),
    );
    let mut seen = HashSet::new();
    for proxy in trusted_proxies {
        let cidr = proxy.cidr;
        check.that(
            seen.insert(cidr.trunc()),
            PROXIES,
            format!("{cidr} stands here twice"),
        );
        check.that(
            !production || cidr.prefix_len() > 0,
            PROXIES,
            format!(
                "{cidr} is refused under Production: anybody could say where they call from; name the proxies"
            ),
        );
    }
    check.that(
        !only_from_proxies || !trusted_proxies.is_empty(),
        "network.onlyFromProxies",
        "names nobody who may connect: list trustedProxies",
    );
    check.that(
        public_health.is_empty() || is_health_path(public_health),
        "network.publicHealth",
        "write a path of letters, digits, '-', '_' and '.' between slashes, such as /health, that is none of the gateway's own",
    );
}

fn is_health_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let segment = |segment: &str| {
        segment.starts_with(|first: char| first.is_ascii_alphanumeric())
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let first = rest.split('/').next().unwrap_or_default();
    path.len() <= MAX_PATH
        && rest.split('/').all(segment)
        && !matches!(first, "mcp" | "servers" | "sets" | "robots.txt")
}
