//! How others reach a lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::budget::TakenPermit;
use crate::event::{EntryId, Event};
use crate::source::ticket::Share;

/// A delivery offered to a lane: its home is still the source entry.
pub(crate) struct Offer {
    pub event: Arc<Event>,
    pub share: Share,
    pub permit: TakenPermit,
}

/// The other tasks' end of a lane.
pub(crate) struct LaneHandle {
    /// Where offers go. Sent to only under the lock of the lanes' map, so that a lane that finds it empty under the
    /// same lock can end without missing one.
    pub offers: mpsc::Sender<Offer>,
    /// Whether the lane will send an offer within a moment.
    open: AtomicBool,
    woken: AtomicBool,
    rescheduled: AtomicBool,
    changed: AtomicBool,
    unsettled: AtomicUsize,
    /// Entries whose removal is done, until the lane takes note of them.
    removed: Mutex<Vec<EntryId>>,
    signal: Notify,
}

impl LaneHandle {
    pub fn new(offers: mpsc::Sender<Offer>, open: bool) -> LaneHandle {
        LaneHandle {
            offers,
            open: AtomicBool::new(open),
            woken: AtomicBool::new(false),
            rescheduled: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            unsettled: AtomicUsize::new(0),
            removed: Mutex::default(),
            signal: Notify::new(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// There may be more in the queue, or something scheduled may be due sooner than the lane knows.
    pub fn wake(&self) {
        // Before the wake-up: whoever takes that looks at this afterwards.
        self.rescheduled.store(true, Ordering::Release);
        self.wake_for_more();
    }

    /// There is more in the queue, and nothing else is new.
    pub fn wake_for_more(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.signal.notify_one();
        }
    }

    /// The webhook changed, was deleted, or the daemon drains.
    pub fn change(&self) {
        self.changed.store(true, Ordering::Release);
        self.signal.notify_one();
    }

    pub fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    /// Whether schedules must be looked at again; to be asked after [`LaneHandle::take_woken`].
    pub fn take_rescheduled(&self) -> bool {
        self.rescheduled.swap(false, Ordering::AcqRel)
    }

    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// Whether somebody called since the lane last looked.
    pub fn has_news(&self) -> bool {
        self.woken.load(Ordering::Acquire) || self.changed.load(Ordering::Acquire)
    }

    pub async fn signalled(&self) {
        self.signal.notified().await;
    }

    pub fn removal_sent(&self) {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
    }

    pub fn removal_done(&self, id: EntryId) {
        self.removed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(id);
        if self.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.signal.notify_one();
        }
    }

    /// Takes the entries whose removal is done.
    pub fn take_removed(&self) -> Vec<EntryId> {
        std::mem::take(&mut *self.removed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Acquire)
    }
}
