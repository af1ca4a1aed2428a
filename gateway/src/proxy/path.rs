//! The public listener's paths.

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path<'a> {
    /// `/mcp`: every server.
    Federated,
    /// `/servers/NAME/mcp`: one server. `NAME`, or `NAMESPACE.NAME`.
    Server(&'a str),
    /// `/sets/NAME/mcp`: a named set of tools.
    Set(&'a str),
    /// `/.well-known/oauth-protected-resource` and below it: metadata for the endpoint whose path follows (RFC 9728).
    ProtectedResource(&'a str),
    /// Nothing of ours.
    Unknown,
}

/// The longest name in a path: two DNS labels and a dot.
const MAX_NAME: usize = 127;

const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Reads a request's path. Exact: no trailing slash, no percent-encoding, no dot segments.
pub fn parse(path: &str) -> Path<'_> {
    if path == "/mcp" {
        return Path::Federated;
    }
    if let Some(name) = path
        .strip_prefix("/servers/")
        .and_then(|rest| rest.strip_suffix("/mcp"))
    {
        return if is_name(name) {
            Path::Server(name)
        } else {
            Path::Unknown
        };
    }
    if let Some(name) = path
        .strip_prefix("/sets/")
        .and_then(|rest| rest.strip_suffix("/mcp"))
    {
        return if is_name(name) && !name.contains('.') {
            Path::Set(name)
        } else {
            Path::Unknown
        };
    }
    match path.strip_prefix(METADATA) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Path::ProtectedResource(rest),
        _ => Path::Unknown,
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/mcp", Path::Federated)]
    #[case("/mcp/", Path::Unknown)]
    #[case("/servers/files/mcp", Path::Server("files"))]
    #[case("/servers/agents.files/mcp", Path::Server("agents.files"))]
    #[case("/sets/triage/mcp", Path::Set("triage"))]
    #[case("/sets/a.b/mcp", Path::Unknown)]
    #[case("/sets//mcp", Path::Unknown)]
    #[case("/sets/mcp", Path::Unknown)]
    #[case("/servers//mcp", Path::Unknown)]
    #[case("/servers/a/b/mcp", Path::Unknown)]
    #[case("/servers/../mcp/mcp", Path::Unknown)]
    #[case("/servers/%66iles/mcp", Path::Unknown)]
    #[case("/servers/Files/mcp", Path::Unknown)]
    #[case("/.well-known/oauth-protected-resource", Path::ProtectedResource(""))]
    #[case("/.well-known/oauth-protected-resource/mcp", Path::ProtectedResource("/mcp"))]
    #[case("/.well-known/oauth-protected-resourceful", Path::Unknown)]
    #[case("/", Path::Unknown)]
    #[case("*", Path::Unknown)]
    #[case("", Path::Unknown)]
    fn paths_are_exact(#[case] path: &str, #[case] expected: Path<'_>) {
        assert_eq!(parse(path), expected);
    }
}
