//! Sessions that the gateway opened on servers: who holds one ends it by letting go of it.
//!
//! A server keeps each session until it is told otherwise. So the place that holds one is the place that ends it, whatever
//! the way by which it goes: the client's own end, its time, another that needed the room, a refusal on the way.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::channel::Channel;
use super::exchange::Failure;
use super::handshake::Seed;
use super::link::{Link, Shape};
use super::listen::hub::Hub;
use super::shared::Shared;
use super::upstream::Upstream;
use crate::mcp::envelope::Message;
use crate::mcp::revision::Era;
use crate::mcp::scan::Member;
use crate::mcp::session::{self, Capabilities};

/// Sessions of one server that are ended at the same time.
const AT_ONCE: usize = 16;
/// Sessions of one server that wait for their end. Past that the oldest is left to the server's own time-out: a server
/// that does not answer must not fill the gateway's memory.
const MAX_WAITING: usize = 8192;
/// The longest `clientInfo` that a server is shown.
const MAX_CLIENT_INFO: usize = 1024;
/// What clients say to one server beside their requests at the same time.
const MAX_WORDS: usize = 64;
/// Sessions of one server that are opened at the same time.
const MAX_OPENING: usize = 64;

/// A session on a server. Letting go of it ends it there.
pub struct Opened {
    channel: Arc<Channel>,
    link: Weak<Link>,
    over: AtomicBool,
}

impl Opened {
    /// Takes charge of the session behind `channel`.
    pub fn new(link: &Arc<Link>, channel: Channel) -> Self {
        // Without an id or a stream there is nothing to end.
        let over = AtomicBool::new(channel.session_id.is_none() && channel.legacy.is_none());
        Self {
            channel: Arc::new(channel),
            link: Arc::downgrade(link),
            over,
        }
    }

    /// The way to it.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Is it a session on that server?
    pub fn is_on(&self, link: &Arc<Link>) -> bool {
        std::ptr::eq(self.link.as_ptr(), Arc::as_ptr(link))
    }

    /// Does somebody call on it, or listen?
    pub fn is_used(&self) -> bool {
        Arc::strong_count(&self.channel) > 1
    }

    /// Ends it now, in the background.
    pub fn end(&self) {
        if !self.over.swap(true, Ordering::Relaxed)
            && let Some(link) = self.link.upgrade()
        {
            link.sessions.end(Arc::clone(&self.channel));
        }
    }

    /// It is no longer this holder's to end: the server forgot it, or somebody else goes on with it.
    pub fn release(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a [`Link`] knows about the sessions on its server.
pub struct Sessions {
    /// The server as the configuration in force has it, and so with the credential in force.
    current: Mutex<Weak<Upstream>>,
    /// What has to be ended; `None` while nobody is at it.
    waiting: Mutex<Option<VecDeque<Arc<Channel>>>>,
    opening: Arc<Semaphore>,
    /// Places for what clients say on them beside their requests.
    pub words: Arc<Semaphore>,
    /// Those of clients that have none of their own.
    pub shared: Shared,
    /// What they subscribe to on those.
    pub hub: Hub,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            current: Mutex::default(),
            waiting: Mutex::default(),
            opening: Arc::new(Semaphore::new(MAX_OPENING)),
            words: Arc::new(Semaphore::new(MAX_WORDS)),
            shared: Shared::default(),
            hub: Hub::default(),
        }
    }
}

impl Sessions {
    /// From now on sessions are ended with the credential of `upstream`.
    pub fn belong_to(&self, upstream: &Arc<Upstream>) {
        *lock(&self.current) = Arc::downgrade(upstream);
    }

    /// The server as the configuration in force has it; none once it is no longer configured.
    pub(super) fn current(&self) -> Option<Arc<Upstream>> {
        lock(&self.current).upgrade()
    }

    /// Ends a session in the background. A server that is no longer configured is not spoken to.
    pub fn end(&self, channel: Arc<Channel>) {
        let (Ok(runtime), Some(upstream)) = (Handle::try_current(), self.current()) else {
            return;
        };
        if !self.wait(channel) {
            runtime.spawn(end_all(upstream));
        }
    }

    /// Puts a session among those that wait. True: somebody is at it.
    fn wait(&self, channel: Arc<Channel>) -> bool {
        let mut waiting = lock(&self.waiting);
        let busy = waiting.is_some();
        let queue = waiting.get_or_insert_default();
        if queue.len() >= MAX_WAITING {
            queue.pop_front();
        }
        queue.push_back(channel);
        busy
    }

    /// Is some session being ended?
    pub fn is_ending(&self) -> bool {
        lock(&self.waiting).is_some()
    }

    /// The next one to end.
    fn next(&self) -> Option<Arc<Channel>> {
        lock(&self.waiting).as_mut().and_then(VecDeque::pop_front)
    }

    /// All that was begun has ended. True: nothing came meanwhile, and the caller is no longer at it.
    fn is_over(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        let over = waiting.as_ref().is_none_or(VecDeque::is_empty);
        if over {
            *waiting = None;
        }
        over
    }
}

/// Ends what waits, until nothing does.
async fn end_all(upstream: Arc<Upstream>) {
    let link = Arc::clone(&upstream.link);
    let sessions = &link.sessions;
    // One task is at it until all of its requests are over: a second one would double what is bounded.
    loop {
        let mut closing = FuturesUnordered::new();
        loop {
            while closing.len() < AT_ONCE
                && let Some(channel) = sessions.next()
            {
                // A credential may have been replaced since the first.
                let upstream = sessions.current();
                closing.push(async move {
                    if let Some(upstream) = upstream {
                        upstream.close(&channel).await;
                    }
                });
            }
            if closing.next().await.is_none() {
                break;
            }
        }
        if sessions.is_over() {
            return;
        }
    }
}

/// For whom a session is opened.
pub struct Opener {
    client_info: Vec<u8>,
    capabilities: Vec<u8>,
}

impl Opener {
    /// The gateway on behalf of clients that have no session.
    pub fn gateway() -> Self {
        Self {
            client_info: Seed::GATEWAY.client_info.to_vec(),
            capabilities: Seed::GATEWAY.capabilities.to_vec(),
        }
    }

    /// A client that has none, for one request: under its own name, if it says that.
    pub fn request(message: &Message, declared: Capabilities) -> Self {
        let info = message
            .raw(Member::MetaClientInfo)
            .filter(|info| info.len() <= MAX_CLIENT_INFO);
        Self {
            client_info: info.unwrap_or(Seed::GATEWAY.client_info).to_vec(),
            capabilities: declared.to_json(Era::Session),
        }
    }

    /// A client in its session: under its own name, with what it can do and `upstream` may ask of it.
    pub fn client(upstream: &Upstream, token: &session::Session) -> Self {
        Self {
            client_info: token.client.to_json(),
            capabilities: upstream.may_ask(token.capabilities).to_json(Era::Session),
        }
    }
}

/// Opens a session on a server, for one session of a client or `shared` by all its calls without one. It is opened to the
/// end even if the caller gives up, since the server would keep what was half done; nobody takes it then, and that ends it.
pub async fn open(
    upstream: &Arc<Upstream>,
    opener: Opener,
    shared: bool,
) -> Result<(Opened, Shape), Failure> {
    let places = Arc::clone(&upstream.link.sessions.opening);
    let place = timeout(upstream.timeout, places.acquire_owned())
        .await
        .ok()
        .and_then(Result::ok)
        .ok_or(Failure::Timeout)?;
    let upstream = Arc::clone(upstream);
    let opening = tokio::spawn(async move {
        let _place = place;
        let seed = Seed {
            client_info: &opener.client_info,
            capabilities: &opener.capabilities,
        };
        let (channel, shape) = upstream.initialize(&seed).await?;
        let channel = Channel { shared, ..channel };
        Ok((Opened::new(&upstream.link, channel), shape))
    });
    opening.await.unwrap_or(Err(Failure::CutOff))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_its_end_is_bounded_and_one_is_at_it() {
        let sessions = Sessions::default();
        let channel = |number: usize| {
            Arc::new(Channel {
                session_id: Some(number.into()),
                ..Channel::STATELESS
            })
        };
        let busy: Vec<bool> = (0..MAX_WAITING + 2).map(|n| sessions.wait(channel(n))).collect();
        assert!(!busy[0] && busy[1..].iter().all(|busy| *busy));
        let first = sessions.next().unwrap();
        assert_eq!(
            first.session_id.as_ref().unwrap(),
            "2",
            "the oldest two are left out"
        );
        let rest = std::iter::from_fn(|| sessions.next()).count();
        assert_eq!(rest, MAX_WAITING - 1);
        assert!(
            sessions.wait(channel(0)),
            "what was taken has not ended, so that somebody is still at it"
        );
        assert!(!sessions.is_over(), "one came meanwhile");
        assert!(sessions.next().is_some() && sessions.is_over());
        assert!(!sessions.wait(channel(0)), "nobody is at it any more");
    }
}
