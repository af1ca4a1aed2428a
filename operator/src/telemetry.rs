//! Logging: JSON lines for machines, plain text for people, never both.

use clap::ValueEnum;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, fmt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// For reading on a terminal.
    Text,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("the log filter {filter:?} is not understood: {source}")]
    Filter {
        /// As given.
        filter: String,
        /// Why not.
        #[source]
        source: ParseError,
    },
    /// It was set up before.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

/// Sets up logging to standard error for the life of the process. `filter` is a level, or directives such as
/// `info,kube=debug`.
pub fn init(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(parsed);
    match format {
        Format::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_span_list(false)
                    .with_writer(std::io::stderr),
            )
            .try_init()?,
        Format::Text => registry
            .with(fmt::layer().with_target(false).with_writer(std::io::stderr))
            .try_init()?,
    }
    Ok(())
}
