//! Paths of files, compared piece by piece.
//!
//! A path can be written in many ways, and what they lead to is known to the server alone: `..` after a symbolic link
//! leads elsewhere than it reads, a relative path starts somewhere. What cannot be told from the text is not guessed:
//! the comparison fails, and then a Deny denies and an Allow does not allow.

use super::Failure;

/// What a path is held against.
#[derive(Debug)]
pub(super) struct Folder {
    absolute: bool,
    pieces: Box<[Box<str>]>,
}

impl Folder {
    /// A folder as a condition names it.
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        let pieces = pieces(text).ok_or(
            "under() takes a path without .., backslashes, control characters, a leading ~ and encoded separators",
        )?;
        Ok(Self {
            absolute: text.starts_with('/'),
            pieces: pieces.map(Into::into).collect(),
        })
    }

    /// Is `path` this folder, or in it?
    pub(super) fn holds(&self, path: &str) -> Result<bool, Failure> {
        let mut found = pieces(path).ok_or(Failure::UnclearPath)?;
        // Where a relative path starts is not known here.
        if path.starts_with('/') != self.absolute {
            return Err(Failure::UnclearPath);
        }
        Ok(self.pieces.iter().all(|piece| found.next() == Some(&**piece)))
    }
}

/// The pieces of a path without `.` and empty ones; none where it is not clear what the path leads to.
fn pieces(path: &str) -> Option<impl Iterator<Item = &str>> {
    let unclear = path.is_empty()
        || path.starts_with('~')
        || path.chars().any(|c| c == '\\' || c.is_control())
        || path.split('/').any(|piece| piece == "..")
        || has_encoded_separator(path);
    (!unclear).then(|| path.split('/').filter(|piece| !piece.is_empty() && *piece != "."))
}

/// Would decoding change the path's pieces? Who decodes twice is thought of by refusing `%25`.
fn has_encoded_separator(path: &str) -> bool {
    path.split('%').skip(1).any(|after| {
        let code = after.get(..2).unwrap_or_default();
        ["2e", "2f", "5c", "00", "25"]
            .iter()
            .any(|one| code.eq_ignore_ascii_case(one))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/public", "/public", Ok(true))]
    #[case("/public", "/public/", Ok(true))]
    #[case("/public/", "/public/a/b.txt", Ok(true))]
    #[case("/public", "//public/./a", Ok(true))]
    #[case("/public", "/publicly", Ok(false))]
    #[case("/public", "/", Ok(false))]
    #[case("/public", "/Public/a", Ok(false))]
    #[case("/", "/etc/passwd", Ok(true))]
    #[case("/a/b", "/a/c/b", Ok(false))]
    #[case("docs", "docs/x", Ok(true))]
    #[case("docs", "./docs/x", Ok(true))]
    #[case("/public", "/public/100%", Ok(true))]
    #[case("/public", "/public/a%20b", Ok(true))]
    #[case::out_again("/public", "/public/../etc/passwd", Err(Failure::UnclearPath))]
    #[case::in_again("/public", "/etc/../public/x", Err(Failure::UnclearPath))]
    #[case::dots_last("/public", "/public/x/..", Err(Failure::UnclearPath))]
    #[case::from_where("/public", "public/x", Err(Failure::UnclearPath))]
    #[case::relative_to_what("docs", "/docs/x", Err(Failure::UnclearPath))]
    #[case::home("docs", "~/docs", Err(Failure::UnclearPath))]
    #[case::backslash("/public", "/public\\..\\etc", Err(Failure::UnclearPath))]
    #[case::end_of_string("/public", "/public/x\0.png", Err(Failure::UnclearPath))]
    #[case::encoded("/public", "/public/%2E%2e/etc", Err(Failure::UnclearPath))]
    #[case::encoded_twice("/public", "/public/%252e%252e/etc", Err(Failure::UnclearPath))]
    #[case::a_uri("/public", "file:///public/x", Err(Failure::UnclearPath))]
    #[case::nothing("/public", "", Err(Failure::UnclearPath))]
    fn paths_are_held_against_folders(
        #[case] folder: &str,
        #[case] path: &str,
        #[case] expected: Result<bool, Failure>,
    ) {
        assert_eq!(Folder::new(folder).unwrap().holds(path), expected);
    }

    #[rstest]
    #[case("")]
    #[case("/a/../b")]
    #[case("~")]
    #[case("C:\\x")]
    fn a_folder_that_is_not_clear_is_refused(#[case] folder: &str) {
        assert!(Folder::new(folder).is_err());
    }
}
