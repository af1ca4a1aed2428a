//! Log lines: one JSON object each, on standard error. Standard output belongs to the audit log.

use portcullis_config::file::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes what is logged while the process runs.
#[derive(Clone, Debug)]
pub struct LogControl {
    handle: reload::Handle<Targets, Registry>,
}

impl LogControl {
    /// Logs what is at least this severe from now on.
    pub fn set_level(&self, level: LogLevel) {
        if self.handle.reload(targets(level)).is_err() {
            // Only possible when the subscriber is gone, and then nobody reads what we log.
        }
    }
}

/// Installs the process's logger. Fails when there is one already.
pub fn init(level: LogLevel) -> anyhow::Result<LogControl> {
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(LogControl { handle })
}

/// Ours at the level that was asked for; of the libraries only what is wrong, since their debug lines may quote bytes
/// from the wire.
fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(ours.min(LevelFilter::WARN))
        .with_target("portcullis_gateway", ours)
        .with_target("portcullis_config", ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn libraries_never_log_more_than_warnings() {
        for level in [LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            let targets = targets(level);
            assert!(targets.would_enable("hyper::proto", &Level::WARN));
            assert!(!targets.would_enable("hyper::proto", &Level::INFO));
            assert!(targets.would_enable("portcullis_gateway::run", &Level::INFO));
        }
        assert!(!targets(LogLevel::Error).would_enable("hyper", &Level::WARN));
        assert!(!targets(LogLevel::Info).would_enable("portcullis_gateway", &Level::DEBUG));
    }
}
