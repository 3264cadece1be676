//! Whether the threads of lanes have time for more.
//!
//! What is taken is started as soon as it may be, and answers wait until the thread has time for them. Where a flood leaves
//! it none, ever more would be in flight, each dearer than the one before, because its connection and its request have long
//! left the processor's caches when its answer is looked at; until all that may be in flight is, and the rest goes the
//! dearer way through the queues. So beyond a number the reader of a source lets the threads finish first. Slow receivers
//! are no such flood: while they think, the threads have time.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::condition::Condition;

/// Deliveries that may be taken between two moments in which a thread has nothing left to do: so few are started within
/// a millisecond or two.
pub(super) const AT_A_TIME: usize = 64;

/// See the module's own words.
#[derive(Debug)]
pub(super) struct Idle {
    /// Whether there are threads that tell when they have nothing left to do.
    is_told: bool,
    /// Threads that have nothing to do now. Where there are several, one of them is enough: webhooks are shared out evenly,
    /// so that a flood leaves none of them idle for long.
    at_rest: AtomicUsize,
    /// Taken since one last had nothing left to do.
    taken: AtomicUsize,
    /// Told of when a thread rests, and by the budget when what is taken has become less.
    pub changed: Condition,
}

impl Idle {
    /// Where threads tell when they have nothing left to do; unless `is_told`, nobody does, and nobody waits for it.
    pub fn new(is_told: bool) -> Idle {
        Idle {
            is_told,
            at_rest: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            changed: Condition::default(),
        }
    }

    /// A thread has nothing left to do.
    pub fn rests(&self) {
        self.at_rest.fetch_add(1, Ordering::SeqCst);
        self.begin_anew();
        self.changed.tell_if(|| true);
    }

    /// It has something to do again.
    pub fn goes_on(&self) {
        self.at_rest.fetch_sub(1, Ordering::SeqCst);
    }

    /// As many may be taken again as after a rest.
    pub fn begin_anew(&self) {
        self.taken.store(0, Ordering::SeqCst);
    }

    /// A delivery was taken.
    pub fn took(&self) {
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether much was taken since a thread last had nothing left to do.
    pub fn is_overdue(&self) -> bool {
        self.is_told
            && self.taken.load(Ordering::SeqCst) >= AT_A_TIME
            && self.at_rest.load(Ordering::SeqCst) == 0
    }
}
