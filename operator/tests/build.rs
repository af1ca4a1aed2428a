//! What is built: every object of every world, looked at from several sides. The worlds are the samples that the
//! documentation shows, and one more for what those leave out.

#[path = "build/contract.rs"]
mod contract;
#[path = "build/hardening.rs"]
mod hardening;
#[path = "build/network.rs"]
mod network;
#[path = "build/policy.rs"]
mod policy;
#[path = "build/snapshots.rs"]
mod snapshots;
#[path = "build/stability.rs"]
mod stability;
#[path = "build/verdicts.rs"]
mod verdicts;
#[path = "build/worlds.rs"]
mod worlds;
