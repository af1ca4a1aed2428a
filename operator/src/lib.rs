//! The operator of Portcullis as a library: what its binary `portcullis` runs, and what tests look at.

pub mod admin;
pub mod api;
pub mod args;
pub mod build;
pub mod check;
pub mod controller;
pub mod crds;
pub mod credential;
pub mod identity;
pub mod lease;
pub mod metrics;
pub mod render;
pub mod run;
pub mod settings;
pub mod status;
pub mod telemetry;
pub mod validate;
