//! The operator against an API server in memory: whatever goes wrong on the way, the end is the same, and then it is
//! silent. Time is paused; nothing here sleeps for real.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the modules of one test program share what they like, and fail by panicking"
)]

mod api;
mod bench;
mod changes;
mod cluster;
mod cluster_facts;
mod converge;
mod lease;
mod life;
mod patience;
mod trouble;
mod unreadable;

/// The tests' output is the panics'; a backtrace of logs helps with `RUST_LOG`.
pub fn log() {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        let _again =
            portcullis_operator::telemetry::init(&filter, portcullis_operator::telemetry::Format::Text);
    }
}
