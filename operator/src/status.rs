//! What is true, from what was applied and what the pods report. Pure: the same view gives the same status, so that a
//! status is written only when something happened.

pub mod conditions;
pub mod deployment;
pub mod gateway;
pub mod references;
pub mod server;
