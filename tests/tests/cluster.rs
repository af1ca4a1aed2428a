//! What the demo promises, proven on the running cluster: one test after the other, each prints what it saw.
//!
//! `tests/demo/up` runs this against the demo, `tests/run cluster` against one of its own. Without one it says so.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what is wrong by failing, and what it saw by printing"
)]

#[path = "cluster/changes.rs"]
mod changes;
#[path = "cluster/clients.rs"]
mod clients;
#[path = "cluster/end.rs"]
mod end;
#[path = "cluster/failures.rs"]
mod failures;
#[path = "cluster/network.rs"]
mod network;
#[path = "cluster/pods.rs"]
mod pods;
#[path = "cluster/rest.rs"]
mod rest;
#[path = "cluster/rotation.rs"]
mod rotation;

use anyhow::Result;
use system_tests::demo::Demo;
use system_tests::http::Endpoint;

/// The gateway's Service, as a client on the host reaches it.
fn endpoint(demo: &Demo) -> Result<Endpoint> {
    let ca = std::fs::read(demo.folder.join("idp/ca.crt"))?;
    Endpoint::new(
        format!("{}:443", demo.gateway_ip()?),
        "localhost",
        "localhost",
        &ca,
    )
}

fn proven(what: &str) {
    println!("  proven: {what}");
}

/// Blocks on a test that talks; the others only run commands.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(future)
}
