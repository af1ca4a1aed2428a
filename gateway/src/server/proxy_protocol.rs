//! PROXY protocol, version 2: what a proxy says before anything else about the connection that it passes on.
//!
//! Exactly the header is read, never a byte beyond. The deadline for heads bounds how long it may take.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a header begins with; no other protocol does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// The longest rest: addresses, and what proxies add about TLS and networks, which is skipped.
pub const MAX_REST: usize = 2048;

const VERSION: u8 = 0x20;
const LOCAL: u8 = 0x0;
const PROXY: u8 = 0x1;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Why a header is not taken, and its connection with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is none, or it is one of version 1, which is text.
    #[error("the connection does not begin with a PROXY protocol header of version 2")]
    Signature,
    /// Another version, or a command that does not exist.
    #[error("the PROXY protocol header has another version or an unknown command")]
    Command,
    /// A connection passed on that is not TCP.
    #[error("the PROXY protocol header is not about a TCP connection")]
    Family,
    /// Shorter than the addresses that it announces.
    #[error("the PROXY protocol header is shorter than its addresses")]
    Short,
    /// Longer than [`MAX_REST`].
    #[error("the PROXY protocol header is longer than {MAX_REST} bytes")]
    Long,
}

/// The beginning of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    local: bool,
    family: u8,
    /// How much follows.
    pub rest: usize,
}

/// Reads a header's beginning.
pub fn start(bytes: &[u8; FIXED]) -> Result<Start, Invalid> {
    let Some(&[command, family, high, low]) = bytes.strip_prefix(&SIGNATURE) else {
        return Err(Invalid::Signature);
    };
    let local = match command ^ VERSION {
        LOCAL => true,
        PROXY => false,
        _ => return Err(Invalid::Command),
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > MAX_REST {
        return Err(Invalid::Long);
    }
    // What a proxy says of itself needs no addresses.
    if !local && !matches!(family, TCP4 | TCP6) {
        return Err(Invalid::Family);
    }
    Ok(Start { local, family, rest })
}

impl Start {
    /// Who connected to the proxy, by what follows. None: the proxy itself, which looks whether the gateway is there.
    pub fn source(&self, rest: &[u8]) -> Result<Option<SocketAddr>, Invalid> {
        if self.local {
            return Ok(None);
        }
        // Source and destination address, source and destination port.
        let (address, ports): (IpAddr, &[u8]) = if self.family == TCP4 {
            let (address, after) = rest.split_first_chunk::<4>().ok_or(Invalid::Short)?;
            (
                Ipv4Addr::from(*address).into(),
                after.get(4..).ok_or(Invalid::Short)?,
            )
        } else {
            let (address, after) = rest.split_first_chunk::<16>().ok_or(Invalid::Short)?;
            (
                Ipv6Addr::from(*address).into(),
                after.get(16..).ok_or(Invalid::Short)?,
            )
        };
        let Some(&[high, low, _, _]) = ports.get(..4) else {
            return Err(Invalid::Short);
        };
        Ok(Some(SocketAddr::new(
            address.to_canonical(),
            u16::from_be_bytes([high, low]),
        )))
    }
}

/// Why no header was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Something else came.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The connection ended before.
    #[error("the connection ended within the PROXY protocol header: {0}")]
    Io(#[from] io::Error),
}

/// Reads a header, and says who connected to the proxy. None: the proxy itself.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ReadError> {
    let mut fixed = [0; FIXED];
    let mut filled = 0;
    while filled < FIXED {
        let count = stream.read(fixed.get_mut(filled..).unwrap_or_default()).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        filled += count;
        // What is no header is known by its first bytes: nobody need wait for the others.
        let seen = filled.min(SIGNATURE.len());
        if fixed.get(..seen) != SIGNATURE.get(..seen) {
            return Err(Invalid::Signature.into());
        }
    }
    let start = start(&fixed)?;
    let mut rest = [0; MAX_REST];
    let rest = rest.get_mut(..start.rest).ok_or(Invalid::Long)?;
    stream.read_exact(rest).await?;
    Ok(start.source(rest)?)
}

#[cfg(test)]
mod tests;
