//! Keys from where the configuration says they are, and what became of each place.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_config::Problem;
use portcullis_config::auth::{CaBundle, Jwks, JwksUri, Jwt};
use portcullis_config::status::{Reference, ReferenceState};
use url::Url;

use super::api_key::ApiKeys;
use super::jwks::KeySet;
use super::jwks::store::Registry;
use super::jwt::Keys;

/// The mounted files as they were read in one pass.
pub trait Mounts {
    /// A file's content.
    fn file(&self, path: &Path) -> Result<Bytes, Unreadable>;
    /// A directory's files by name.
    fn dir(&self, path: &Path) -> Result<&BTreeMap<String, Bytes>, Unreadable>;
}

/// A file or directory that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Missing or Invalid.
    pub state: ReferenceState,
    /// What is wrong, in words.
    pub message: String,
}

/// Where a method's keys come from.
pub(super) fn keys(
    jwt: &Jwt,
    files: &impl Mounts,
    issuers: &Registry,
    references: &mut Vec<Reference>,
) -> Result<Keys, Problem> {
    match &jwt.jwks {
        Jwks::Inline(text) => KeySet::parse(text.as_bytes())
            .map(|keys| Keys::Fixed(Some(Arc::new(keys))))
            .map_err(|err| Problem {
                path: format!("auth.jwt[{}].jwks.inline", jwt.name),
                message: err.to_string(),
            }),
        Jwks::File(path) => {
            let read = files.file(path).and_then(|document| {
                KeySet::parse(&document).map_err(|err| Unreadable {
                    state: ReferenceState::Invalid,
                    message: err.to_string(),
                })
            });
            references.push(reference(path, read.as_ref().err().cloned()));
            Ok(Keys::Fixed(read.ok().map(Arc::new)))
        }
        Jwks::Uri(uri) => {
            let url = Url::parse(&uri.url).map_err(|err| Problem {
                path: format!("auth.jwt[{}].jwks.uri.url", jwt.name),
                message: err.to_string(),
            })?;
            Ok(remote(jwt, uri, url, files, issuers, references))
        }
    }
}

fn remote(
    jwt: &Jwt,
    uri: &JwksUri,
    url: Url,
    files: &impl Mounts,
    issuers: &Registry,
    references: &mut Vec<Reference>,
) -> Keys {
    let private = uri.allow_private_addresses;
    let ca = match &uri.ca_bundle {
        None => None,
        Some(CaBundle::Inline(pem)) => Some(Bytes::from(pem.clone())),
        Some(CaBundle::File(path)) => {
            let read = files.file(path);
            references.push(reference(path, read.as_ref().err().cloned()));
            let Ok(pem) = read else {
                // The public anchors are no stand-in for a private one: the last good one stays, or nothing is fetched.
                let last = issuers.last(&jwt.issuer, &url);
                return last.map_or(Keys::Fixed(None), Keys::Remote);
            };
            Some(pem)
        }
    };
    Keys::Remote(issuers.store(&jwt.issuer, url, ca, private))
}

/// The keys of a mounted Secret; none when it cannot be read.
pub(super) fn api_keys(dir: &Path, files: &impl Mounts, references: &mut Vec<Reference>) -> Option<ApiKeys> {
    let read = files.dir(dir).map(ApiKeys::load);
    let wrong = match &read {
        Err(unreadable) => Some(unreadable.clone()),
        // An optional Secret that is missing is mounted as an empty directory.
        Ok(keys) if keys.is_empty() && keys.complaint().is_none() => Some(Unreadable {
            state: ReferenceState::Missing,
            message: "holds no client".into(),
        }),
        Ok(keys) => keys.complaint().map(|message| Unreadable {
            state: ReferenceState::Invalid,
            message,
        }),
    };
    references.push(reference(dir, wrong));
    read.ok()
}

fn reference(path: &Path, wrong: Option<Unreadable>) -> Reference {
    let (state, message) = match wrong {
        None => (ReferenceState::Present, String::new()),
        Some(Unreadable { state, message }) => (state, message),
    };
    Reference {
        path: path.display().to_string(),
        state,
        message,
        expires: None,
    }
}
