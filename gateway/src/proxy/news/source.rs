//! A stream of a server's own accord: in the stateless era the answer to `subscriptions/listen`, in the one before the
//! session's GET stream.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use tokio::time::timeout;

use super::Lists;
use super::follow::Unopened;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::method::Method;
use crate::mcp::revision::Era;
use crate::mcp::scan::{self, Member};
use crate::proxy::channel::Channel;
use crate::proxy::exchange::{Exchange, Failure, Outgoing};
use crate::proxy::handshake::{MCP_METHOD, OWN_ID, meta};
use crate::proxy::links;
use crate::proxy::primitive::Primitive;
use crate::proxy::upstream::Upstream;

/// The members of a filter that ask for lists.
pub const FILTER: [(Primitive, &str); 3] = [
    (Primitive::Tools, "toolsListChanged"),
    (Primitive::Prompts, "promptsListChanged"),
    (Primitive::Resources, "resourcesListChanged"),
];
/// The member of a filter that asks for updates of resources.
pub const URIS: &str = "resourceSubscriptions";

/// An open stream. Dropping it closes the connection, and so ends it at the server.
pub struct Stream {
    exchange: Exchange,
    channel: Arc<Channel>,
}

/// Asks a stateless server for news of `lists` and of the resources `uris`.
pub async fn open_stateless(
    upstream: &Arc<Upstream>,
    lists: Lists,
    uris: &[Box<str>],
) -> Result<Stream, Failure> {
    let method = Method::SubscriptionsListen.as_str();
    let mut message = format!(
        r#"{{"jsonrpc":"2.0","id":{},"method":"{method}","params":{{"_meta":{},"notifications":"#,
        String::from_utf8_lossy(OWN_ID),
        meta(upstream.own_capabilities())
    )
    .into_bytes();
    write_filter(lists, uris.iter().map(|uri| &**uri), &mut message);
    message.extend_from_slice(b"}}");
    let channel = upstream.link.stateless();
    let mut extra = HeaderMap::with_capacity(8);
    extra.insert(MCP_METHOD, HeaderValue::from_static(method));
    let outgoing = Outgoing {
        message: message.into(),
        channel: &channel,
        extra,
        credential: upstream.credential.shown(),
        bounds: upstream.bounds,
    };
    let started = Exchange::start(&upstream.link, outgoing, None);
    let exchange = timeout(upstream.timeout, started)
        .await
        .unwrap_or(Err(Failure::Timeout))?;
    Ok(Stream { exchange, channel })
}

/// Opens the stream of a session.
pub async fn open_session(upstream: &Arc<Upstream>, channel: Arc<Channel>) -> Result<Stream, Unopened> {
    match Exchange::listen(upstream, &channel, None).await {
        Ok(exchange) => Ok(Stream { exchange, channel }),
        Err(failure) => Err((failure, Some(channel))),
    }
}

impl Stream {
    /// Does it speak at once? A stateless server first says what it grants.
    pub fn is_ready(&self) -> bool {
        self.channel.era() == Era::Session
    }

    /// The way to the server.
    pub const fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Message>, Failure> {
        let message = self.exchange.next().await?;
        Ok(message.filter(|message| {
            // Its final word in the stateless era, and all that it says where it has no such stream.
            !matches!(message.kind(), Kind::Response | Kind::ErrorResponse)
        }))
    }

    /// Answers what the server asks.
    pub async fn refuse(&self, upstream: &Upstream, message: &Message) {
        upstream.refuse(&self.channel, message).await;
    }
}

/// Is it the word of a stateless server about what it will tell of?
pub fn is_word(message: &Message) -> bool {
    message.method() == Method::SubscriptionsAcknowledged
}

/// Does it grant any list?
pub fn grants_lists(word: &Message) -> bool {
    let text = word.bytes();
    word.span(Member::Notifications).is_some_and(|filter| {
        FILTER
            .iter()
            .any(|(_, name)| scan::field(text, filter, name).is_some_and(|value| value.of(text) == b"true"))
    })
}

/// The resources that it grants.
pub fn granted_uris(word: &Message) -> Vec<String> {
    let text = word.bytes();
    let uris = word
        .span(Member::Notifications)
        .and_then(|filter| scan::field(text, filter, URIS));
    uris.into_iter()
        .flat_map(|uris| scan::elements(text, uris).map_while(Result::ok))
        .filter_map(|uri| scan::unescape(uri.of(text)).ok())
        .map(std::borrow::Cow::into_owned)
        .collect()
}

/// Writes a filter.
pub fn write_filter<'u>(lists: Lists, uris: impl Iterator<Item = &'u str>, out: &mut Vec<u8>) {
    let mut first = true;
    let mut member = |name: &str, out: &mut Vec<u8>| {
        out.push(if std::mem::take(&mut first) { b'{' } else { b',' });
        out.extend_from_slice(&links::json(name));
        out.push(b':');
    };
    for (primitive, name) in FILTER {
        if lists.has(primitive) {
            member(name, out);
            out.extend_from_slice(b"true");
        }
    }
    let mut uris = uris.peekable();
    if uris.peek().is_some() {
        member(URIS, out);
        for (at, uri) in uris.enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            out.extend_from_slice(&links::json(uri));
        }
        out.push(b']');
    }
    if first {
        out.push(b'{');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Lists::NONE, &[], "{}")]
    #[case(Lists::of(Primitive::Prompts), &[], r#"{"promptsListChanged":true}"#)]
    #[case(
        Lists::ALL,
        &["a:\"", "b:"],
        r#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a:\"","b:"]}"#
    )]
    #[case(Lists::NONE, &["b:"], r#"{"resourceSubscriptions":["b:"]}"#)]
    fn filters_are_written(#[case] lists: Lists, #[case] uris: &[&str], #[case] expected: &str) {
        let mut out = Vec::new();
        write_filter(lists, uris.iter().copied(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[rstest]
    #[case(r#"{"toolsListChanged":true}"#, true, &[])]
    #[case(r#"{"resourceSubscriptions":["a:","b\u003a"]}"#, false, &["a:", "b:"])]
    #[case(r#"{"toolsListChanged":false,"resourceSubscriptions":[]}"#, false, &[])]
    #[case("{}", false, &[])]
    fn what_is_granted_is_read(#[case] filter: &str, #[case] lists: bool, #[case] uris: &[&str]) {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"notifications":{filter}}}}}"#
        );
        let message = Message::from_server(Bytes::from(text), 16).unwrap();
        assert!(is_word(&message));
        assert_eq!(grants_lists(&message), lists);
        assert_eq!(granted_uris(&message), uris);
    }
}
