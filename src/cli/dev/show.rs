//! How a run looks: an opening, a line for each thing that happens, and a closing.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::tally::{Noted, Totals};
use crate::cli::pretty::{bounded, escape_line};
use crate::clock::rfc3339_ms;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// How much of what a stranger wrote is shown.
const SHOWN: usize = 72;

/// Standard output, a whole line at a time.
#[derive(Debug)]
pub struct Screen {
    out: Mutex<io::Stdout>,
    colours: bool,
    stop: CancellationToken,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// Answered with 2xx.
    Delivered,
    /// Answered with this instead.
    Failed(u16),
    /// Given up, for this reason and after this error.
    Dead {
        /// Why.
        reason: &'a str,
        /// What the last attempt came to.
        error: &'a str,
    },
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The subscriber.
    pub subscriber: &'a str,
    /// The event's type.
    pub event_type: &'a str,
    /// Which attempt it was.
    pub attempt: u32,
    /// Whether its signatures hold; `None` where nobody received it.
    pub verified: Option<bool>,
    /// What became of it.
    pub what: What<'a>,
    /// How long after its event.
    pub noted: Noted,
}

impl Screen {
    /// `stop` is cancelled when nobody reads any more.
    pub fn new(colours: bool, stop: CancellationToken) -> Screen {
        Screen {
            out: Mutex::new(io::stdout()),
            colours,
            stop,
        }
    }

    /// Shows `text` and a line end.
    pub fn print(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            self.stop.cancel();
        }
    }

    /// Shows a line.
    pub fn line(&self, line: &Line<'_>) {
        self.print(&line.text(self.colours));
    }

    /// Text that stands out.
    pub fn strong(&self, text: &str) -> String {
        paint(self.colours, BOLD, text)
    }

    /// Text that stands back.
    pub fn faint(&self, text: &str) -> String {
        paint(self.colours, DIM, text)
    }
}

/// The heads of the columns.
pub fn heads() -> String {
    format!(
        "{:<10}{:<12}{:<14}{:<28}{:<9}{:<12}{}",
        "time UTC", "subscriber", "", "event", "attempt", "signature", "since the event"
    )
}

impl Line<'_> {
    /// The line, without a line end.
    pub fn text(&self, colours: bool) -> String {
        let (colour, what) = match self.what {
            What::Delivered => (GREEN, "✓ delivered"),
            What::Failed(_) => (YELLOW, "↻ failed"),
            What::Dead { .. } => (RED, "✗ dead letter"),
        };
        let stranger = |text: &str| escape_line(bounded(text, SHOWN).0);
        let signature = match self.verified {
            Some(true) => format!("{:<12}", "verified"),
            Some(false) => paint(colours, RED, &format!("{:<12}", "WRONG")),
            None => format!("{:<12}", "-"),
        };
        let since = match (self.noted, self.what) {
            (Noted::After(time), _) => duration(time),
            (Noted::Again, What::Delivered) => "  a repeat".to_owned(),
            (Noted::Again, _) => String::new(),
            (Noted::Earlier, _) => "an earlier run".to_owned(),
        };
        let remark = match self.what {
            What::Delivered => String::new(),
            What::Failed(status) => format!("  answered {status}, comes again"),
            What::Dead { reason, error } => {
                // The most exact part of what went wrong is its end.
                let error = error.rsplit(": ").next().unwrap_or(error);
                format!("  {}: {}", stranger(reason), stranger(error))
            }
        };
        // A moment as RFC 3339 always has its time of day there.
        let time = rfc3339_ms(self.at_ms);
        format!(
            "{}{:<12}{}{:<28}{:<9}{signature}{since:>7}{}",
            paint(colours, DIM, &format!("{:<10}", &time[11..19])),
            stranger(self.subscriber),
            paint(colours, colour, &format!("{what:<14}")),
            stranger(self.event_type),
            self.attempt,
            paint(colours, DIM, &remark),
        )
        .trim_end()
        .to_owned()
    }
}

/// The closing.
pub fn summary(totals: &Totals, latencies: Option<(Duration, Duration)>) -> String {
    let mut lines = vec![format!(
        "{} became {}: {} delivered, {}, {} under way",
        counted(totals.events, "event", "events"),
        counted(totals.deliveries, "delivery", "deliveries"),
        totals.delivered,
        counted(totals.dead, "dead letter", "dead letters"),
        totals
            .deliveries
            .saturating_sub(totals.delivered + totals.dead),
    )];
    lines.push(format!(
        "{}, {}, {}",
        counted(totals.failures, "failed attempt", "failed attempts"),
        counted(totals.repeats, "repeat", "repeats"),
        counted(totals.unverified, "wrong signature", "wrong signatures"),
    ));
    if let Some((half, longest)) = latencies {
        lines.push(format!(
            "from XADD to receipt: half of them within {}, the longest {} (retries included)",
            duration(half),
            duration(longest)
        ));
    }
    lines.join("\n")
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn paint(colours: bool, colour: &str, text: &str) -> String {
    if colours && !text.is_empty() {
        format!("{colour}{text}{PLAIN}")
    } else {
        text.to_owned()
    }
}

fn duration(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_who_got_what_when_and_whether_it_was_signed() {
        let line = Line {
            at_ms: 1_773_403_200_000,
            subscriber: "erp",
            event_type: "crm.lead.created",
            attempt: 1,
            verified: Some(true),
            what: What::Delivered,
            noted: Noted::After(Duration::from_micros(1_234)),
        };
        assert_eq!(
            line.text(false),
            "12:00:00  erp         ✓ delivered   crm.lead.created            1        verified     1.2 ms"
        );
        let dead = Line {
            verified: None,
            what: What::Dead {
                reason: "exhausted",
                error: "could not connect: refused\u{1b}[2J",
            },
            noted: Noted::Earlier,
            ..line
        };
        let text = dead.text(false);
        assert!(text.ends_with("exhausted: refused\\u{1b}[2J"), "{text}");
    }

    #[test]
    fn durations_have_two_or_three_digits() {
        let shown =
            [1_240, 99_600, 999_000, 12_340_000].map(|us| duration(Duration::from_micros(us)));
        assert_eq!(shown, ["1.2 ms", "100 ms", "999 ms", "12.3 s"]);
    }
}
