//! What was sent, what is still to come, and what came of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Events that are remembered until they are settled. Older ones are forgotten, so that a run may last.
const MOST_EVENTS: usize = 100_000;
/// Latencies that are kept for the summary.
const MOST_LATENCIES: usize = 100_000;

/// The books of one run.
#[derive(Debug)]
pub struct Tally {
    run: String,
    books: Mutex<Books>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Books {
    /// By their number, those that somebody is still to get.
    open: BTreeMap<u64, Open>,
    totals: Totals,
    latencies: Vec<Duration>,
}

#[derive(Debug)]
struct Open {
    sent: Duration,
    /// A bit for each subscriber that is still to get it.
    waiting: u32,
}

/// What a run amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events sent.
    pub events: u64,
    /// Deliveries that they became.
    pub deliveries: u64,
    /// Of these, answered with 2xx.
    pub delivered: u64,
    /// Of these, dead letters.
    pub dead: u64,
    /// Attempts that a subscriber answered otherwise.
    pub failures: u64,
    /// Deliveries that came again after they had been answered with 2xx.
    pub repeats: u64,
    /// Attempts whose signature was wrong or missing.
    pub unverified: u64,
}

/// What the books say of something that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// For the first time, this long after the event was added to its stream.
    After(Duration),
    /// It had ended before.
    Again,
    /// Its event is of an earlier run.
    Earlier,
}

impl Tally {
    /// Empty books for the run of this name.
    pub fn new(run: String) -> Tally {
        Tally {
            run,
            books: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing panics while the lock is held, so it is never poisoned.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the `n`th event of this run.
    pub fn event_id(&self, n: u64) -> String {
        format!("evt_{}_{n}", self.run)
    }

    /// The number of an event of this run.
    pub fn number(&self, event_id: &str) -> Option<u64> {
        let rest = event_id.strip_prefix("evt_")?.strip_prefix(&self.run)?;
        rest.strip_prefix('_')?.parse().ok()
    }

    /// An event is about to be added to its stream at `now`; `subscribers` (their bits) will get it.
    pub fn sending(&self, n: u64, subscribers: u32, now: Duration) {
        let mut books = self.books();
        books.totals.events += 1;
        books.totals.deliveries += u64::from(subscribers.count_ones());
        if subscribers != 0 {
            let open = Open {
                sent: now,
                waiting: subscribers,
            };
            books.open.insert(n, open);
        }
        if books.open.len() > MOST_EVENTS {
            books.open.pop_first();
        }
    }

    /// An attempt arrived, and was answered with 2xx or not.
    pub fn arrived(
        &self,
        subscriber: usize,
        event_id: &str,
        accepted: bool,
        verified: bool,
        now: Duration,
    ) -> Noted {
        let Some(n) = self.number(event_id) else {
            return Noted::Earlier;
        };
        let mut books = self.books();
        books.totals.unverified += u64::from(!verified);
        if !accepted {
            books.totals.failures += 1;
            let sent = books.open.get(&n).map(|open| open.sent);
            return sent.map_or(Noted::Again, |sent| Noted::After(now.saturating_sub(sent)));
        }
        let noted = books.close(subscriber, n, now);
        match noted {
            Noted::After(latency) => {
                books.totals.delivered += 1;
                if books.latencies.len() < MOST_LATENCIES {
                    books.latencies.push(latency);
                }
            }
            Noted::Again => books.totals.repeats += 1,
            Noted::Earlier => {}
        }
        drop(books);
        self.changed.notify_one();
        noted
    }

    /// A delivery became a dead letter.
    pub fn died(&self, subscriber: usize, event_id: &str, now: Duration) -> Noted {
        let Some(n) = self.number(event_id) else {
            return Noted::Earlier;
        };
        let mut books = self.books();
        let noted = books.close(subscriber, n, now);
        if matches!(noted, Noted::After(_)) {
            books.totals.dead += 1;
        }
        drop(books);
        self.changed.notify_one();
        noted
    }

    /// Whether every delivery of what was sent has ended.
    pub fn is_settled(&self) -> bool {
        self.books().open.is_empty()
    }

    /// Returns after the next delivery that ends, at once if one has since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What the run amounts to so far.
    pub fn totals(&self) -> Totals {
        self.books().totals
    }

    /// Of the first 100,000 deliveries: the latency that half of them stay below, and the longest.
    pub fn latencies(&self) -> Option<(Duration, Duration)> {
        let mut latencies = self.books().latencies.clone();
        latencies.sort_unstable();
        Some((*latencies.get(latencies.len() / 2)?, *latencies.last()?))
    }
}

impl Books {
    fn close(&mut self, subscriber: usize, n: u64, now: Duration) -> Noted {
        let bit = 1 << subscriber;
        let Some(open) = self.open.get_mut(&n).filter(|open| open.waiting & bit != 0) else {
            return Noted::Again;
        };
        open.waiting &= !bit;
        let (sent, waiting) = (open.sent, open.waiting);
        if waiting == 0 {
            self.open.remove(&n);
        }
        Noted::After(now.saturating_sub(sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_run_is_settled_once_every_delivery_is_delivered_or_dead() {
        let tally = Tally::new("r1".into());
        let id = tally.event_id(7);
        tally.sending(7, 0b101, 10 * MS);
        assert!(!tally.is_settled());
        let failed = tally.arrived(0, &id, false, true, 11 * MS);
        assert_eq!(failed, Noted::After(MS));
        let delivered = tally.arrived(0, &id, true, true, 13 * MS);
        assert_eq!(delivered, Noted::After(3 * MS));
        assert_eq!(tally.arrived(0, &id, true, true, 14 * MS), Noted::Again);
        assert!(!tally.is_settled());
        assert_eq!(tally.died(2, &id, 15 * MS), Noted::After(5 * MS));
        assert!(tally.is_settled());
        let totals = Totals {
            events: 1,
            deliveries: 2,
            delivered: 1,
            dead: 1,
            failures: 1,
            repeats: 1,
            unverified: 0,
        };
        assert_eq!(tally.totals(), totals);
        assert_eq!(tally.latencies(), Some((3 * MS, 3 * MS)));
    }

    #[test]
    fn what_an_earlier_run_left_is_not_counted() {
        let tally = Tally::new("r1".into());
        tally.sending(0, 0b1, MS);
        let noted = tally.arrived(0, "evt_r0_0", true, true, MS);
        assert_eq!(noted, Noted::Earlier);
        assert_eq!(tally.died(0, "something else", MS), Noted::Earlier);
        assert_eq!(tally.totals().delivered, 0);
        assert!(!tally.is_settled());
    }
}
