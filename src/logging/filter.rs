//! `logging.level`, read more strictly than `EnvFilter` reads it.

use tracing_subscriber::filter::EnvFilter;

use super::LoggingError;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Makes a filter of `level`: comma-separated directives of `EnvFilter`.
///
/// A bare level is Pombo's own; libraries say no more than warnings unless a directive names them.
/// At `debug` some of them print the headers of requests, among which a webhook's may be secret.
///
/// `EnvFilter` takes a misspelt level for the name of a module and then logs nothing at all; here
/// it is an error.
pub(super) fn parse(level: &str) -> Result<EnvFilter, LoggingError> {
    let mut directives = Vec::new();
    for directive in level.split(',').map(str::trim) {
        let refused = || LoggingError::Level {
            directive: directive.chars().take(100).collect(),
        };
        let bare = LEVELS
            .iter()
            .find(|level| level.eq_ignore_ascii_case(directive));
        match bare {
            Some(&bare @ ("off" | "error" | "warn")) => directives.push(bare.to_owned()),
            Some(bare) => directives.extend(["warn".to_owned(), format!("pombo={bare}")]),
            None if directive.contains('=') => {
                directive
                    .parse::<tracing_subscriber::filter::Directive>()
                    .map_err(|_| refused())?;
                directives.push(directive.to_owned());
            }
            None => return Err(refused()),
        }
    }
    let directives = directives.join(",");
    EnvFilter::try_new(&directives).map_err(|_| LoggingError::Level {
        directive: directives,
    })
}
