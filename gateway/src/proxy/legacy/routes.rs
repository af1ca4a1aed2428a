//! Which part of a session's stream is whose.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::mcp::envelope::{Kind, Message};
use crate::mcp::method::Method;
use crate::mcp::scan::Member;
use crate::proxy::exchange::Failure;
use crate::proxy::terms::same_id;

/// Messages that wait for one who is to take them.
const MAX_WAITING: usize = 64;
/// Calls of one session.
const MAX_CALLS: usize = 1024;

/// Who waits for what.
pub(super) struct Routes {
    table: Mutex<Table>,
    /// Bytes that may wait for one who is to take them, beside the one message that always may.
    most: usize,
}

#[derive(Default)]
struct Table {
    over: bool,
    next: u64,
    calls: Vec<Call>,
    /// Who listens to the session itself.
    own: Option<(u64, Queue)>,
}

struct Call {
    number: u64,
    id: Bytes,
    token: Option<Bytes>,
    queue: Queue,
}

struct Queue {
    sender: mpsc::Sender<Message>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    held: AtomicUsize,
    overflown: AtomicBool,
}

/// The messages for one call, or for one who listens. Dropping it is the end of that.
pub struct Waiting {
    routes: Arc<Routes>,
    number: u64,
    receiver: mpsc::Receiver<Message>,
    state: Arc<State>,
}

impl Waiting {
    /// The next message. There always is one, or it failed.
    pub async fn next(&mut self) -> Result<Message, Failure> {
        match self.receiver.recv().await {
            Some(message) => {
                self.state
                    .held
                    .fetch_sub(message.bytes().len(), Ordering::Relaxed);
                Ok(message)
            }
            None if self.state.overflown.load(Ordering::Relaxed) => Err(Failure::TooLarge),
            None => Err(Failure::CutOff),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.routes.remove(self.number);
    }
}

impl Queue {
    /// False: it takes nothing more.
    fn put(&self, message: Message, most: usize) -> bool {
        let length = message.bytes().len();
        let before = self.state.held.fetch_add(length, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(length) <= most;
        let taken = fits && self.sender.try_send(message).is_ok();
        // Nobody hears of it where the one who was to take it is gone.
        if !taken {
            self.state.overflown.store(true, Ordering::Relaxed);
        }
        taken
    }
}

impl Routes {
    pub(super) fn new(most: usize) -> Self {
        Self {
            table: Mutex::default(),
            most,
        }
    }

    /// From now on there is somebody who waits for the answer to `request`.
    pub(super) fn wait(self: &Arc<Self>, request: &Message) -> Result<Waiting, Failure> {
        let copy = |member| request.raw(member).map(Bytes::copy_from_slice);
        let (id, token) = (
            copy(Member::Id).unwrap_or_default(),
            copy(Member::MetaProgressToken),
        );
        self.add(|table, number, queue| {
            if table.calls.len() >= MAX_CALLS {
                return Err(Failure::TooLarge);
            }
            table.calls.push(Call {
                number,
                id,
                token,
                queue,
            });
            Ok(())
        })
    }

    pub(super) fn listen(self: &Arc<Self>) -> Result<Waiting, Failure> {
        self.add(|table, number, queue| {
            table.own = Some((number, queue));
            Ok(())
        })
    }

    fn add(
        self: &Arc<Self>,
        put: impl FnOnce(&mut Table, u64, Queue) -> Result<(), Failure>,
    ) -> Result<Waiting, Failure> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let state = Arc::<State>::default();
        let queue = Queue {
            sender,
            state: Arc::clone(&state),
        };
        let mut table = self.lock();
        if table.over {
            return Err(Failure::SessionLost);
        }
        table.next += 1;
        let number = table.next;
        put(&mut table, number, queue)?;
        drop(table);
        Ok(Waiting {
            routes: Arc::clone(self),
            number,
            receiver,
            state,
        })
    }

    /// Takes a message to whom it is for. Gives it back if that is nobody.
    pub(super) fn route(&self, message: Message) -> Option<Message> {
        let mut table = self.lock();
        let table = &mut *table;
        let answer = matches!(message.kind(), Kind::Response | Kind::ErrorResponse);
        if answer {
            let id = message.id()?;
            let at = table.calls.iter().position(|call| same_id(&call.id, id))?;
            // It is the last thing that the call hears.
            table.calls.remove(at).queue.put(message, self.most);
            return None;
        }
        let progress = message.kind() == Kind::Notification && message.method() == Method::Progress;
        if progress && let Some(token) = message.raw(Member::ProgressToken) {
            let of = |call: &Call| call.token.as_ref().is_some_and(|own| same_id(own, token));
            if let Some(at) = table.calls.iter().position(of) {
                return self.put(table, at, message);
            }
        }
        if let Some((_, own)) = &table.own {
            if !own.put(message, self.most) {
                table.own = None;
            }
            return None;
        }
        // The youngest call: the one that the server is most likely at.
        match table.calls.len().checked_sub(1) {
            Some(last) => self.put(table, last, message),
            None => Some(message),
        }
    }

    fn put(&self, table: &mut Table, at: usize, message: Message) -> Option<Message> {
        if let Some(call) = table.calls.get(at)
            && !call.queue.put(message, self.most)
        {
            table.calls.remove(at);
        }
        None
    }

    /// The stream is over.
    pub(super) fn end(&self) {
        let mut table = self.lock();
        table.over = true;
        table.calls.clear();
        table.own = None;
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }

    fn remove(&self, number: u64) {
        let mut table = self.lock();
        table.calls.retain(|call| call.number != number);
        if table.own.as_ref().is_some_and(|(own, _)| *own == number) {
            table.own = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str) -> Message {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t","_meta":{{"progressToken":{id}}}}}}}"#
        );
        Message::from_client(text.into(), 16).unwrap()
    }

    fn said(text: &str) -> Message {
        Message::from_server(Bytes::copy_from_slice(text.as_bytes()), 16).unwrap()
    }

    fn answer(id: &str) -> Message {
        said(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))
    }

    fn progress(token: &str) -> Message {
        said(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
        ))
    }

    #[tokio::test]
    async fn each_call_hears_what_is_for_it() {
        let routes = Arc::new(Routes::new(1 << 20));
        let mut one = routes.wait(&request("1")).unwrap();
        let mut two = routes.wait(&request("\"1\"")).unwrap();
        for message in [progress("1"), answer("\"1\""), answer("7"), answer("1")] {
            routes.route(message);
        }
        assert_eq!(one.next().await.unwrap().method(), Method::Progress);
        assert_eq!(one.next().await.unwrap().id(), Some(&b"1"[..]));
        assert_eq!(two.next().await.unwrap().id(), Some(&b"\"1\""[..]));
        assert!(matches!(one.next().await, Err(Failure::CutOff)));
    }

    #[tokio::test]
    async fn who_lets_too_much_pile_up_loses_its_part_alone() {
        for (most, sent) in [(1 << 20, MAX_WAITING + 1), (400, 9)] {
            let routes = Arc::new(Routes::new(most));
            let mut slow = routes.wait(&request("1")).unwrap();
            let mut other = routes.wait(&request("2")).unwrap();
            for _ in 0..sent {
                routes.route(progress("1"));
            }
            routes.route(answer("1"));
            routes.route(answer("2"));
            assert!(other.next().await.is_ok());
            let failed = loop {
                if let Err(failed) = slow.next().await {
                    break failed;
                }
            };
            assert!(matches!(failed, Failure::TooLarge));
        }
    }

    #[tokio::test]
    async fn what_is_no_calls_goes_to_who_listens_or_to_a_call() {
        let routes = Arc::new(Routes::new(1 << 20));
        let asked = || said(r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#);
        assert!(routes.route(asked()).is_some(), "nobody is there");
        assert!(routes.route(answer("1")).is_none());
        let mut call = routes.wait(&request("1")).unwrap();
        assert!(routes.route(asked()).is_none());
        assert!(call.next().await.is_ok());
        let mut own = routes.listen().unwrap();
        assert!(routes.route(asked()).is_none());
        assert!(own.next().await.is_ok());
        drop((own, call));
        assert!(routes.route(asked()).is_some());
    }

    #[tokio::test]
    async fn with_the_stream_everything_ends() {
        let routes = Arc::new(Routes::new(1 << 20));
        let mut call = routes.wait(&request("1")).unwrap();
        routes.end();
        assert!(matches!(call.next().await, Err(Failure::CutOff)));
        assert!(matches!(routes.wait(&request("2")), Err(Failure::SessionLost)));
        assert!(matches!(routes.listen(), Err(Failure::SessionLost)));
    }
}
