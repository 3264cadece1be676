//! Looks at a shelf: which deliveries stand there, without what is large in them.

mod whole;

use std::sync::atomic::Ordering;

use redis::Value;

use super::{Place, Shelf};
use crate::event::EntryId;
use crate::store::error::StoreError;
use crate::store::scripts::{Ask, Call, run_all_slowly};
use crate::store::value::{self, corrupt};
use crate::store::{Store, scripts};

/// Entries that one call looks at, at most.
pub const MOST_LOOKED_AT: usize = 500;
/// Payload bytes that cost as much as one entry, where looking at entries is counted.
const BYTES_PER_ENTRY: usize = 16 * 1024;

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

impl Store {
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

    /// As [`Store::rows`], several looks one after the other in one go.
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
        let is_whole = |shelf: Shelf| small && shelf == Shelf::History;
        let most_at_once = whole::most_at_once(self.longest_payload);
        let ask = |(shelf, look): &(Shelf, Look)| match is_whole(*shelf) {
            true => {
                let key = self.shelf(shard, uid, *shelf);
                Ask::Plain(whole::command(&key, filter, look, most_at_once))
            }
            false => Ask::Script(self.rows_call(shard, uid, *shelf, filter, look)),
        };
        let asks: Vec<Ask> = looks.iter().map(ask).collect();
        let replies = run_all_slowly("list deliveries", &asks, self.link()).await?;
        let mut seen = Vec::with_capacity(looks.len());
        for ((shelf, look), reply) in looks.iter().zip(replies) {
            if !is_whole(*shelf) {
                seen.push(read_rows(uid, *shelf, reply));
                continue;
            }
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
}
