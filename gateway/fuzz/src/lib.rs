//! What must hold whatever a stranger sends, each as a function of any bytes that panics when it does not.
//!
//! `fuzz_targets` gives these functions to libFuzzer; `gateway/tests/gateway/seeds.rs` includes the same files and runs
//! them over `seeds` with the ordinary compiler.

pub mod condition;
pub mod events;
pub mod front;
pub mod header;
pub mod message;
pub mod token;
pub mod tree;
