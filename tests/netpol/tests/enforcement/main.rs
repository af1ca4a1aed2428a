//! Policies in, tables out; nftables takes them; packets meet them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "helpers of tests are tests, and `json!` makes values"
)]

mod fixtures;
mod lab;
mod loads;
mod packets;
mod process;
mod tables;
