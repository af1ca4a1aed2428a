//! What users write and read: the two kinds of group `portcullis.dev`, their names and their labels.
//!
//! Types only. Nothing here talks to anything, and nothing here builds an object.

pub mod labels;
pub mod names;
pub mod v1alpha1;

/// The API group of both kinds.
pub const GROUP: &str = "portcullis.dev";
