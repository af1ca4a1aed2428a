//! What a principal may do.
//!
//! The gateway decides by it on every list and call, and `portcullis check` explains by it what a gateway would decide:
//! there is one implementation. Pure code: no I/O, no clock, no protocol.

pub mod authorize;
pub mod glob;
pub mod identity;
pub mod names;
pub mod offer;
pub mod uri;
pub mod when;
