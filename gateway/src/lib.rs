//! The Portcullis gateway: an authenticated, authorised, rate-limited MCP endpoint.
//!
//! `docs/architecture.md` draws the pipeline; `app` is its order in code.

pub mod app;
pub mod args;
pub mod auth;
pub mod budget;
pub mod clock;
pub mod config;
pub mod credential;
pub mod mcp;
pub mod net;
pub mod peer;
pub mod probe;
pub mod proxy;
pub mod ratelimit;
pub mod run;
pub mod server;
pub mod spawn;
pub mod telemetry;
pub mod web;
