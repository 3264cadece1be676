//! The bound on deliveries that are only taken: their body's one home is the source entry, and their copy is here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::condition::Condition;
use crate::settings::DeliverySettings;

/// Unstarted taken deliveries of all lanes together. Beyond it the reader of a source waits: what is still in the
/// platform's stream is safe there, and cheaper than in a queue. Small enough that a lane that keeps up starts what it
/// has taken long before it would be stored.
const MOST_UNSTARTED: usize = 512;
/// Whoever waits for room is woken when this part of it is free: woken for each single one, reader and lanes would do
/// little else than wake each other.
const ROOM_PART: usize = 2;

/// How long it is worth to wait for much room: others may take what becomes free before there is, and then any must do.
pub const ROOM_WITHIN: Duration = Duration::from_millis(250);

/// Bounds number and bytes of taken deliveries.
#[derive(Debug)]
pub struct TakenBudget {
    most: usize,
    most_bytes: usize,
    count: AtomicUsize,
    unstarted: AtomicUsize,
    bytes: AtomicUsize,
    freed: Condition,
}

/// One taken delivery's part of the budget; given back when dropped.
#[derive(Debug)]
pub struct TakenPermit {
    budget: Arc<TakenBudget>,
    bytes: usize,
    started: bool,
}

impl TakenBudget {
    /// A budget of what `delivery` allows.
    pub(super) fn new(delivery: &DeliverySettings) -> Arc<TakenBudget> {
        Arc::new(TakenBudget {
            most: delivery.max_taken,
            most_bytes: delivery.max_taken_bytes,
            count: AtomicUsize::new(0),
            unstarted: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            freed: Condition::default(),
        })
    }

    /// A permit for a delivery of `bytes`, if the bounds allow. They may be passed by what several callers take in the
    /// same moment.
    pub fn take(self: &Arc<TakenBudget>, bytes: usize) -> Option<TakenPermit> {
        if self.is_full() {
            return None;
        }
        self.count.fetch_add(1, Ordering::AcqRel);
        self.unstarted.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Some(TakenPermit {
            budget: self.clone(),
            bytes,
            started: false,
        })
    }

    /// Whether nothing more may be taken.
    pub fn is_full(&self) -> bool {
        self.unstarted.load(Ordering::SeqCst) >= MOST_UNSTARTED.min(self.most)
            || self.count.load(Ordering::SeqCst) >= self.most
            || self.bytes.load(Ordering::SeqCst) >= self.most_bytes
    }

    /// Whether there is room for more than a few.
    fn has_room(&self) -> bool {
        let unstarted = self.unstarted.load(Ordering::SeqCst);
        unstarted <= MOST_UNSTARTED.min(self.most) / ROOM_PART && !self.is_full()
    }

    /// How many deliveries are taken.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Resolves when there is room for more than a few.
    pub async fn room(&self) {
        self.freed.until(|| self.has_room()).await;
    }

    fn after(&self, give_back: impl FnOnce()) {
        give_back();
        self.freed.tell_if(|| self.has_room());
    }
}

impl TakenPermit {
    /// The delivery has been started, or stored elsewhere is under way.
    pub fn start(&mut self) {
        if !self.started {
            self.started = true;
            let budget = &self.budget;
            budget.after(|| {
                budget.unstarted.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

impl Drop for TakenPermit {
    fn drop(&mut self) {
        self.start();
        let budget = &self.budget;
        budget.after(|| {
            budget.count.fetch_sub(1, Ordering::SeqCst);
            budget.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::settings::Settings;

    fn budget(most: usize, most_bytes: usize) -> Arc<TakenBudget> {
        let delivery = DeliverySettings {
            max_taken: most,
            max_taken_bytes: most_bytes,
            ..Settings::defaults_for_tests().delivery
        };
        TakenBudget::new(&delivery)
    }

    #[test]
    fn either_bound_refuses_and_a_dropped_permit_makes_room() {
        let budget = budget(2, 100);
        let first = budget.take(60);
        let second = budget.take(60);
        assert!(first.is_some() && second.is_some());
        assert!(budget.take(0).is_none());
        drop(second);
        assert!(budget.take(0).is_some());
        drop(first);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_woken_when_there_is_some() {
        let budget = budget(1, 100);
        let permit = budget.take(1);
        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move { budget.room().await }
        });
        tokio::task::yield_now().await;
        drop(permit);
        waiter.await.unwrap();
    }

    #[test]
    fn whoever_waits_for_room_is_woken_for_much_of_it_and_not_for_each_single_one() {
        let budget = budget(usize::MAX, usize::MAX);
        let mut taken: Vec<TakenPermit> = std::iter::from_fn(|| budget.take(1)).collect();
        assert_eq!(taken.len(), MOST_UNSTARTED);
        let mut room = Box::pin(budget.room());
        while taken.len() > MOST_UNSTARTED / ROOM_PART {
            assert!(room.as_mut().now_or_never().is_none());
            assert!(budget.freed.is_awaited());
            taken.pop();
        }
        assert!(!budget.freed.is_awaited());
        assert!(room.now_or_never().is_some());
    }

    #[test]
    fn room_that_is_made_while_the_last_is_taken_is_not_overlooked() {
        let budget = budget(2, usize::MAX);
        let (give, given) = std::sync::mpsc::channel::<TakenPermit>();
        let dropper = std::thread::spawn(move || given.into_iter().for_each(drop));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            for _ in 0..10_000 {
                while let Some(permit) = budget.take(1) {
                    give.send(permit).unwrap();
                }
                tokio::time::timeout(std::time::Duration::from_secs(20), budget.room())
                    .await
                    .unwrap();
            }
        });
        drop(give);
        dropper.join().unwrap();
    }
}
