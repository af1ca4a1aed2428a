//! What a server says and asks in a call, beside its answer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::asked::Asked;
use super::way::Way;
use super::{Ended, Item, Relay};
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::{self, Cause};
use crate::mcp::revision::Era;
use crate::proxy::asks::To;
use crate::proxy::news::Lists;
use crate::proxy::pushed::{self, Pushed};
use crate::proxy::question;
use crate::proxy::registry::{Elsewhere, Session};
use crate::proxy::terms;

impl Relay {
    /// The client's own session, where the server speaks in one that belongs to it.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        let own = !self.channel.shared && self.channel.era() == Era::Session;
        self.holds.session().filter(|_| own)
    }

    /// What of a notification is for the client.
    pub(super) fn notification(&self, message: &Message) -> Option<Bytes> {
        match message.method() {
            Method::Progress => return terms::progress(message, &self.mapping),
            Method::LogMessage if self.mapping.era == Era::Stateless => {
                let wanted = self.mapping.log.is_some_and(|least| least.lets_pass(message));
                return wanted.then(|| message.bytes().clone());
            }
            _ => {}
        }
        if let Some(lists) = Lists::changed_by(message.method()) {
            self.upstream.heard(lists);
            return None;
        }
        // A stateless server logs on the stream of a request alone, and only if that says so.
        let stateless = self.channel.era() == Era::Stateless && self.holds.session().is_some();
        if stateless && self.upstream.features.logging && message.method() == Method::LogMessage {
            return Some(message.bytes().clone());
        }
        let session = self.session().map(Arc::as_ref);
        match pushed::notification(session, &self.upstream, &self.channel, message) {
            Pushed::Told(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A request of the server to the client.
    pub(super) fn request(&mut self, message: &Message) -> Option<Item> {
        if question::may_be_asked(message, self.parks) {
            return Some(Item::Question(Box::new(message.clone())));
        }
        let session = self.session().map(Arc::clone);
        let left = self.times.left();
        let asker = session.as_deref();
        match pushed::request(asker, &self.upstream, &self.channel, message, left) {
            Pushed::Asked { key, method, bytes } => {
                let session = session?;
                let asked = self.asked.get_or_insert_with(|| Asked {
                    session,
                    keys: Vec::new(),
                });
                asked.keys.push(key);
                return Some(Item::Asked(method, bytes));
            }
            Pushed::Reply(reply) => self.replies.add(reply),
            Pushed::Told(_) | Pushed::Nothing => {}
        }
        None
    }

    /// The server needs more from the client, which is asked in its session; then the request goes out again.
    pub(super) fn another_round(&mut self, answer: &Message) -> Result<(), Ended> {
        let (Some(rounds), Some(session)) = (&mut self.rounds, self.holds.session()) else {
            return Ok(());
        };
        let session = Arc::clone(session);
        let id = Bytes::from(self.upstream.link.next_id().to_string());
        let call = self.holds.call().clone();
        let left = self.times.left();
        let (questions, again) = rounds
            .next(answer, &session, &self.upstream, id.clone(), left, call)
            .map_err(Ended::Failed)?;
        let asked = self.asked.get_or_insert_with(|| Asked {
            session,
            keys: Vec::new(),
        });
        asked.keys.extend(questions.iter().map(|question| question.key));
        self.questions.extend(questions);
        self.mapping.server_id = id;
        self.times.heard(Instant::now());
        self.way = Way::Sent(again);
        Ok(())
    }

    /// Nobody is there to be asked: the server is told so, unless the client listens elsewhere.
    pub(super) fn ask_elsewhere(&mut self, method: Method, bytes: Bytes) {
        let Some(asked) = &mut self.asked else { return };
        let Some(&key) = asked.keys.last() else { return };
        let question = Elsewhere {
            key,
            server: Arc::clone(&self.upstream.full_name),
            method,
            bytes,
        };
        if asked.session.ask(question) {
            return;
        }
        asked.keys.pop();
        if let Some(ask) = asked.session.asks.remove(key)
            && let To::Server { id, .. } = ask.into_to()
        {
            self.replies.add(reply::error(&Cause::Internal, Some(&id)));
        }
    }
}
