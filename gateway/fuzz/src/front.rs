//! What stands before authentication: a proxy's header, the host and the origin that a request names, and the addresses
//! that proxies write down. Whatever the bytes are, nobody gets through but by what is configured, to the letter.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderValue, Uri};
use portcullis_config::network::{Network, ProxyMode, TrustedProxy};
use portcullis_config::web::Cors;
use portcullis_gateway::app::host::Hosts;
use portcullis_gateway::server::proxy_protocol;
use portcullis_gateway::web::origin::{Caller, Origins};
use portcullis_gateway::web::proxies::Proxies;

const HOST: &str = "mcp.example.com";
const LISTED: &str = "https://app.example.com:8443";
const PROXY: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The bytes are a header of the PROXY protocol, and lines of each of the others.
pub fn check(data: &[u8]) {
    announced(data);
    let lines: Vec<HeaderValue> = data
        .split(|byte| *byte == b'\n')
        .take(8)
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    if let [only] = &*lines {
        host(only);
    }
    origin(&lines);
    forwarded(&lines);
}

/// What is read as a header is one, and says what it holds.
fn announced(data: &[u8]) {
    let Some((fixed, after)) = data.split_first_chunk::<16>() else {
        return;
    };
    let Ok(start) = proxy_protocol::start(fixed) else {
        return;
    };
    assert!(fixed.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && matches!(fixed[12], 0x20 | 0x21));
    assert!(start.rest <= proxy_protocol::MAX_REST);
    let Some(rest) = after.get(..start.rest) else {
        return;
    };
    let Ok(Some(source)) = start.source(rest) else {
        return;
    };
    assert_eq!(fixed[12], 0x21, "only a command to pass on names a client");
    let plain = |width: usize| {
        let port = u16::from_be_bytes([rest[2 * width], rest[2 * width + 1]]);
        let ip = match width {
            4 => IpAddr::from(<[u8; 4]>::try_from(&rest[..4]).expect("four")),
            _ => IpAddr::from(<[u8; 16]>::try_from(&rest[..16]).expect("sixteen")),
        };
        SocketAddr::new(ip.to_canonical(), port)
    };
    assert_eq!(source, plain(if fixed[13] == 0x11 { 4 } else { 16 }));
}

/// Only the configured name is ours, with the scheme's port or none.
fn host(value: &HeaderValue) {
    let mut headers = HeaderMap::new();
    headers.insert("host", value.clone());
    let hosts = Hosts::new([HOST].into_iter(), true);
    let ours = hosts.check(&Uri::from_static("/mcp"), &headers).is_ok();
    let lower = value.as_bytes().to_ascii_lowercase();
    assert_eq!(
        ours,
        lower == HOST.as_bytes() || lower == [HOST.as_bytes(), b":443"].concat()
    );
    // As HTTP/2 has it.
    if let Ok(text) = value.to_str()
        && let Ok(uri) = format!("https://{text}/mcp").parse::<Uri>()
        && uri.path() == "/mcp"
        && hosts.check(&uri, &HeaderMap::new()).is_ok()
    {
        assert!(ours, "{text:?}");
    }
}

/// An origin is ours if it stands in the list, or is this machine's where that is allowed; and nobody else's ever.
fn origin(lines: &[HeaderValue]) {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append("origin", line.clone());
    }
    let cors = Cors {
        allowed_origins: vec![LISTED.into()],
        allow_credentials: false,
    };
    let own = format!("https://{HOST}");
    let production = Origins::new(&cors, &own, false).judge(&headers);
    let development = Origins::new(&cors, &own, true).judge(&headers);
    let [line] = lines else {
        let want = if lines.is_empty() {
            Caller::NoPage
        } else {
            Caller::Foreign
        };
        assert_eq!((&production, &development), (&want, &want));
        return;
    };
    let text = String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase();
    let listed = [LISTED, &own, &format!("{own}:443")].contains(&&*text);
    assert_eq!(production != Caller::Foreign, listed, "{text:?}");
    let local = || {
        // Of this machine's pages the scheme is told as browsers write it.
        let schemes: [&[u8]; 2] = [b"https://", b"http://"];
        let scheme = schemes
            .iter()
            .find(|scheme| line.as_bytes().starts_with(scheme))?;
        let rest = text.get(scheme.len()..)?;
        let host = match rest.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()) => {
                host
            }
            _ => rest,
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        Some(match inner {
            Some(inner) => inner
                .parse::<Ipv6Addr>()
                .is_ok_and(|address| address.is_loopback()),
            None => {
                host == "localhost"
                    || host
                        .parse::<std::net::Ipv4Addr>()
                        .is_ok_and(|address| address.is_loopback())
            }
        })
    };
    assert_eq!(
        development != Caller::Foreign,
        listed || local() == Some(true),
        "{text:?}"
    );
}

/// A client is the proxy itself, or one that the header names and that is no proxy; and what is right of it is proxies.
fn forwarded(lines: &[HeaderValue]) {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append("x-forwarded-for", line.clone());
    }
    let cidr: ipnet::IpNet = "2001:db8::/32".parse().expect("a range");
    let network = Network {
        trusted_proxies: vec![TrustedProxy {
            cidr,
            mode: ProxyMode::XForwardedFor,
        }],
        ..Network::default()
    };
    let proxies = Proxies::new(&network);
    let stranger = IpAddr::from([203, 0, 113, 9]);
    assert_eq!(proxies.client(stranger, &headers), Ok(stranger));
    let Ok(client) = proxies.client(PROXY, &headers) else {
        return;
    };
    if client == PROXY {
        return;
    }
    assert!(!cidr.contains(&client));
    let all: Vec<String> = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|hop| String::from_utf8_lossy(hop).trim_matches([' ', '\t']).to_owned())
        .collect();
    let address = |hop: &String| {
        let bare = hop.trim_start_matches('[').trim_end_matches(']');
        let ip = bare
            .parse::<IpAddr>()
            .ok()
            .or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
        ip.map(|ip| ip.to_canonical())
    };
    let found = all
        .iter()
        .rev()
        .find(|hop| address(hop).is_none_or(|ip| !cidr.contains(&ip)));
    assert_eq!(found.and_then(address), Some(client), "{all:?}");
}
