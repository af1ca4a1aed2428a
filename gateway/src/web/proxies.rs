//! Where a client calls from, where proxies stand in front of the gateway.
//!
//! One address for each request: failure limits, rate limits, audit records and logs use it. Only proxies that the
//! configuration trusts have a say; nothing that they say goes further than this.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use portcullis_config::network::{Network, ProxyMode, TrustedProxy};

use crate::server::connection::Arrival;

/// The header that proxies add to.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// So many trusted proxies may stand behind each other.
const MAX_HOPS: usize = 32;

/// Who is believed.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// The most specific first.
    ranges: Vec<TrustedProxy>,
    only: bool,
}

/// A trusted proxy says something that is no address, or too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Proxies {
    /// As configured.
    pub fn new(network: &Network) -> Self {
        let mut ranges = network.trusted_proxies.clone();
        ranges.sort_by_key(|proxy| std::cmp::Reverse(proxy.cidr.prefix_len()));
        Self {
            ranges,
            only: network.only_from_proxies,
        }
    }

    /// How whoever has this address says for whom it connects. None: it is not believed.
    fn mode(&self, address: IpAddr) -> Option<ProxyMode> {
        let address = address.to_canonical();
        let holds = |proxy: &&TrustedProxy| proxy.cidr.contains(&IpNet::from(address));
        self.ranges.iter().find(holds).map(|proxy| proxy.mode)
    }

    /// What becomes of a connection from there.
    pub fn arrival(&self, peer: IpAddr) -> Arrival {
        match self.mode(peer) {
            Some(ProxyMode::ProxyProtocol) => Arrival::Announced,
            None if self.only => Arrival::Refused,
            Some(ProxyMode::XForwardedFor) | None => Arrival::Direct,
        }
    }

    /// Where the client calls from: the right-most hop that is no trusted proxy, where `source`, which the connection is
    /// from, is a proxy that adds to `X-Forwarded-For`; else `source` itself.
    ///
    /// What stands left of that hop was said by somebody who is not trusted, and is not looked at.
    pub fn client(&self, source: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Unreadable> {
        let source = source.to_canonical();
        if self.ranges.is_empty() || self.mode(source) != Some(ProxyMode::XForwardedFor) {
            return Ok(source);
        }
        // Several lines are one list (RFC 9110, section 5.3).
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for (at, hop) in hops.enumerate() {
            if at == MAX_HOPS {
                return Err(Unreadable);
            }
            let address = hop_address(hop).ok_or(Unreadable)?;
            if self.mode(address).is_none() {
                return Ok(address);
            }
        }
        // Proxies all the way: the nearest speaks for itself.
        Ok(source)
    }
}

/// An address as proxies write it, some with a port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(socket.ip().to_canonical());
    }
    let literal = text.strip_prefix('[')?.strip_suffix(']')?;
    let address: std::net::Ipv6Addr = literal.parse().ok()?;
    Some(IpAddr::V6(address).to_canonical())
}

#[cfg(test)]
mod tests;
