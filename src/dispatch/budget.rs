//! The bound on deliveries that are only taken: their body's one home is the source entry, and their copy is here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bounds number and bytes of taken deliveries.
#[derive(Debug)]
pub struct TakenBudget {
    most: usize,
    most_bytes: usize,
    count: AtomicUsize,
    bytes: AtomicUsize,
    freed: Notify,
}

/// One taken delivery's part of the budget; given back when dropped.
#[derive(Debug)]
pub struct TakenPermit {
    budget: Arc<TakenBudget>,
    bytes: usize,
}

impl TakenBudget {
    /// A budget of `most` deliveries and `most_bytes` bytes of payload.
    pub fn new(most: usize, most_bytes: usize) -> Arc<TakenBudget> {
        Arc::new(TakenBudget {
            most,
            most_bytes,
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            freed: Notify::new(),
        })
    }

    /// A permit for a delivery of `bytes`, if both bounds allow. The bounds may be passed by what several callers take
    /// in the same moment.
    pub fn take(self: &Arc<TakenBudget>, bytes: usize) -> Option<TakenPermit> {
        if self.is_full() {
            return None;
        }
        self.count.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Some(TakenPermit {
            budget: self.clone(),
            bytes,
        })
    }

    /// Whether nothing more may be taken.
    pub fn is_full(&self) -> bool {
        self.count.load(Ordering::Acquire) >= self.most
            || self.bytes.load(Ordering::Acquire) >= self.most_bytes
    }

    /// How many deliveries are taken.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Resolves when there is room.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for TakenPermit {
    fn drop(&mut self) {
        let was_full = self.budget.is_full();
        self.budget.count.fetch_sub(1, Ordering::AcqRel);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if was_full {
            self.budget.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_bound_refuses_and_a_dropped_permit_makes_room() {
        let budget = TakenBudget::new(2, 100);
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
        let budget = TakenBudget::new(1, 100);
        let permit = budget.take(1);
        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move { budget.room().await }
        });
        tokio::task::yield_now().await;
        drop(permit);
        waiter.await.unwrap();
    }
}
