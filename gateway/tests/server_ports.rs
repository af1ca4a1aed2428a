//! Ports under ordinary and hostile clients, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

#[path = "server/bounds.rs"]
mod bounds;
#[path = "server/end.rs"]
mod end;
#[path = "server/http2.rs"]
mod http2;
#[path = "server/pinned.rs"]
mod pinned;
#[path = "server/smuggling.rs"]
mod smuggling;
#[path = "server/status.rs"]
mod status;
#[path = "server/support.rs"]
mod support;
#[path = "server/tls.rs"]
mod tls;
#[path = "server/windows.rs"]
mod windows;
