//! Sockets: who may connect, how a connection is bounded, and how it ends. Nothing here knows MCP.
//!
//! - [`listener`] accepts, [`limits`] says how many and how large, [`connection`] runs HTTP on one socket;
//! - [`proxy_protocol`] reads whom a proxy in front connects for;
//! - [`registry`] watches all connections' deadlines and tells them to go, `streams` those of HTTP/2's answers;
//!   [`framing`] refuses smuggled requests, `bare` gives hyper's own refusals the headers of the others;
//! - [`tls`] holds the certificate that is swapped under load, [`certificate`] reads when it expires, [`public`] decides
//!   what the public port offers, [`raw_key`] makes identities that derive from the session key;
//! - [`drain`] ends the process in order, [`readiness`] says what is still missing;
//! - [`admin`] and [`status`] are the ports for the platform and for the operator.

pub mod admin;
mod bare;
pub mod certificate;
pub mod connection;
pub mod drain;
pub mod framing;
pub mod io;
pub mod limits;
pub mod listener;
pub mod proxy_protocol;
pub mod public;
pub mod raw_key;
pub mod readiness;
pub mod registry;
pub mod status;
pub(crate) mod streams;
pub mod tls;

#[cfg(test)]
pub(crate) mod testing;
