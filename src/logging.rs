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

/// Names of the fields of log lines, so that a search for one delivery finds all of its lines.
///
/// Use them as `tracing::warn!({ field::WEBHOOK } = id, { field::ERROR } = %error, "attempt
/// failed")`. Tenants' payloads, secrets and URLs with their queries are not fields, and never
/// become part of one.
pub mod field {
    /// A webhook's id.
    pub const WEBHOOK: &str = "webhook";
    /// A tenant.
    pub const TENANT: &str = "tenant";
    /// A delivery's id.
    pub const DELIVERY: &str = "delivery";
    /// An event's id.
    pub const EVENT: &str = "event";
    /// An event's type.
    pub const EVENT_TYPE: &str = "event_type";
    /// A configured source's name.
    pub const SOURCE: &str = "source";
    /// A stream's key in Redis.
    pub const STREAM: &str = "stream";
    /// The id of a stream's entry.
    pub const ENTRY: &str = "entry";
    /// The number of a shard.
    pub const SHARD: &str = "shard";
    /// A daemon's instance name.
    pub const INSTANCE: &str = "instance";
    /// How many attempts a delivery has had.
    pub const ATTEMPT: &str = "attempt";
    /// The status of an HTTP answer.
    pub const STATUS: &str = "status";
    /// What a [`super::StateLog`] watches.
    pub const SUBJECT: &str = "subject";
    /// Why, as a word from a closed set.
    pub const REASON: &str = "reason";
    /// What went wrong, in plain words.
    pub const ERROR: &str = "error";
    /// How many there were.
    pub const COUNT: &str = "count";
    /// How long it took or lasted, in milliseconds.
    pub const DURATION_MS: &str = "duration_ms";
}

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
