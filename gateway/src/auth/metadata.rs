//! What the gateway's endpoints are called, and their protected-resource metadata (RFC 9728). All of it comes from
//! the configuration: neither Host nor X-Forwarded-* has a say.

use bytes::Bytes;
use portcullis_config::Config;
use serde::Serialize;
use url::Url;

use super::Endpoint;

/// Where RFC 9728 documents are found; a resource's path follows.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Longest server name in a path: namespace and name, 63 characters each, and a dot.
const MAX_SERVER_NAME: usize = 127;

/// The gateway's origin as clients write it: `https://host[:port]`, the scheme's own port left out.
pub fn origin(config: &Config) -> String {
    let scheme = if config.listen.public.plaintext.is_some() {
        "http"
    } else {
        "https"
    };
    let text = format!("{scheme}://{}", config.gateway.public_host);
    Url::parse(&text).map_or(text, |url| url.origin().ascii_serialization())
}

/// Calls `f` with the pieces of the endpoint's path.
fn path_of(endpoint: Endpoint<'_>) -> [&str; 3] {
    match endpoint {
        Endpoint::Federated => ["/mcp", "", ""],
        Endpoint::Server(name) => ["/servers/", name, "/mcp"],
        Endpoint::Set(name) => ["/sets/", name, "/mcp"],
    }
}

/// Is `path` the endpoint's path?
pub(super) fn is_path_of(path: &str, endpoint: Endpoint<'_>) -> bool {
    let [start, name, end] = path_of(endpoint);
    path.strip_prefix(start)
        .and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest == end)
}

/// Could this be the name of a server or a set? Whether it is one is not told before authentication, so that nobody can find
/// out which there are: metadata and challenges are the same for every name.
fn is_server_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_SERVER_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

/// The endpoint that a resource path stands for.
fn endpoint_of(path: &str) -> Option<Endpoint<'_>> {
    if path == "/mcp" {
        return Some(Endpoint::Federated);
    }
    let rest = path.strip_suffix("/mcp")?;
    let endpoint = match rest.strip_prefix("/servers/") {
        Some(name) => Endpoint::Server(name),
        None => Endpoint::Set(rest.strip_prefix("/sets/")?),
    };
    let (Endpoint::Server(name) | Endpoint::Set(name)) = endpoint else {
        return None;
    };
    is_server_name(name).then_some(endpoint)
}

/// The metadata documents. There are none when no authorization server could give out a token.
#[derive(Debug)]
pub struct Metadata {
    origin: String,
    /// A document around its `resource`.
    before: String,
    after: String,
    root: Bytes,
    federated: Bytes,
}

/// Members of a document, in the order in which they are written.
#[derive(Serialize)]
struct Document<'a> {
    resource: &'a str,
    authorization_servers: Vec<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    scopes_supported: &'a [String],
    bearer_methods_supported: [&'static str; 1],
}

impl Metadata {
    /// The documents of a configuration; none where only API keys or nobody at all are judged.
    pub fn build(config: &Config) -> Option<Self> {
        let configured = &config.auth.protected_resource;
        let servers: Vec<&str> = if configured.authorization_servers.is_empty() {
            let issuers = config.auth.jwt.iter().map(|jwt| jwt.issuer.as_str());
            issuers.collect()
        } else {
            let listed = configured.authorization_servers.iter();
            listed.map(String::as_str).collect()
        };
        if servers.is_empty() {
            return None;
        }
        // Rendered once around a mark that JSON does not escape and no other member holds in that place.
        let text = serde_json::to_string(&Document {
            resource: "",
            authorization_servers: servers,
            scopes_supported: &configured.scopes,
            bearer_methods_supported: ["header"],
        })
        .expect("strings always serialize");
        let (before, after) = text
            .split_once(r#""resource":"""#)
            .expect("the document begins with its resource");
        let before = format!(r#"{before}"resource":""#);
        let after = format!(r#""{after}"#);
        let origin = origin(config);
        let render = |path: &str| Bytes::from([&before, &*origin, path, &after].concat());
        Some(Self {
            root: render(""),
            federated: render("/mcp"),
            origin,
            before,
            after,
        })
    }

    /// The document at `path`, which begins with [`WELL_KNOWN`].
    pub fn document(&self, path: &str) -> Option<Bytes> {
        let resource = path.strip_prefix(WELL_KNOWN)?;
        if resource.is_empty() {
            return Some(self.root.clone());
        }
        match endpoint_of(resource)? {
            Endpoint::Federated => Some(self.federated.clone()),
            Endpoint::Server(_) | Endpoint::Set(_) => Some(Bytes::from(
                [&*self.before, &*self.origin, resource, &*self.after].concat(),
            )),
        }
    }

    /// Where an endpoint's document is.
    pub(super) fn url(&self, endpoint: Endpoint<'_>) -> String {
        let path = match endpoint {
            Endpoint::Server(name) | Endpoint::Set(name) if !is_server_name(name) => ["", "", ""],
            other => path_of(other),
        };
        let [start, name, end] = path;
        [&*self.origin, WELL_KNOWN, start, name, end].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{ORIGIN, config, jwt_config};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn document(metadata: &Metadata, path: &str) -> Option<Value> {
        metadata
            .document(path)
            .map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    #[rstest]
    #[case("/.well-known/oauth-protected-resource", "")]
    #[case("/.well-known/oauth-protected-resource/mcp", "/mcp")]
    #[case(
        "/.well-known/oauth-protected-resource/servers/files/mcp",
        "/servers/files/mcp"
    )]
    #[case(
        "/.well-known/oauth-protected-resource/servers/ns.x-1/mcp",
        "/servers/ns.x-1/mcp"
    )]
    #[case("/.well-known/oauth-protected-resource/sets/triage/mcp", "/sets/triage/mcp")]
    fn each_endpoint_has_its_document(#[case] path: &str, #[case] resource: &str) {
        let metadata = Metadata::build(&jwt_config("")).unwrap();
        let expected = json!({
            "resource": format!("{ORIGIN}{resource}"),
            "authorization_servers": ["https://idp.example.com"],
            "bearer_methods_supported": ["header"],
        });
        assert_eq!(document(&metadata, path), Some(expected));
    }

    #[rstest]
    #[case("/.well-known/oauth-protected-resource/")]
    #[case("/.well-known/oauth-protected-resourcemcp")]
    #[case("/.well-known/oauth-protected-resource/mcp/")]
    #[case("/.well-known/oauth-protected-resource/servers//mcp")]
    #[case("/.well-known/oauth-protected-resource/servers/a/b/mcp")]
    #[case("/.well-known/oauth-protected-resource/servers/a\"b/mcp")]
    #[case("/.well-known/oauth-protected-resource/servers/%22/mcp")]
    #[case("/.well-known/oauth-protected-resource/servers/A/mcp")]
    #[case("/mcp")]
    fn other_paths_have_none(#[case] path: &str) {
        assert_eq!(document(&Metadata::build(&jwt_config("")).unwrap(), path), None);
    }

    #[test]
    fn a_long_name_is_no_name() {
        let metadata = Metadata::build(&jwt_config("")).unwrap();
        let path = |length| format!("{WELL_KNOWN}/servers/{}/mcp", "a".repeat(length));
        assert!(metadata.document(&path(127)).is_some());
        assert!(metadata.document(&path(128)).is_none());
    }

    #[test]
    fn what_is_configured_stands_there() {
        let auth = "{apiKeys: {dir: k}, protectedResource: {authorizationServers: ['https://as.example.com/\"x'], scopes: ['mcp:tools']}}";
        let metadata = Metadata::build(&config(auth, "")).unwrap();
        let root = document(&metadata, WELL_KNOWN).unwrap();
        assert_eq!(
            root["authorization_servers"],
            json!(["https://as.example.com/\"x"])
        );
        assert_eq!(root["scopes_supported"], json!(["mcp:tools"]));
    }

    #[test]
    fn with_api_keys_only_there_is_none() {
        assert!(Metadata::build(&config("{apiKeys: {dir: k}}", "")).is_none());
    }

    #[test]
    fn the_origin_is_written_as_clients_write_it() {
        let mut config = jwt_config("");
        assert_eq!(origin(&config), "https://mcp.example.com");
        config.gateway.public_host = "mcp.example.com:8443".into();
        assert_eq!(origin(&config), "https://mcp.example.com:8443");
        config.listen.public.tls = None;
        config.listen.public.plaintext = Some(portcullis_config::listen::Plaintext {
            reason: "mesh".into(),
        });
        config.gateway.public_host = "localhost:80".into();
        assert_eq!(origin(&config), "http://localhost");
    }
}
