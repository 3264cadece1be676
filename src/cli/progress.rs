//! What commands that go over many entries have in common: a bound on memory, a pace, a progress bar, a question.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::trouble::Trouble;
use crate::exit::Exit;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON value and nothing else.
    Json,
}

/// How many entries to read at a time: as many as fit into a few MiB, judged by those read before.
#[derive(Debug, Clone, Copy)]
pub struct BatchSize(usize);

impl BatchSize {
    /// Bytes of a batch, about. A batch of one can be larger: as large as one payload may be.
    const BYTES: usize = 4 * 1024 * 1024;
    const MOST: usize = 500;

    /// Begins with one, whose size tells how many the next may be.
    pub fn new() -> BatchSize {
        BatchSize(1)
    }

    /// How many to read next.
    pub fn count(self) -> usize {
        self.0
    }

    /// Learns that the last batch had `entries` of `bytes` together.
    pub fn learn(&mut self, entries: usize, bytes: usize) {
        let each = (bytes / entries.max(1)).max(1);
        let fitting = Self::BYTES / each;
        // Sizes differ from entry to entry: growth is by steps, so that a few small ones prove little.
        self.0 = fitting.min(self.0 * 8).clamp(1, Self::MOST);
    }
}

impl Default for BatchSize {
    fn default() -> BatchSize {
        BatchSize::new()
    }
}

/// Lets so many things happen in a second, evenly spread.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    origin: Instant,
    /// Since the origin.
    next: Duration,
}

impl Pace {
    /// How far a pace may fall behind and still catch up: a timer's grain, and no more, for a burst is what it is there
    /// to prevent.
    const SLACK: Duration = Duration::from_millis(20);

    /// A pace of `per_second`, which is above 0.
    pub fn new(per_second: f64) -> Pace {
        Pace {
            every: Duration::from_secs_f64(1.0 / per_second),
            origin: Instant::now(),
            next: Duration::ZERO,
        }
    }

    /// Waits for the next turn.
    pub async fn turn(&mut self) {
        let now = self.origin.elapsed();
        let turn = self.turn_at(now);
        if turn > now {
            tokio::time::sleep_until(self.origin + turn).await;
        }
    }

    /// When the next turn is, asked for at `now`; both since the origin.
    fn turn_at(&mut self, now: Duration) -> Duration {
        let turn = self.next.max(now.saturating_sub(Self::SLACK));
        self.next = turn + self.every;
        turn
    }
}

/// Reads a rate for an option of the command line.
///
/// # Errors
///
/// Says what is allowed.
pub fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| (0.001..=1_000_000.0).contains(rate))
        .ok_or("it must be a number per second, 0.001 to 1000000")
}

/// A progress bar on standard error, if that is a terminal.
pub fn bar(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{wide_bar} {pos}/{len} ({per_sec}, {eta} left)",
        None => "{spinner} {pos} ({per_sec})",
    };
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        // The templates are part of the program; the bar's own look serves as well.
        Err(_) => bar,
    }
}

/// Whether a progress bar would be seen.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Asks whether to go on with what cannot be undone; `yes` is the answer given beforehand.
///
/// # Errors
///
/// There is nobody to ask.
pub fn confirmed(question: &str, yes: bool) -> Result<bool, Trouble> {
    if yes {
        return Ok(true);
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// Refuses to begin with what cannot be undone where nobody can be asked.
///
/// # Errors
///
/// Neither `yes` was given, nor is there a terminal.
pub fn can_confirm(yes: bool) -> Result<(), Trouble> {
    if yes || io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Trouble::new(
        Exit::Usage,
        "this cannot be undone, and there is no terminal to ask on: give --yes if you mean it, or --dry-run to see what \
         it would be",
    ))
}

/// Refuses a command that would touch everything because nothing was said.
///
/// # Errors
///
/// Nothing was selected.
pub fn require_selection(selected: bool, what: &str) -> Result<(), Trouble> {
    if selected {
        return Ok(());
    }
    Err(Trouble::new(
        Exit::Usage,
        format!("say which {what}: their ids, a filter, or --all for every one"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_while_they_stay_small_and_shrink_to_one_for_large_entries() {
        let mut size = BatchSize::new();
        assert_eq!(size.count(), 1);
        for _ in 0..5 {
            size.learn(size.count(), 1_000 * size.count());
        }
        assert_eq!(size.count(), BatchSize::MOST);
        size.learn(500, 500 * 8 * 1024 * 1024);
        assert_eq!(size.count(), 1);
        size.learn(0, 0);
        assert!(size.count() >= 1);
    }

    #[test]
    fn a_pace_is_neither_beaten_nor_made_up_for_after_a_pause() {
        let mut pace = Pace::new(100.0);
        let mut now = Duration::ZERO;
        for _ in 0..101 {
            now = now.max(pace.turn_at(now));
        }
        assert_eq!(now, Duration::from_secs(1));
        let later = now + Duration::from_secs(60);
        now = later;
        for _ in 0..101 {
            now = now.max(pace.turn_at(now));
        }
        assert_eq!(now - later, Duration::from_secs(1) - Pace::SLACK);
    }

    #[test]
    fn rates_are_positive_numbers() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "inf", "NaN", "x"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
