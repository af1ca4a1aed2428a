//! What the configuration refers to, read from the mounts in one pass.

mod entries;
mod retain;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use portcullis_config::Config;
use portcullis_config::status::{Reference, ReferenceState};

use crate::auth::{Mounts, Unreadable};

pub use entries::{Entry, Kind, entries};
pub use retain::Retention;

/// Largest file: Secrets and ConfigMaps hold at most 1 MiB.
const MAX_FILE: u64 = 1 << 20;
/// Most files of a directory.
const MAX_ENTRIES: usize = 10_000;

/// Why a file or directory is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not there: the Secret does not exist, has not been mounted yet, or is gone.
    #[error("is missing")]
    Missing,
    /// There, without content.
    #[error("is empty")]
    Empty,
    /// Larger than any Secret can be.
    #[error("is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// A directory with more files than any Secret can have.
    #[error("holds more than {MAX_ENTRIES} files")]
    TooMany,
    /// Not a regular file, not a directory, or not readable.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The configuration names no such path. A bug in the caller.
    #[error("is not named by the configuration")]
    NotNamed,
}

impl FileError {
    /// Is there simply nothing?
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Missing | Self::Empty)
    }
}

/// A directory's files by name.
pub type Directory = BTreeMap<String, Bytes>;

/// What was read in one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    contents: BTreeMap<PathBuf, Result<Content, FileError>>,
    /// What the disk said where something older stays in force instead.
    kept: BTreeMap<PathBuf, FileError>,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    File(Bytes),
    Directory(Directory),
}

impl Files {
    /// Reads everything that `config` names.
    pub fn read(config: &Config) -> Self {
        let contents = entries(config)
            .into_iter()
            .map(|entry| {
                let content = if entry.kind.is_directory() {
                    read_directory(&entry.path).map(Content::Directory)
                } else {
                    read_file(&entry.path).map(Content::File)
                };
                (entry.path, content)
            })
            .collect();
        Self {
            contents,
            kept: BTreeMap::new(),
        }
    }

    /// The file at a path of the configuration.
    pub fn bytes(&self, path: &Path) -> Result<&Bytes, &FileError> {
        match self.contents.get(path) {
            Some(Ok(Content::File(bytes))) => Ok(bytes),
            Some(Err(error)) => Err(error),
            Some(Ok(Content::Directory(_))) | None => Err(&FileError::NotNamed),
        }
    }

    /// The files of a directory of the configuration, by name.
    pub fn dir(&self, path: &Path) -> Result<&Directory, &FileError> {
        match self.contents.get(path) {
            Some(Ok(Content::Directory(files))) => Ok(files),
            Some(Err(error)) => Err(error),
            Some(Ok(Content::File(_))) | None => Err(&FileError::NotNamed),
        }
    }

    /// What became of each path, in the words of the status document. Whether a content is usable is for those to add
    /// who use it.
    pub fn references(&self) -> Vec<Reference> {
        self.contents
            .iter()
            .map(|(path, content)| {
                let (state, message) = match (self.kept.get(path), content) {
                    (Some(error), _) => (state(error), format!("{error}; the last good one stays in force")),
                    (None, Ok(_)) => (ReferenceState::Present, String::new()),
                    (None, Err(error)) => (state(error), error.to_string()),
                };
                Reference {
                    path: path.display().to_string(),
                    state,
                    message,
                    expires: None,
                }
            })
            .collect()
    }

    pub(crate) fn content(&self, path: &Path) -> Option<&Result<Content, FileError>> {
        self.contents.get(path)
    }

    /// Puts `content` in the place of what the disk says.
    pub(crate) fn keep(&mut self, path: &Path, content: Content) {
        if let Some(Err(error)) = self.contents.insert(path.to_owned(), Ok(content)) {
            self.kept.insert(path.to_owned(), error);
        }
    }
}

impl Mounts for Files {
    fn file(&self, path: &Path) -> Result<Bytes, Unreadable> {
        self.bytes(path).cloned().map_err(unreadable)
    }

    fn dir(&self, path: &Path) -> Result<&BTreeMap<String, Bytes>, Unreadable> {
        Files::dir(self, path).map_err(unreadable)
    }
}

fn unreadable(error: &FileError) -> Unreadable {
    Unreadable {
        state: state(error),
        message: error.to_string(),
    }
}

fn state(error: &FileError) -> ReferenceState {
    if error.is_absent() {
        ReferenceState::Missing
    } else {
        ReferenceState::Invalid
    }
}

/// Reads a file of bounded size.
pub(crate) fn read_file(path: &Path) -> Result<Bytes, FileError> {
    // The kind first: opening a pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(|err| file_error(&err))?;
    if !metadata.is_file() {
        return Err(FileError::Unreadable("not a regular file".into()));
    }
    let file = fs::File::open(path).map_err(|err| file_error(&err))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| file_error(&err))?;
    match u64::try_from(bytes.len()) {
        Ok(0) => Err(FileError::Empty),
        Ok(length) if length <= MAX_FILE => Ok(bytes.into()),
        _ => Err(FileError::TooLarge),
    }
}

/// Reads a mounted Secret: one file for each of its keys. What begins with a dot is the kubelet's own.
fn read_directory(path: &Path) -> Result<Directory, FileError> {
    let listing = fs::read_dir(path).map_err(|err| file_error(&err))?;
    let mut files = Directory::new();
    let mut total = 0;
    for entry in listing {
        let name = entry.map_err(|err| file_error(&err))?.file_name();
        // Keys of a Secret are ASCII: another name was not made by the kubelet.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        if files.len() == MAX_ENTRIES {
            return Err(FileError::TooMany);
        }
        let bytes = match read_file(&path.join(name)) {
            Ok(bytes) => bytes,
            // An empty key holds nothing; a key that goes while we look is gone.
            Err(FileError::Empty | FileError::Missing) => continue,
            Err(error) => return Err(error),
        };
        total += bytes.len();
        if total > usize::try_from(2 * MAX_FILE).unwrap_or(usize::MAX) {
            return Err(FileError::TooLarge);
        }
        files.insert(name.to_owned(), bytes);
    }
    // An optional Secret that does not exist is mounted as an empty directory.
    if files.is_empty() {
        return Err(FileError::Empty);
    }
    Ok(files)
}

fn file_error(error: &std::io::Error) -> FileError {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => FileError::Missing,
        _ => FileError::Unreadable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scratch::{Scratch, config_text};
    use rstest::rstest;

    /// A configuration that names a path of every kind.
    fn everything() -> Config {
        let text = config_text(
            "sessionKeys: {sealWith: a, keys: [{id: a, file: keys/a}, {id: b, file: keys/b}]}\n\
             servers:\n\
             - {name: s, namespace: default, prefix: s, url: 'https://s/mcp', addressPolicy: Public, \
                caBundle: {file: ca/s}, credential: {name: authorization, file: cred/s}}\n",
        )
        .replace(
            "plaintext: {reason: a test}",
            "tls: {certFile: tls/crt, keyFile: tls/key}",
        )
        .replace(
            "auth: {anonymous: {reason: a test}}",
            "auth:\n  apiKeys: {dir: api-keys}\n  jwt:\n  - {name: f, issuer: f, jwks: {file: jwks/f}}\n  \
             - {name: u, issuer: u, jwks: {uri: {url: 'https://u/jwks', caBundle: {file: ca/u}}}}",
        );
        portcullis_config::parse(text.as_bytes(), Path::new("/base"))
            .unwrap()
            .config
    }

    #[test]
    fn every_path_of_the_configuration_is_read() {
        let config = everything();
        let mut named = Vec::new();
        config.clone().paths_mut(&mut |path| named.push(path.clone()));
        let mut listed: Vec<PathBuf> = entries(&config).into_iter().map(|entry| entry.path).collect();
        named.sort();
        listed.sort();
        assert_eq!(named, listed);
        assert_eq!(named.len(), 9);
        let places: std::collections::BTreeSet<String> =
            entries(&config).into_iter().map(|entry| entry.place).collect();
        assert_eq!(places.len(), 9, "places are unique");
    }

    #[test]
    fn a_mounted_secret_is_read_by_its_keys_only() {
        let scratch = Scratch::new();
        let mount = scratch.mount(
            "keys",
            &[("alice", "sha256:00"), ("bob", "sha256:11"), ("empty", "")],
        );
        let files = read_directory(&mount).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["alice", "bob"]);
        assert_eq!(read_file(&mount.join("alice")).unwrap(), "sha256:00");
    }

    #[test]
    fn an_optional_secret_that_does_not_exist_is_empty() {
        let scratch = Scratch::new();
        let mount = scratch.mount("keys", &[]);
        assert_eq!(read_directory(&mount), Err(FileError::Empty));
        assert_eq!(
            read_directory(&scratch.path().join("nowhere")),
            Err(FileError::Missing)
        );
        assert_eq!(read_file(&mount.join("alice")), Err(FileError::Missing));
    }

    #[rstest]
    #[case(0, Some(FileError::Empty))]
    #[case(1, None)]
    #[case(1 << 20, None)]
    #[case((1 << 20) + 1, Some(FileError::TooLarge))]
    fn sizes_are_bounded(#[case] size: usize, #[case] error: Option<FileError>) {
        let scratch = Scratch::new();
        let path = scratch.write("file", vec![b'x'; size]);
        assert_eq!(read_file(&path).err(), error);
    }

    #[test]
    fn a_directory_of_large_files_is_refused_as_a_whole() {
        let scratch = Scratch::new();
        for name in ["a", "b", "c"] {
            scratch.write(name, vec![b'x'; 1 << 20]);
        }
        assert_eq!(read_directory(scratch.path()), Err(FileError::TooLarge));
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let scratch = Scratch::new();
        let error = read_file(scratch.path()).unwrap_err();
        assert!(matches!(error, FileError::Unreadable(_)) && !error.is_absent());
        // Opening these would block or never end.
        for path in ["/dev/zero", "/dev/tty"] {
            assert!(
                matches!(read_file(Path::new(path)), Err(FileError::Unreadable(_))),
                "{path}"
            );
        }
    }

    #[test]
    fn a_path_below_a_file_is_missing() {
        let scratch = Scratch::new();
        let path = scratch.write("file", "x");
        assert_eq!(read_file(&path.join("key")), Err(FileError::Missing));
    }

    #[test]
    fn a_path_that_nobody_named_is_told_apart() {
        let files = Files::default();
        assert_eq!(files.bytes(Path::new("/x")), Err(&FileError::NotNamed));
        assert_eq!(Files::dir(&files, Path::new("/x")), Err(&FileError::NotNamed));
    }
}
