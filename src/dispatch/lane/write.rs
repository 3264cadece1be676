//! What a lane writes: stores, schedules and burials, each conditional on ownership, and what follows from the reply.

use std::time::Duration;

use tokio::time::Instant;

use super::flight::Answer;
use super::read::SCHEDULED;
use super::{Held, Home, Lane, STORE_AGAIN, Unstored, settle_source};
use crate::delivery::{AttemptRecord, DeadReason, Tries, delivery_id};
use crate::event::EntryId;
use crate::store::StoreError;
use crate::store::dead::{Buried, Ending};
use crate::store::lane::{Storing, Written};

/// The pause before a write that must succeed is tried again, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_LONGEST: Duration = Duration::from_secs(1);

/// What is said of an attempt that a crash cut off.
const UNSEEN: &str = "the outcome of the attempt was not seen";

/// A write that is over.
pub(super) enum Write {
    /// Taken deliveries that waited or failed, with the due time of each.
    Stored(Vec<(Held, Option<u64>)>, Result<Vec<EntryId>, StoreError>),
    /// A taken delivery in flight.
    StoredFlight(u64, u64, Result<Vec<EntryId>, StoreError>),
    /// A queued delivery's next attempt; a fifo lane's head comes back.
    Scheduled(Scheduling, Result<Written, StoreError>),
    /// A delivery that was given up.
    Buried(Held, DeadReason, Result<Buried, StoreError>),
}

/// A schedule on its way.
pub(super) struct Scheduling {
    id: EntryId,
    due_ms: u64,
    head: Option<Held>,
    /// The lane's number of looks when it was sent: after another one somebody may have moved it forward.
    looks: u64,
}

/// Repeats `write` until it succeeds or cannot, with growing pauses. For writes that are safe to repeat.
async fn persist<T, F>(mut write: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = AGAIN_FIRST;
    loop {
        match write().await {
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, "a write is tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_LONGEST);
            }
            done => return done,
        }
    }
}

impl Lane {
    /// Stores deliveries that wait, each with the time at which it is due (`None` = as soon as the queue gets there).
    pub(super) fn store_waiting(&mut self, all: Vec<(Held, Option<u64>)>) {
        for chunk in chunks(all) {
            self.write_store(chunk);
        }
    }

    /// A failed delivery is to be tried again at `due_ms`.
    pub(super) fn retry(&mut self, held: Held, due_ms: u64) {
        match held.home {
            Home::Source { .. } => self.write_store(vec![(held, Some(due_ms))]),
            Home::Queue(id) => {
                let tries = held.tries.clone().unwrap_or_default();
                let head = self.fifo.then_some(held);
                self.write_schedule_of(id, due_ms, Some(tries), head);
            }
        }
    }

    fn write_store(&mut self, batch: Vec<(Held, Option<u64>)>) {
        let storing: Vec<Storing> = batch
            .iter()
            .map(|(held, due_ms)| Storing {
                event: held.event.clone(),
                due_ms: *due_ms,
                tries: held.tries.clone(),
            })
            .collect();
        let (store, keys) = (self.dispatch.store.clone(), self.keys.clone());
        let (now_ms, generation) = (self.dispatch.clock.unix_ms(), self.dispatch.era.generation);
        self.touched = true;
        self.writing.push(Box::pin(async move {
            // Tried once: until it is stored the source is its home, and it may be attempted from there.
            let stored = store.store(&keys, &storing, now_ms, generation).await;
            Write::Stored(batch, stored)
        }));
    }

    /// Stores a delivery that is in flight, due when this attempt must be over and the first step has passed.
    pub(super) fn store_flight(&mut self, number: u64) {
        let Some(flight) = self.flights.get(&number) else {
            return;
        };
        let now_ms = self.dispatch.clock.unix_ms();
        let wait = self.prepared.timeout + self.prepared.retry.first;
        let due_ms = now_ms + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2);
        // If this daemon dies now, the attempt in flight counts as one whose outcome nobody saw. When it lands, what it
        // came to takes this one's place: in memory it stays the attempt that is being made.
        let before = flight.held.tries.clone().unwrap_or(Tries {
            attempts: flight.held.attempts_before,
            ..Tries::default()
        });
        let started_ms = flight.started_ms;
        let mut tries = before.failed(started_ms, None, UNSEEN);
        tries.log.push(AttemptRecord {
            number: tries.attempts,
            started_ms,
            error: UNSEEN.to_owned(),
            total_us: now_ms.saturating_sub(started_ms) * 1_000,
            shape: Some(flight.prepared.shape_at(started_ms)),
            ..AttemptRecord::default()
        });
        let storing = [Storing {
            event: flight.held.event.clone(),
            due_ms: Some(due_ms),
            tries: Some(tries),
        }];
        let (store, keys) = (self.dispatch.store.clone(), self.keys.clone());
        let generation = self.dispatch.era.generation;
        self.touched = true;
        self.writing.push(Box::pin(async move {
            let stored = store.store(&keys, &storing, now_ms, generation).await;
            Write::StoredFlight(number, due_ms, stored)
        }));
    }

    /// Without `tries`, those that are stored stay.
    pub(super) fn write_schedule_of(
        &mut self,
        id: EntryId,
        due_ms: u64,
        tries: Option<Tries>,
        head: Option<Held>,
    ) {
        let (store, keys, generation) = (
            self.dispatch.store.clone(),
            self.keys.clone(),
            self.dispatch.era.generation,
        );
        let scheduling = Scheduling {
            id,
            due_ms,
            head,
            looks: self.looks,
        };
        self.writing.push(Box::pin(async move {
            let scheduled = match &tries {
                Some(tries) => {
                    persist(|| store.schedule(&keys, id, due_ms, tries, generation)).await
                }
                None => persist(|| store.postpone(&keys, id, due_ms, generation)).await,
            };
            Write::Scheduled(scheduling, scheduled)
        }));
    }

    /// Gives a delivery up.
    pub(super) fn bury(&mut self, held: Held, reason: DeadReason, answer: Answer) {
        let ending = Ending {
            webhook_id: self.webhook_id.to_string(),
            delivery_id: delivery_id(&self.webhook_id, &held.event.stream, held.event.entry_id),
            reason,
            tries: held.tries.clone().unwrap_or_default(),
            answer: answer.unwrap_or_default(),
            at_ms: self.dispatch.clock.unix_ms(),
        };
        let (store, keys, generation) = (
            self.dispatch.store.clone(),
            self.keys.clone(),
            self.dispatch.era.generation,
        );
        let caps = self.dispatch.settings.dead_letters.clone();
        self.writing.push(Box::pin(async move {
            let event = held.event.clone();
            let buried = match held.home {
                Home::Queue(id) => {
                    persist(|| store.dead(&keys, id, &event, &ending, &caps, generation)).await
                }
                Home::Source { .. } => {
                    persist(|| {
                        store.bury(
                            keys.shard,
                            &keys.uid,
                            Some(&keys.owner),
                            &event,
                            &ending,
                            &caps,
                            generation,
                        )
                    })
                    .await
                }
            };
            Write::Buried(held, reason, buried)
        }));
    }

    pub(super) fn written(&mut self, write: Write) {
        self.idle_since = None;
        match write {
            Write::Stored(batch, Ok(_)) => {
                for (held, due_ms) in batch {
                    settle_source(held.home);
                    match due_ms {
                        Some(due_ms) => self.retry_known(due_ms),
                        None => self.more = true,
                    }
                }
            }
            Write::Stored(batch, Err(StoreError::QueueFull)) => {
                for (held, _) in batch {
                    self.bury(held, DeadReason::QueueFull, None);
                }
            }
            Write::Stored(batch, Err(error)) => {
                self.refused(&error);
                if self.draining {
                    // Nobody will try again: dropped, they stay pending on their source.
                    return;
                }
                let pause = if error.is_passing() {
                    STORE_AGAIN
                } else {
                    self.prepared.retry.first
                };
                let store_after = Instant::now() + pause;
                self.unstored
                    .extend(batch.into_iter().map(|(held, due_ms)| Unstored {
                        held,
                        due_ms,
                        store_after,
                    }));
            }
            Write::StoredFlight(number, due_ms, stored) => {
                self.flight_stored(number, due_ms, stored)
            }
            Write::Scheduled(scheduling, scheduled) => self.scheduled(scheduling, scheduled),
            Write::Buried(held, reason, buried) => self.buried(held, reason, buried),
        }
    }

    fn scheduled(&mut self, scheduling: Scheduling, result: Result<Written, StoreError>) {
        let Scheduling {
            id, due_ms, head, ..
        } = scheduling;
        let stale = scheduling.looks != self.looks;
        match result {
            Ok(Written::Done) => match head {
                Some(held) if stale => self.ready.push_front((held, SCHEDULED)),
                Some(held) => self.ready.push_front((held, due_ms)),
                None => {
                    self.leaving.push(id);
                    self.retry_known(if stale { 0 } else { due_ms });
                }
            },
            Ok(Written::Gone) => self.leaving.push(id),
            Err(error) => {
                // Whatever keeps it from being written for good: it is still in the queue, where the next lane, or this
                // one after its queue is read anew, finds it.
                self.refused(&error);
                self.in_memory.remove(&id);
                self.reread();
            }
        }
    }

    fn flight_stored(
        &mut self,
        number: u64,
        due_ms: u64,
        stored: Result<Vec<EntryId>, StoreError>,
    ) {
        let Some(flight) = self.flights.get_mut(&number) else {
            return;
        };
        flight.storing = false;
        match stored {
            Ok(ids) => {
                if let Some(id) = ids.first().copied() {
                    let home = std::mem::replace(&mut flight.held.home, Home::Queue(id));
                    settle_source(home);
                    // A schedule stands beside the entry from now on, to be removed with it.
                    flight.held.tries.get_or_insert_with(|| Tries {
                        attempts: flight.held.attempts_before,
                        ..Tries::default()
                    });
                    self.in_memory.insert(id);
                    self.retry_known(due_ms);
                    self.more = true;
                }
            }
            Err(error) => {
                self.store_flight_later(number);
                self.refused(&error);
            }
        }
        let landed = self
            .flights
            .get_mut(&number)
            .and_then(|flight| flight.landed.take());
        if let Some(attempted) = landed
            && let Some(flight) = self.flights.remove(&number)
        {
            self.judge(flight.held, &flight.registered, attempted);
        }
    }

    fn buried(&mut self, held: Held, reason: DeadReason, buried: Result<Buried, StoreError>) {
        if let Home::Queue(id) = held.home {
            self.leaving.push(id);
        }
        match buried {
            Ok(result) => {
                if let Buried::Kept(dropped) = result {
                    self.dispatch.metrics.dead(reason.as_str());
                    self.dispatch.note_buried(self.keys.shard, &self.keys.uid);
                    let tries = held.tries.as_ref();
                    tracing::warn!(
                        webhook_id = %self.webhook_id, event_id = %held.event.id, reason = reason.as_str(),
                        attempts = tries.map_or(0, |tries| tries.attempts),
                        last_error = tries.map_or("", |tries| &tries.last_error),
                        "a delivery was dead-lettered"
                    );
                    self.dispatch
                        .dead_letters_dropped(&self.registered, dropped);
                }
                settle_source(held.home);
            }
            Err(error) => {
                // Nothing is settled: a taken delivery breaks its ticket, a queued one is still in the queue.
                self.refused(&error);
                self.reread();
            }
        }
    }

    pub(super) fn retry_known(&mut self, due_ms: u64) {
        self.next_retry_ms = Some(self.next_retry_ms.map_or(due_ms, |known| known.min(due_ms)));
    }

    /// Reads the queue from its start again.
    fn reread(&mut self) {
        self.forget_ready();
        self.cursor = EntryId::MIN;
        self.more = true;
        self.next_retry_ms = Some(0);
        self.read_after = Instant::now() + STORE_AGAIN;
    }

    fn refused(&mut self, error: &StoreError) {
        if !self.dispatch.era.ends_with(error) && !error.is_passing() {
            tracing::error!(webhook_id = %self.webhook_id, %error, "a write to a queue failed");
            // What could not be written would otherwise be attempted again and again without a pause.
            let pause_ms = u64::try_from(self.prepared.retry.first.as_millis()).unwrap_or(0);
            self.hold_ms = self.hold_ms.max(self.dispatch.clock.unix_ms() + pause_ms);
        }
    }
}

/// Splits what is to be stored into calls of a bounded size: Lua has a limit on arguments, and a script holds up
/// everybody else on the server while it runs.
fn chunks(all: Vec<(Held, Option<u64>)>) -> Vec<Vec<(Held, Option<u64>)>> {
    const MOST: usize = 100;
    const MOST_BYTES: usize = 1024 * 1024;
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for (held, due_ms) in all {
        bytes += held.event.payload.len();
        chunk.push((held, due_ms));
        if chunk.len() >= MOST || bytes >= MOST_BYTES {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}
