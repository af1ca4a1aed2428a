//! What the client of a session subscribed to on servers without sessions. They tell of it on a stream that the gateway
//! opens there, and only while the client listens on its own; nobody else could be told.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;

use super::links;
use super::listen::filter::MAX_URIS;
use super::listen::mailbox::{Mailbox, Update};
use super::listen::watch::{Watch, Word};
use super::listen::{may_hear, place};
use super::news::follow;
use super::offered::View;
use super::upstream::Upstream;
use crate::app::context::{Context, OwnedEndpoint};
use crate::clock;
use crate::config::snapshot::Snapshot;
use crate::mcp::method::Method;
use crate::mcp::revision::Era;

/// A resource: of which server, by that server's own word for it.
type Resource = (Arc<str>, Box<str>);

/// The subscriptions of one session.
#[derive(Default)]
pub struct Subscribed(Mutex<Vec<Resource>>);

impl Subscribed {
    /// Subscribes. False: there are too many already.
    pub fn add(&self, server: &Arc<str>, uri: &str) -> bool {
        let mut all = self.lock();
        if all.iter().any(|(of, known)| of == server && **known == *uri) {
            return true;
        }
        let room = all.len() < MAX_URIS;
        if room {
            all.push((Arc::clone(server), uri.into()));
        }
        room
    }

    /// Unsubscribes, from what was subscribed to or not.
    pub fn remove(&self, server: &str, uri: &str) {
        self.lock()
            .retain(|(of, known)| **of != *server || **known != *uri);
    }

    fn all(&self) -> Vec<Resource> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Resource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams of servers that tell of it, as long as the client listens.
#[derive(Default)]
pub struct Watching {
    watched: Vec<Resource>,
    mailbox: Arc<Mailbox>,
    following: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Watching {
    /// Brings what is listened to in line with what is subscribed to. What changes while the streams are opened anew would
    /// be told to nobody: the client looks again at what it was subscribed to before.
    pub fn settle<'s>(
        &mut self,
        ctx: &Context,
        here: impl Iterator<Item = &'s Arc<Upstream>>,
        to: &Subscribed,
    ) {
        let wanted = to.all();
        if wanted == self.watched {
            return;
        }
        let before = std::mem::replace(&mut self.watched, wanted);
        self.mailbox = Arc::default();
        self.following.clear();
        for upstream in here {
            let server = &upstream.full_name;
            // One that was not met yet may be: whoever listens finds out.
            let known = upstream.link.shape();
            let stateless = known.as_ref().is_none_or(|shape| shape.era() == Era::Stateless);
            let of = self.watched.iter().filter(|(of, _)| of == server);
            let uris: Vec<Box<str>> = of.map(|(_, uri)| uri.clone()).collect();
            if !stateless || uris.is_empty() {
                continue;
            }
            for uri in &uris {
                if before.iter().any(|(of, known)| of == server && known == uri) {
                    self.mailbox.push(server, uri, uri);
                }
            }
            let (word, _) = watch::channel(Word::Pending);
            let watch = Watch {
                uris,
                mailbox: Arc::clone(&self.mailbox),
                word,
            };
            let following = follow::follow(place(&ctx.app, &upstream.link), watch);
            self.following.push(Box::pin(following));
        }
    }

    /// What changed. `None`: nothing more comes of one of the servers. What is dropped while it waits loses nothing.
    pub async fn next(&mut self) -> Option<Update> {
        if self.following.is_empty() {
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            update = self.mailbox.next() => update,
            _ = self.following.next() => None,
        }
    }
}

/// What the client is told of a change, if it may hear of that: under the endpoint's name for it.
pub fn told(ctx: &Context, snapshot: &Arc<Snapshot>, (server, own): &Update) -> Option<Bytes> {
    let mut upstreams = snapshot.upstreams.iter();
    let at = upstreams.position(|upstream| upstream.full_name == *server)?;
    let view = View {
        snapshot,
        who: &ctx.who,
        endpoint: &ctx.endpoint,
        now: clock::now_unix(),
    };
    if !may_hear(&view, snapshot.upstreams.get(at)?, own) {
        return None;
    }
    let uri = match ctx.endpoint {
        OwnedEndpoint::Server(_) => links::json(own),
        OwnedEndpoint::Federated => links::json(&ctx.app.routes(snapshot).public_uri(at, own)),
        // Sets are of tools.
        OwnedEndpoint::Set(_) => return None,
    };
    let text = [
        br#"{"jsonrpc":"2.0","method":""#,
        Method::ResourcesUpdated.as_str().as_bytes(),
        br#"","params":{"uri":"#,
        &uri,
        b"}}",
    ];
    Some(text.concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_of_one_server_each_and_bounded() {
        let subscribed = Subscribed::default();
        let (one, other): (Arc<str>, Arc<str>) = ("a/s".into(), "a/t".into());
        for number in 0..MAX_URIS - 1 {
            assert!(subscribed.add(&one, &format!("x:{number}")));
        }
        assert!(subscribed.add(&other, "x:1"));
        assert!(!subscribed.add(&other, "x:2"), "there is room for so many");
        assert!(subscribed.add(&one, "x:1"), "and that one is there already");
        subscribed.remove("a/t", "x:0");
        subscribed.remove("a/s", "x:1");
        assert!(subscribed.add(&other, "x:2"));
        let left = subscribed.all();
        assert_eq!(left.len(), MAX_URIS);
        assert!(left.contains(&(one, "x:0".into())) && left.contains(&(other, "x:1".into())));
    }
}
