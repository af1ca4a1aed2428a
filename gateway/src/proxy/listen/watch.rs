//! The stream on which a stateless server tells of the resources that one client's stream is about.

use std::sync::Arc;

use http::StatusCode;
use tokio::sync::watch;

use super::mailbox::{self, Mailbox};
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use crate::proxy::exchange::Failure;
use crate::proxy::news::Lists;
use crate::proxy::news::follow::{Listener, Unopened};
use crate::proxy::news::source::{self, Stream};
use crate::proxy::upstream::Upstream;

/// What the server said about the resources it will tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing yet.
    Pending,
    /// It tells of these.
    Granted(Vec<Box<str>>),
}

/// One client's stream, towards one server.
pub struct Watch {
    /// The server's own URIs.
    pub uris: Vec<Box<str>>,
    /// Where updates go.
    pub mailbox: Arc<Mailbox>,
    /// What the server grants.
    pub word: watch::Sender<Word>,
}

impl Watch {
    fn push(&self, upstream: &Upstream, uri: &str) {
        let subscribed = self.uris.iter().map(|uri| &**uri);
        if let Some(whole) = mailbox::about(subscribed, uri) {
            self.mailbox.push(&upstream.full_name, uri, whole);
        }
    }
}

/// What an update is about.
pub fn updated(message: &Message) -> Option<std::borrow::Cow<'_, str>> {
    (message.method() == Method::ResourcesUpdated)
        .then(|| message.str(Member::Uri))
        .flatten()
}

impl Listener for Watch {
    fn wants(&self, upstream: &Upstream) -> bool {
        upstream.features.subscriptions && upstream.features.resources
    }

    async fn open(&mut self, upstream: &Arc<Upstream>) -> Result<Stream, Unopened> {
        let unopened = |failure| (failure, None);
        let shape = upstream.shape().await.map_err(unopened)?;
        if shape.era() == Era::Session {
            let none = Failure::Status(StatusCode::METHOD_NOT_ALLOWED, None);
            return Err(unopened(none));
        }
        let opened = source::open_stateless(upstream, Lists::NONE, &self.uris).await;
        opened.map_err(unopened)
    }

    fn granted(&mut self, word: &Message) -> bool {
        let granted = source::granted_uris(word);
        let mut granted_here = self.uris.clone();
        granted_here.retain(|uri| granted.iter().any(|one| **one == **uri));
        let any = !granted_here.is_empty();
        self.word.send_replace(Word::Granted(granted_here));
        any
    }

    async fn begin(
        &mut self,
        upstream: &Arc<Upstream>,
        _stream: &Stream,
        again: bool,
    ) -> Result<(), Failure> {
        if again {
            for uri in &self.uris {
                self.push(upstream, uri);
            }
        }
        Ok(())
    }

    fn hear(&mut self, upstream: &Upstream, message: &Message) {
        if let Some(uri) = updated(message) {
            self.push(upstream, &uri);
        }
    }

    fn none_there(&mut self) {
        self.word.send_replace(Word::Granted(Vec::new()));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}
