//! The only place that reads the time of day. Everything that judges time takes it as an argument, so that tests can
//! say what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Seconds since 1970. A clock before that counts as 1970: tokens are then not yet valid, which is the safe side.
pub fn now_unix() -> u64 {
    since_epoch().as_secs()
}

/// Time since 1970, to the clock's own precision: for records of what happened.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The same as a date.
pub fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_stands_after_this_was_written() {
        assert!(super::now_unix() > 1_760_000_000);
    }
}
