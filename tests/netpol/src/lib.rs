//! NetworkPolicy enforcement for the one-machine test cluster. **Test equipment**: it
//! knows one node, IPv4 and a CNI that routes every pod packet through the node.
//!
//! The API server stores policies; somebody has to enforce them. This program watches
//! pods, namespaces and policies, computes one nftables table from all of them and replaces
//! the one in the kernel in a single transaction. There is no incremental state: what is in
//! force is a function of what the API server says.
//!
//! ```text
//! watch -> world -> compile -> table -> render -> nft
//! (I/O)    (pure)   (pure)     (pure)   (pure)    (I/O)
//! ```

pub mod args;
pub mod compile;
pub mod enforce;
pub mod health;
pub mod nft;
pub mod policy;
pub mod ranges;
pub mod render;
pub mod run;
pub mod selector;
pub mod table;
pub mod watch;
pub mod world;
