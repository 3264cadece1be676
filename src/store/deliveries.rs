//! A webhook's deliveries as people look at them: what waits, what was given up and what succeeded, newest first.
//!
//! Everything here is bounded work on the pool's connections. Rows tell where a delivery is and what it is about; payloads
//! are read for those alone that are shown, and where a history turns out to have some (see `whole`).

mod record;
mod whole;

use std::sync::atomic::Ordering;

use redis::{Cmd, Value};

use self::record::read_record;
pub use self::record::{Record, RecordState};

use super::error::StoreError;
use super::scripts::{Call, run_all_slowly};
use super::value::{self, corrupt};
use super::{Store, scripts};
use crate::event::EntryId;

/// What looks at shelves are called in errors and metrics.
const OPERATION: &str = "list deliveries";
/// Entries that one call looks at, at most.
pub const MOST_LOOKED_AT: usize = 500;
/// Payload bytes that cost as much as one entry, where looking at entries is counted.
const BYTES_PER_ENTRY: usize = 16 * 1024;
/// What one call reads of whole deliveries before it answers, in bytes.
const RECORD_BYTES: usize = 4 * 1024 * 1024;

/// Where a delivery is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Shelf {
    /// It waits for its first or its next attempt.
    Queue,
    /// It was given up.
    Dead,
    /// It succeeded.
    History,
}

impl Shelf {
    /// All of them, in the order in which deliveries move: whoever looks in this order misses none that moves on
    /// meanwhile.
    pub const ALL: [Shelf; 3] = [Shelf::Queue, Shelf::Dead, Shelf::History];
}

/// A delivery's place: a shelf of its webhook, and its entry there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The shelf.
    pub shelf: Shelf,
    /// The entry; its time is when the delivery came there.
    pub id: EntryId,
}

/// A delivery without what is large in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Where it is.
    pub place: Place,
    /// The event's entry in its source, whose time is that of its arrival.
    pub entry_id: EntryId,
    /// The source.
    pub stream: String,
    /// The event's type.
    pub event_type: String,
    /// The event's id.
    pub event_id: String,
    /// When its next attempt is due (Unix ms); `None` when it is not scheduled.
    pub due_ms: Option<u64>,
}

/// Whether a queued delivery waits for its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// It is scheduled for a moment to come.
    ForItsTime,
    /// It is due, or not scheduled: its attempt comes as soon as the limits allow.
    ForItsTurn,
}

/// Which rows are wanted; the default is all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowFilter {
    /// Of this event type alone.
    pub event_type: Option<String>,
    /// Of this event alone.
    pub event_id: Option<String>,
    /// Of events that arrived then or later (Unix ms).
    pub since_ms: Option<u64>,
    /// Of events that arrived before (Unix ms).
    pub until_ms: Option<u64>,
    /// Of those in the queue, these alone.
    pub waiting: Option<Waiting>,
}

/// From where a look at a shelf goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// From the newest on, or from the one before this: newest first.
    Before(Option<EntryId>),
    /// From the one after this to `until`, itself included: oldest first.
    After {
        /// The last that was seen.
        after: EntryId,
        /// The last that is wanted.
        until: EntryId,
    },
}

/// One look at a shelf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// From where.
    pub from: From,
    /// Entries from before this moment (Unix ms) have expired and are left out.
    pub floor_ms: u64,
    /// What time it is (Unix ms).
    pub now_ms: u64,
    /// Entries looked at, at most; never more than [`MOST_LOOKED_AT`].
    pub most_entries: usize,
    /// Rows returned, at most.
    pub most_rows: usize,
}

/// What a look found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// The rows that are wanted.
    pub rows: Vec<Row>,
    /// What it cost, in entries looked at; large ones count for more.
    pub cost: usize,
    /// The last entry looked at; the next look goes on from it.
    pub last: Option<EntryId>,
    /// Whether nothing is left on the shelf.
    pub ended: bool,
}

/// How many deliveries of a webhook there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// In its queue.
    pub queued: u64,
    /// Of these, those that are scheduled for a moment to come.
    pub scheduled: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries that succeeded, as far as they are kept.
    pub history: u64,
}

/// From when on deliveries are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counting {
    /// What time it is (Unix ms).
    pub now_ms: u64,
    /// Dead letters from before this moment (Unix ms) have expired.
    pub dead_floor_ms: u64,
    /// So has history from before this one (Unix ms).
    pub history_floor_ms: u64,
}

/// What is found at a place: `None` if it is there no more, an error if it cannot be read.
pub type Found = Result<Option<Record>, StoreError>;

fn optional(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// What a look costs, in entries.
fn cost(looked_at: usize, bytes: usize) -> usize {
    looked_at + bytes / BYTES_PER_ENTRY
}

/// The part of a shelf that a look is at, as XREVRANGE and XRANGE take it.
struct Range {
    newest_first: bool,
    from: String,
    to: String,
}

fn range(look: &Look) -> Range {
    match look.from {
        From::Before(before) => Range {
            newest_first: true,
            from: before.map_or_else(|| "+".to_owned(), |before| format!("({before}")),
            to: format!("{}-0", look.floor_ms),
        },
        From::After { after, until } => {
            let expired = EntryId {
                ms: look.floor_ms,
                seq: 0,
            }
            .previous();
            Range {
                newest_first: false,
                from: format!("({}", after.max(expired)),
                to: until.to_string(),
            }
        }
    }
}

fn read_row(shelf: Shelf, reply: Value) -> Result<Row, StoreError> {
    let mut parts = value::items(reply).into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let id = value::entry_id(next())?;
    let wrong = |what: &str| corrupt(format!("the {shelf:?} entry {id}"), what.to_owned());
    let entry_id = value::text(next())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| wrong("the field \"e\" is not an entry id"))?;
    let mut text = |name: &str| {
        value::text(next()).ok_or_else(|| wrong(&format!("the field {name:?} is not text")))
    };
    Ok(Row {
        place: Place { shelf, id },
        entry_id,
        stream: text("o")?,
        event_type: text("t")?,
        event_id: text("i")?,
        due_ms: text("due")?.parse().ok(),
    })
}

/// Reads a reply of ROWS.
fn read_rows(uid: &str, shelf: Shelf, reply: Value) -> Seen {
    let mut parts = value::items(reply).into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let mut size = || {
        let number = value::integer(&next()).unwrap_or(0).max(0);
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let (looked_at, bytes) = (size(), size());
    let last = value::text(next()).and_then(|id| id.parse().ok());
    let ended = value::integer(&next()) != Some(0);
    let mut seen = Seen {
        rows: Vec::new(),
        cost: cost(looked_at, bytes),
        last,
        // Without a place to go on from there is no going on.
        ended: ended || last.is_none(),
    };
    for row in value::items(next()) {
        match read_row(shelf, row) {
            Ok(row) => seen.rows.push(row),
            Err(error) => tracing::warn!(uid, %error, "a delivery cannot be listed"),
        }
    }
    seen
}

/// Reads a reply of SHELVES.
fn read_counts(reply: Value) -> Counts {
    let mut counts = value::items(reply)
        .into_iter()
        .map(|count| value::integer(&count).unwrap_or(0).max(0).unsigned_abs());
    let mut next = || counts.next().unwrap_or(0);
    Counts {
        queued: next(),
        scheduled: next(),
        dead: next(),
        history: next(),
    }
}

/// Adds what a reply of RECORDS has of the deliveries in `places`: one at least.
fn take_records(
    places: &[Place],
    reply: Value,
    records: &mut Vec<Found>,
) -> Result<(), StoreError> {
    let replies = value::items(reply);
    if replies.is_empty() || replies.len() > places.len() {
        return Err(corrupt(
            "the reply of RECORDS",
            format!("{} for {} deliveries", replies.len(), places.len()),
        ));
    }
    let read = places.iter().zip(replies);
    records.extend(read.map(|(place, reply)| read_record(*place, reply)));
    Ok(())
}

impl Store {
    fn shelf(&self, shard: u16, uid: &str, shelf: Shelf) -> String {
        match shelf {
            Shelf::Queue => self.keys().queue(shard, uid),
            Shelf::Dead => self.keys().dead(shard, uid),
            Shelf::History => self.keys().history(shard, uid),
        }
    }

    /// One look at a shelf of a webhook, by ROWS, or by reading a history whose entries are small whole. What cannot be read
    /// is told in the log and left out.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn rows(
        &self,
        shard: u16,
        uid: &str,
        shelf: Shelf,
        filter: &RowFilter,
        look: &Look,
    ) -> Result<Seen, StoreError> {
        let mut seen = self
            .rows_of_all(shard, uid, filter, &[(shelf, *look)])
            .await?;
        Ok(seen.pop().unwrap_or_default())
    }

    /// As [`Store::rows`], one look at each of some shelves, one after the other in one go; at histories that
    /// are read whole last.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn rows_of_all(
        &self,
        shard: u16,
        uid: &str,
        filter: &RowFilter,
        looks: &[(Shelf, Look)],
    ) -> Result<Vec<Seen>, StoreError> {
        let small = self.has_small_histories.load(Ordering::Relaxed);
        let is_whole = |shelf: &Shelf| small && *shelf == Shelf::History;
        let (whole, others): (Vec<_>, Vec<_>) =
            looks.iter().partition(|(shelf, _)| is_whole(shelf));
        let calls: Vec<Call> = others
            .iter()
            .map(|(shelf, look)| self.rows_call(shard, uid, *shelf, filter, look))
            .collect();
        let key = self.keys().history(shard, uid);
        let most_at_once = whole::most_at_once(self.longest_payload);
        let commands: Vec<Cmd> = whole
            .iter()
            .map(|(_, look)| whole::command(&key, filter, look, most_at_once))
            .collect();
        let mut replies = run_all_slowly(OPERATION, &calls, &commands, self.link()).await?;
        let mut of_whole = replies
            .split_off(calls.len().min(replies.len()))
            .into_iter();
        let mut of_others = replies.into_iter();
        let mut seen = Vec::with_capacity(looks.len());
        for (shelf, look) in looks {
            if !is_whole(shelf) {
                let reply = of_others.next().unwrap_or(Value::Nil);
                seen.push(read_rows(uid, *shelf, reply));
                continue;
            }
            let reply = of_whole.next().unwrap_or(Value::Nil);
            let (found, has_payloads) = whole::read(uid, filter, look, most_at_once, reply)?;
            if has_payloads && self.has_small_histories.swap(false, Ordering::Relaxed) {
                tracing::info!(
                    uid,
                    "a history holds payloads, which other settings kept: until the next start all are listed without reading them"
                );
            }
            seen.push(found);
        }
        Ok(seen)
    }

    fn rows_call(
        &self,
        shard: u16,
        uid: &str,
        shelf: Shelf,
        filter: &RowFilter,
        look: &Look,
    ) -> Call {
        let range = range(look);
        let order = if range.newest_first { "rev" } else { "fwd" };
        let mut call = scripts::ROWS.call().key(self.shelf(shard, uid, shelf));
        if shelf == Shelf::Queue {
            call = call.key(self.keys().retry(shard, uid));
        }
        call.arg(order)
            .arg(range.from)
            .arg(range.to)
            .number(look.most_entries.clamp(1, MOST_LOOKED_AT) as u64)
            .number(look.most_rows.max(1) as u64)
            .arg(filter.event_type.as_deref().unwrap_or_default())
            .arg(filter.event_id.as_deref().unwrap_or_default())
            .arg(optional(filter.since_ms))
            .arg(optional(filter.until_ms))
            .arg(match filter.waiting {
                Some(Waiting::ForItsTime) => "later",
                Some(Waiting::ForItsTurn) => "now",
                None => "",
            })
            .number(look.now_ms)
            .number(self.most_at_a_step())
    }

    fn records_call(
        &self,
        shard: u16,
        uid: &str,
        places: &[Place],
        longest_payload: usize,
    ) -> Call {
        let call = scripts::RECORDS
            .call()
            .key(self.keys().queue(shard, uid))
            .key(self.keys().dead(shard, uid))
            .key(self.keys().history(shard, uid))
            .key(self.keys().retry(shard, uid))
            .key(self.keys().tries(shard, uid))
            .number(longest_payload as u64)
            .number(RECORD_BYTES as u64);
        places.iter().fold(call, |call, place| {
            let key = match place.shelf {
                Shelf::Queue => 1,
                Shelf::Dead => 2,
                Shelf::History => 3,
            };
            call.number(key).arg(place.id.to_string())
        })
    }

    /// RECORDS: whole deliveries by their places, in order; `None` for what is there no more, an error for what cannot be
    /// read. Payloads of more than `longest_payload` bytes are left out.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn records(
        &self,
        shard: u16,
        uid: &str,
        places: &[Place],
        longest_payload: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let records = Vec::with_capacity(places.len());
        self.further_records(shard, uid, places, longest_payload, records)
            .await
    }

    fn counts_call(&self, shard: u16, uid: &str, counting: &Counting) -> Call {
        scripts::SHELVES
            .call()
            .key(self.keys().queue(shard, uid))
            .key(self.keys().retry(shard, uid))
            .key(self.keys().dead(shard, uid))
            .key(self.keys().history(shard, uid))
            .number(counting.now_ms)
            .number(counting.dead_floor_ms)
            .number(counting.history_floor_ms)
    }

    /// SHELVES: how many deliveries a webhook has.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn delivery_counts(
        &self,
        shard: u16,
        uid: &str,
        counting: &Counting,
    ) -> Result<Counts, StoreError> {
        let call = self.counts_call(shard, uid, counting);
        Ok(read_counts(call.run_slowly(self.link()).await?))
    }

    /// SHELVES and RECORDS: how many deliveries a webhook has, and some of them as [`Store::records`] tells them.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn counted_records(
        &self,
        shard: u16,
        uid: &str,
        places: &[Place],
        longest_payload: usize,
        counting: &Counting,
    ) -> Result<(Vec<Found>, Counts), StoreError> {
        let mut calls = vec![self.counts_call(shard, uid, counting)];
        if !places.is_empty() {
            calls.push(self.records_call(shard, uid, places, longest_payload));
        }
        let mut replies = run_all_slowly("read deliveries", &calls, &[], self.link())
            .await?
            .into_iter();
        let counts = read_counts(replies.next().unwrap_or(Value::Nil));
        let mut records = Vec::with_capacity(places.len());
        if let Some(reply) = replies.next() {
            take_records(places, reply, &mut records)?;
        }
        let records = self
            .further_records(shard, uid, places, longest_payload, records)
            .await?;
        Ok((records, counts))
    }

    /// Reads what is missing in `records` of those in `places`.
    async fn further_records(
        &self,
        shard: u16,
        uid: &str,
        places: &[Place],
        longest_payload: usize,
        mut records: Vec<Found>,
    ) -> Result<Vec<Found>, StoreError> {
        while records.len() < places.len() {
            let left = &places[records.len()..];
            let call = self.records_call(shard, uid, left, longest_payload);
            take_records(left, call.run_slowly(self.link()).await?, &mut records)?;
        }
        Ok(records)
    }

    /// The newest entry of a shelf: where a walk ends that does not follow what is added meanwhile.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn newest_on(
        &self,
        shard: u16,
        uid: &str,
        shelf: Shelf,
    ) -> Result<Option<EntryId>, StoreError> {
        let key = self.shelf(shard, uid, shelf);
        value::newest(self.link(), "find the newest delivery", &key).await
    }

    /// The ids of the newest webhooks of a tenant, `most` of them, and whether there are more.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn newest_webhook_ids(
        &self,
        tenant: &str,
        most: usize,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let mut commands = redis::pipe();
        commands
            .cmd("ZREVRANGE")
            .arg(self.keys().tenant_webhooks(tenant))
            .arg(0)
            .arg(most);
        let reply = self.link().slowly("list webhooks", &commands).await?.pop();
        let mut ids: Vec<String> = value::items(reply.unwrap_or(Value::Nil))
            .into_iter()
            .filter_map(value::text)
            .collect();
        let more = ids.len() > most;
        ids.truncate(most);
        Ok((ids, more))
    }
}
