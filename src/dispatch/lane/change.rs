//! What others tell the lane: wake-ups, and changes of its webhook.

use std::sync::Arc;

use super::{Home, Lane, settle_source};
use crate::event::EntryId;

/// Offers for which a lane keeps room: thousands of lanes may have had a burst each.
const ROOM_KEPT: usize = 64;

impl Lane {
    /// Takes up wake-ups and changes of the webhook.
    pub(super) fn look_around(&mut self) {
        // Whatever made the lane look: an offer that waits is seen, and a lane that wanted to end does not spin on it.
        let mut offered = std::mem::take(&mut self.offered);
        if self.handle.take_offers(&mut offered) {
            self.idle_since = None;
            offered.drain(..).for_each(|offer| self.take(offer));
        }
        if offered.capacity() <= ROOM_KEPT {
            self.offered = offered;
        }
        if self.reading.is_none() {
            let removed = self.handle.take_removed();
            for id in removed.into_iter().chain(self.leaving.drain(..)) {
                self.in_memory.remove(&id);
            }
        }
        if self.handle.take_woken() {
            self.more = true;
            if !self.touched {
                // It was made for an offer, and has never looked what else there is.
                self.touched = true;
                self.retry_known(0);
            }
            if self.handle.take_rescheduled() {
                self.look_at_schedules();
            }
            self.idle_since = None;
        }
        if !self.handle.take_changed() {
            return;
        }
        self.draining = self.dispatch.is_draining(self.keys.shard);
        match self.dispatch.registry.by_uid(&self.keys.uid) {
            None => self.deleted = true,
            Some(registered) if Arc::ptr_eq(&registered, &self.registered) => {}
            Some(registered) => match self.dispatch.prepare(&registered) {
                Some((prepared, limiter)) => {
                    let was_paused = self.paused;
                    self.paused = !registered.delivers();
                    self.more |= was_paused;
                    if registered.is_fifo() != self.fifo {
                        self.reorder(registered.is_fifo());
                    }
                    self.prepared = prepared;
                    // By secrets that may sign no more.
                    let ready = self.ready.iter_mut();
                    ready.for_each(|(held, _)| held.signed = None);
                    self.limiter = limiter;
                    self.registered = registered;
                }
                None => self.paused = true,
            },
        }
        if self.deleted {
            let taken = self.take_all_off();
            let unstored = self.unstored.drain(..).map(|unstored| unstored.held);
            taken
                .into_iter()
                .chain(unstored)
                .for_each(|held| settle_source(held.home));
            self.forget_ready();
        }
    }

    /// Another ordering: what is in memory goes back to the queue's order.
    fn reorder(&mut self, fifo: bool) {
        self.forget_ready();
        self.fifo = fifo;
        self.cursor = EntryId::MIN;
        self.more = true;
        self.touched = true;
    }

    /// Drops what was read and not started: it is in the queue, and will be read again.
    pub(super) fn forget_ready(&mut self) {
        for (held, _) in std::mem::take(&mut self.ready) {
            if let Home::Queue(id) = held.home {
                self.in_memory.remove(&id);
                if held.tries.is_none() {
                    self.cursor = self.cursor.min(id.previous());
                } else {
                    self.next_retry_ms = Some(0);
                }
                self.more = true;
            }
        }
        // What a read under way brings would leave a gap behind the cursor.
        if self.reading.take().is_some() {
            self.more = true;
            self.next_retry_ms = Some(0);
        }
    }
}
