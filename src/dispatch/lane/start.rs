//! Starting attempts, as far as turns, the rate, and the bounds on what is in flight allow.

use prometheus::IntGauge;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::flight::{Flight, Landed, Launched};
use super::{Held, Home, Lane, Unstored};
use crate::delivery::DeadReason;
use crate::dispatch::attempt::Attempt;
use crate::dispatch::turns::Turn;

/// Counts an attempt for as long as it is in flight, however it ends.
struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: &IntGauge) -> InFlight {
        gauge.inc();
        InFlight(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Where a delivery that is about to start comes from.
enum Origin {
    Queue,
    Unstored(usize),
    Taken,
}

impl Lane {
    /// Starts what can be started now.
    pub(super) fn start_attempts(&mut self) {
        let mut granted = self.handle.take_granted();
        self.start_granted(&mut granted);
        if let Some(turns) = &self.turns {
            turns.give_back(granted);
        }
    }

    /// The same, with turns that were `granted` to the lane; what it has no use for stays there.
    fn start_granted(&mut self, granted: &mut usize) {
        self.denied = false;
        let now_ms = self.now.ms;
        if !self.may_send() {
            // Nothing waits for a token or a part of the cap any more, so that nothing keeps the lane from ending.
            self.token_at = None;
            self.spare = None;
            self.waiting_for_permit = None;
            return;
        }
        if self.holds() {
            return;
        }
        if self.token_at.is_some_and(|(_, at)| self.now.at < at) {
            return;
        }
        let most = if self.fifo {
            1
        } else {
            self.prepared.max_in_flight
        };
        // A fifo lane's failed head is being scheduled: nothing else may start meanwhile.
        while self.flights.len() < most && (!self.fifo || self.writing.is_empty()) {
            let Some(next) = self.next_from(now_ms) else {
                self.token_at = None;
                break;
            };
            let turn = match &self.turns {
                None => None,
                Some(turns) => match turns.take(granted, self.waits_since()) {
                    Some(turn) => Some(turn),
                    None => {
                        let waiting = self.ready.len() + self.unstored.len() + self.taken.len();
                        let wanted = waiting.min(most - self.flights.len());
                        turns.wait(&self.handle, wanted, self.waits_since());
                        if !self.flights.is_empty() {
                            self.spare = None;
                        }
                        return;
                    }
                },
            };
            let Some(permit) = self.permit() else { return };
            if !self.token() {
                // The part of the shared cap goes back: others can use it while this lane waits for its token.
                drop(permit);
                return;
            }
            let held = match next {
                Origin::Queue => self.ready.pop_front().map(|(held, _)| held),
                Origin::Unstored(at) => Some(self.unstored.swap_remove(at).held),
                Origin::Taken => self.take_off(),
            };
            if let Some(held) = held {
                self.launch(held, permit, turn);
            }
        }
        self.spare = None;
    }

    /// Since when the oldest delivery that was taken waits. What was queued has time.
    fn waits_since(&self) -> Instant {
        self.taken.front().map_or(self.now.at, |taken| taken.since)
    }

    /// Where the next delivery to start is: what was queued is older than what is taken.
    fn next_from(&self, now_ms: u64) -> Option<Origin> {
        if self
            .ready
            .front()
            .is_some_and(|(_, not_before)| *not_before <= now_ms)
        {
            return Some(Origin::Queue);
        }
        let due = |unstored: &Unstored| unstored.due_ms.is_none_or(|due| due <= now_ms);
        if let Some(at) = self.unstored.iter().position(due) {
            return Some(Origin::Unstored(at));
        }
        (!self.taken.is_empty()).then_some(Origin::Taken)
    }

    /// A part of the shared in-flight cap: a lane may hold no more than what is still free, so that a few hanging
    /// receivers can never have it all, and one that holds none waits in line for its first.
    fn permit(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Some(permit) = self.spare.take() {
            return Some(permit);
        }
        let slots = &self.dispatch.slots;
        if self.flights.is_empty() {
            if let Ok(permit) = slots.clone().try_acquire_owned() {
                return Some(permit);
            }
            if self.waiting_for_permit.is_none() {
                let slots = slots.clone();
                self.waiting_for_permit = Some(Box::pin(async move {
                    match slots.acquire_owned().await {
                        Ok(permit) => permit,
                        // The cap is never closed; were it, nothing would start any more.
                        Err(_) => std::future::pending().await,
                    }
                }));
            }
            self.denied = true;
            return None;
        }
        if self.flights.len() < slots.available_permits()
            && let Ok(permit) = slots.clone().try_acquire_owned()
        {
            return Some(permit);
        }
        self.denied = true;
        None
    }

    /// A token of the rate limit.
    fn token(&mut self) -> bool {
        let Some(limiter) = &self.limiter else {
            return true;
        };
        match limiter.take() {
            Ok(()) => {
                if let Some((since, _)) = self.token_at.take() {
                    self.dispatch
                        .metrics
                        .rate_limited_seconds_total
                        .inc_by(since.elapsed().as_secs_f64());
                }
                true
            }
            Err(wait) => {
                let now = Instant::now();
                let since = self.token_at.map_or(now, |(since, _)| since);
                self.token_at = Some((since, now + wait));
                false
            }
        }
    }

    fn launch(&mut self, mut held: Held, permit: OwnedSemaphorePermit, turn: Option<Turn>) {
        if !self.prepared.can_carry(&held.event) {
            drop(permit);
            self.bury(held, DeadReason::NotJson, None);
            return;
        }
        let number = self.next_flight;
        self.next_flight += 1;
        self.launched.push_back(Launched {
            at: self.now.at,
            number,
            is_taken: matches!(held.home, Home::Source { .. }),
        });
        let attempts = held
            .tries
            .as_ref()
            .map_or(held.attempts_before, |tries| tries.attempts);
        let dispatch = &self.dispatch;
        let attempt = Attempt::new(
            self.prepared.clone(),
            held.event.clone(),
            self.webhook_id.clone(),
            attempts + 1,
            self.now.ms,
            held.signed.take(),
        );
        let (http, metrics) = (self.http.clone(), dispatch.metrics.clone());
        let in_flight = InFlight::new(&dispatch.metrics.in_flight);
        let flight = async move {
            let attempted = attempt.send(http, metrics).await;
            drop(permit);
            drop(in_flight);
            Landed { number, attempted }
        };
        // Attempts drive their connections: all of a lane's together would soon use up the share of work that the runtime
        // allows a task before it has to yield, and then be polled in vain.
        self.flying
            .push(Box::pin(tokio::task::unconstrained(flight)));
        self.flights.insert(
            number,
            Flight {
                held,
                registered: self.registered.clone(),
                prepared: self.prepared.clone(),
                started_ms: self.now.ms,
                storing: false,
                landed: None,
                turn,
            },
        );
    }
}
