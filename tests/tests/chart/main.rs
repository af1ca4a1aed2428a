//! The charts and the manifest made from them: what they render, what they refuse, and that nobody can weaken them without
//! a test that says so. Needs Helm (`tests/cluster/build tools`), no cluster.

#![allow(clippy::panic, reason = "a test says what is wrong by failing")]

mod drift;
mod rbac;
mod security;
mod settings;
mod values;
