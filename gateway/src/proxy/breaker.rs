//! A circuit breaker for one server: where calls fail one after the other, later ones are refused at once for a while, instead of
//! each waiting for its time-out and holding a place meanwhile.
//!
//! A failure counts only if no other call succeeded while it was under way, and a success ends the count. What could be the doing
//! of the caller (a tool that is slow or crashes on its arguments) opens the circuit only for that caller as long as nobody else
//! failed in the same run: no client can cut a server off from the others. When the time is over, one call is let through; how it
//! ends decides. Nothing here waits or locks.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis_config::server::CircuitBreaker;

/// The circuit is open for everybody.
const EVERYBODY: u64 = 0;

/// Who a call is of, in a number: two callers of the same number share a circuit, which takes 2^64 callers or chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(u64);

impl Caller {
    /// Of a principal's digest.
    pub fn new(key: &[u8]) -> Self {
        let first = key.first_chunk().map_or(1, |first| u64::from_be_bytes(*first));
        Self(first.max(1))
    }
}

/// What a failure tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The server cannot be reached, whoever asks.
    Server,
    /// It failed at this call, which may be the call's own fault.
    Call,
    /// Nothing about the server's health.
    Nobody,
}

/// Leave for one call.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    caller: Caller,
    /// How many calls had succeeded when it began.
    successes: u64,
    /// It is the one call by which an open circuit is tried.
    trial: bool,
}

/// The circuit of one server. It outlives reloads.
#[derive(Debug)]
pub struct Breaker {
    born: Instant,
    /// Until when it is open, in milliseconds after `born`; 0: closed.
    open_until: AtomicU64,
    /// Failures in a row.
    failures: AtomicU32,
    /// Whose they are, where they are all one caller's and may be its doing.
    whose: AtomicU64,
    successes: AtomicU64,
    open: AtomicBool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            open_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            whose: AtomicU64::new(EVERYBODY),
            successes: AtomicU64::new(0),
            open: AtomicBool::new(false),
        }
    }
}

impl Breaker {
    /// May a call of `caller` go out at `now`? If not: when to try again.
    pub fn pass(&self, caller: Caller, limits: &CircuitBreaker, now: Instant) -> Result<Pass, Duration> {
        let pass = |trial| Pass {
            caller,
            successes: self.successes.load(Ordering::Relaxed),
            trial,
        };
        let until = self.open_until.load(Ordering::Acquire);
        if until == 0 {
            return Ok(pass(false));
        }
        let whose = self.whose.load(Ordering::Acquire);
        if whose != EVERYBODY && whose != caller.0 {
            return Ok(pass(false));
        }
        let now = self.milliseconds(now);
        if let Some(left) = until.checked_sub(now).filter(|left| *left > 0) {
            return Err(Duration::from_millis(left));
        }
        // Should the trial never say how it ended, there is another after as long again.
        let next = now.saturating_add(milliseconds(limits)).max(1);
        match self
            .open_until
            .compare_exchange(until, next, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Ok(pass(true)),
            Err(0) => Ok(pass(false)),
            Err(other) => Err(Duration::from_millis(other.saturating_sub(now).max(1))),
        }
    }

    /// The server answered a call.
    pub fn succeeded(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.open_until.load(Ordering::Relaxed) != 0 {
            self.open_until.store(0, Ordering::Release);
            self.open.store(false, Ordering::Relaxed);
        }
    }

    /// A call failed. True if the circuit is open now and was not before.
    pub fn failed(&self, pass: Pass, blame: Blame, limits: &CircuitBreaker, now: Instant) -> bool {
        if blame == Blame::Nobody || pass.successes != self.successes.load(Ordering::Relaxed) {
            return false;
        }
        let whose = match blame {
            Blame::Call => pass.caller.0,
            Blame::Server | Blame::Nobody => EVERYBODY,
        };
        let before = self.failures.fetch_add(1, Ordering::AcqRel);
        if before == 0 {
            self.whose.store(whose, Ordering::Release);
        } else if self.whose.load(Ordering::Acquire) != whose {
            self.whose.store(EVERYBODY, Ordering::Release);
        }
        let is_open = self.open_until.load(Ordering::Acquire) != 0;
        // Calls that began before it opened say nothing new.
        if (is_open && !pass.trial) || before.saturating_add(1) < limits.failures {
            return false;
        }
        let until = self.milliseconds(now).saturating_add(milliseconds(limits)).max(1);
        self.open_until.store(until, Ordering::Release);
        !self.open.swap(true, Ordering::Relaxed)
    }

    /// Is it open, for whomever?
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

fn milliseconds(limits: &CircuitBreaker) -> u64 {
    u64::try_from(limits.open_for.get().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_config::Duration as Period;

    const LIMITS: CircuitBreaker = CircuitBreaker {
        failures: 3,
        open_for: Period::from_secs(30),
    };
    const A: Caller = Caller(1);
    const B: Caller = Caller(2);

    struct Clocked {
        breaker: Breaker,
        now: Instant,
    }

    impl Clocked {
        fn new() -> Self {
            let breaker = Breaker::default();
            let now = breaker.born + Duration::from_secs(1);
            Self { breaker, now }
        }

        fn pass(&self, caller: Caller) -> Result<Pass, Duration> {
            self.breaker.pass(caller, &LIMITS, self.now)
        }

        fn fail(&self, caller: Caller, blame: Blame) -> bool {
            let pass = self.pass(caller).unwrap();
            self.breaker.failed(pass, blame, &LIMITS, self.now)
        }

        fn later(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn as_many_failures_in_a_row_open_it_for_everybody() {
        let circuit = Clocked::new();
        assert!(!circuit.fail(A, Blame::Server));
        assert!(!circuit.fail(A, Blame::Server));
        assert!(!circuit.breaker.is_open());
        assert!(
            circuit.fail(B, Blame::Server),
            "the third opens it, and says so once"
        );
        assert!(circuit.breaker.is_open());
        assert_eq!(circuit.pass(A).unwrap_err(), Duration::from_secs(30));
        assert_eq!(circuit.pass(B).unwrap_err(), Duration::from_secs(30));
    }

    #[test]
    fn a_success_ends_the_count() {
        let circuit = Clocked::new();
        for _ in 0..10 {
            assert!(!circuit.fail(A, Blame::Server));
            assert!(!circuit.fail(A, Blame::Server));
            circuit.breaker.succeeded();
        }
        assert!(!circuit.breaker.is_open());
    }

    #[test]
    fn a_failure_during_which_others_succeeded_does_not_count() {
        let circuit = Clocked::new();
        let slow: Vec<Pass> = (0..9).map(|_| circuit.pass(A).unwrap()).collect();
        circuit.breaker.succeeded();
        for pass in slow {
            assert!(!circuit.breaker.failed(pass, Blame::Call, &LIMITS, circuit.now));
        }
        assert!(circuit.pass(A).is_ok() && !circuit.breaker.is_open());
    }

    #[test]
    fn what_one_caller_alone_brings_about_shuts_out_that_caller_alone() {
        let circuit = Clocked::new();
        for _ in 0..3 {
            circuit.fail(A, Blame::Call);
        }
        assert!(circuit.pass(A).is_err());
        let other = circuit.pass(B).unwrap();
        // And if the others fail as well, it is the server.
        circuit.breaker.failed(other, Blame::Call, &LIMITS, circuit.now);
        assert!(circuit.pass(B).is_err() && circuit.pass(A).is_err());
    }

    #[test]
    fn another_callers_success_opens_the_way_again() {
        let circuit = Clocked::new();
        for _ in 0..3 {
            circuit.fail(A, Blame::Call);
        }
        circuit.pass(B).unwrap();
        circuit.breaker.succeeded();
        assert!(circuit.pass(A).is_ok() && !circuit.breaker.is_open());
    }

    #[test]
    fn what_says_nothing_about_the_server_counts_for_nothing() {
        let circuit = Clocked::new();
        for _ in 0..10 {
            assert!(!circuit.fail(A, Blame::Nobody));
        }
        assert!(!circuit.breaker.is_open());
    }

    #[test]
    fn after_the_time_one_call_tries_and_decides() {
        let mut circuit = Clocked::new();
        for _ in 0..3 {
            circuit.fail(A, Blame::Server);
        }
        circuit.later(30);
        let trial = circuit.pass(A).unwrap();
        assert!(circuit.pass(B).is_err(), "one at a time");
        assert!(
            !circuit.breaker.failed(trial, Blame::Server, &LIMITS, circuit.now),
            "it was open"
        );
        assert_eq!(circuit.pass(A).unwrap_err(), Duration::from_secs(30));
        circuit.later(30);
        circuit.pass(B).unwrap();
        circuit.breaker.succeeded();
        assert!(circuit.pass(A).is_ok() && circuit.pass(B).is_ok());
    }

    #[test]
    fn a_trial_that_never_ends_does_not_keep_it_open_for_good() {
        let mut circuit = Clocked::new();
        for _ in 0..3 {
            circuit.fail(A, Blame::Server);
        }
        circuit.later(31);
        assert!(circuit.pass(A).is_ok() && circuit.pass(A).is_err());
        circuit.later(31);
        assert!(circuit.pass(A).is_ok() && circuit.pass(A).is_err());
    }

    #[test]
    fn calls_that_were_under_way_when_it_opened_do_not_hold_it_open() {
        let mut circuit = Clocked::new();
        let slow: Vec<Pass> = (0..5).map(|_| circuit.pass(A).unwrap()).collect();
        for _ in 0..3 {
            circuit.fail(A, Blame::Server);
        }
        circuit.later(20);
        for pass in slow {
            circuit.breaker.failed(pass, Blame::Server, &LIMITS, circuit.now);
        }
        assert_eq!(circuit.pass(A).unwrap_err(), Duration::from_secs(10));
    }
}
