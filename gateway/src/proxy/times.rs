//! How long a call may last, and how long either side of it may be silent.
//!
//! What counts are notifications. Signs of life of our own (the comments that keep a client's stream open) do not, nor
//! does what a server asks, a ping above all: it proves that the server is there, not that it gets on with the call.

use std::time::Duration;

use tokio::time::Instant;

/// The times of one call.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long the server may be silent about the call.
    timeout: Duration,
    /// When it was last heard; at first, when it was asked.
    heard: Instant,
    /// When the call ends in any case.
    deadline: Instant,
    /// Where the answer is a stream: how long that may be without an event, and when it last had one.
    stream: Option<(Duration, Instant)>,
}

impl Times {
    /// Of a call that the server is asked at `sent`.
    pub const fn new(sent: Instant, timeout: Duration, deadline: Instant) -> Self {
        Self {
            timeout,
            heard: sent,
            deadline,
            stream: None,
        }
    }

    /// The server said something about the call at `now`.
    pub const fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The same, if that was not before it was last heard.
    pub fn heard_by(&mut self, then: Instant) {
        self.heard = self.heard.max(then);
    }

    /// The client gets its answer as a stream from `now` on, which may be without an event for `idle`.
    pub const fn streams(&mut self, idle: Duration, now: Instant) {
        self.stream = Some((idle, now));
    }

    /// Something was passed on to the client at `now`.
    pub const fn passed_on(&mut self, now: Instant) {
        if let Some((_, last)) = &mut self.stream {
            *last = now;
        }
    }

    /// The call goes on at `now`, as the answer to another request.
    pub const fn go_on(&mut self, now: Instant) {
        self.heard = now;
        self.stream = None;
    }

    /// Is the answer a stream?
    pub const fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// How long the call may last from now on.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Is it over for other reasons than the server's silence?
    pub fn are_over(&self, now: Instant) -> bool {
        let stream = self.stream.is_some_and(|(idle, last)| last + idle <= now);
        stream || self.deadline <= now
    }

    /// When the call is given up if nothing happens.
    pub fn until(&self) -> Instant {
        let until = self.deadline.min(self.heard + self.timeout);
        match self.stream {
            Some((idle, last)) => until.min(last + idle),
            None => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_heard_moves_the_time_out_and_not_the_deadline() {
        let sent = Instant::now();
        let mut times = Times::new(sent, secs(30), sent + secs(100));
        assert_eq!(times.until(), sent + secs(30));
        times.heard(sent + secs(20));
        assert_eq!(times.until(), sent + secs(50));
        times.heard(sent + secs(90));
        assert_eq!(times.until(), sent + secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_by_what_is_passed_on_however_much_is_heard() {
        let sent = Instant::now();
        let mut times = Times::new(sent, secs(30), sent + secs(1000));
        times.passed_on(sent + secs(1));
        assert_eq!(times.until(), sent + secs(30), "no stream yet");
        times.streams(secs(40), sent + secs(5));
        assert_eq!(times.until(), sent + secs(30));
        times.heard(sent + secs(40));
        assert_eq!(times.until(), sent + secs(45));
        times.passed_on(sent + secs(41));
        assert_eq!(times.until(), sent + secs(70));
        times.heard(sent + secs(60));
        assert_eq!(times.until(), sent + secs(81));
    }
}
