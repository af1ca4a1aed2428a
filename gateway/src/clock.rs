//! The only place that reads the time of day. Everything that judges time takes it as an argument, so that tests can
//! say what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970. A clock before that counts as 1970: tokens are then not yet valid, which is the safe side.
pub fn now_unix() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_stands_after_this_was_written() {
        assert!(super::now_unix() > 1_760_000_000);
    }
}
