//! Reads the configuration file.

use std::path::{Path, PathBuf};

use portcullis_config::keys::sha256_hex;
use portcullis_config::{LoadError, Loaded, parse};

use crate::config::files::{FileError, read_file};

/// Why the file on disk is not usable.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why not.
        error: FileError,
    },
    /// It says nothing valid.
    #[error("{error}")]
    Invalid {
        /// What is wrong.
        error: LoadError,
        /// SHA-256 of the file in hex.
        hash: String,
    },
}

impl Refused {
    /// Hash of the refused file, if it could be read.
    pub fn hash(&self) -> Option<&str> {
        match self {
            Self::Unreadable { .. } => None,
            Self::Invalid { hash, .. } => Some(hash),
        }
    }
}

/// Reads and checks the file at `path`.
pub fn load(path: &Path) -> Result<Loaded, Refused> {
    let bytes = read_file(path).map_err(|error| Refused::Unreadable {
        path: path.display().to_string(),
        error,
    })?;
    parse(&bytes, &base(path)).map_err(|error| Refused::Invalid {
        error,
        hash: sha256_hex(&bytes),
    })
}

/// The directory that relative paths in the file start from.
fn base(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}
