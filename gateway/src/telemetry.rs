//! What the gateway says about itself: logs for people, metrics for alerts, audit records for the question "who did what".

pub mod audit;
pub mod logging;
pub mod metrics;
pub mod redact;
