//! The Model Context Protocol as the gateway needs it: pure functions over bytes, no input or output.
//!
//! [`scan`] reads a message in one pass, [`envelope`] gives it its type, [`edit`] changes named members and leaves every
//! other byte alone. [`reply`] words every answer of our own.

pub mod edit;
pub mod envelope;
pub mod method;
pub mod reply;
pub mod revision;
pub mod scan;

#[cfg(test)]
mod testing;
