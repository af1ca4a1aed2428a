//! The bytes of a session: fixed fields first, then texts with their lengths. Nothing may follow.

use super::{
    Capabilities, ClientInfo, MAX_INFO_BYTES, MAX_UPSTREAM_ID_BYTES, NotASession, Session, TooLong,
    UpstreamSession,
};
use crate::mcp::revision::Revision;

const VERSION: u8 = 1;
/// In place of the upstream's revision: there is no upstream session.
const NO_UPSTREAM: u8 = 0;

impl Session {
    /// Its bytes.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::with_capacity(128);
        out.push(VERSION);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.principal);
        out.push(self.revision.code());
        out.extend_from_slice(&self.capabilities.bits().to_le_bytes());
        out.extend_from_slice(&self.expires.to_le_bytes());
        for text in [&self.client.name, &self.client.version] {
            let text = super::truncate(text).as_bytes();
            out.push(u8::try_from(text.len()).map_err(|_| TooLong)?);
            out.extend_from_slice(text);
        }
        match &self.upstream {
            None => out.push(NO_UPSTREAM),
            Some(upstream) => {
                if upstream.id.len() > MAX_UPSTREAM_ID_BYTES {
                    return Err(TooLong);
                }
                out.push(upstream.revision.code());
                let length = u16::try_from(upstream.id.len()).map_err(|_| TooLong)?;
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(&upstream.id);
            }
        }
        Ok(out)
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotASession> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return Err(NotASession);
        }
        let session = Self {
            nonce: reader.array()?,
            principal: reader.array()?,
            revision: revision(reader.byte()?)?,
            capabilities: Capabilities::from_bits(u16::from_le_bytes(reader.array()?)).ok_or(NotASession)?,
            expires: u64::from_le_bytes(reader.array()?),
            client: ClientInfo {
                name: reader.text()?,
                version: reader.text()?,
            },
            upstream: reader.upstream()?,
        };
        if reader.0.is_empty() {
            Ok(session)
        } else {
            Err(NotASession)
        }
    }
}

fn revision(code: u8) -> Result<Revision, NotASession> {
    Revision::from_code(code).ok_or(NotASession)
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8], NotASession> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NotASession)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotASession> {
        self.take(N)?.try_into().map_err(|_| NotASession)
    }

    fn byte(&mut self) -> Result<u8, NotASession> {
        self.array().map(|[byte]| byte)
    }

    fn text(&mut self) -> Result<Box<str>, NotASession> {
        let length = usize::from(self.byte()?);
        if length > MAX_INFO_BYTES {
            return Err(NotASession);
        }
        std::str::from_utf8(self.take(length)?)
            .map(Into::into)
            .map_err(|_| NotASession)
    }

    fn upstream(&mut self) -> Result<Option<UpstreamSession>, NotASession> {
        let code = self.byte()?;
        if code == NO_UPSTREAM {
            return Ok(None);
        }
        let revision = revision(code)?;
        let length = usize::from(u16::from_le_bytes(self.array()?));
        if length > MAX_UPSTREAM_ID_BYTES {
            return Err(NotASession);
        }
        Ok(Some(UpstreamSession {
            revision,
            id: self.take(length)?.into(),
        }))
    }
}
