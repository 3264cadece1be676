//! The time of an event, as platforms write it.

use jiff::Timestamp;

/// From here on a number means milliseconds. As seconds it would be a date after the year 5000.
const MILLISECONDS_FROM: u64 = 100_000_000_000;
/// The end of the year 9999: the last moment that RFC 3339 can write.
const LAST_MS: u64 = 253_402_300_799_999;

/// Reads RFC 3339 text, or a whole number of seconds or milliseconds since 1970; into Unix milliseconds.
/// `None` for anything else, and for times outside the years 1970 to 9999.
pub(super) fn parse(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: u64 = text.parse().ok()?;
        let ms = match number {
            seconds if seconds < MILLISECONDS_FROM => seconds * 1_000,
            ms => ms,
        };
        return Some(ms).filter(|ms| *ms <= LAST_MS);
    }
    let moment: Timestamp = text.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok()
}
