//! Subscriptions on a server of the session era, in the session that the server has with one principal: each resource
//! is subscribed to once, however many of the principal's streams are about it, and no longer than one of them is. The
//! session's GET stream, one for all of them, tells what changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::mailbox::{self, Mailbox};
use super::watch::{Word, updated};
use crate::auth::identity::PrincipalKey;
use crate::clock;
use crate::mcp::envelope::{Kind, Message};
use crate::mcp::method::Method;
use crate::proxy::channel::Channel;
use crate::proxy::exchange::Failure;
use crate::proxy::links;
use crate::proxy::news::Lists;
use crate::proxy::news::follow::{Listener, Unopened};
use crate::proxy::news::source::{self, Stream};
use crate::proxy::shared;
use crate::proxy::upstream::Upstream;

/// The principals that subscribe on one server.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<HashMap<PrincipalKey, Arc<Desk>>>>);

/// What one principal's streams want of one server.
#[derive(Default)]
pub struct Desk {
    members: Mutex<Vec<Member>>,
    wake: Notify,
}

/// One of the streams.
struct Member {
    uris: Vec<Box<str>>,
    mailbox: Arc<Mailbox>,
    word: watch::Sender<Word>,
}

/// A stream's place among its principal's. Leaving it unsubscribes from what no other one is about.
pub struct Joined {
    desk: Arc<Desk>,
    mailbox: Arc<Mailbox>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut members = self.desk.members();
        members.retain(|member| !Arc::ptr_eq(&member.mailbox, &self.mailbox));
        drop(members);
        self.desk.wake.notify_one();
    }
}

impl Desk {
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// A stream of `who` wants to hear of `uris`. The second is there where nobody listens yet for this principal: it
    /// is to be followed.
    pub fn join(
        &self,
        who: &PrincipalKey,
        uris: Vec<Box<str>>,
        mailbox: &Arc<Mailbox>,
        word: watch::Sender<Word>,
    ) -> (Joined, Option<Subscriber>) {
        let mut all = self.lock();
        let known = all.get(who).cloned();
        let desk = known.clone().unwrap_or_default();
        desk.members().push(Member {
            uris,
            mailbox: Arc::clone(mailbox),
            word,
        });
        desk.wake.notify_one();
        let subscriber = known.is_none().then(|| {
            all.insert(*who, Arc::clone(&desk));
            Subscriber {
                hub: self.clone(),
                who: *who,
                desk: Arc::clone(&desk),
                subscribed: HashSet::new(),
                refused: HashSet::new(),
            }
        });
        let joined = Joined {
            desk,
            mailbox: Arc::clone(mailbox),
        };
        (joined, subscriber)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PrincipalKey, Arc<Desk>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscribes for one principal.
pub struct Subscriber {
    hub: Hub,
    who: PrincipalKey,
    desk: Arc<Desk>,
    subscribed: HashSet<Box<str>>,
    refused: HashSet<Box<str>>,
}

impl Subscriber {
    fn wanted(&self) -> HashSet<Box<str>> {
        let members = self.desk.members();
        members.iter().flat_map(|member| &member.uris).cloned().collect()
    }

    /// Brings what is subscribed to in line with what is wanted.
    async fn settle(&mut self, upstream: &Arc<Upstream>, stream: &Stream) -> Result<(), Failure> {
        let wanted = self.wanted();
        for uri in &wanted {
            if self.subscribed.contains(uri) || self.refused.contains(uri) {
                continue;
            }
            if self
                .say(upstream, stream, Method::ResourcesSubscribe, uri)
                .await?
            {
                self.subscribed.insert(uri.clone());
            } else {
                self.refused.insert(uri.clone());
            }
        }
        let left: Vec<Box<str>> = self.subscribed.extract_if(|uri| !wanted.contains(uri)).collect();
        for uri in left {
            self.say(upstream, stream, Method::ResourcesUnsubscribe, &uri)
                .await?;
        }
        self.refused.retain(|uri| wanted.contains(uri));
        for member in &*self.desk.members() {
            let mut granted = member.uris.clone();
            let settled = granted
                .iter()
                .all(|uri| self.subscribed.contains(uri) || self.refused.contains(uri));
            granted.retain(|uri| self.subscribed.contains(uri));
            // Who came meanwhile is next.
            if settled {
                member.word.send_replace(Word::Granted(granted));
            }
        }
        Ok(())
    }

    /// False: the server will not.
    async fn say(
        &self,
        upstream: &Arc<Upstream>,
        stream: &Stream,
        method: Method,
        uri: &str,
    ) -> Result<bool, Failure> {
        let params = format!("{{\"uri\":{}}}", String::from_utf8_lossy(&links::json(uri)));
        let asked = upstream
            .ask_beside(stream.channel(), method.as_str(), &params)
            .await;
        match asked {
            Ok(answer) => Ok(answer.kind() == Kind::Response),
            // A resource that the server does not deal with must not cost the others theirs.
            Err(Failure::Status(..) | Failure::Timeout | Failure::Invalid(_) | Failure::TooLarge) => {
                Ok(false)
            }
            Err(failure) => {
                if matches!(failure, Failure::SessionLost) {
                    let shared = &upstream.link.sessions.shared;
                    shared.forget(&self.who, stream.channel());
                }
                Err(failure)
            }
        }
    }

    fn push(&self, upstream: &Upstream, uri: &str) {
        for member in &*self.desk.members() {
            let subscribed = member.uris.iter().map(|uri| &**uri);
            if let Some(whole) = mailbox::about(subscribed, uri) {
                member.mailbox.push(&upstream.full_name, uri, whole);
            }
        }
    }
}

impl Listener for Subscriber {
    fn wants(&self, upstream: &Upstream) -> bool {
        upstream.features.subscriptions && upstream.features.resources
    }

    async fn open(&mut self, upstream: &Arc<Upstream>) -> Result<Stream, Unopened> {
        let channel = shared::channel(upstream, &self.who, clock::now_unix()).await;
        source::open_session(upstream, channel.map_err(|failure| (failure, None))?).await
    }

    fn forgotten(&mut self, upstream: &Upstream, channel: &Arc<Channel>) {
        upstream.link.sessions.shared.forget(&self.who, channel);
    }

    fn granted(&mut self, _word: &Message) -> bool {
        true
    }

    async fn begin(&mut self, upstream: &Arc<Upstream>, stream: &Stream, again: bool) -> Result<(), Failure> {
        self.settle(upstream, stream).await?;
        if again {
            for uri in &self.subscribed {
                self.push(upstream, uri);
            }
        }
        Ok(())
    }

    fn hear(&mut self, upstream: &Upstream, message: &Message) {
        if let Some(uri) = updated(message) {
            self.push(upstream, &uri);
        } else if let Some(lists) = Lists::changed_by(message.method()) {
            upstream.heard(lists);
        }
    }

    fn lost(&mut self) {
        // In a new session nothing is subscribed to.
        self.subscribed.clear();
        self.refused.clear();
    }

    fn none_there(&mut self) {
        for member in &*self.desk.members() {
            member.word.send_replace(Word::Granted(Vec::new()));
        }
    }

    async fn woken(&self) {
        self.desk.wake.notified().await;
    }

    async fn work(&mut self, upstream: &Arc<Upstream>, stream: Option<&Stream>) -> Result<(), Failure> {
        match stream {
            Some(stream) => self.settle(upstream, stream).await,
            None => Ok(()),
        }
    }

    fn is_over(&self) -> bool {
        let mut all = self.hub.lock();
        // What nobody wants any more is unsubscribed from first.
        let over = self.subscribed.is_empty() && self.desk.members().is_empty();
        // Who comes from now on begins anew.
        if over
            && all
                .get(&self.who)
                .is_some_and(|desk| Arc::ptr_eq(desk, &self.desk))
        {
            all.remove(&self.who);
        }
        over
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut all = self.hub.lock();
        if all
            .get(&self.who)
            .is_some_and(|desk| Arc::ptr_eq(desk, &self.desk))
        {
            all.remove(&self.who);
        }
        drop(all);
        for member in &*self.desk.members() {
            member.mailbox.close();
        }
    }
}
