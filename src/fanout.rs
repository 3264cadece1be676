//! Fan-out: who wants an event, and where each of its deliveries goes.
//!
//! Each delivery is offered to its lane; what the lane does not take is queued by the writer of its shard, one batch
//! at a time, so that a webhook's deliveries are queued in the order of their events. A batch that Redis does not take
//! is tried again in its place: until it is stored, the source entries are its home, and they stay pending.

mod bounds;
mod waker;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::waker::Waker;
use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::dispatch::budget::ROOM_WITHIN;
use crate::event::Event;
use crate::logging::StateLog;
use crate::membership::Era;
use crate::metrics::Metrics;
use crate::registry::{Registered, Registry};
use crate::settings::Settings;
use crate::source::ticket::Share;
use crate::store::queue::Enqueue;
use crate::store::{Store, StoreError};
use crate::webhook::BodyMode;

/// What may wait for the writers of all shards, in KiB, each delivery counting for one at least; the reader of a source
/// waits beyond that.
const MOST_WAITING_KIB: u32 = 8 * 1024;
/// Most deliveries and bytes of one batch. A transaction holds up everybody else on the server while it runs.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Webhooks of one shard whose length is remembered.
const MOST_LENGTHS: usize = 10_000;
/// The pause before a batch that failed is tried again, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_LONGEST: Duration = Duration::from_secs(1);

/// A delivery that waits for its shard's writer.
struct Waiting {
    to: Arc<Registered>,
    event: Arc<Event>,
    share: Share,
    _permit: OwnedSemaphorePermit,
}

/// The queue of one shard's writer.
struct Writer {
    waiting: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    deliveries: VecDeque<Waiting>,
    running: bool,
    /// At most so many deliveries are in a webhook's queue, as far as this writer knows: it counts what it adds and
    /// looks again before it believes that the bound is reached.
    lengths: HashMap<Arc<str>, u64>,
}

/// See the module's own words.
pub struct Fanout {
    store: Store,
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
    era: Arc<Era>,
    registry: Arc<Registry>,
    dispatch: Arc<Dispatch>,
    writers: Vec<Writer>,
    room: Arc<Semaphore>,
    waker: Waker,
    /// Writers that cannot write now. One state for all of them: it is over when none is in trouble any more.
    troubled: AtomicUsize,
    state: StateLog,
}

impl Fanout {
    /// The fan-out of one era.
    pub fn new(
        store: Store,
        settings: Arc<Settings>,
        clock: Clock,
        metrics: Arc<Metrics>,
        era: Arc<Era>,
        registry: Arc<Registry>,
        dispatch: Arc<Dispatch>,
    ) -> Arc<Fanout> {
        Arc::new(Fanout {
            writers: (0..store.shards())
                .map(|_| Writer {
                    waiting: Mutex::default(),
                })
                .collect(),
            room: Arc::new(Semaphore::new(MOST_WAITING_KIB as usize)),
            waker: Waker::start(store.clone(), era.clone()),
            troubled: AtomicUsize::new(0),
            state: StateLog::severe("queueing of deliveries"),
            store,
            settings,
            clock,
            metrics,
            era,
            registry,
            dispatch,
        })
    }

    /// How many webhooks only a newer version of Pombo can read: any of them may want any event, which is lost to it once
    /// it is acknowledged.
    pub fn newer_webhooks(&self) -> usize {
        self.registry.newer()
    }

    /// Hands out the deliveries of one event. Returns how many there are. `share` is the event's own: it is settled
    /// when all have been handed out.
    pub async fn deliver(self: &Arc<Fanout>, mut event: Event, share: Share) -> usize {
        let mut wanted = Vec::new();
        self.registry
            .matching(&event.tenant, &event.event_type, &mut wanted);
        let delivery = &self.settings.delivery;
        let is_sent_now = |to: &Arc<Registered>| {
            to.delivers() && !to.is_fifo() && self.era.owned(to.shard).is_some()
        };
        if delivery.body_mode == BodyMode::Envelope && wanted.iter().any(is_sent_now) {
            // Few webhooks have a mode of their own. Here it is made once, and not by the lanes' threads, which have most to do.
            event.enclose(&delivery.tenant_field);
        }
        let event = Arc::new(event);
        let deliveries = wanted.len();
        let budget = self.dispatch.budget();
        for to in wanted {
            if budget.is_full() {
                // What is taken starts within a moment or is stored: there will be room, and until then the event is
                // as safe in its stream as it would be in a queue, and cheaper.
                let _ = tokio::time::timeout(ROOM_WITHIN, budget.room()).await;
            }
            let offered = self.dispatch.offer(&to, &event, share.another());
            if let Err(refused) = offered {
                self.queue(to, event.clone(), refused).await;
            }
        }
        share.settled();
        self.metrics
            .fanout_deliveries_total
            .inc_by(deliveries as u64);
        deliveries
    }

    async fn queue(self: &Arc<Fanout>, to: Arc<Registered>, event: Arc<Event>, share: Share) {
        let kib = u32::try_from(event.payload.len() / 1024 + 1)
            .unwrap_or(u32::MAX)
            .min(MOST_WAITING_KIB);
        // The semaphore is never closed; were it, the dropped share would keep the event pending.
        let Ok(permit) = self.room.clone().acquire_many_owned(kib).await else {
            return;
        };
        let shard = to.shard;
        let Some(writer) = self.writers.get(usize::from(shard)) else {
            return;
        };
        let mut queue = writer
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        queue.deliveries.push_back(Waiting {
            to,
            event,
            share,
            _permit: permit,
        });
        if !queue.running {
            queue.running = true;
            let fanout = self.clone();
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    _ = fanout.era.ended() => {}
                    () = fanout.write(shard) => {}
                }
            });
        }
    }

    /// Queues what waits for `shard`, batch after batch, until nothing does.
    async fn write(&self, shard: u16) {
        let Some(writer) = self.writers.get(usize::from(shard)) else {
            return;
        };
        let mut troubled = false;
        loop {
            let batch = {
                let mut queue = writer
                    .waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let (mut batch, mut bytes) = (Vec::new(), 0);
                while batch.len() < BATCH && bytes < BATCH_BYTES {
                    let Some(waiting) = queue.deliveries.pop_front() else {
                        break;
                    };
                    bytes += waiting.event.payload.len();
                    batch.push(waiting);
                }
                if batch.is_empty() {
                    queue.running = false;
                    return;
                }
                batch
            };
            let mut pause = AGAIN_FIRST;
            let mut batch = Some(batch);
            while let Some(waiting) = batch.take() {
                if !self.era.is_valid() {
                    // Others may have taken over what this batch comes from, and be queueing it.
                    tokio::time::sleep(AGAIN_FIRST).await;
                    batch = Some(waiting);
                    continue;
                }
                match self.write_batch(shard, waiting).await {
                    Ok(()) => {
                        if std::mem::take(&mut troubled) {
                            self.troubled.fetch_sub(1, Ordering::AcqRel);
                        }
                        if self.troubled.load(Ordering::Acquire) == 0 {
                            self.state.well();
                        }
                    }
                    Err((error, waiting)) => {
                        if self.era.ends_with(&error) {
                            return;
                        }
                        if !std::mem::replace(&mut troubled, true) {
                            self.troubled.fetch_add(1, Ordering::AcqRel);
                        }
                        self.state.trouble("refused", &error);
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(AGAIN_LONGEST);
                        batch = Some(waiting);
                    }
                }
            }
        }
    }

    async fn write_batch(
        &self,
        shard: u16,
        batch: Vec<Waiting>,
    ) -> Result<(), (StoreError, Vec<Waiting>)> {
        let (fitting, mut over) = match self.sort_by_bound(shard, batch).await {
            Ok(sorted) => sorted,
            Err(failed) => return Err(failed),
        };
        let entries: Vec<Enqueue> = fitting
            .iter()
            .map(|waiting| Enqueue {
                uid: waiting.to.uid.clone(),
                event: waiting.event.clone(),
            })
            .collect();
        let mut owner = None;
        if !entries.is_empty() {
            let now_ms = self.clock.unix_ms();
            let queued = self
                .store
                .enqueue(shard, &entries, now_ms, self.era.generation)
                .await;
            match queued {
                Ok(found) => {
                    owner = found.owner;
                    self.note_lengths(shard, found.lengths);
                }
                Err(error) => {
                    let mut back = fitting;
                    back.append(&mut over);
                    return Err((error, back));
                }
            }
        }
        self.metrics
            .fanout_queued_total
            .inc_by(entries.len() as u64);
        let mut woken: Vec<Arc<str>> = Vec::new();
        for waiting in fitting {
            waiting.share.settled();
            if !woken.contains(&waiting.to.uid) {
                woken.push(waiting.to.uid.clone());
            }
        }
        if self.era.owned(shard).is_some() {
            let dispatch = &self.dispatch;
            woken
                .iter()
                .for_each(|uid| dispatch.wake_for_more(shard, uid));
        } else if let Some(owner) = owner.filter(|owner| *owner != self.era.nonce) {
            self.waker.wake(owner, shard, woken);
        }
        self.bury_over_bound(shard, over).await
    }
}
