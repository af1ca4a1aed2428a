//! What a call occupies from before it is sent until its server is done with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::breaker::Pass;
use super::cancel::Cancel;
use super::exchange::Failure;
use super::opened::Opened;
use super::registry::{Session, Tracked};
use super::upstream::Upstream;
use crate::telemetry::metrics::UpstreamOutcome;

/// A call's place at its server and in its session, and its count among those in flight.
#[derive(Default)]
pub struct Holds {
    slot: Option<OwnedSemaphorePermit>,
    tracked: Option<Tracked>,
    call: Cancel,
    gauge: Option<Gauge>,
    /// The session on the server that was opened for this call alone.
    opened: Option<Opened>,
}

/// Counts a call among those in flight to a server, and its end.
struct Gauge {
    upstream: Arc<Upstream>,
    began: Instant,
    outcome: UpstreamOutcome,
    pass: Pass,
    /// The server has said something about the call.
    answered: bool,
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.upstream.metrics.ended();
        self.upstream.metrics.finished(self.outcome, self.began.elapsed());
    }
}

impl Holds {
    /// Of a call that begins at `began`: its place at the server, and that in the client's session.
    pub fn new(
        upstream: &Arc<Upstream>,
        slot: OwnedSemaphorePermit,
        tracked: Option<Tracked>,
        began: Instant,
        pass: Pass,
    ) -> Self {
        upstream.metrics.began();
        let call = tracked.as_ref().map(|tracked| tracked.cancelled.clone());
        Self {
            call: call.unwrap_or_default(),
            slot: Some(slot),
            tracked,
            opened: None,
            gauge: Some(Gauge {
                upstream: Arc::clone(upstream),
                began,
                outcome: UpstreamOutcome::Cancelled,
                pass,
                answered: false,
            }),
        }
    }

    /// The client's word that it no longer wants the answer, where it has a session to say so in.
    pub fn cancelled(&self) -> Option<Cancel> {
        self.tracked.as_ref().map(|_| self.call.clone())
    }

    /// The call has a session on the server for itself, which ends with it.
    pub fn keep(&mut self, opened: Opened) {
        self.opened = Some(opened);
    }

    /// The call waits for its client, and leaves its place at the server to others.
    pub fn pause(&mut self) {
        self.slot = None;
    }

    /// The call goes on, with another place at the server.
    pub fn go_on(&mut self, slot: OwnedSemaphorePermit) {
        self.slot = Some(slot);
    }

    /// The session that the client has, and in which it waits.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.tracked.as_ref().map(|tracked| &tracked.session)
    }

    /// The call itself, and whether it was sent.
    pub const fn call(&self) -> &Cancel {
        &self.call
    }

    /// The server has said something about the call: it works.
    pub fn answered(&mut self) {
        if let Some(gauge) = self.gauge.as_mut().filter(|gauge| !gauge.answered) {
            gauge.answered = true;
            gauge.upstream.link.breaker.succeeded();
        }
    }

    /// Notes that the call failed. Gives how long it took.
    pub fn failed(&mut self, failure: &Failure) -> Duration {
        if let Some(Gauge { upstream, pass, .. }) = &self.gauge {
            upstream.failed(*pass, failure);
        }
        self.ended(failure.outcome())
    }

    /// Notes how the call ended. Gives how long it took.
    pub fn ended(&mut self, outcome: UpstreamOutcome) -> Duration {
        self.gauge.as_mut().map_or(Duration::ZERO, |gauge| {
            gauge.outcome = outcome;
            gauge.began.elapsed()
        })
    }

    /// Its place at the server alone.
    pub const fn take_slot(&mut self) -> Option<OwnedSemaphorePermit> {
        self.slot.take()
    }

    /// Is no longer counted among those in flight.
    pub fn uncount(&mut self) {
        self.gauge = None;
    }

    /// The call is over for everybody but the server, which has yet to be told: what is given is its place there.
    pub fn release(&mut self) -> Option<OwnedSemaphorePermit> {
        self.tracked = None;
        self.slot.take()
    }
}
