//! The settler: removes delivered entries from their queues and writes down what was delivered, many at a time.
//!
//! Removals are truths and are tried until they are done. The records of the history are written in the same pipeline, as
//! best it can be done: none is waited for, and what cannot be written is lost and counted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Dispatch;
use super::attempt::Attempted;
use super::handle::LaneHandle;
use crate::delivery::AttemptLog;
use crate::event::{EntryId, Event};
use crate::logging::StateLog;
use crate::membership::{Ending, Era};
use crate::metrics::Metrics;
use crate::store::history::Finished;
use crate::store::lane::LaneKeys;
use crate::store::queue::Removal;
use crate::store::{Store, StoreError};

/// Most removals and records of one pipeline.
const BATCH: usize = 1_000;
/// How long they gather. A delivered entry that stays a moment longer costs nothing but a repeat after a crash.
const GATHER: Duration = Duration::from_millis(4);
/// The pause before a failed removal is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Most records that may wait to be written while Redis is away, and their bytes.
const MOST_RECORDS: usize = 20_000;
const MOST_RECORD_BYTES: usize = 32 * 1024 * 1024;
/// For how long no record is made after one was refused: what a full Redis has room for belongs to deliveries.
const AFTER_REFUSAL: Duration = Duration::from_secs(2);
/// What writing the last records down may take when the daemon stops.
const RECORDS_WITHIN: Duration = Duration::from_secs(1);

/// A delivery that was made.
pub(super) struct Settled {
    /// Its queue entry, if it has one, and the lane that must not sleep before that is removed.
    removal: Option<(Removal, Arc<LaneHandle>)>,
    /// Its entry of the history.
    record: Option<Record>,
}

/// A record on its way, and its part of the bound.
pub(super) struct Record {
    finished: Finished,
    room: Room,
}

/// Bounds what waits to be written into histories, and counts what is lost.
pub(super) struct Records {
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    /// Whether `refused_until` must be asked.
    refused: AtomicBool,
    refused_until: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
    state: StateLog,
}

/// Given back when dropped.
struct Room {
    records: Arc<Records>,
    bytes: usize,
}

impl Records {
    pub fn new(metrics: Arc<Metrics>) -> Arc<Records> {
        Arc::new(Records {
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            refused_until: Mutex::default(),
            metrics,
            state: StateLog::new("the history of deliveries"),
        })
    }

    /// Makes a record, if there is room for one; else it is lost. The bounds may be passed by what several lanes make in
    /// the same moment.
    pub fn make(self: &Arc<Records>, make: impl FnOnce() -> Finished) -> Option<Record> {
        if self.waiting() >= MOST_RECORDS || self.bytes.load(Ordering::Acquire) >= MOST_RECORD_BYTES
        {
            self.lost(1, "dropped", "too many records wait to be written");
            return None;
        }
        if self.is_refused() {
            self.lost(1, "refused", "Redis refused the last ones");
            return None;
        }
        let finished = make();
        let bytes = finished.size();
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let records = self.clone();
        Some(Record {
            finished,
            room: Room { records, bytes },
        })
    }

    fn refused_until(&self) -> MutexGuard<'_, Option<Instant>> {
        let until = self.refused_until.lock();
        until.unwrap_or_else(PoisonError::into_inner)
    }

    fn is_refused(&self) -> bool {
        if !self.refused.load(Ordering::Acquire) {
            return false;
        }
        let refused = self.refused_until().is_some_and(|end| Instant::now() < end);
        if !refused {
            self.refused.store(false, Ordering::Release);
        }
        refused
    }

    /// Redis refused to write records down: for a while none are made.
    fn refuse(&self) {
        *self.refused_until() = Some(Instant::now() + AFTER_REFUSAL);
        self.refused.store(true, Ordering::Release);
    }

    /// How many records wait to be written.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    pub fn lost(&self, count: usize, why: &'static str, detail: impl std::fmt::Display) {
        self.metrics.history_errors_total.inc_by(count as u64);
        self.state.trouble(why, detail);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.records.waiting.fetch_sub(1, Ordering::AcqRel);
        self.records.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Dispatch {
    /// The record of a delivery that was made by `last`, after the attempts in `log`; `None` where none is kept. Whether it
    /// trims the history is as [`Store::finished`] has it.
    pub(super) fn record(
        &self,
        keys: &LaneKeys,
        event: &Event,
        mut log: AttemptLog,
        last: Attempted,
        trims: bool,
    ) -> Option<Record> {
        let caps = &self.settings.history;
        if caps.max_count == 0 {
            return None;
        }
        self.records.make(|| {
            let attempts = last.number;
            log.push(last.into_record());
            self.store
                .finished(keys.shard, &keys.uid, event, attempts, &log, caps, trims)
        })
    }

    /// Removes the queue entry of a delivery that was made; its lane does not sleep before that is done.
    pub(super) fn remove(
        &self,
        keys: &LaneKeys,
        id: EntryId,
        tried: bool,
        lane: &Arc<LaneHandle>,
        record: Option<Record>,
    ) {
        lane.removal_sent();
        let removal = Removal {
            shard: keys.shard,
            uid: keys.uid.clone(),
            id,
            tried,
        };
        let settled = Settled {
            removal: Some((removal, lane.clone())),
            record,
        };
        if self.settled.send(settled).is_err() {
            // Without its settler an era cannot go on: beginning anew from what is stored is always right.
            self.era.end(Ending::Replaced);
        }
    }

    /// Writes the record of a delivery that never had a queue entry.
    pub(super) fn write_down(&self, record: Record) {
        let settled = Settled {
            removal: None,
            record: Some(record),
        };
        if self.settled.send(settled).is_err() {
            self.records.lost(1, "cut off", "the era is over");
        }
    }

    /// Writes down what is known of deliveries that were made, as far as it can be done within a moment: the last thing
    /// before a daemon stops.
    pub async fn write_records(&self) {
        let writing = async {
            while self.records.waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.stats.flush(&self.store).await;
        };
        if tokio::time::timeout(RECORDS_WITHIN, writing).await.is_err() {
            let waiting = self.records.waiting();
            tracing::warn!(waiting, "records of finished deliveries are lost");
        }
    }
}

/// What is being written.
#[derive(Default)]
struct Batch {
    removals: Vec<Removal>,
    lanes: Vec<Arc<LaneHandle>>,
    finished: Vec<Finished>,
    rooms: Vec<Room>,
}

impl Batch {
    fn add(&mut self, settled: Settled) {
        if let Some((removal, lane)) = settled.removal {
            self.removals.push(removal);
            self.lanes.push(lane);
        }
        if let Some(record) = settled.record {
            self.finished.push(record.finished);
            self.rooms.push(record.room);
        }
    }

    /// The removals are done: nobody has to wait for the records.
    fn removed(&mut self) {
        for (removal, lane) in self.removals.drain(..).zip(self.lanes.drain(..)) {
            lane.removal_done(removal.id);
        }
    }
}

/// Settles what arrives until the sender is gone or the era over. What is left then is delivered again.
pub(super) async fn settle(
    store: Store,
    era: Arc<Era>,
    records: Arc<Records>,
    mut arriving: mpsc::UnboundedReceiver<Settled>,
) {
    let state = StateLog::new("removing of settled deliveries");
    let mut arrived = Vec::new();
    while arriving.recv_many(&mut arrived, BATCH).await > 0 {
        if arrived.len() < BATCH {
            tokio::time::sleep(GATHER).await;
            while arrived.len() < BATCH {
                match arriving.try_recv() {
                    Ok(settled) => arrived.push(settled),
                    Err(_) => break,
                }
            }
        }
        let mut batch = Batch::default();
        arrived.drain(..).for_each(|settled| batch.add(settled));
        if !write(&store, &era, &records, &state, &mut batch).await {
            arriving.close();
            while let Ok(settled) = arriving.try_recv() {
                batch.add(settled);
            }
            if !batch.finished.is_empty() {
                let left = batch.finished.len();
                records.lost(left, "cut off", "the era is over");
            }
            return;
        }
    }
}

/// Writes a batch. False if the era is over.
async fn write(
    store: &Store,
    era: &Arc<Era>,
    records: &Records,
    state: &StateLog,
    batch: &mut Batch,
) -> bool {
    loop {
        let sending = batch.finished.len();
        let done = store
            .settle(&batch.removals, &mut batch.finished, era.generation)
            .await;
        match &done.lost_to {
            Some(error @ StoreError::Refused { .. }) => {
                records.refuse();
                records.lost(done.lost, "refused", error);
            }
            Some(error) => records.lost(done.lost, "lost", error),
            None if batch.finished.len() < sending => {
                records.state.well();
            }
            None => {}
        }
        match done.removed {
            Ok(()) => {
                state.well();
                batch.removed();
                if batch.finished.is_empty() {
                    return true;
                }
            }
            // Removing one exact id after its success is right even from a deposed daemon; on a replaced server
            // the id may mean something else.
            Err(StoreError::Replaced) => {
                era.ends_with(&StoreError::Replaced);
                return false;
            }
            Err(error) => {
                state.trouble("failed", &error);
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = era.ended() => return false,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::settings::Settings;

    #[test]
    fn what_a_full_redis_has_room_for_is_left_to_deliveries_for_a_while() {
        let records = Records::new(Metrics::new());
        assert!(!records.is_refused());
        records.refuse();
        assert!(records.is_refused());
        *records.refused_until() = Some(Instant::now());
        assert!(!records.is_refused() && !records.refused.load(Ordering::Acquire));
    }

    #[test]
    fn records_that_cannot_be_written_are_bounded_and_what_has_no_room_is_counted() {
        let (settings, metrics) = (Settings::defaults_for_tests(), Metrics::new());
        let store = Store::new(&settings, &Clock::simulated(0, 1).0, &metrics).unwrap();
        let event = Event {
            id: "e".into(),
            event_type: "a.b".into(),
            tenant: "t".into(),
            time_ms: 0,
            arrived_ms: 0,
            stream: "s".into(),
            entry_id: EntryId::MIN,
            content_type: "application/json".into(),
            payload_is_json: true,
            payload: "1".into(),
        };
        let records = Records::new(metrics.clone());
        let make = || {
            records.make(|| {
                let log = AttemptLog::default();
                store.finished(0, "u", &event, 1, &log, &settings.history, true)
            })
        };
        let kept: Vec<Record> = (0..MOST_RECORDS + 10).filter_map(|_| make()).collect();
        assert_eq!(kept.len(), MOST_RECORDS);
        assert_eq!(metrics.history_errors_total.get(), 10);
        assert!(records.bytes.load(Ordering::Acquire) > MOST_RECORDS);
        drop(kept);
        assert_eq!(records.waiting(), 0);
        assert!(make().is_some());
    }
}
