//! The log: one line per thing that happened, to standard error, as text for people or as JSON for
//! machines.
//!
//! Three rules keep it useful. A failure is logged once, by whoever handles it. What lasts is
//! logged when it begins and when it ends, not at each retry: see [`StateLog`]. And nothing that a
//! platform, a tenant or a receiver wrote can forge a line or drive a terminal: control characters
//! are shown as escapes in both formats.

use std::io::IsTerminal;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::settings::{LogFormat, LoggingSettings};

mod escape;
mod filter;
mod state;
#[cfg(test)]
mod tests;

pub use state::StateLog;

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `logging.level` is neither a level nor a list of directives.
    #[error(
        "logging.level: {directive:?} is not understood; it is one of off, error, warn, info, debug and trace, or directives \
         such as \"info,pombo::dispatch=debug\""
    )]
    Level {
        /// The part that is not understood.
        directive: String,
    },
    /// This process has a log already.
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

/// Checks `logging.level` without setting anything up.
///
/// # Errors
/// [`LoggingError::Level`], with the part that is not understood.
pub fn check_level(level: &str) -> Result<(), LoggingError> {
    filter::parse(level).map(drop)
}

/// Sets up the log of this process, to standard error.
///
/// Text is coloured when standard error is a terminal and `NO_COLOR` is not set.
///
/// # Errors
/// [`LoggingError::Level`] for a level that is not understood; [`LoggingError::Twice`] on a second
/// call.
pub fn init(settings: &LoggingSettings) -> Result<(), LoggingError> {
    let filter = filter::parse(&settings.level)?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = std::io::stderr().is_terminal() && !no_color;
    subscriber(settings.format, filter, colour, std::io::stderr).try_init()?;
    Ok(())
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => Box::new(
            registry.with(
                tracing_subscriber::fmt::layer()
                    .fmt_fields(escape::TextFields)
                    .with_ansi(colour)
                    .with_writer(writer),
            ),
        ),
        LogFormat::Json => Box::new(
            registry.with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_writer(escape::JsonWriter(writer)),
            ),
        ),
    }
}
