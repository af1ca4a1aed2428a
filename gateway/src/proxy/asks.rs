//! What servers ask of a client in its session, until the client answers: which question of which server has which id
//! towards the client.
//!
//! Servers number their questions by themselves, so that those of two servers may have one id. The client is given ids
//! of the gateway's, unique over replicas and restarts: an answer that comes late finds no question, never another's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::channel::Channel;
use super::rounds;
use super::upstream::Upstream;
use crate::mcp::edit::Patch;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::scan::{self, Member};

/// Questions of servers that wait for one session's client.
pub const MOST: usize = 64;
/// Those of one server.
const MOST_OF_ONE: usize = 32;

/// The first part of ids, one per process.
static PROCESS: LazyLock<u64> = LazyLock::new(rand::random);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Names a question within this process.
pub type Key = u64;

/// A question that waits for its answer.
pub struct Ask {
    key: Key,
    /// Whose it is: `namespace/name`.
    server: Arc<str>,
    to: To,
    /// Nobody waits for the answer any longer.
    expires: Instant,
}

/// Where an answer goes.
pub enum To {
    /// To a server that asks in its session.
    Server {
        /// Who asks.
        upstream: Arc<Upstream>,
        /// In which session of its own.
        channel: Arc<Channel>,
        /// The server's id for it.
        id: Bytes,
        /// The server's progress token.
        token: Option<Bytes>,
    },
    /// Into another try of a request: the result, or nothing where the client answers with an error.
    Retry(oneshot::Sender<Option<Bytes>>),
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Questions that wait for one client.
#[derive(Default)]
pub struct Asks(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    asks: Vec<Ask>,
    /// When one was answered last.
    answered: Option<Instant>,
}

impl Asks {
    /// Notes a server's request. Gives it as the client is to see it.
    pub fn put(
        &self,
        message: &Message,
        upstream: &Arc<Upstream>,
        channel: &Arc<Channel>,
        patience: Duration,
    ) -> Result<(Key, Bytes), TooMany> {
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = id(key);
        let mut patch = Patch::new(message.bytes());
        // Copied: what waits must not keep the whole event.
        let copy = |member| message.raw(member).map(Bytes::copy_from_slice);
        let server_id = copy(Member::Id).unwrap_or_default();
        if let Some(at) = message.span(Member::Id) {
            patch.replace(at, id.as_bytes());
        }
        let token = copy(Member::MetaProgressToken);
        if let Some(at) = message.span(Member::MetaProgressToken) {
            patch.replace(at, id.as_bytes());
        }
        let bytes = patch.apply().map_err(|_| TooMany)?;
        let to = To::Server {
            upstream: Arc::clone(upstream),
            channel: Arc::clone(channel),
            id: server_id,
            token,
        };
        self.add(key, &upstream.full_name, to, patience)?;
        Ok((key, bytes))
    }

    /// Notes a question whose answer goes into another try. Gives it as the client is to see it, and the answer's place.
    pub fn put_here(
        &self,
        upstream: &Upstream,
        method: Method,
        params: Option<&[u8]>,
        patience: Duration,
    ) -> Result<(Key, Bytes, oneshot::Receiver<Option<Bytes>>), TooMany> {
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        let bytes = rounds::request(&id(key), method, params);
        let (sender, receiver) = oneshot::channel();
        self.add(key, &upstream.full_name, To::Retry(sender), patience)?;
        Ok((key, bytes, receiver))
    }

    fn add(&self, key: Key, server: &Arc<str>, to: To, patience: Duration) -> Result<(), TooMany> {
        let now = Instant::now();
        let mut waiting = self.lock();
        let asks = &mut waiting.asks;
        asks.retain(|ask| ask.expires > now);
        let of_server = asks.iter().filter(|ask| ask.server == *server).count();
        if asks.len() >= MOST || of_server >= MOST_OF_ONE {
            return Err(TooMany);
        }
        asks.push(Ask {
            key,
            server: Arc::clone(server),
            to,
            expires: now + patience,
        });
        Ok(())
    }

    /// The question that the client answers under this id (raw JSON), which nobody can answer again.
    pub fn take(&self, id: &[u8]) -> Option<Ask> {
        let key = key(id)?;
        let mut waiting = self.lock();
        waiting.answered = Some(Instant::now());
        waiting.remove(key)
    }

    /// The server that asked what is answered under this id (raw JSON), and waits for it.
    pub fn asked_by(&self, id: &[u8]) -> Option<Arc<Upstream>> {
        let key = key(id)?;
        let waiting = self.lock();
        let ask = waiting.asks.iter().find(|ask| ask.key == key)?;
        match &ask.to {
            To::Server { upstream, .. } => Some(Arc::clone(upstream)),
            To::Retry(_) => None,
        }
    }

    /// When the client last answered one.
    pub fn answered(&self) -> Option<Instant> {
        self.lock().answered
    }

    /// A question that waits no longer.
    pub fn remove(&self, key: Key) -> Option<Ask> {
        self.lock().remove(key)
    }

    /// Does it wait still?
    pub fn waits(&self, key: Key) -> bool {
        self.lock().asks.iter().any(|ask| ask.key == key)
    }

    /// What the server takes back, by the server's id for it. Gives the key.
    pub fn withdrawn(&self, channel: &Arc<Channel>, server_id: &[u8]) -> Option<Key> {
        let asks = &mut self.lock().asks;
        let at = asks.iter().position(|ask| match &ask.to {
            To::Server { channel: of, id, .. } => {
                Arc::ptr_eq(of, channel) && super::terms::same_id(id, server_id)
            }
            To::Retry(_) => false,
        })?;
        Some(asks.swap_remove(at).key)
    }

    /// The client's progress on a question, as the server is to see it, and the way there. `None`: about none that waits.
    pub fn progress(&self, message: &Message) -> Option<(Arc<Upstream>, Arc<Channel>, Bytes)> {
        let at = message.span(Member::ProgressToken)?;
        let key = key(at.of(message.bytes()))?;
        let waiting = self.lock();
        let ask = waiting.asks.iter().find(|ask| ask.key == key)?;
        let To::Server {
            upstream,
            channel,
            token,
            ..
        } = &ask.to
        else {
            return None;
        };
        let token = token.as_ref()?;
        let mut patch = Patch::new(message.bytes());
        patch.replace(at, token);
        let bytes = patch.apply().ok()?;
        Some((Arc::clone(upstream), Arc::clone(channel), bytes))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn remove(&mut self, key: Key) -> Option<Ask> {
        let at = self.asks.iter().position(|ask| ask.key == key)?;
        Some(self.asks.swap_remove(at))
    }
}

impl Ask {
    /// Where the answer goes.
    pub fn into_to(self) -> To {
        self.to
    }
}

/// The client's answer as the server is to see it, which asked under the id `id`.
pub fn answer(message: &Message, id: &[u8]) -> Option<Bytes> {
    let mut patch = Patch::new(message.bytes());
    patch.replace(message.span(Member::Id)?, id);
    patch.apply().ok()
}

/// What the client is told: a server takes its question back.
pub fn cancellation(key: Key) -> Bytes {
    super::terms::cancellation(id(key).as_bytes(), "the server no longer waits for the answer")
}

/// As JSON.
fn id(key: Key) -> String {
    format!("\"{:016x}-{key:x}\"", *PROCESS)
}

fn key(id: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(scan::contents(id)).ok()?;
    let (process, key) = text.split_once('-')?;
    let ours = id.first() == Some(&b'"') && u64::from_str_radix(process, 16) == Ok(*PROCESS);
    ours.then(|| u64::from_str_radix(key, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_key_and_others_to_none() {
        assert_eq!(key(id(77).as_bytes()), Some(77));
        let other = format!("\"{:016x}-4d\"", PROCESS.wrapping_add(1));
        assert_eq!(key(other.as_bytes()), None, "another process's");
        for foreign in ["77", "\"77\"", "\"\"", "null", "\"x-y\""] {
            assert_eq!(key(foreign.as_bytes()), None, "{foreign}");
        }
    }
}
