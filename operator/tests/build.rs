//! What is built: every object of every world, looked at from several sides. The worlds are the samples that the
//! documentation shows, and one more for what those leave out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what is wrong by failing"
)]

#[path = "build/check.rs"]
mod check;
#[path = "build/contract.rs"]
mod contract;
#[path = "build/hardening.rs"]
mod hardening;
#[path = "build/network.rs"]
mod network;
#[path = "build/policy.rs"]
mod policy;
#[path = "build/refusals.rs"]
mod refusals;
#[path = "build/render.rs"]
mod render;
#[path = "build/session_keys.rs"]
mod session_keys;
#[path = "build/snapshots.rs"]
mod snapshots;
#[path = "build/stability.rs"]
mod stability;
#[path = "build/verdicts.rs"]
mod verdicts;
#[path = "build/worlds.rs"]
mod worlds;
