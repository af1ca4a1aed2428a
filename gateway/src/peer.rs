//! The other replicas of this gateway: who they are, which of them owns a session, and the hop to it.
//!
//! Peers prove themselves to each other with a key that derives from the session key (RFC 7250 raw public keys, TLS 1.3
//! both ways), so that nobody without the gateway's own Secret is a peer, whatever address they call from.

pub mod discovery;
mod earlier;
pub mod hop;
pub mod identity;
pub mod life;

pub use discovery::{Discovery, Owner, Peers};
pub use hop::Hop;
pub use identity::Identity;
pub use life::Life;
