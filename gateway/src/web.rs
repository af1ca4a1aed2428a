//! The public port as browsers, scanners and load balancers see it.

pub mod documents;
pub mod headers;
pub mod origin;
pub mod proxies;
