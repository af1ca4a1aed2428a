//! The Model Context Protocol as the gateway needs it: pure functions over bytes, no input or output.
//!
//! [`scan`] reads a message in one pass, [`envelope`] gives it its type, [`edit`] changes named members and leaves every
//! other byte alone. [`headers`], [`era`] and [`meta`] are what the revisions differ in; [`seal`] and
//! [`session`] are what clients carry for us; [`sse`] frames streams; [`reply`] words every answer of our own.

pub mod edit;
pub mod envelope;
pub mod era;
pub mod headers;
pub mod meta;
pub mod method;
pub mod params;
pub mod reply;
pub mod revision;
pub mod scan;
pub mod seal;
pub mod session;
pub mod sse;

#[cfg(test)]
mod testing;
