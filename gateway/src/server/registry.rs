//! Every open connection of a listener, and the one task that watches their deadlines.
//!
//! A timer per connection costs an allocation and two timer-wheel operations for each request; a sweep over all
//! connections a few times a second costs a few nanoseconds each. So connections only note what they are doing and
//! since when, on a coarse clock, and the sweep ends those that take too long.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use tokio::sync::Notify;

use crate::server::limits::{Deadlines, LINGER};
use crate::telemetry::metrics::{CloseReason, ConnectionMetrics};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Handshake, or bytes of a request's head have come and the rest has not.
    Head = 0,
    /// At least one request is being answered.
    Busy = 1,
    /// Between requests.
    Idle = 2,
    /// Our side is closed, the client's is not.
    Linger = 3,
}

/// What a connection has been told to do. Orders only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Go on.
    None = 0,
    /// Let the client know that it should connect elsewhere, serve it meanwhile.
    Leave = 1,
    /// Answer what is there, then close.
    Finish = 2,
    /// Drop everything now.
    Abort = 3,
}

impl From<u8> for Order {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::None,
            1 => Self::Leave,
            2 => Self::Finish,
            _ => Self::Abort,
        }
    }
}

/// One connection as seen by the sweep: written by its task, read by all.
#[derive(Debug)]
pub(crate) struct Link {
    clock: Arc<Clock>,
    phase: AtomicU8,
    /// When `phase` was entered.
    since: AtomicU64,
    /// When the peer stopped taking our bytes; 0 while it does take them.
    stalled: AtomicU64,
    /// When `Finish` was ordered.
    ordered: AtomicU64,
    order: AtomicU8,
    in_flight: AtomicU32,
    /// Those of `in_flight` whose answers the client does not take, though its socket flows (HTTP/2).
    held: AtomicU32,
    /// When an answer of which `held` counts one was last taken a piece of.
    moved: AtomicU64,
    /// HTTP/2: bytes between requests say nothing about a head, and the protocol bounds that itself.
    framed: AtomicBool,
    waker: AtomicWaker,
}

impl Link {
    fn new(clock: Arc<Clock>) -> Self {
        let now = clock.now();
        Self {
            clock,
            phase: AtomicU8::new(Phase::Head as u8),
            since: AtomicU64::new(now),
            stalled: AtomicU64::new(0),
            ordered: AtomicU64::new(0),
            order: AtomicU8::new(Order::None as u8),
            in_flight: AtomicU32::new(0),
            held: AtomicU32::new(0),
            moved: AtomicU64::new(now),
            framed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    fn enter(&self, phase: Phase) {
        // The time first: whoever sees the phase must not see an older time with it.
        self.since.store(self.clock.now(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// HTTP/2 is spoken. Its clients send between requests, too (answers to our pings, windows, settings), so that
    /// only the first head is waited for here; how long a later one may take, the pings bound.
    pub(crate) fn is_framed(&self) {
        self.framed.store(true, Ordering::Relaxed);
    }

    /// Bytes arrived. The first ones after a pause begin a head, and with it the header deadline.
    pub(crate) fn received(&self) {
        if self.phase.load(Ordering::Relaxed) == Phase::Idle as u8 && !self.framed.load(Ordering::Relaxed) {
            self.enter(Phase::Head);
        }
    }

    /// A head is complete and its request is being answered.
    pub(crate) fn request_began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.enter(Phase::Busy);
    }

    /// An answer has been handed over, or its request was given up.
    pub(crate) fn request_ended(&self) {
        if self.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(Phase::Idle);
        }
    }

    /// An answer waits for its client.
    pub(crate) fn held(&self) {
        self.moved.store(self.clock.now(), Ordering::Relaxed);
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// One that was [`Link::held`] no longer is.
    pub(crate) fn moved(&self) {
        self.moved.store(self.clock.now(), Ordering::Relaxed);
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// One of its answers was given up because the client did not take it. The connection serves what else runs on it,
    /// and ends then.
    pub(crate) fn forsake(&self) {
        self.tell(Order::Finish);
    }

    /// Our side of the connection is closed.
    pub(crate) fn lingers(&self) {
        self.enter(Phase::Linger);
    }

    /// The socket took bytes (`true`) or is full because the peer does not read (`false`).
    pub(crate) fn wrote(&self, took: bool) {
        let stalled = self.stalled.load(Ordering::Relaxed);
        if took {
            if stalled != 0 {
                self.stalled.store(0, Ordering::Relaxed);
            }
        } else if stalled == 0 {
            self.stalled.store(self.clock.now().max(1), Ordering::Relaxed);
        }
    }

    /// What to do now.
    pub(crate) fn order(&self) -> Order {
        Order::from(self.order.load(Ordering::Acquire))
    }

    fn tell(&self, order: Order) {
        if self.order.fetch_max(order as u8, Ordering::AcqRel) < order as u8 {
            self.ordered.store(self.clock.now(), Ordering::Relaxed);
            self.waker.wake();
        }
    }

    /// What `now` means for this connection, and why.
    fn verdict(
        &self,
        now: u64,
        deadlines: &Deadlines,
        pressed: bool,
    ) -> Option<(Order, Option<CloseReason>)> {
        let phase = self.phase.load(Ordering::Acquire);
        let elapsed =
            |since: &AtomicU64| Duration::from_millis(now.saturating_sub(since.load(Ordering::Relaxed)));
        let over = elapsed(&self.since);
        if phase == Phase::Linger as u8 {
            return (pressed || over > LINGER).then_some((Order::Abort, None));
        }
        if phase == Phase::Head as u8 && over > deadlines.header {
            return Some((Order::Abort, Some(CloseReason::HeaderTimeout)));
        }
        // Who takes nothing of what they asked for makes room for those who want something.
        let patience = if pressed {
            deadlines.stalled_pressed.min(deadlines.stalled_write)
        } else {
            deadlines.stalled_write
        };
        let (held, in_flight) = (
            self.held.load(Ordering::Relaxed),
            self.in_flight.load(Ordering::Relaxed),
        );
        let stalled = self.stalled.load(Ordering::Relaxed) != 0 && elapsed(&self.stalled) > patience;
        // Otherwise each held answer has its own end.
        let forsaken = pressed && held > 0 && held >= in_flight && elapsed(&self.moved) > patience;
        if stalled || forsaken {
            return Some((Order::Abort, Some(CloseReason::WriteStalled)));
        }
        if phase == Phase::Idle as u8 {
            let (idle, last) = if pressed {
                (
                    deadlines.idle_pressed,
                    deadlines.idle_pressed.min(deadlines.header),
                )
            } else {
                (deadlines.idle, deadlines.header)
            };
            match self.order() {
                Order::None | Order::Leave if over > idle => {
                    return Some((Order::Finish, Some(CloseReason::Idle)));
                }
                // Told to finish, yet still here: half a request lies in the buffer and the rest does not come, or
                // half an answer and the client does not take it.
                Order::Finish if elapsed(&self.ordered) > last && over > last => {
                    return Some((Order::Abort, Some(CloseReason::HeaderTimeout)));
                }
                Order::None | Order::Leave | Order::Finish | Order::Abort => {}
            }
        }
        None
    }
}

/// The orders as a connection's task follows them.
#[derive(Debug)]
pub(crate) struct Orders<'a> {
    link: &'a Link,
    seen: Option<Order>,
}

impl<'a> Orders<'a> {
    pub(crate) fn new(link: &'a Link) -> Self {
        Self { link, seen: None }
    }

    /// What to do now; `waker` is woken when that changes. A wake-up uses up what it wakes, so the waker is left anew
    /// after each order, and only then: on most polls this is one load.
    pub(crate) fn latest(&mut self, waker: &Waker) -> Order {
        loop {
            let order = self.link.order();
            if self.seen == Some(order) {
                return order;
            }
            self.seen = Some(order);
            self.link.waker.register(waker);
            // Once more: an order that came before the waker was there has woken nobody.
        }
    }
}

/// Milliseconds since the start, as of the last sweep.
#[derive(Debug)]
struct Clock {
    start: Instant,
    millis: AtomicU64,
}

impl Clock {
    fn now(&self) -> u64 {
        self.millis.load(Ordering::Relaxed)
    }

    fn advance(&self) -> u64 {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
        millis
    }
}

/// All connections of one listener.
#[derive(Debug)]
pub struct Registry {
    clock: Arc<Clock>,
    links: Mutex<Links>,
    deadlines: Mutex<Deadlines>,
    /// All places are taken: idle connections have to make room.
    pressure: AtomicBool,
    /// What connections that come in now are told at once.
    standing: AtomicU8,
    empty: Notify,
    metrics: ConnectionMetrics,
}

#[derive(Debug, Default)]
struct Links {
    next: u64,
    open: HashMap<u64, Arc<Link>>,
}

impl Registry {
    /// An empty registry.
    pub fn new(deadlines: Deadlines, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::new(Clock {
                start: Instant::now(),
                millis: AtomicU64::new(0),
            }),
            links: Mutex::default(),
            deadlines: Mutex::new(deadlines),
            pressure: AtomicBool::new(false),
            standing: AtomicU8::new(Order::None as u8),
            empty: Notify::new(),
            metrics,
        })
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        // Nothing inside can be left half done by a panic.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.links().open.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a new connection in. It is forgotten when the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Entry {
        let link = Arc::new(Link::new(Arc::clone(&self.clock)));
        let mut links = self.links();
        let id = links.next;
        links.next += 1;
        links.open.insert(id, Arc::clone(&link));
        drop(links);
        // After it stands in the list, so that either this or `tell_all` sees the other.
        let standing = Order::from(self.standing.load(Ordering::SeqCst));
        if standing > Order::None {
            link.tell(standing);
        }
        self.metrics.opened();
        Entry {
            id,
            link,
            registry: Arc::clone(self),
        }
    }

    /// New deadlines from a reloaded configuration.
    pub fn set_deadlines(&self, deadlines: Deadlines) {
        *self.deadlines.lock().unwrap_or_else(PoisonError::into_inner) = deadlines;
    }

    /// All places are taken, or no longer: under pressure idle connections are kept only briefly.
    pub(crate) fn set_pressure(&self, on: bool) {
        self.pressure.store(on, Ordering::Relaxed);
    }

    /// Tells every client, now and from now on, that it should connect elsewhere: HTTP/2 by GOAWAY, HTTP/1 by
    /// `Connection: close` on its next answer. Nothing is closed under a client's hands.
    pub fn leave_all(&self) {
        self.tell_all(Order::Leave);
    }

    /// Asks every connection to close after what it is doing, now and from now on.
    pub fn finish_all(&self) {
        self.tell_all(Order::Finish);
    }

    /// Drops every connection. Returns how many there were.
    pub fn abort_all(&self) -> usize {
        self.tell_all(Order::Abort)
    }

    fn tell_all(&self, order: Order) -> usize {
        self.standing.fetch_max(order as u8, Ordering::SeqCst);
        let links = self.links();
        for link in links.open.values() {
            link.tell(order);
        }
        links.open.len()
    }

    /// Waits until no connection is open.
    pub async fn wait_empty(&self) {
        loop {
            let notified = self.empty.notified();
            if self.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Looks at all connections once.
    pub(crate) fn sweep(&self) {
        let now = self.clock.advance();
        let deadlines = *self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        let pressed = self.pressure.load(Ordering::Relaxed);
        for link in self.links().open.values() {
            if let Some((order, reason)) = link.verdict(now, &deadlines, pressed)
                && link.order() < order
            {
                if let Some(reason) = reason {
                    self.metrics.closed(reason);
                }
                link.tell(order);
            }
        }
    }

    /// Sweeps for ever; the listener's spawner ends it.
    pub(crate) async fn run_sweeps(self: Arc<Self>) {
        loop {
            let interval = {
                let deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
                deadlines.sweep_interval()
            };
            tokio::time::sleep(interval).await;
            self.sweep();
        }
    }
}

/// A connection's place in the registry.
#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    link: Arc<Link>,
    registry: Arc<Registry>,
}

impl Entry {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut links = self.registry.links();
        links.open.remove(&self.id);
        let empty = links.open.is_empty();
        drop(links);
        self.registry.metrics.gone();
        if empty {
            self.registry.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
