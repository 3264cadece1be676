//! What lasts is logged when it begins, when it changes and when it ends.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Logs the state of one thing when it changes, however often it is reported.
///
/// A loop that retries calls [`trouble`](StateLog::trouble) at each failure and
/// [`well`](StateLog::well) at each success; the log gets one line when the trouble begins, one
/// when it becomes another trouble, and one when it is over, with the number of times that it was
/// met. A thing is well until it is told otherwise.
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

    /// Reports trouble. `reason` tells troubles apart; `detail` is logged with the first of a kind
    /// only, because details (ports, times) differ from one failure to the next. Returns whether
    /// this was news, and so was logged.
    pub fn trouble(&self, reason: &'static str, detail: impl Display) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = trouble.as_mut().filter(|known| known.reason == reason) {
            known.count = known.count.saturating_add(1);
            return false;
        }
        *trouble = Some(Trouble { reason, count: 1 });
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
        let Some(Trouble { reason, count }) = trouble.take() else {
            return false;
        };
        let subject = self.subject.as_str();
        tracing::info!(subject, reason, count, "trouble is over");
        true
    }
}
