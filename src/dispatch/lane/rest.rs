//! Between the attempts: whether the lane takes offers, when it must look again, and its sleep.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Held, Home, LINGER, Lane, NAP, Now, RECHECK, SECOND_LOOK, STORE_AGAIN, TAKEN_IN_FLIGHT,
    TAKEN_UNSTARTED,
};
use crate::event::EntryId;
use crate::metrics::Metrics;
use crate::store::lane::{Parked, Work};

/// The shortest time for which a lane waits for something that is late already.
const SOON: Duration = Duration::from_millis(1);
/// Waits are cut to this: what is due later is parked anyway, and an instant too far away cannot be written down.
const FAR_MS: u64 = 3_600_000;

impl Lane {
    /// Opens the lane for offers, or closes it.
    pub(super) fn adjust_open(&mut self) {
        let waiting = self.token_at.is_some() || self.denied || self.holds();
        let caught_up = !self.more && self.ready.is_empty() && self.reading.is_none();
        let open = self.may_send()
            && !self.fifo
            && caught_up
            && !waiting
            && self.unstored.is_empty()
            && (self.handle.is_open() || self.keeps_up());
        self.handle.set_open(open);
        let state = match (open, self.holds()) {
            (true, _) => State::Open,
            (false, false) => State::Behind,
            (false, true) => State::Held,
        };
        self.shown.set(&self.dispatch.metrics, Some(state));
    }

    /// Whether what it took is on its way, and not for long.
    fn keeps_up(&self) -> bool {
        let oldest = self.oldest_taken_flight();
        let is_slow = oldest.is_some_and(|at| self.now.at - at > TAKEN_UNSTARTED + SECOND_LOOK);
        self.taken.is_empty() && !is_slow
    }

    /// When the lane must look again; `None` if it has nothing to wait for and may end.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let (now, now_ms) = (self.now.at, self.now.ms);
        let at = |ms: u64| now + Duration::from_millis(ms.saturating_sub(now_ms).min(FAR_MS));
        let mut deadline: Option<Instant> = None;
        let mut until =
            |other: Instant| deadline = Some(deadline.map_or(other, |known| known.min(other)));
        if let Some(taken) = self.taken.front() {
            let lingers = taken.since + TAKEN_UNSTARTED;
            let stored = self
                .lingers_since
                .map_or(lingers, |since| since + SECOND_LOOK);
            until(stored.max(now + SOON));
        }
        for unstored in &self.unstored {
            until(unstored.store_after.max(now + SOON));
        }
        if let Some(first) = self.launched.front() {
            until(first.at + TAKEN_IN_FLIGHT);
        }
        if let Some((_, token)) = self.token_at.filter(|(_, token)| *token > now) {
            until(token);
        }
        if self.denied {
            until(now + RECHECK);
        }
        if !self.flying.is_empty()
            || !self.writing.is_empty()
            || self.reading.is_some()
            || self.handle.unsettled() > 0
        {
            // Their own completion wakes the lane; the nap bounds what a missed signal could cost.
            until(now + NAP);
        }
        if deadline.is_some() {
            self.idle_since = None;
        }
        let busy = deadline.is_some();
        let mut until =
            |other: Instant| deadline = Some(deadline.map_or(other, |known| known.min(other)));
        if (self.more || self.next_retry_ms.is_some_and(|due| due <= now_ms))
            && self.read_after > now
            && self.may_send()
        {
            until(self.read_after);
        }
        if !self.may_send() {
            // Nothing can be started; an invalid daemon looks again until its era ends or a beat succeeds.
            if !self.paused && !self.deleted && !self.draining {
                until(now + RECHECK);
            }
            return deadline;
        }
        // What is known to come within a nap is worth waiting for; the rest is parked.
        let mut soonest = self.next_retry_ms.filter(|due| *due > now_ms);
        match self.ready.front() {
            Some((_, not_before)) if *not_before > now_ms => {
                soonest = Some(soonest.map_or(*not_before, |known| known.min(*not_before)));
            }
            // It could start now: whatever it waits for (a landing, a turn, a token, a part of the shared cap) wakes the lane.
            Some(_) if !self.holds() => until(now + if busy { NAP } else { RECHECK }),
            _ => {}
        }
        let soonest = match (soonest, self.holds()) {
            (Some(due), true) => Some(due.max(self.hold_ms)),
            (None, true) => Some(self.hold_ms),
            (due, false) => due,
        };
        match soonest {
            Some(due) if at(due) <= now + NAP || busy => {
                until(at(due).max(now + Duration::from_millis(1)))
            }
            Some(_) => {}
            None if busy => {}
            None => {
                let since = *self.idle_since.get_or_insert(now);
                if now < since + LINGER {
                    until(since + LINGER);
                }
            }
        }
        deadline
    }

    /// Parks and ends, unless something came up. True if the lane is over.
    pub(super) async fn try_to_end(&mut self) -> bool {
        if self.deleted {
            return self.dispatch.end_lane(&self.keys, &self.handle, None);
        }
        let mut due = None;
        if self.touched {
            let first_ready = self.ready.iter().filter_map(|(held, _)| match held.home {
                Home::Queue(id) if held.tries.is_none() => Some(id.previous()),
                _ => None,
            });
            let cursor = if self.fifo {
                EntryId::MIN
            } else {
                first_ready.min().unwrap_or(self.cursor).min(self.cursor)
            };
            let parked = Parked {
                hold_ms: self.hold_ms,
                cursor,
            };
            let work = match self.ready.front() {
                _ if self.paused => Work::Paused,
                _ if !self.fifo => Work::Any,
                Some((
                    Held {
                        home: Home::Queue(head),
                        ..
                    },
                    _,
                )) => Work::Head(Some(*head)),
                _ => Work::Head(None),
            };
            let now_ms = self.dispatch.clock.unix_ms();
            let generation = self.dispatch.era.generation;
            match self
                .dispatch
                .store
                .park(&self.keys, parked, work, now_ms, generation)
                .await
            {
                Ok(next) => due = next,
                Err(error) => {
                    if !self.dispatch.era.ends_with(&error) {
                        tracing::debug!(%error, "parking a lane is tried again");
                        tokio::time::sleep(STORE_AGAIN).await;
                    }
                    return false;
                }
            }
            self.now = Now::look(&self.dispatch);
            if due.is_some_and(|due| due <= self.now.ms) && self.may_send() {
                // Work came in while the lane was about to sleep; an emptied queue was removed with its ids.
                self.forget_ready();
                self.cursor = EntryId::MIN;
                self.more = true;
                self.next_retry_ms = Some(0);
                self.idle_since = None;
                return false;
            }
            if due.is_none() {
                self.cursor = EntryId::MIN;
                self.touched = false;
            }
        }
        self.dispatch.end_lane(&self.keys, &self.handle, due)
    }
}

/// A lane's state, as `pombo_lanes` counts it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Behind,
    Held,
}

/// The state under which the lane is counted.
pub(super) struct Shown(pub(super) Option<State>);

impl Shown {
    pub(super) fn set(&mut self, metrics: &Metrics, state: Option<State>) {
        if self.0 == state {
            return;
        }
        let gauge = |state| match state {
            State::Open => &metrics.lanes.open,
            State::Behind => &metrics.lanes.behind,
            State::Held => &metrics.lanes.held,
        };
        self.0.map(gauge).inspect(|gauge| gauge.dec());
        state.map(gauge).inspect(|gauge| gauge.inc());
        self.0 = state;
    }
}
