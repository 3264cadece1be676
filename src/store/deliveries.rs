//! A webhook's deliveries as people look at them: what waits, what was given up and what succeeded, newest first.
//!
//! Everything here is bounded work on the pool's connections. Looks find rows, which tell where a delivery is and what it is
//! about; payloads are read for those alone that are shown, and where a history turns out to have some.

mod look;
mod record;

use redis::Value;

pub use self::look::{From, Look, MOST_LOOKED_AT, Row, RowFilter, Seen, Waiting};
use self::record::read_record;
pub use self::record::{Record, RecordState};

use super::error::StoreError;
use super::scripts::{Ask, Call, run_all_slowly};
use super::value::{self, corrupt};
use super::{Store, scripts};
use crate::event::EntryId;

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
        let mut asks = vec![Ask::Script(self.counts_call(shard, uid, counting))];
        if !places.is_empty() {
            let call = self.records_call(shard, uid, places, longest_payload);
            asks.push(Ask::Script(call));
        }
        let mut replies = run_all_slowly("read deliveries", &asks, self.link())
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
