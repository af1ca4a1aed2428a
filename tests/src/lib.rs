//! The harness of the system tests: a running demo, its objects, clients and load.
//!
//! The tests that need a cluster find it through `PORTCULLIS_DEMO`, the folder `tests/demo/up` fills.

pub mod demo;
pub mod http;
pub mod load;
