//! A source's reader: owns one stream, reads it in batches, fans its events out, and acknowledges what is settled.
//!
//! A *session* is the time with one table of unsettled entries: it ends when the server behind the stream is replaced.
//! It begins by making the group (from the mark, if the group was lost) and by fanning out all that is still pending,
//! in order, before anything new is read. After an error on the same server it reads again what is pending and not in
//! its table: a read whose reply was lost has handed entries to nobody else.

pub mod acknowledge;
mod hand_out;
pub mod ticket;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::ticket::Table;
use crate::clock::Clock;
use crate::dispatch::budget::{ROOM_WITHIN, TakenBudget};
use crate::event::{EntryId, Layout};
use crate::fanout::Fanout;
use crate::logging::StateLog;
use crate::membership::Era;
use crate::metrics::SourceMetrics;
use crate::settings::{SourceSettings, Start};
use crate::store::source::{Counter, Group, RawEntryOf, SourceStream};
use crate::store::{Store, StoreError};

/// How long a read waits for something new, in a stream that is quiet and in one that was not a moment ago. The shorter
/// one costs a managed Redis more, and lets a busy reader look around more often.
const BLOCK_QUIET: Duration = Duration::from_secs(5);
const BLOCK_BUSY: Duration = Duration::from_secs(2);
/// The first read's entries, while their size is not known, and the bytes that later reads aim at.
const FIRST_READ: usize = 16;
const READ_BYTES: usize = 8 * 1024 * 1024;
/// Events of a stream that may be unsettled or unacknowledged before reading halts.
const MOST_UNACKNOWLEDGED: usize = 50_000;
/// How often the group's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same while nothing was read since the last look, which found nothing unread.
const LOOK_QUIET: Duration = Duration::from_secs(30);
/// How often entries that are pending but in nobody's hands are looked for, and how long they must have been pending.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);
/// The pause after an error, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_LONGEST: Duration = Duration::from_secs(1);

/// Why reading of sources is halted, as all readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Read on.
    Open,
    /// Halted: a short name, and plain words.
    Halted(&'static str, String),
}

/// What a reader works with.
pub struct Parts {
    /// The daemon's own Redis.
    pub store: Store,
    /// The stream.
    pub stream: SourceStream,
    /// The source that it belongs to.
    pub settings: Arc<SourceSettings>,
    /// Where a group that does not exist yet begins.
    pub start: Start,
    /// How its entries are read as events.
    pub layout: Arc<Layout>,
    /// Where its events go.
    pub fanout: Arc<Fanout>,
    /// The bound on taken deliveries.
    pub budget: Arc<TakenBudget>,
    /// The era.
    pub era: Arc<Era>,
    /// Time.
    pub clock: Clock,
    /// The source's metrics.
    pub metrics: SourceMetrics,
    /// Whether reading is halted.
    pub gate: watch::Receiver<Gate>,
    /// Stops the reading, not the acknowledging.
    pub stop: CancellationToken,
    /// How many rejected entries are kept.
    pub most_rejected: u64,
    /// How many notices are kept.
    pub most_notices: u64,
    /// Told how far the stream is.
    pub progress: watch::Sender<StreamState>,
}

/// How far one stream is, for metrics and readiness.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StreamState {
    /// Whether it is being read.
    pub reading: bool,
    /// What halts the reading, as the metric `pombo_source_stopped` has it.
    pub halted: Option<&'static str>,
    /// Entries not read yet.
    pub lag_entries: u64,
    /// When the oldest of them was added (Unix ms).
    pub oldest_unread_ms: Option<u64>,
}

/// See the module's own words.
pub struct Reader {
    parts: Parts,
    name: Arc<str>,
    state: StateLog,
    /// The group's counter at the last look, and entries read since: what the counter skipped was never read.
    counted: Option<u64>,
    read_since: u64,
    counter: Counter,
    looked_at: Option<Instant>,
    reconciled_at: Instant,
    /// Entries to ask for: fewer where they are large.
    count: usize,
}

impl Reader {
    /// A reader of `parts.stream`.
    pub fn new(parts: Parts) -> Reader {
        Reader {
            name: Arc::from(parts.stream.name()),
            state: StateLog::new("reading of a source"),
            parts,
            counted: None,
            read_since: 0,
            counter: Counter {
                is_kept: true,
                is_noted: false,
            },
            looked_at: None,
            reconciled_at: Instant::now(),
            count: FIRST_READ,
        }
    }

    /// Reads until the era is over, or, after `stop`, until all that was read is settled and acknowledged.
    pub async fn run(mut self) {
        let mut pause = AGAIN_FIRST;
        while !self.parts.era.token().is_cancelled() {
            let generation = self.parts.stream.link().generation();
            let error = match self.session(generation).await {
                Ok(()) => break,
                Err(error) => error,
            };
            self.not_reading();
            // The daemon's own Redis ends the era; another server only ends the session.
            if self.parts.stream.link().is(self.parts.store.link())
                && self.parts.era.ends_with(&error)
            {
                break;
            }
            self.state
                .trouble("failed", format_args!("{}: {error}", self.name));
            tokio::select! {
                _ = self.parts.era.ended() => break,
                () = self.parts.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(AGAIN_LONGEST);
        }
        self.not_reading();
    }

    fn not_reading(&self) {
        self.parts.progress.send_modify(|state| {
            state.reading = false;
            state.halted = None;
        });
    }

    /// One session: with one table, on one server. Returns when reading was stopped and all is settled.
    async fn session(&mut self, generation: u64) -> Result<(), StoreError> {
        let mark = self
            .parts
            .stream
            .mark(generation)
            .await?
            .unwrap_or(EntryId::MIN);
        let table = Table::new(mark);
        self.counted = None;
        self.counter = self.parts.stream.counter(generation).await?;
        let mut acknowledger =
            AbortOnDropHandle::new(tokio::spawn(acknowledge::acknowledge(acknowledge::Parts {
                stream: self.parts.stream.clone(),
                table: table.clone(),
                generation,
                trim: self.parts.settings.trim,
                stop: self.parts.stop.clone(),
                ended: self.parts.era.token().clone(),
            })));
        let read = self.read_until_stopped(&table, generation).await;
        if read.is_ok() {
            // Stopped: what was read is finished by the lanes, and acknowledged as it settles.
            let _ = (&mut acknowledger).await;
        } else if self.parts.era.token().is_cancelled() {
            // At the end of an era it ends by itself, after the acknowledgement of what is settled.
            drop(acknowledger.detach());
        }
        read
    }

    async fn read_until_stopped(
        &mut self,
        table: &Arc<Table>,
        generation: u64,
    ) -> Result<(), StoreError> {
        let mut pause = AGAIN_FIRST;
        let mut start = self.parts.start;
        loop {
            let began = Instant::now();
            match self.read_on(table, generation, start).await {
                Ok(()) => return Ok(()),
                Err(error @ StoreError::Replaced) => return Err(error),
                Err(error) => {
                    if self.parts.stream.link().generation() != generation {
                        return Err(StoreError::Replaced);
                    }
                    self.not_reading();
                    let reason = match &error {
                        StoreError::NoGroup => "group_lost",
                        StoreError::Refused { refusal, .. } => refusal.as_str(),
                        StoreError::Unavailable { .. } => "unavailable",
                        _ => "failed",
                    };
                    self.state
                        .trouble(reason, format_args!("stream {}: {error}", self.name));
                    let _stopped = self.parts.metrics.stopped(reason);
                    if matches!(error, StoreError::NoGroup) {
                        // Whatever is added until the group is made again must be read: never from the end.
                        start = Start::Beginning;
                    }
                    tokio::select! {
                        _ = self.parts.era.ended() => return Err(StoreError::Replaced),
                        () = self.parts.stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = if began.elapsed() > AGAIN_LONGEST * 2 {
                        AGAIN_FIRST
                    } else {
                        (pause * 2).min(AGAIN_LONGEST)
                    };
                }
            }
        }
    }

    /// Makes the group, fans out what is pending, then reads what is new, until stopped or an error.
    async fn read_on(
        &mut self,
        table: &Arc<Table>,
        generation: u64,
        start: Start,
    ) -> Result<(), StoreError> {
        if !self.gate(table, generation).await {
            return Ok(());
        }
        let group = self.parts.stream.ensure_group(start, generation).await?;
        if group != Group::Found {
            tracing::info!(stream = %self.name, "the consumer group was made");
            self.counted = None;
        }
        if group == Group::MadeAnew {
            tracing::warn!(
                stream = %self.name,
                "the stream was deleted and stands anew, with lower ids than before: it is read from its beginning"
            );
            table.begin_anew();
        }
        let link = self.parts.stream.link();
        // A read of a daemon that froze is served for as long as it blocks: it must be over before a successor reads on.
        let longest = self.parts.era.half_lease();
        let (quiet, busy) = (BLOCK_QUIET.min(longest), BLOCK_BUSY.min(longest));
        let mut connected = link.blocking(&self.name, quiet, generation).await?;
        // Looked at before: whatever the group was given until now is pending, or settled.
        let given = self.parts.stream.last_delivered(generation).await?;
        let mut after = EntryId::MIN;
        loop {
            let count = self.count.min(self.parts.settings.read_count);
            let pending = self
                .parts
                .stream
                .read_pending(&mut connected, after, count)
                .await?;
            let Some(last) = pending.last().map(RawEntryOf::id) else {
                break;
            };
            // What a read was handed whose reply was lost: given to this group, and counted by nobody yet.
            let unknown = pending.iter().filter(|entry| !table.knows(entry.id()));
            self.read_since += unknown.count() as u64;
            self.hand_out(table, pending).await?;
            after = last;
            if !self.gate(table, generation).await {
                return Ok(());
            }
        }
        if let Some(given) = given {
            table.given_until(given);
        }
        self.look(generation).await?;
        self.parts
            .progress
            .send_modify(|state| state.reading = true);
        self.state.well();
        self.reconciled_at = Instant::now();
        let mut block = busy;
        loop {
            if !self.gate(table, generation).await {
                return Ok(());
            }
            let read = self.parts.stream.read_new(
                &mut connected,
                self.count.min(self.parts.settings.read_count),
                block,
            );
            let entries = tokio::select! {
                entries = read => entries?,
                // What the server hands to this read after all is pending, and found by whoever reads next.
                () = self.parts.stop.cancelled() => return Ok(()),
                _ = self.parts.era.ended() => return Err(StoreError::Replaced),
            };
            self.state.well();
            self.read_since += entries.len() as u64;
            // What is not settled may break, and is then looked for between two reads.
            block = if entries.is_empty() && table.unsettled() == 0 {
                quiet
            } else {
                busy
            };
            if !entries.is_empty() {
                // They may have come after a long wait. Who may not hand them out leaves them pending.
                if !self.gate(table, generation).await {
                    return Ok(());
                }
                self.hand_out(table, entries).await?;
            }
            let still = self.read_since == 0 && self.parts.progress.borrow().lag_entries == 0;
            let look_every = if still { LOOK_QUIET } else { LOOK_EVERY };
            if self
                .looked_at
                .is_none_or(|looked| looked.elapsed() >= look_every)
            {
                self.look(generation).await?;
            }
            if self.reconciled_at.elapsed() >= RECONCILE_EVERY {
                self.reconcile(table, generation).await?;
            }
        }
    }

    /// Waits until reading is allowed. False when it is to stop.
    async fn gate(&mut self, table: &Arc<Table>, generation: u64) -> bool {
        loop {
            if self.parts.stop.is_cancelled() || self.parts.era.token().is_cancelled() {
                return false;
            }
            let gate = self.parts.gate.borrow_and_update().clone();
            let halted = match &gate {
                Gate::Halted(reason, words) => Some((*reason, words.clone())),
                Gate::Open if !self.parts.era.is_valid() => Some((
                    "beat_missed",
                    "the last beat in Redis is too old".to_owned(),
                )),
                Gate::Open if self.parts.fanout.newer_webhooks() > 0 => Some((
                    "newer_version",
                    format!(
                        "{} webhooks were stored by a newer version of Pombo: upgrade this daemon",
                        self.parts.fanout.newer_webhooks()
                    ),
                )),
                Gate::Open if table.unsettled() >= MOST_UNACKNOWLEDGED => Some((
                    "unacknowledged",
                    format!(
                        "{} events wait for their acknowledgement",
                        table.unsettled()
                    ),
                )),
                Gate::Open => None,
            };
            let why = halted.as_ref().map(|(reason, _)| *reason);
            self.parts.progress.send_if_modified(|progress| {
                let before = std::mem::replace(&mut progress.halted, why);
                before != why
            });
            let Some((reason, words)) = halted else {
                if !self.parts.budget.is_full() {
                    return true;
                }
                tokio::select! {
                    () = self.parts.budget.room() => {}
                    () = tokio::time::sleep(ROOM_WITHIN) => {}
                    () = self.parts.stop.cancelled() => return false,
                    _ = self.parts.era.ended() => return false,
                }
                continue;
            };
            let _stopped = self.parts.metrics.stopped(reason);
            self.state.trouble(reason, &words);
            if self
                .looked_at
                .is_none_or(|looked| looked.elapsed() >= LOOK_EVERY)
            {
                // The lag is what an operator wants to see grow meanwhile; if it cannot be had, the halt goes on.
                let _ = self.look(generation).await;
            }
            if reason == "unacknowledged" && self.reconciled_at.elapsed() >= RECONCILE_EVERY {
                // What broke is not settled before it is read again, and holds up the reading until it is.
                if let Err(error) = self.reconcile(table, generation).await {
                    tracing::debug!(%error, "pending entries are looked for again later");
                }
            }
            tokio::select! {
                _ = self.parts.gate.changed() => {}
                () = self.parts.stop.cancelled() => {}
                _ = self.parts.era.ended() => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }
}
