//! The configuration on disk and everything it names, from the mounts to what is in force.
//!
//! [`load`] reads the file, [`files`] what it refers to, [`watch`] notices changes and hands both over.

pub mod files;
pub mod load;
pub mod snapshot;
pub mod watch;

#[cfg(test)]
pub(crate) mod scratch;
