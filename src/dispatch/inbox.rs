//! A lane's inbox: what was offered to it and not looked at yet.
//!
//! The lane takes all of it with one look. With a channel it would touch, for each single offer, memory that another core
//! has just written. It has no bound of its own: each offer has its part of the budget.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's own words.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    /// Whether there may be any, so that looking costs nothing where there are none.
    has_some: AtomicBool,
}

#[derive(Debug)]
struct State<T> {
    waiting: Vec<T>,
    is_closed: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Inbox<T> {
        Inbox {
            state: Mutex::new(State {
                waiting: Vec::new(),
                is_closed: false,
            }),
            has_some: AtomicBool::new(false),
        }
    }
}

impl<T> Inbox<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `item` in.
    ///
    /// # Errors
    ///
    /// It comes back: nobody will look any more.
    pub fn put(&self, item: T) -> Result<(), T> {
        let mut state = self.state();
        if state.is_closed {
            return Err(item);
        }
        state.waiting.push(item);
        self.has_some.store(true, Ordering::Release);
        Ok(())
    }

    /// Exchanges what is there for `empty`, which must be that; false if there is nothing.
    pub fn swap(&self, empty: &mut Vec<T>) -> bool {
        debug_assert!(empty.is_empty());
        if self.is_empty() {
            return false;
        }
        let mut state = self.state();
        self.has_some.store(false, Ordering::Release);
        std::mem::swap(&mut state.waiting, empty);
        true
    }

    /// Whether there is nothing. What is being put in at this moment may not be seen yet: whoever does tells afterwards.
    pub fn is_empty(&self) -> bool {
        !self.has_some.load(Ordering::Acquire)
    }

    /// Nothing is put in any more; what was is dropped.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.has_some.store(false, Ordering::Release);
        let left = std::mem::take(&mut state.waiting);
        // Outside of the lock: what is dropped here may lead anywhere.
        drop(state);
        drop(left);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_taken_at_once_and_in_order() {
        let inbox = Inbox::default();
        let mut taken = Vec::new();
        assert!(inbox.is_empty() && !inbox.swap(&mut taken));
        inbox.put(1).unwrap();
        inbox.put(2).unwrap();
        assert!(!inbox.is_empty() && inbox.swap(&mut taken));
        assert_eq!(taken, [1, 2]);
        taken.clear();
        assert!(inbox.is_empty() && !inbox.swap(&mut taken));
    }

    #[test]
    fn a_closed_one_takes_nothing_and_what_was_in_it_is_dropped() {
        let inbox = Inbox::default();
        let item = std::sync::Arc::new(());
        inbox.put(item.clone()).unwrap();
        assert!(!inbox.is_closed());
        inbox.close();
        assert!(inbox.is_closed() && inbox.is_empty());
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
        assert!(inbox.put(item).is_err());
    }
}
