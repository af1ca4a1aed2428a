//! Everything the gateway connects to: names resolved, addresses judged and pinned, TLS verified, connections pooled.
//!
//! No caller connects by name: a name is resolved once, each address is held against the [`address`] policy, and the
//! connection goes to that very address, so that a second answer cannot slip past the first one's check.

pub mod address;
pub mod alive;
pub mod connect;
pub mod fetch;
pub mod pool;
pub mod resolve;
pub mod target;
pub mod trust;

pub use connect::{ConnectError, Connector};
pub use fetch::{FetchError, Fetcher};
pub use pool::{Lease, Pool};
pub use resolve::{ResolveError, Resolver};
pub use target::Target;
