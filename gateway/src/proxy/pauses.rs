//! How long to wait before a stream that ended is opened again.
//!
//! What counts is how long it was there: a server that opens a stream and ends it at once, again and again, would
//! otherwise be asked without end, and each time everything that hangs on a new stream would be done again.

use std::time::Duration;

/// The first pause; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// A stream that was there for so long was a proper one.
const LASTED: Duration = Duration::from_secs(5);

/// The pauses after one stream.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Pauses {
    /// The pause after a stream that was there for `lasted`, tries to open it included.
    pub fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= LASTED.max(self.next) {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_at_once_is_opened_ever_more_seldom() {
        let mut pauses = Pauses::default();
        let given: Vec<_> = (0..10).map(|_| pauses.after(Duration::from_secs(4))).collect();
        assert_eq!(given[0], FIRST);
        assert!(given.windows(2).all(|pair| pair[1] == (pair[0] * 2).min(LONGEST)));
        assert_eq!(given[9], LONGEST);
        // Shorter than the pauses it costs.
        assert_eq!(pauses.after(Duration::from_secs(20)), LONGEST);
        assert_eq!(pauses.after(Duration::from_secs(31)), FIRST);
    }

    #[test]
    fn a_stream_that_lasted_is_opened_again_soon() {
        let mut pauses = Pauses::default();
        for _ in 0..10 {
            assert_eq!(pauses.after(Duration::from_secs(60)), FIRST);
        }
    }
}
