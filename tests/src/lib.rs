//! The harness of the system tests: a running demo, its objects, clients and load; and the charts as Helm renders them.
//!
//! The tests that need a cluster find it through `PORTCULLIS_DEMO`, the folder `tests/demo/up` fills.

pub mod chart;
pub mod demo;
pub mod http;
pub mod load;
pub mod namespace;
