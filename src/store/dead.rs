//! Dead letters: deliveries that were given up, kept with their reason until they are replayed, purged or expire.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::codec::{self, Fields, QueuedDelivery};
use super::error::StoreError;
use super::lane::{LaneKeys, field};
use super::value::RawEntry;
use super::{Store, scripts, value};
use crate::delivery::{AttemptLog, DeadReason, Tries};
use crate::event::{EntryId, Event};
use crate::settings::DeadLetterSettings;

/// The arrival of the event of a queue's first entry. A script, so that no payload is sent only to be measured.
const OLDEST: &str = include_str!("scripts/oldest.lua");

/// Why and after what a delivery was given up.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The webhook's id.
    pub webhook_id: String,
    /// The delivery's id.
    pub delivery_id: String,
    /// Why.
    pub reason: DeadReason,
    /// Attempts, each as far as it is kept, and the last error.
    pub tries: Tries,
    /// The first bytes of the last answer, at most one KiB.
    pub answer: Bytes,
    /// When (Unix ms).
    pub at_ms: u64,
}

/// A dead letter as it is kept.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its entry among the webhook's dead letters; its time is that of its end.
    pub id: EntryId,
    /// The delivery.
    pub event: Arc<Event>,
    /// Why and after what.
    pub ending: Ending,
}

/// How many older dead letters a new one pushed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// For their number.
    pub by_count: u64,
    /// For their age.
    pub by_age: u64,
}

/// What became of a burial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buried {
    /// The dead letter is kept.
    Kept(Dropped),
    /// The delivery was no more; nothing was written.
    Gone,
}

fn fields(event: &Event, ending: &Ending) -> Fields {
    let mut fields = codec::queue_fields(event, 0);
    fields.extend([
        ("webhook_id", field(&ending.webhook_id)),
        ("delivery_id", field(&ending.delivery_id)),
        ("reason", field(ending.reason.as_str())),
        ("attempts", field(ending.tries.attempts)),
        ("first_attempt_ms", field(ending.tries.first_attempt_ms)),
        ("last_attempt_ms", field(ending.tries.last_attempt_ms)),
        (
            "last_status",
            ending.tries.last_status.map(field).unwrap_or_default(),
        ),
        ("last_error", field(&ending.tries.last_error)),
        ("answer", ending.answer.clone()),
        ("at_ms", field(ending.at_ms)),
        // What a replay goes on from.
        ("again", field(codec::write_tries(&ending.tries.replayed()))),
    ]);
    fields
}

pub(super) fn read(entry: &RawEntry) -> Result<DeadLetter, StoreError> {
    let QueuedDelivery { event, .. } = codec::read_queued(entry)?;
    let text = |name: &str| entry.text(name).unwrap_or_default();
    let reason = text("reason");
    let log = match entry.bytes("again") {
        Some(again) => codec::read_tries(&again)?.log,
        None => AttemptLog::default(),
    };
    Ok(DeadLetter {
        id: entry.id,
        event,
        ending: Ending {
            webhook_id: text("webhook_id"),
            delivery_id: text("delivery_id"),
            reason: reason.parse().map_err(|_| {
                value::corrupt(
                    format!("dead letter {}", entry.id),
                    format!("{reason:?} is no known reason"),
                )
            })?,
            tries: Tries {
                attempts: text("attempts").parse().unwrap_or(0),
                since_replay: 0,
                first_attempt_ms: text("first_attempt_ms").parse().unwrap_or(0),
                last_attempt_ms: text("last_attempt_ms").parse().unwrap_or(0),
                last_status: text("last_status").parse().ok(),
                last_error: text("last_error"),
                log,
            },
            answer: entry.bytes("answer").unwrap_or_default(),
            at_ms: text("at_ms").parse().unwrap_or(entry.id.ms),
        },
    })
}

fn buried(reply: Value, shard: u16) -> Result<Buried, StoreError> {
    match &reply {
        Value::Array(_) => {
            let counts: Vec<u64> = value::items(reply)
                .iter()
                .map(|n| value::integer(n).unwrap_or(0).max(0).unsigned_abs())
                .collect();
            Ok(Buried::Kept(Dropped {
                by_count: counts.first().copied().unwrap_or(0),
                by_age: counts.get(1).copied().unwrap_or(0),
            }))
        }
        Value::BulkString(word) if word == b"GONE" => Ok(Buried::Gone),
        Value::SimpleString(word) if word == "GONE" => Ok(Buried::Gone),
        _ => Err(StoreError::Fenced { shard }),
    }
}

fn oldest_kept(at_ms: u64, caps: &DeadLetterSettings) -> u64 {
    at_ms.saturating_sub(u64::try_from(caps.max_age.as_millis()).unwrap_or(u64::MAX))
}

impl Store {
    /// DEAD: moves the queued delivery `id` to the dead letters.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] and nothing is written.
    pub async fn dead(
        &self,
        lane: &LaneKeys,
        id: EntryId,
        event: &Event,
        ending: &Ending,
        caps: &DeadLetterSettings,
        generation: u64,
    ) -> Result<Buried, StoreError> {
        let (shard, uid) = (lane.shard, &lane.uid);
        let mut call = scripts::DEAD
            .call()
            .key(self.keys().owner(shard))
            .key(self.keys().queue(shard, uid))
            .key(self.keys().retry(shard, uid))
            .key(self.keys().tries(shard, uid))
            .key(self.keys().dead(shard, uid))
            .key(self.keys().buried(shard))
            .arg(lane.owner.as_bytes())
            .arg(id.to_string())
            .number(caps.max_count)
            .number(oldest_kept(ending.at_ms, caps))
            .arg(uid.as_bytes());
        for (name, value) in fields(event, ending) {
            call = call.arg(name).arg(value);
        }
        buried(
            call.run(&mut self.link().connection_of(generation)?)
                .await?,
            shard,
        )
    }

    /// BURY: makes a dead letter of a delivery that has no queue entry. `owner` is `None` where the reader of a source
    /// buries for whatever shard.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] and nothing is written; after [`StoreError::Unavailable`] it may have been.
    #[allow(
        clippy::too_many_arguments,
        reason = "the place, the delivery, its end and the bounds are all separate facts"
    )]
    pub async fn bury(
        &self,
        shard: u16,
        uid: &str,
        owner: Option<&str>,
        event: &Event,
        ending: &Ending,
        caps: &DeadLetterSettings,
        generation: u64,
    ) -> Result<Buried, StoreError> {
        let link = self.link();
        let mut connected = link.durable(&self.keys().owner(shard), generation).await?;
        let mut call = scripts::BURY
            .call()
            .key(self.keys().owner(shard))
            .key(self.keys().dead(shard, uid))
            .key(self.keys().buried(shard))
            .arg(owner.unwrap_or_default())
            .number(caps.max_count)
            .number(oldest_kept(ending.at_ms, caps))
            .arg(uid.as_bytes());
        for (name, value) in fields(event, ending) {
            call = call.arg(name).arg(value);
        }
        let kept = buried(call.run(&mut connected).await?, shard)?;
        connected.replicated().await;
        Ok(kept)
    }

    /// Up to `count` dead letters of a webhook after `after`, oldest first, and the last entry looked at. What cannot
    /// be read comes as an error in its place.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn dead_letters(
        &self,
        shard: u16,
        uid: &str,
        after: EntryId,
        count: usize,
    ) -> Result<(Vec<Result<DeadLetter, StoreError>>, Option<EntryId>), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("XRANGE").arg(self.keys().dead(shard, uid));
        commands
            .arg(format!("({after}"))
            .arg("+")
            .arg("COUNT")
            .arg(count);
        let reply = self
            .link()
            .slowly("list dead letters", &commands)
            .await?
            .pop()
            .unwrap_or(Value::Nil);
        let entries = value::entries(reply)?;
        let last = entries.last().map(|entry| entry.id);
        Ok((entries.iter().map(read).collect(), last))
    }

    /// The newest dead letter of a webhook: where a walk over them ends, so that it does not follow what is added while it
    /// goes on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] names a key of another type; whatever keeps Redis from answering.
    pub async fn newest_dead(&self, shard: u16, uid: &str) -> Result<Option<EntryId>, StoreError> {
        let key = self.keys().dead(shard, uid);
        value::newest(self.link(), "find the newest dead letter", &key)
            .await
            .map_err(|error| error.of_key(&key))
    }

    /// REPLAY: puts a dead letter back at the end of its queue, due now, with its attempts so far. False if it was no
    /// more. The caller wakes the owner.
    ///
    /// # Errors
    ///
    /// A full Redis refuses; the dead letter stays.
    pub async fn replay(
        &self,
        shard: u16,
        uid: &str,
        id: EntryId,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let reply = scripts::REPLAY
            .call()
            .key(self.keys().dead(shard, uid))
            .key(self.keys().queue(shard, uid))
            .key(self.keys().due(shard))
            .key(self.keys().retry(shard, uid))
            .key(self.keys().tries(shard, uid))
            .key(self.keys().stats(shard, uid))
            .arg(id.to_string())
            .arg(uid)
            .number(now_ms)
            .run(&mut self.link().connection()?)
            .await?;
        Ok(value::text(reply).is_some_and(|word| word != "GONE"))
    }

    /// Removes dead letters for good. Returns how many were there.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn purge(&self, shard: u16, uid: &str, ids: &[EntryId]) -> Result<u64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut command = redis::cmd("XDEL");
        command.arg(self.keys().dead(shard, uid));
        for id in ids {
            command.arg(id.to_string());
        }
        let reply = self
            .link()
            .connection()?
            .command("purge dead letters", command)
            .await?;
        Ok(value::integer(&reply).unwrap_or(0).max(0).unsigned_abs())
    }

    /// The uids of a shard's webhooks that have dead letters, or had some.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn buried(&self, shard: u16) -> Result<Vec<String>, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("SMEMBERS").arg(self.keys().buried(shard));
        let reply = self
            .link()
            .slowly("list webhooks with dead letters", &commands)
            .await?
            .pop()
            .unwrap_or(Value::Nil);
        Ok(value::items(reply)
            .into_iter()
            .filter_map(value::text)
            .collect())
    }

    /// How many dead letters each of these webhooks has, and how many just fell out because they are older than
    /// `max_age`.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn dead_counts(
        &self,
        webhooks: &[(u16, Arc<str>)],
        now_ms: u64,
        caps: &DeadLetterSettings,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let mut commands = redis::Pipeline::with_capacity(webhooks.len() * 2);
        for (shard, uid) in webhooks {
            let key = self.keys().dead(*shard, uid);
            commands
                .cmd("XTRIM")
                .arg(&key)
                .arg("MINID")
                .arg(oldest_kept(now_ms, caps));
            commands.cmd("XLEN").arg(&key);
        }
        let replies = self.link().slowly("count dead letters", &commands).await?;
        Ok(replies
            .chunks(2)
            .map(|pair| (pair.last().map_or(0, count), pair.first().map_or(0, count)))
            .collect())
    }

    /// What the queues of webhooks hold, and when the event of the oldest arrived.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn sizes(&self, webhooks: &[(u16, Arc<str>)]) -> Result<Sizes, StoreError> {
        let mut commands = redis::Pipeline::with_capacity(webhooks.len() * 3);
        for (shard, uid) in webhooks {
            commands.cmd("XLEN").arg(self.keys().queue(*shard, uid));
            commands.cmd("ZCARD").arg(self.keys().retry(*shard, uid));
            commands
                .cmd("EVAL")
                .arg(OLDEST)
                .arg(1)
                .arg(self.keys().queue(*shard, uid));
        }
        let mut replies = self
            .link()
            .slowly("measure queues", &commands)
            .await?
            .into_iter();
        let mut sizes = Sizes::default();
        while let (Some(queue), Some(retry), Some(first)) =
            (replies.next(), replies.next(), replies.next())
        {
            sizes.waiting += count(&queue);
            sizes.scheduled += count(&retry);
            let arrived = value::text(first).and_then(|id| id.parse::<EntryId>().ok());
            sizes.oldest_ms = [sizes.oldest_ms, arrived.map(|id| id.ms)]
                .into_iter()
                .flatten()
                .min();
        }
        Ok(sizes)
    }
}

fn count(reply: &Value) -> u64 {
    value::integer(reply).unwrap_or(0).max(0).unsigned_abs()
}

/// What the queues of some webhooks hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Deliveries in queues, scheduled ones included.
    pub waiting: u64,
    /// Of these, those that wait for their retry.
    pub scheduled: u64,
    /// When the event of the oldest waiting delivery arrived (Unix ms).
    pub oldest_ms: Option<u64>,
}
