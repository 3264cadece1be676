//! How others reach a lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::budget::TakenPermit;
use super::inbox::Inbox;
use crate::event::{EntryId, Event};
use crate::source::ticket::Share;

/// A delivery offered to a lane: its home is still the source entry.
pub(crate) struct Offer {
    pub event: Arc<Event>,
    pub share: Share,
    pub permit: TakenPermit,
}

/// Tells lanes of a thread that something was offered to them; see [`super::usher`].
pub(crate) type Announcements = mpsc::UnboundedSender<Arc<LaneHandle>>;

/// The other tasks' end of a lane.
pub(crate) struct LaneHandle {
    /// Where offers go. Put there only under the lock of the lanes' map, so that a lane that finds it empty under the
    /// same lock can end without missing one.
    offers: Inbox<Offer>,
    announcements: Announcements,
    /// Whether it is on its way to the lane that something was offered.
    is_announced: AtomicBool,
    /// Whether the lane will send an offer within a moment.
    open: AtomicBool,
    woken: AtomicBool,
    rescheduled: AtomicBool,
    changed: AtomicBool,
    unsettled: AtomicUsize,
    /// Entries whose removal is done, until the lane takes note of them.
    removed: Mutex<Vec<EntryId>>,
    has_removed: AtomicBool,
    /// Whether it stands in the line of its thread, what it could start, and the turns that it was granted there.
    is_in_line: AtomicBool,
    wanted: AtomicUsize,
    granted: AtomicUsize,
    signal: Notify,
}

impl std::fmt::Debug for LaneHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneHandle").finish_non_exhaustive()
    }
}

impl LaneHandle {
    pub fn new(announcements: Announcements, open: bool) -> LaneHandle {
        LaneHandle {
            offers: Inbox::default(),
            announcements,
            is_announced: AtomicBool::new(false),
            open: AtomicBool::new(open),
            woken: AtomicBool::new(false),
            rescheduled: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            unsettled: AtomicUsize::new(0),
            removed: Mutex::default(),
            has_removed: AtomicBool::new(false),
            is_in_line: AtomicBool::new(false),
            wanted: AtomicUsize::new(0),
            granted: AtomicUsize::new(0),
            signal: Notify::new(),
        }
    }

    /// Puts a delivery into the lane's inbox, and has the lane told.
    ///
    /// # Errors
    ///
    /// The offer comes back: the lane is over.
    pub fn offer(self: &Arc<LaneHandle>, offer: Offer) -> Result<(), Offer> {
        self.offers.put(offer)?;
        if !self.is_announced.swap(true, Ordering::AcqRel)
            && self.announcements.send(self.clone()).is_err()
        {
            // Its thread is gone, and the lane with it.
            self.signal.notify_one();
        }
        Ok(())
    }

    /// Wakes the lane, unless it has found what was offered already.
    pub fn announce(&self) {
        // Before the look: what is offered from now on is announced again.
        self.is_announced.swap(false, Ordering::AcqRel);
        if self.has_offers() {
            self.signal.notify_one();
        }
    }

    /// Exchanges what was offered for `empty`, which must be that; false if nothing was.
    pub fn take_offers(&self, empty: &mut Vec<Offer>) -> bool {
        self.offers.swap(empty)
    }

    pub fn has_offers(&self) -> bool {
        !self.offers.is_empty()
    }

    /// The lane is over: nothing can be offered to it any more, and what was and not looked at is dropped.
    pub fn close(&self) {
        self.set_open(false);
        self.offers.close();
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
        take(&self.woken)
    }

    /// Whether schedules must be looked at again; to be asked after [`LaneHandle::take_woken`].
    pub fn take_rescheduled(&self) -> bool {
        take(&self.rescheduled)
    }

    pub fn take_changed(&self) -> bool {
        take(&self.changed)
    }

    /// Whether somebody called since the lane last looked.
    pub fn has_news(&self) -> bool {
        self.woken.load(Ordering::Acquire) || self.changed.load(Ordering::Acquire)
    }

    /// Whether the lane's task is no more.
    pub fn is_over(&self) -> bool {
        self.offers.is_closed()
    }

    /// Whether the lane, which could start `wanted` attempts, did not stand in line before.
    pub fn gets_in_line(&self, wanted: usize) -> bool {
        self.wanted.store(wanted, Ordering::Release);
        !self.is_in_line.swap(true, Ordering::AcqRel)
    }

    /// The lane was first in line: it may start as many attempts as it wants, and `most` at most. Returns how many.
    pub fn call(&self, most: usize) -> usize {
        let granted = self.wanted.load(Ordering::Acquire).min(most);
        self.granted.store(granted, Ordering::Release);
        self.is_in_line.store(false, Ordering::Release);
        self.signal.notify_one();
        granted
    }

    pub fn take_granted(&self) -> usize {
        match self.granted.load(Ordering::Acquire) {
            0 => 0,
            _ => self.granted.swap(0, Ordering::AcqRel),
        }
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
        self.has_removed.store(true, Ordering::Release);
        if self.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.signal.notify_one();
        }
    }

    /// Takes the entries whose removal is done.
    pub fn take_removed(&self) -> Vec<EntryId> {
        if !take(&self.has_removed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.removed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Acquire)
    }
}

/// Whether `flag` was set, which it is no more. Looked at first: lanes look often, and find something seldom.
fn take(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Acquire) && flag.swap(false, Ordering::AcqRel)
}
