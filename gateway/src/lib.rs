//! The Portcullis gateway: an authenticated, authorised, rate-limited MCP endpoint.
//!
//! `docs/architecture.md` draws the pipeline; `app` is its order in code.

pub mod auth;
pub mod clock;
pub mod mcp;
pub mod net;
pub mod ratelimit;
