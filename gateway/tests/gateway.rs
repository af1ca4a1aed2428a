//! The gateway in process: a real listener on loopback, real clients' bytes, and MCP servers of both eras behind it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

#[path = "gateway/added.rs"]
mod added;
#[path = "gateway/askable.rs"]
mod askable;
#[path = "gateway/asker.rs"]
mod asker;
#[path = "gateway/batches.rs"]
mod batches;
#[path = "gateway/breaker.rs"]
mod breaker;
#[path = "gateway/calls.rs"]
mod calls;
#[path = "gateway/charges.rs"]
mod charges;
#[path = "gateway/cluster.rs"]
mod cluster;
#[path = "gateway/conditions.rs"]
mod conditions;
#[path = "gateway/cors.rs"]
mod cors;
#[path = "gateway/counts.rs"]
mod counts;
#[path = "gateway/disconnects.rs"]
mod disconnects;
#[path = "gateway/documents.rs"]
mod documents;
#[path = "gateway/either_era.rs"]
mod either_era;
#[path = "gateway/eras.rs"]
mod eras;
#[path = "gateway/first_revision.rs"]
mod first_revision;
#[path = "gateway/hostile.rs"]
mod hostile;
#[path = "gateway/hung.rs"]
mod hung;
#[path = "gateway/listen.rs"]
mod listen;
#[path = "gateway/lost.rs"]
mod lost;
#[path = "gateway/lost_streams.rs"]
mod lost_streams;
#[path = "gateway/names.rs"]
mod names;
#[path = "gateway/native.rs"]
mod native;
#[path = "gateway/news.rs"]
mod news;
#[path = "gateway/parameters.rs"]
mod parameters;
#[path = "gateway/permits.rs"]
mod permits;
#[path = "gateway/pinned_revision.rs"]
mod pinned_revision;
#[path = "gateway/policy.rs"]
mod policy;
#[path = "gateway/primitives.rs"]
mod primitives;
#[path = "gateway/proxies.rs"]
mod proxies;
#[path = "gateway/push.rs"]
mod push;
#[path = "gateway/pushing.rs"]
mod pushing;
#[path = "gateway/replicas.rs"]
mod replicas;
#[path = "gateway/revisions.rs"]
mod revisions;
#[path = "gateway/scopes.rs"]
mod scopes;
#[path = "gateway/scripted.rs"]
mod scripted;
#[path = "gateway/seeds.rs"]
mod seeds;
#[path = "gateway/sessions.rs"]
mod sessions;
#[path = "gateway/shadow.rs"]
mod shadow;
#[path = "gateway/silence.rs"]
mod silence;
#[path = "gateway/subscribed.rs"]
mod subscribed;
#[path = "gateway/support.rs"]
mod support;
#[path = "gateway/tasks.rs"]
mod tasks;
#[path = "gateway/tokens.rs"]
mod tokens;
#[path = "gateway/told.rs"]
mod told;
#[path = "gateway/unfinished.rs"]
mod unfinished;
#[path = "gateway/unsent.rs"]
mod unsent;
#[path = "gateway/upstream_sessions.rs"]
mod upstream_sessions;
#[path = "gateway/web.rs"]
mod web;
