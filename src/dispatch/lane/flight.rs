//! Deliveries in flight, and what becomes of each when its attempt is over.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Held, Home, Lane, SECOND_LOOK, TAKEN_IN_FLIGHT, TAKEN_UNSTARTED, settle_source};
use crate::delivery::{DeadReason, Tries};
use crate::dispatch::attempt::{Attempted, Prepared};
use crate::dispatch::turns::Turn;
use crate::outcome::{AttemptResult, Outcome};
use crate::registry::Registered;
use crate::retry::Next;
use crate::store::history::trims_every;
use crate::store::stats::Ended;

/// A delivery in flight.
pub(super) struct Flight {
    pub held: Held,
    /// The webhook as it was when the attempt was started.
    pub registered: Arc<Registered>,
    pub prepared: Arc<Prepared>,
    /// When the attempt was started (Unix ms), about.
    pub started_ms: u64,
    /// Its store is under way: what lands is held until the reply.
    pub storing: bool,
    pub landed: Option<Attempted>,
    /// Its turn, as long as it is not slow.
    pub turn: Option<Turn>,
}

/// A flight by its start, to be looked at if it takes long.
pub(super) struct Launched {
    pub at: Instant,
    pub number: u64,
    /// Whether its delivery was taken, and is to be stored then.
    pub is_taken: bool,
}

/// The first bytes of a last answer.
pub(super) type Answer = Option<Bytes>;

/// An attempt that is over.
pub(super) struct Landed {
    pub number: u64,
    pub attempted: Attempted,
}

impl Lane {
    /// Stores taken deliveries that wait or fly for too long, and, when nothing may be sent, all that wait.
    pub(super) fn store_what_lingers(&mut self) {
        let now = self.now.at;
        let blocked = !self.may_send() && (self.paused || self.draining);
        let held_up = blocked || self.token_at.is_some() || self.holds();
        let oldest = self.taken.front().map(|taken| taken.since);
        self.lingers_since = oldest
            .filter(|since| now >= *since + TAKEN_UNSTARTED)
            .map(|_| self.lingers_since.unwrap_or(now));
        let lingers = self
            .lingers_since
            .is_some_and(|since| now >= since + SECOND_LOOK);
        if oldest.is_some() && (held_up || lingers) && !self.deleted {
            self.lingers_since = None;
            let all = self.take_all_off();
            self.store_waiting(all.into_iter().map(|held| (held, None)).collect());
        }
        if self
            .unstored
            .iter()
            .any(|unstored| unstored.store_after <= now)
        {
            let all = std::mem::take(&mut self.unstored);
            self.store_waiting(
                all.into_iter()
                    .map(|unstored| (unstored.held, unstored.due_ms))
                    .collect(),
            );
        }
        while let Some(first) = self.launched.front() {
            let Some(flight) = self.flights.get_mut(&first.number) else {
                self.launched.pop_front();
                continue;
            };
            if now < first.at + TAKEN_IN_FLIGHT {
                return;
            }
            // A slow receiver keeps no thread busy: others may have its turn.
            flight.turn = None;
            let number = first.number;
            self.launched.pop_front();
            if matches!(flight.held.home, Home::Source { .. }) && !flight.storing {
                flight.storing = true;
                self.store_flight(number);
            }
        }
    }

    /// A taken delivery in flight could not be stored: that is tried again when as much time has passed once more.
    pub(super) fn store_flight_later(&mut self, number: u64) {
        self.launched.push_back(Launched {
            at: Instant::now(),
            number,
            is_taken: true,
        });
    }

    /// When the oldest of the taken deliveries in flight was started, those aside that are stored by now.
    pub(super) fn oldest_taken_flight(&self) -> Option<Instant> {
        let mut taken = self.launched.iter().filter(|launched| launched.is_taken);
        taken
            .find(|launched| self.flights.contains_key(&launched.number))
            .map(|launched| launched.at)
    }

    pub(super) fn landed(&mut self, landed: Landed) {
        let Entry::Occupied(mut flight) = self.flights.entry(landed.number) else {
            return;
        };
        if flight.get().storing {
            flight.get_mut().landed = Some(landed.attempted);
            return;
        }
        let flight = flight.remove();
        self.judge(flight.held, &flight.registered, landed.attempted);
    }

    /// What the outcome of an attempt means for its delivery.
    pub(super) fn judge(&mut self, mut held: Held, called: &Arc<Registered>, attempted: Attempted) {
        if self.deleted {
            settle_source(held.home);
            return;
        }
        let now_ms = self.now.ms;
        let outcome = attempted.result.outcome(now_ms);
        if outcome == Outcome::Delivered {
            self.delivered(held, attempted, now_ms);
            return;
        }
        let mut before = held.tries.take().unwrap_or(Tries {
            attempts: held.attempts_before,
            ..Tries::default()
        });
        if before.first_attempt_ms == 0 {
            before.first_attempt_ms = attempted.started_ms;
        }
        let log = std::mem::take(&mut before.log);
        let mut tries = before.failed(
            attempted.started_ms,
            attempted.result.status(),
            &attempted.result.describe(),
        );
        tries.log = log;
        let answer = answer_of(&attempted.result);
        tries.log.push(attempted.into_record());
        let webhook_id = &self.webhook_id;
        let (next, not_before_ms) = match outcome {
            Outcome::Failed { not_before_ms, .. } => {
                let next = self.prepared.retry.next(
                    tries.since_replay,
                    tries.first_attempt_ms,
                    not_before_ms,
                    self.dispatch.clock.random_unit(),
                    now_ms,
                );
                (next, not_before_ms)
            }
            Outcome::Gone | Outcome::Delivered => (Next::GiveUp(DeadReason::Gone), None),
        };
        tracing::debug!(
            %webhook_id, event_id = %held.event.id, attempt = tries.attempts, error = %tries.last_error,
            "an attempt failed"
        );
        if let Some(not_before_ms) = not_before_ms {
            self.hold_ms = self.hold_ms.max(not_before_ms);
        }
        held.tries = Some(tries);
        match next {
            Next::At(due_ms) => {
                self.dispatch.metrics.retries_total.inc();
                self.retry(held, due_ms);
            }
            Next::GiveUp(reason) => {
                if reason == DeadReason::Gone {
                    self.dispatch
                        .disable(called, "the receiver answered 410 Gone");
                }
                self.bury(held, reason, Some(answer));
            }
        }
    }

    fn delivered(&mut self, held: Held, attempted: Attempted, now_ms: u64) {
        let (dispatch, keys) = (&self.dispatch, &self.keys);
        dispatch.metrics.delivered(Duration::from_millis(
            now_ms.saturating_sub(held.event.arrived_ms),
        ));
        dispatch
            .stats
            .count(keys.shard, &keys.uid, Ended::Success, 1);
        let tried = held.tries.is_some();
        let log = held.tries.map(|tries| tries.log).unwrap_or_default();
        // The first of a lane does: one that is made for each delivery anew trims each time.
        let trims = self
            .recorded
            .is_multiple_of(trims_every(&dispatch.settings.history));
        self.recorded += 1;
        match held.home {
            Home::Source { share, permit } => {
                // The event does not wait for what is only to be looked at.
                share.settled();
                drop(permit);
                if let Some(record) = dispatch.record(keys, held.event, log, attempted, trims) {
                    dispatch.write_down(record);
                }
            }
            Home::Queue(id) => {
                let record = dispatch.record(keys, held.event, log, attempted, trims);
                dispatch.remove(keys, id, tried, &self.handle, record);
            }
        }
    }
}

fn answer_of(result: &AttemptResult) -> Bytes {
    match result {
        AttemptResult::Answer { body_start, .. } => {
            Bytes::copy_from_slice(&body_start[..body_start.len().min(1_024)])
        }
        AttemptResult::Failure { .. } => Bytes::new(),
    }
}
