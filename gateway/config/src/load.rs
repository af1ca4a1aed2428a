//! From bytes to a valid [`Config`].

use std::path::{Path, PathBuf};

use crate::file::{Config, FORMAT_VERSION};
use crate::keys::sha256_hex;
use crate::validate::{Problem, problems};

/// More than a ConfigMap can hold is not one of our files.
const MAX_BYTES: usize = 1 << 20;

/// A configuration that passed every check.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it says, relative paths resolved.
    pub config: Config,
    /// SHA-256 of the file's bytes, in hex: what `Programmed` compares.
    pub hash: String,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Larger than 1 MiB.
    #[error("the file has {0} bytes, more than the {MAX_BYTES} a configuration may have")]
    TooLarge(usize),
    /// Not YAML, or a field is unknown, missing or of another type.
    #[error("{0}")]
    Syntax(#[from] serde_yaml::Error),
    /// Another release's format.
    #[error("formatVersion {0} is not understood: this release reads {FORMAT_VERSION}")]
    Version(u32),
    /// Values that contradict one another or break a bound.
    #[error("{}", join(.0))]
    Invalid(Vec<Problem>),
}

fn join(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Reads a configuration. Relative paths in it are relative to `base`, the file's directory.
pub fn parse(bytes: &[u8], base: &Path) -> Result<Loaded, LoadError> {
    if bytes.len() > MAX_BYTES {
        return Err(LoadError::TooLarge(bytes.len()));
    }
    let version: VersionOnly = serde_yaml::from_slice(bytes)?;
    if version.format_version != FORMAT_VERSION {
        return Err(LoadError::Version(version.format_version));
    }
    let mut config: Config = serde_yaml::from_slice(bytes)?;
    resolve_paths(&mut config, base);
    let problems = problems(&config);
    if !problems.is_empty() {
        return Err(LoadError::Invalid(problems));
    }
    Ok(Loaded {
        config,
        hash: sha256_hex(bytes),
    })
}

/// The version is read first and alone, so that a newer file is refused for its version and not for a field.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionOnly {
    format_version: u32,
}

fn resolve_paths(config: &mut Config, base: &Path) {
    let mut fix = |path: &mut PathBuf| *path = base.join(&*path);
    config.paths_mut(&mut fix);
}

impl Config {
    /// Calls `f` with every path the configuration names.
    pub fn paths_mut(&mut self, f: &mut dyn FnMut(&mut PathBuf)) {
        use crate::auth::{CaBundle, Jwks};
        let ca = |bundle: &mut Option<CaBundle>, f: &mut dyn FnMut(&mut PathBuf)| {
            if let Some(CaBundle::File(path)) = bundle {
                f(path);
            }
        };
        if let Some(tls) = &mut self.listen.public.tls {
            f(&mut tls.cert_file);
            f(&mut tls.key_file);
        }
        for key in self.session_keys.iter_mut().flat_map(|keys| &mut keys.keys) {
            f(&mut key.file);
        }
        for jwt in &mut self.auth.jwt {
            match &mut jwt.jwks {
                Jwks::Uri(uri) => ca(&mut uri.ca_bundle, f),
                Jwks::File(path) => f(path),
                Jwks::Inline(_) => {}
            }
        }
        if let Some(keys) = &mut self.auth.api_keys {
            f(&mut keys.dir);
        }
        for server in &mut self.servers {
            ca(&mut server.ca_bundle, f);
            if let Some(credential) = &mut server.credential {
                f(&mut credential.file);
            }
            if let Some(oauth) = &mut server.oauth_client_credentials {
                f(&mut oauth.client_secret);
                ca(&mut oauth.ca_bundle, f);
            }
        }
    }

    /// The file's text, as the operator writes it.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }
}
