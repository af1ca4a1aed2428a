//! What stays in force when a path has nothing to offer.
//!
//! The kubelet removes a file when its Secret goes, and mounts a newly named one only after a while. So absence has
//! three meanings: revoked (an API key, a credential: acts at once), lost by accident (a certificate, a trust anchor, a
//! session key: the last good one goes on), or not there yet (the configuration names a new path: the same place's last
//! good content bridges the gap, for a bounded time).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::files::{Content, Entry, Files};

/// How long the kubelet may take to mount what is newly named: its own sync period is a minute.
const NOT_YET: Duration = Duration::from_secs(90);

/// The last good content of every place.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    places: BTreeMap<String, Place>,
}

#[derive(Clone, Debug)]
struct Place {
    content: Content,
    /// Where the content was read.
    path: PathBuf,
    /// Since when another path has been named that has nothing to offer.
    waiting: Option<(PathBuf, Instant)>,
}

impl Retention {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What stays in force, given what the disk says at `now`.
    pub fn apply(&mut self, entries: &[Entry], mut files: Files, now: Instant) -> Files {
        let named = |place: &str| entries.iter().any(|entry| entry.place == place);
        self.places.retain(|place, _| named(place));
        for entry in entries {
            match files.content(&entry.path) {
                Some(Ok(content)) => {
                    let place = Place {
                        content: content.clone(),
                        path: entry.path.clone(),
                        waiting: None,
                    };
                    self.places.insert(entry.place.clone(), place);
                }
                Some(Err(_)) => {
                    let Some(place) = self.places.get_mut(&entry.place) else {
                        continue;
                    };
                    if place.still_holds(entry, now) {
                        files.keep(&entry.path, place.content.clone());
                    } else {
                        self.places.remove(&entry.place);
                    }
                }
                None => {}
            }
        }
        files
    }
}

impl Place {
    fn still_holds(&mut self, entry: &Entry, now: Instant) -> bool {
        if !entry.kind.absent_means_revoked() {
            return true;
        }
        if self.path == entry.path {
            return false;
        }
        let since = match &self.waiting {
            Some((path, since)) if *path == entry.path => *since,
            Some(_) | None => {
                self.waiting = Some((entry.path.clone(), now));
                now
            }
        };
        now.duration_since(since) < NOT_YET
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::files::{FileError, Kind};
    use bytes::Bytes;
    use portcullis_config::status::ReferenceState;
    use rstest::rstest;
    use std::path::Path;

    fn entry(kind: Kind, path: &str) -> Entry {
        Entry {
            place: "the place".into(),
            kind,
            path: path.into(),
        }
    }

    fn disk(path: &str, content: Result<&'static str, FileError>) -> Files {
        let content = content.map(|text| Content::File(Bytes::from_static(text.as_bytes())));
        Files {
            contents: BTreeMap::from([(path.into(), content)]),
            kept: BTreeMap::new(),
        }
    }

    fn text(files: &Files, path: &str) -> Option<String> {
        let bytes = files.bytes(Path::new(path)).ok()?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[rstest]
    #[case(Kind::TlsCertificate, true)]
    #[case(Kind::TlsKey, true)]
    #[case(Kind::CaBundle, true)]
    #[case(Kind::SessionKey, true)]
    #[case(Kind::ApiKeys, false)]
    #[case(Kind::Credential, false)]
    #[case(Kind::Jwks, false)]
    fn what_vanishes_is_kept_or_revoked_by_its_kind(#[case] kind: Kind, #[case] kept: bool) {
        for gone in [FileError::Missing, FileError::Empty, FileError::TooLarge] {
            let mut retention = Retention::new();
            let now = Instant::now();
            let entries = [entry(kind, "/a")];
            retention.apply(&entries, disk("/a", Ok("good")), now);
            for later in [0, 1, 10_000] {
                let later = now + Duration::from_secs(later);
                let files = retention.apply(&entries, disk("/a", Err(gone.clone())), later);
                assert_eq!(text(&files, "/a").is_some(), kept);
                let reference = &files.references()[0];
                assert_ne!(reference.state, ReferenceState::Present);
                assert_eq!(reference.message.contains("last good"), kept);
            }
        }
    }

    #[test]
    fn a_revoked_credential_does_not_come_back_by_naming_another_path() {
        let mut retention = Retention::new();
        let now = Instant::now();
        retention.apply(&[entry(Kind::Credential, "/a")], disk("/a", Ok("good")), now);
        retention.apply(
            &[entry(Kind::Credential, "/a")],
            disk("/a", Err(FileError::Missing)),
            now,
        );
        let files = retention.apply(
            &[entry(Kind::Credential, "/b")],
            disk("/b", Err(FileError::Missing)),
            now,
        );
        assert_eq!(text(&files, "/b"), None);
    }

    #[rstest]
    #[case(Kind::Credential)]
    #[case(Kind::ApiKeys)]
    #[case(Kind::Jwks)]
    fn a_newly_named_path_is_bridged_for_ninety_seconds(#[case] kind: Kind) {
        let mut retention = Retention::new();
        let now = Instant::now();
        retention.apply(&[entry(kind, "/old")], disk("/old", Ok("good")), now);
        let entries = [entry(kind, "/new")];
        for (second, holds) in [(100, true), (150, true), (189, true), (190, false), (191, false)] {
            let files = retention.apply(
                &entries,
                disk("/new", Err(FileError::Missing)),
                now + Duration::from_secs(second),
            );
            assert_eq!(text(&files, "/new").is_some(), holds, "after {second} s");
        }
        let files = retention.apply(
            &entries,
            disk("/new", Ok("newer")),
            now + Duration::from_secs(300),
        );
        assert_eq!(text(&files, "/new").as_deref(), Some("newer"));
    }

    #[test]
    fn a_place_that_is_no_longer_named_is_forgotten() {
        let mut retention = Retention::new();
        let now = Instant::now();
        retention.apply(&[entry(Kind::TlsKey, "/a")], disk("/a", Ok("good")), now);
        retention.apply(&[], Files::default(), now);
        let files = retention.apply(
            &[entry(Kind::TlsKey, "/a")],
            disk("/a", Err(FileError::Missing)),
            now,
        );
        assert_eq!(text(&files, "/a"), None);
    }

    #[test]
    fn what_was_never_there_is_simply_missing() {
        let mut retention = Retention::new();
        let entries = [entry(Kind::TlsCertificate, "/a")];
        let files = retention.apply(&entries, disk("/a", Err(FileError::Missing)), Instant::now());
        assert_eq!(files.bytes(Path::new("/a")), Err(&FileError::Missing));
        assert_eq!(files.references()[0].message, "is missing");
    }
}
