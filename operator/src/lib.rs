//! The operator of Portcullis as a library: what its binary `portcullis` runs, and what tests look at.

pub mod api;
pub mod build;
pub mod crds;
pub mod identity;
pub mod render;
pub mod settings;
pub mod validate;
