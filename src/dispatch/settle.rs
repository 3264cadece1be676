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
use crate::settings::{HistoryPayload, HistorySettings, Settings};
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
/// What a record takes beside its payload for each attempt, about: most answers have no body, some a kilobyte.
const ATTEMPT_BYTES: usize = 512;
/// Longer payloads that are no part of a record do not wait for it to be made.
const PAYLOAD_AT_HAND: usize = 4 * 1024;
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

/// What the record of a delivery is made of, and its part of the bound. It is made by the settler: the lanes' threads have
/// most to do.
pub(super) struct Record {
    shard: u16,
    uid: Arc<str>,
    event: Arc<Event>,
    /// The attempts before the last.
    log: AttemptLog,
    last: Attempted,
    trims: bool,
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

    /// Room for a record of `bytes`, if there is any; else it is lost. The bounds may be passed by what several lanes take in
    /// the same moment.
    fn room(self: &Arc<Records>, bytes: usize) -> Option<Room> {
        if self.waiting() >= MOST_RECORDS || self.bytes.load(Ordering::Acquire) >= MOST_RECORD_BYTES
        {
            self.lost(1, "dropped", "too many records wait to be written");
            return None;
        }
        if self.is_refused() {
            self.lost(1, "refused", "Redis refused the last ones");
            return None;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let records = self.clone();
        Some(Room { records, bytes })
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
        mut event: Arc<Event>,
        log: AttemptLog,
        last: Attempted,
        trims: bool,
    ) -> Option<Record> {
        let caps = &self.settings.history;
        if caps.max_count == 0 {
            return None;
        }
        if event.payload.len() > PAYLOAD_AT_HAND && caps.payload != HistoryPayload::All {
            event = Arc::new(event.without_payload());
        }
        let attempts = log.records().len() + 1;
        let bytes = event.payload.len() + attempts * ATTEMPT_BYTES;
        let room = self.records.room(bytes)?;
        Some(Record {
            shard: keys.shard,
            uid: keys.uid.clone(),
            event,
            log,
            last,
            trims,
            room,
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
        if let Err(refused) = self.settled.send(settled) {
            if refused.0.record.is_some() {
                self.records.lost(1, "cut off", "the era is over");
            }
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
    fn add(&mut self, settled: Settled, store: &Store, history: &HistorySettings) {
        if let Some((removal, lane)) = settled.removal {
            self.removals.push(removal);
            self.lanes.push(lane);
        }
        if let Some(record) = settled.record {
            let (mut log, attempts) = (record.log, record.last.number);
            log.push(record.last.into_record());
            self.finished.push(store.finished(
                record.shard,
                &record.uid,
                &record.event,
                attempts,
                &log,
                history,
                record.trims,
            ));
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
    settings: Arc<Settings>,
    mut arriving: mpsc::UnboundedReceiver<Settled>,
) {
    let history = &settings.history;
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
        arrived
            .drain(..)
            .for_each(|settled| batch.add(settled, &store, history));
        if !write(&store, &era, &records, &state, &mut batch).await {
            arriving.close();
            let mut left = batch.finished.len();
            while let Ok(settled) = arriving.try_recv() {
                left += usize::from(settled.record.is_some());
            }
            if left > 0 {
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
        let metrics = Metrics::new();
        let records = Records::new(metrics.clone());
        let most = |bytes| {
            let kept: Vec<Room> = (0..MOST_RECORDS + 10)
                .filter_map(|_| records.room(bytes))
                .collect();
            kept.len()
        };
        assert_eq!(most(1), MOST_RECORDS);
        assert_eq!(metrics.history_errors_total.get(), 10);
        assert_eq!(most(MOST_RECORD_BYTES / 8), 8);
        assert_eq!(
            (records.waiting(), records.bytes.load(Ordering::Acquire)),
            (0, 0)
        );
        assert!(records.room(1).is_some());
    }
}
