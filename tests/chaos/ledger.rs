//! What receivers saw, and what Redis said to the producer: numbers and times, never a body.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::plan::{Behaviour, Plan, SUBSCRIBERS};

/// Of what goes wrong many times, the first are told.
const TOLD: usize = 12;

/// By how much the first and the last request of a stretch may have been on their way for different times: sockets,
/// and two busy cores that daemons, Redis, receivers and the producer share.
pub const JITTER_MS: u64 = 400;

/// One delivery, as its receiver saw it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// Answered with a 2xx.
    pub successes: u16,
    /// When the first and the last of them were answered, ms from the start of the run.
    pub first_ms: u32,
    pub last_ms: u32,
}

/// Two attempts of a fifo webhook at the same time, or more than `max_in_flight`.
#[derive(Clone, Copy, Debug)]
pub struct Overlap {
    pub at_ms: u64,
    pub number: u32,
    pub daemon: u8,
    /// Whether another daemon's was there already.
    pub two_daemons: bool,
}

/// A run of requests faster than the rate limit allows, by more than the tolerance.
#[derive(Clone, Copy, Debug)]
pub struct Excess {
    pub at_ms: u64,
    pub tokens: f64,
}

/// An event at a webhook that keeps the order.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub number: u32,
    pub at_ms: u64,
    /// Whether it was answered with a 2xx; otherwise it came for the first time.
    pub success: bool,
}

/// What one subscriber saw.
#[derive(Debug, Default)]
pub struct Book {
    pub records: HashMap<u32, Record>,
    pub attempts: u64,
    /// Of a webhook that keeps the order: what came for the first time, and what succeeded, in the order of both.
    pub log: Vec<Seen>,
    /// Token bucket, filled by requests and drained by time.
    level: f64,
    level_at_ms: u64,
    pub most_over: f64,
    pub excesses: Vec<Excess>,
    flying: HashMap<u64, u8>,
    pub overlaps: Vec<Overlap>,
}

/// Everything of one run.
#[derive(Debug)]
pub struct Ledger {
    plan: Plan,
    begun: Instant,
    books: Vec<Mutex<Book>>,
    wrong: Mutex<(u64, Vec<String>)>,
    /// Since when a daemon's process runs, and its successes since then, to be laid beside its metrics.
    by_daemon: Mutex<HashMap<u8, (u64, u64)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    pub fn new(plan: Plan) -> Ledger {
        Ledger {
            plan,
            begun: Instant::now(),
            books: SUBSCRIBERS.iter().map(|_| Mutex::default()).collect(),
            wrong: Mutex::default(),
            by_daemon: Mutex::default(),
        }
    }

    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Since the start of the run.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Something that may never be. It fails the run.
    pub fn wrong(&self, what: impl FnOnce() -> String) {
        let mut wrong = lock(&self.wrong);
        wrong.0 += 1;
        if wrong.1.len() < TOLD {
            let told = format!("at {} ms: {}", self.now_ms(), what());
            wrong.1.push(told);
        }
    }

    /// How much was wrong, and the first of it.
    pub fn wrongs(&self) -> (u64, Vec<String>) {
        lock(&self.wrong).clone()
    }

    pub fn book(&self, subscriber: usize) -> MutexGuard<'_, Book> {
        lock(&self.books[subscriber])
    }

    /// An attempt has arrived, whole. The answer names it to [`Ledger::departed`].
    pub fn arrived(&self, subscriber: usize, token: u64, number: u32, daemon: u8) {
        let at_ms = self.now_ms();
        let one = &SUBSCRIBERS[subscriber];
        let mut book = self.book(subscriber);
        book.attempts += 1;
        let repeat = book.records.contains_key(&number);
        if one.fifo && !repeat {
            book.log.push(Seen {
                number,
                at_ms,
                success: false,
            });
        }
        let most = match one.behaviour {
            // What hangs until the daemon gives it up may be seen to end a moment after the next one has come.
            Behaviour::Hostile => None,
            _ if one.fifo => Some(1),
            _ => one.max_in_flight,
        };
        if most.is_some_and(|most| book.flying.len() >= most as usize)
            && book.overlaps.len() < 1_000
        {
            let two_daemons = book.flying.values().any(|other| *other != daemon);
            book.overlaps.push(Overlap {
                at_ms,
                number,
                daemon,
                two_daemons,
            });
        }
        book.flying.insert(token, daemon);
        if let Some((per_second, burst)) = one.rate {
            let since_s = at_ms.saturating_sub(book.level_at_ms) as f64 / 1_000.0;
            book.level = (book.level - since_s * per_second).max(0.0) + 1.0;
            book.level_at_ms = at_ms;
            let over = book.level - f64::from(burst);
            book.most_over = book.most_over.max(over);
            let tolerated = per_second * JITTER_MS as f64 / 1_000.0;
            if over > tolerated && book.excesses.len() < 1_000 {
                book.excesses.push(Excess {
                    at_ms,
                    tokens: over - tolerated,
                });
            }
        }
    }

    /// The attempt was answered with a 2xx: before the answer is on its way, or a next attempt could come first.
    pub fn succeeded(&self, subscriber: usize, token: u64, number: u32, daemon: u8) {
        let now_ms = u32::try_from(self.now_ms()).unwrap_or(u32::MAX);
        {
            let mut book = self.book(subscriber);
            book.flying.remove(&token);
            let record = book.records.entry(number).or_default();
            if record.successes == 0 {
                record.first_ms = now_ms;
            }
            record.successes = record.successes.saturating_add(1);
            record.last_ms = now_ms;
            if SUBSCRIBERS[subscriber].fifo {
                book.log.push(Seen {
                    number,
                    at_ms: u64::from(now_ms),
                    success: true,
                });
            }
        }
        lock(&self.by_daemon).entry(daemon).or_default().1 += 1;
    }

    /// The attempt is over without a success: answered otherwise, or its connection is gone.
    pub fn departed(&self, subscriber: usize, token: u64) {
        self.book(subscriber).flying.remove(&token);
    }

    /// A process of the daemon begins: its metrics begin at 0.
    pub fn daemon_begins(&self, daemon: u8) {
        let now_ms = self.now_ms();
        lock(&self.by_daemon).insert(daemon, (now_ms, 0));
    }

    /// Since when the daemon's process runs, and how many successes receivers saw of it since.
    pub fn successes_of(&self, daemon: u8) -> (u64, u64) {
        let by_daemon = lock(&self.by_daemon);
        by_daemon.get(&daemon).copied().unwrap_or_default()
    }
}
