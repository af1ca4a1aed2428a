//! Every answer of our own: one typed cause per refusal, worded in one place.

mod body;
mod cause;
mod facts;
mod refuse;

pub use body::{Page, discover_result, empty_result, error, initialize_result, json_string, result};
pub use cause::Cause;
pub use facts::Class;
pub use refuse::refuse;
