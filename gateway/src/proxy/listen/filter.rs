//! What a client wants to hear of: the filter of `subscriptions/listen`.

use crate::mcp::envelope::Message;
use crate::mcp::reply::Cause;
use crate::mcp::scan::{self, Member};
use crate::proxy::news::Lists;
use crate::proxy::news::source::{FILTER, URIS};

/// Resources that one stream may be about.
pub const MAX_URIS: usize = 64;
/// The longest URI of one.
const MAX_URI: usize = 2048;

/// A filter.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    /// Lists.
    pub lists: Lists,
    /// Resources, as the client writes them, each once.
    pub uris: Vec<Box<str>>,
}

const fn wrong<T>(problem: &'static str) -> Result<T, Cause> {
    Err(Cause::InvalidParams { problem })
}

/// Reads it.
pub fn read(message: &Message) -> Result<Filter, Cause> {
    let text = message.bytes();
    let filter = message
        .span(Member::Notifications)
        .filter(|_| message.is_object(Member::Notifications));
    let Some(filter) = filter else {
        return wrong("params.notifications is an object");
    };
    let mut lists = Lists::NONE;
    for (primitive, name) in FILTER {
        match scan::field(text, filter, name).map(|value| value.of(text)) {
            Some(b"true") => lists = lists.and(Lists::of(primitive)),
            Some(b"false") | None => {}
            Some(_) => return wrong("what is wanted of a list is true or false"),
        }
    }
    let mut uris: Vec<Box<str>> = Vec::new();
    if let Some(wanted) = scan::field(text, filter, URIS) {
        if wanted.first(text) != b'[' {
            return wrong("resourceSubscriptions is a list");
        }
        for uri in scan::elements(text, wanted) {
            let uri = uri.ok().filter(|uri| uri.first(text) == b'"');
            let uri = uri.and_then(|uri| scan::unescape(uri.of(text)).ok());
            let Some(uri) = uri.filter(|uri| uri.len() <= MAX_URI) else {
                return wrong("resourceSubscriptions are URIs of ordinary length");
            };
            if uris.iter().any(|known| **known == *uri) {
                continue;
            }
            if uris.len() == MAX_URIS {
                return wrong("resourceSubscriptions are at most 64");
            }
            uris.push(uri.into());
        }
    }
    Ok(Filter { lists, uris })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rstest::rstest;

    use super::*;
    use crate::proxy::primitive::Primitive;

    fn of(params: &str) -> Result<Filter, Cause> {
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{{params}}}}}"#);
        read(&Message::from_client(Bytes::from(text), 16).unwrap())
    }

    #[test]
    fn what_is_wanted_is_read() {
        let filter = of(
            r#""notifications":{"toolsListChanged":true,"promptsListChanged":false,"x":1,"resourceSubscriptions":["a:1","b\u003a2","a:1"]}"#,
        );
        let expected = Filter {
            lists: Lists::of(Primitive::Tools),
            uris: vec!["a:1".into(), "b:2".into()],
        };
        assert_eq!(filter.unwrap(), expected);
        let none = of(r#""notifications":{}"#).unwrap();
        assert!(none.lists.is_none() && none.uris.is_empty());
    }

    #[rstest]
    #[case("")]
    #[case(r#""notifications":[]"#)]
    #[case(r#""notifications":{"toolsListChanged":1}"#)]
    #[case(r#""notifications":{"resourceSubscriptions":"a:1"}"#)]
    #[case(r#""notifications":{"resourceSubscriptions":[1]}"#)]
    fn nonsense_is_refused(#[case] params: &str) {
        assert!(matches!(of(params), Err(Cause::InvalidParams { .. })));
    }

    #[test]
    fn resources_are_bounded() {
        let list = |count: usize| {
            let uris: Vec<String> = (0..count).map(|n| format!("\"a:{n}\"")).collect();
            of(&format!(
                r#""notifications":{{"resourceSubscriptions":[{}]}}"#,
                uris.join(",")
            ))
        };
        assert_eq!(list(MAX_URIS).unwrap().uris.len(), MAX_URIS);
        assert!(list(MAX_URIS + 1).is_err());
        let long = format!(
            r#""notifications":{{"resourceSubscriptions":["a:{}"]}}"#,
            "x".repeat(MAX_URI)
        );
        assert!(of(&long).is_err());
    }
}
