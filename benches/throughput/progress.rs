//! What is being done just now, on the error output: one line that changes on a terminal, and lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

/// How often a count is told where it cannot be overwritten.
const EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    title: String,
    told: Cell<Instant>,
}

impl Progress {
    /// For what is called `title`.
    pub fn of(title: String) -> Progress {
        Progress {
            title,
            told: Cell::new(Instant::now()),
        }
    }

    /// Says what is done next.
    pub fn step(&self, text: &str) {
        self.told.set(Instant::now());
        let title = &self.title;
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{title}: {text}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{title}: {text}");
        }
    }

    /// Says how far it is.
    pub fn count(&self, done: u64, all: u64) {
        if std::io::stderr().is_terminal() || self.told.get().elapsed() >= EVERY {
            self.step(&format!("{done} of {all}"));
        }
    }

    /// Leaves the line that was written last.
    pub fn end() {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}
