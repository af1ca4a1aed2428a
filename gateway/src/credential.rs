//! What the gateway presents to a server: nothing, a fixed secret, or a token that it fetches with its own credentials.
//!
//! The client's own credential never goes there. Where ours is not there, nothing is sent.

mod grant;
mod source;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use portcullis_config::auth::CaBundle;
use portcullis_config::server::{HeaderCredential, OauthClientCredentials, Server};

pub use grant::Grant;
pub use source::{Secrets, Source};

use crate::config::files::Files;

/// What the gateway presents to one server.
#[derive(Clone)]
pub enum Credential {
    /// Nothing.
    None,
    /// This header.
    Header(HeaderName, HeaderValue),
    /// A header whose secret is not there: calls are refused, never sent without it.
    Missing(Arc<str>),
    /// A token, fetched in the background (RFC 6749, section 4.4).
    Token(Arc<Source>),
}

/// Two of the same show the same: a token's successor is the same credential.
impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Header(a, b), Self::Header(c, d)) => a == c && b == d,
            (Self::Missing(a), Self::Missing(b)) => a == b,
            (Self::Token(a), Self::Token(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Credential {
    /// What a server is shown, by its configuration. `source` gives the source of its tokens, kept over reloads.
    pub fn of(
        server: &Server,
        files: &Files,
        source: impl FnOnce(Grant, Secrets) -> Arc<Source>,
    ) -> Result<Self, String> {
        if let Some(header) = &server.credential {
            return fixed(header, files);
        }
        match &server.oauth_client_credentials {
            Some(oauth) => token(oauth, files, source),
            None => Ok(Self::None),
        }
    }

    /// The header to send now. None where there is nothing to show, or not yet: see [`Credential::missing`].
    pub fn shown(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::None | Self::Missing(_) => None,
            Self::Header(name, value) => Some((name.clone(), value.clone())),
            Self::Token(source) => Some((header::AUTHORIZATION, source.shown()?)),
        }
    }

    /// Why there is nothing to show although there should be.
    pub fn missing(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::None | Self::Header(..) => None,
            Self::Missing(why) => Some(Cow::Borrowed(why)),
            Self::Token(source) if source.shown().is_some() => None,
            Self::Token(source) => Some(Cow::Owned(source.failure())),
        }
    }

    /// Must nothing be sent, because what should be shown is not there?
    pub fn is_missing(&self) -> bool {
        match self {
            Self::None | Self::Header(..) => false,
            Self::Missing(_) => true,
            Self::Token(source) => source.shown().is_none(),
        }
    }

    /// The server refused it (401): a token may have been revoked, and another one is fetched.
    pub fn was_refused(&self) {
        if let Self::Token(source) = self {
            source.was_refused();
        }
    }
}

fn fixed(configured: &HeaderCredential, files: &Files) -> Result<Credential, String> {
    let name =
        HeaderName::try_from(&configured.name).map_err(|_| "credential.name is no header name".to_owned())?;
    let secret = match files.bytes(&configured.file) {
        Ok(secret) => secret,
        Err(error) => return Ok(Credential::Missing(error.to_string().into())),
    };
    let text = [configured.prefix.as_bytes(), secret.trim_ascii_end()].concat();
    Ok(match HeaderValue::try_from(text) {
        Ok(mut value) if !secret.trim_ascii_end().is_empty() => {
            value.set_sensitive(true);
            Credential::Header(name, value)
        }
        Ok(_) => Credential::Missing("the file is empty".into()),
        Err(_) => Credential::Missing("the file's content cannot stand in a header".into()),
    })
}

fn token(
    configured: &OauthClientCredentials,
    files: &Files,
    source: impl FnOnce(Grant, Secrets) -> Arc<Source>,
) -> Result<Credential, String> {
    let grant = Grant::new(configured)?;
    let missing = |why: &str| Ok(Credential::Missing(why.into()));
    let secret = match files.bytes(&configured.client_secret) {
        Ok(secret) => secret.trim_ascii_end(),
        Err(error) => return missing(&error.to_string()),
    };
    let secret = match std::str::from_utf8(secret) {
        Ok("") => return missing("the client secret's file is empty"),
        Ok(secret) => secret,
        Err(_) => return missing("the client secret's file is not text"),
    };
    let ca = match &configured.ca_bundle {
        None => None,
        Some(CaBundle::Inline(pem)) => Some(Bytes::copy_from_slice(pem.as_bytes())),
        Some(CaBundle::File(path)) => match files.bytes(path) {
            Ok(pem) => Some(pem.clone()),
            Err(error) => return missing(&error.to_string()),
        },
    };
    Ok(Credential::Token(source(grant, Secrets::new(secret, ca))))
}
