//! From an authorised message to an MCP server and back.
//!
//! An [`upstream::Upstream`] is a server as the configuration describes it; its [`link::Link`] is what outlives a
//! reload: connections, handshake, inventory. A [`channel::Channel`] is how calls reach it in its own era, an
//! [`exchange::Exchange`] one request and the messages that come back, and a [`relay::Relay`] puts those into the
//! client's terms.

pub mod asks;
mod breaker;
pub mod call;
pub mod cancel;
pub mod channel;
pub mod charge;
pub mod declared;
pub mod exchange;
pub mod handshake;
pub mod holds;
pub mod inventory;
pub mod keeper;
pub mod legacy;
pub mod level;
pub mod lifecycle;
pub mod link;
pub mod links;
pub mod list;
pub mod listen;
pub mod listening;
pub mod logging;
pub mod names;
pub mod news;
pub mod offered;
pub mod opened;
pub mod origin;
pub mod outgoing;
pub mod parked;
pub mod path;
pub mod pauses;
pub mod place;
pub mod primitive;
pub mod pushed;
pub mod question;
pub mod registry;
pub mod relay;
pub mod replies;
pub mod rounds;
pub mod routes;
pub mod said;
pub mod sets;
pub mod shared;
pub mod source;
pub mod states;
pub mod stream;
pub mod streamed;
pub mod subscribed;
pub mod target;
pub mod tasks;
pub mod terms;
pub mod times;
pub mod unfinished;
pub mod upstream;
pub mod uris;
pub mod wait;
