//! What lasts is logged when it begins, when it changes and when it ends.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Display;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Logs the state of one thing when it changes, however often it is reported.
///
/// A loop that retries calls [`trouble`](StateLog::trouble) at each failure and
/// [`well`](StateLog::well) at each success; the log gets one line when the trouble begins, one
/// when it becomes another trouble or has another cause, and one when it is over, with the number of
/// times that it was met. A thing is well until it is told otherwise.
#[derive(Debug)]
pub struct StateLog {
    subject: String,
    severe: bool,
    /// Set while there is trouble, so that `well` costs one load as long as all is well.
    troubled: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Debug)]
struct Trouble {
    reason: &'static str,
    count: u64,
    /// The causes that were told, by what they have in common with their repetitions.
    told: Vec<u64>,
}

/// Causes told of one trouble: one that always has another text must not fill the log.
const MOST_CAUSES: usize = 8;

/// The same for two texts that differ in numbers alone (ports, times).
fn cause_of(detail: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let words = detail.split(|c: char| c.is_ascii_digit());
    words
        .filter(|word| !word.is_empty())
        .for_each(|word| word.hash(&mut hasher));
    hasher.finish()
}

impl StateLog {
    /// Watches `subject`, whose troubles are warnings: Pombo deals with them by itself.
    pub fn new(subject: impl Into<String>) -> Self {
        StateLog {
            subject: subject.into(),
            severe: false,
            troubled: AtomicBool::new(false),
            trouble: Mutex::new(None),
        }
    }

    /// The same, for troubles that somebody must do something about: they are logged as errors.
    pub fn severe(subject: impl Into<String>) -> Self {
        StateLog {
            severe: true,
            ..StateLog::new(subject)
        }
    }

    /// Reports trouble. `reason` tells troubles apart, and `detail` the causes of one: each is logged
    /// once, whatever numbers (ports, times) it comes with. Returns whether this was news, and so was
    /// logged.
    pub fn trouble(&self, reason: &'static str, detail: impl Display) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let detail = detail.to_string();
        let cause = cause_of(&detail);
        if let Some(known) = trouble.as_mut().filter(|known| known.reason == reason) {
            known.count = known.count.saturating_add(1);
            if known.told.contains(&cause) || known.told.len() >= MOST_CAUSES {
                return false;
            }
            known.told.push(cause);
        } else {
            *trouble = Some(Trouble {
                reason,
                count: 1,
                told: vec![cause],
            });
        }
        self.troubled.store(true, Ordering::Release);
        let subject = self.subject.as_str();
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    subject,
                    reason,
                    error = %detail,
                    "trouble"
                )
            };
        }
        if self.severe {
            say!(error);
        } else {
            say!(warn);
        }
        true
    }

    /// Reports that all is well. Returns whether this was news, and so was logged.
    pub fn well(&self) -> bool {
        if !self.troubled.load(Ordering::Acquire) {
            return false;
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        self.troubled.store(false, Ordering::Release);
        let Some(Trouble { reason, count, .. }) = trouble.take() else {
            return false;
        };
        let subject = self.subject.as_str();
        tracing::info!(subject, reason, count, "trouble is over");
        true
    }
}
