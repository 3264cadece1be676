//! What a lane reads and writes: windows of its queue, schedules, and its sleep.

mod write;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::codec::{self, QueuedDelivery};
use super::error::StoreError;
use super::{Store, value};
use crate::delivery::Tries;
use crate::event::{EntryId, Event};

/// The due time of paused webhooks in the `due` set: later than any real one, so that it stays listed without ever
/// coming due, and whoever finds the webhook active again finds its work.
pub const PAUSED_DUE_MS: u64 = 253_402_300_799_000;

/// One webhook's place in Redis.
#[derive(Debug, Clone)]
pub struct LaneKeys {
    /// Its shard.
    pub shard: u16,
    /// Its uid.
    pub uid: Arc<str>,
    /// The owner value under which this daemon owns the shard.
    pub owner: Arc<str>,
}

/// A delivery that was only taken and is to be stored.
#[derive(Debug, Clone)]
pub struct Storing {
    /// The event.
    pub event: Arc<Event>,
    /// When the next attempt is due; `None` as soon as the queue gets there.
    pub due_ms: Option<u64>,
    /// Attempts so far.
    pub tries: Option<Tries>,
}

/// What became of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    Done,
    /// The entry was no more; nothing was written.
    Gone,
}

/// A lane's sleep, as the last one left it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parked {
    /// Nothing may be sent before (Unix ms).
    pub hold_ms: u64,
    /// All entries up to it are scheduled or gone.
    pub cursor: EntryId,
}

/// What makes a parked lane have work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Any entry, when it is due.
    Any,
    /// The head of a queue whose order is kept, when it is due: this entry, or the first one.
    Head(Option<EntryId>),
    /// Nothing: the webhook is paused.
    Paused,
}

/// A stretch of a queue.
#[derive(Debug, Default)]
pub struct Window {
    /// Deliveries in order; each with its schedule (Unix ms), if those that have one were asked for too.
    pub deliveries: Vec<(QueuedDelivery, Option<u64>)>,
    /// Entries that cannot be read, with the reason.
    pub unreadable: Vec<(EntryId, String)>,
    /// The last entry looked at; `None` when there was none.
    pub last: Option<EntryId>,
    /// Whether the end of the queue was reached.
    pub at_end: bool,
}

/// Retries that are due, and when the next one is.
#[derive(Debug, Default)]
pub struct DueRetries {
    /// Deliveries to attempt now, with their tries.
    pub deliveries: Vec<(QueuedDelivery, Tries)>,
    /// Entries that cannot be read, with the reason.
    pub unreadable: Vec<(EntryId, String)>,
    /// When the first of the others is due (Unix ms).
    pub next_ms: Option<u64>,
}

/// What there is to do in a shard.
#[derive(Debug, Default)]
pub struct ShardWork {
    /// Webhooks with work: uid, and when it is due (Unix ms).
    pub due: Vec<(String, u64)>,
    /// Uids of webhooks that have dead letters, or had some.
    pub buried: Vec<String>,
}

fn read_due(reply: Value) -> Vec<(String, u64)> {
    value::pairs(reply)
        .into_iter()
        .filter_map(|(uid, score)| {
            Some((
                value::text(uid)?,
                value::integer(&score)?.max(0).unsigned_abs(),
            ))
        })
        .collect()
}

impl Store {
    /// What there is to do in each of `shards`: read all at once, because whoever takes a shard over waits for it.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn all_work(&self, shards: &[u16]) -> Result<Vec<(u16, ShardWork)>, StoreError> {
        let mut commands = redis::Pipeline::with_capacity(2 * shards.len());
        for shard in shards {
            self.ask_for_due(&mut commands, *shard, "+inf");
            commands.cmd("SMEMBERS").arg(self.keys().buried(*shard));
        }
        let replies = self.link().slowly("read what is due", &commands).await?;
        let mut replies = replies.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let work = shards.iter().map(|shard| {
            let due = read_due(next());
            let buried = value::items(next()).into_iter().filter_map(value::text);
            let buried = buried.collect();
            (*shard, ShardWork { due, buried })
        });
        Ok(work.collect())
    }

    /// The webhooks of a shard whose work is due by `now_ms`.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn due_by(&self, shard: u16, now_ms: u64) -> Result<Vec<(String, u64)>, StoreError> {
        let mut commands = redis::pipe();
        self.ask_for_due(&mut commands, shard, &now_ms.to_string());
        // Mostly empty, and asked for every few seconds: a connection of the pool would cost two commands more.
        let replies = self
            .link()
            .connection()?
            .all("read what is due", &commands)
            .await?;
        Ok(read_due(replies.into_iter().next().unwrap_or(Value::Nil)))
    }

    fn ask_for_due(&self, commands: &mut redis::Pipeline, shard: u16, until: &str) {
        commands
            .cmd("ZRANGEBYSCORE")
            .arg(self.keys().due(shard))
            .arg("-inf")
            .arg(until)
            .arg("WITHSCORES");
    }

    /// How the lane was left.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn parked(&self, lane: &LaneKeys) -> Result<Parked, StoreError> {
        let mut command = redis::cmd("HMGET");
        command
            .arg(self.keys().lane(lane.shard, &lane.uid))
            .arg("hold")
            .arg("cursor");
        let reply = self
            .link()
            .connection()?
            .command("read a lane", command)
            .await?;
        let mut parts = value::items(reply).into_iter().map(value::text);
        let mut next = || parts.next().flatten().unwrap_or_default();
        Ok(Parked {
            hold_ms: next().parse().unwrap_or(0),
            cursor: next().parse().unwrap_or(EntryId::MIN),
        })
    }

    /// Reads up to `count` entries after `after`, leaving out those that are scheduled unless `scheduled_too`.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn window(
        &self,
        lane: &LaneKeys,
        after: EntryId,
        count: usize,
        scheduled_too: bool,
    ) -> Result<Window, StoreError> {
        let mut connected = self.link().connection()?;
        let retry = self.keys().retry(lane.shard, &lane.uid);
        let mut commands = redis::pipe();
        commands
            .cmd("XRANGE")
            .arg(self.keys().queue(lane.shard, &lane.uid));
        commands
            .arg(format!("({after}"))
            .arg("+")
            .arg("COUNT")
            .arg(count);
        commands.cmd("EXISTS").arg(&retry);
        let mut replies = connected.all("read a queue", &commands).await?.into_iter();
        let entries = value::entries(replies.next().unwrap_or(Value::Nil))?;
        let mut window = Window {
            at_end: entries.len() < count,
            last: entries.last().map(|entry| entry.id),
            ..Window::default()
        };
        let scheduled = replies
            .next()
            .is_some_and(|reply| value::integer(&reply) == Some(1))
            && !entries.is_empty();
        let mut scores = Vec::new();
        if scheduled {
            let mut command = redis::cmd("ZMSCORE");
            command.arg(&retry);
            for entry in &entries {
                command.arg(entry.id.to_string());
            }
            scores = value::items(connected.command("read schedules", command).await?);
        }
        let mut scores = scores.into_iter();
        for entry in entries {
            let due = scores
                .next()
                .and_then(|score| value::integer(&score))
                .map(|due| due.max(0).unsigned_abs());
            if due.is_some() && !scheduled_too {
                continue;
            }
            match codec::read_queued(&entry) {
                Ok(delivery) => window.deliveries.push((delivery, due)),
                Err(error) => window.unreadable.push((entry.id, error.to_string())),
            }
        }
        Ok(window)
    }

    /// Reads up to `count` scheduled deliveries that are due by `now_ms` and not in `known`, the earliest first.
    /// Schedules whose entry is no more are cleared.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn due_retries(
        &self,
        lane: &LaneKeys,
        now_ms: u64,
        count: usize,
        known: &HashSet<EntryId>,
    ) -> Result<DueRetries, StoreError> {
        let (shard, uid) = (lane.shard, &lane.uid);
        let (queue, retry, tries) = (
            self.keys().queue(shard, uid),
            self.keys().retry(shard, uid),
            self.keys().tries(shard, uid),
        );
        let mut connected = self.link().connection()?;
        let mut commands = redis::pipe();
        commands
            .cmd("ZRANGEBYSCORE")
            .arg(&retry)
            .arg("-inf")
            .arg(now_ms)
            .arg("LIMIT")
            .arg(0)
            .arg(count + known.len());
        commands
            .cmd("ZRANGEBYSCORE")
            .arg(&retry)
            .arg(format!("({now_ms}"))
            .arg("+inf");
        commands.arg("WITHSCORES").arg("LIMIT").arg(0).arg(1);
        let mut replies = connected
            .all("read due retries", &commands)
            .await?
            .into_iter();
        let ids: Vec<String> = value::items(replies.next().unwrap_or(Value::Nil))
            .into_iter()
            .filter_map(value::text)
            .filter(|id| id.parse().is_ok_and(|id: EntryId| !known.contains(&id)))
            .take(count)
            .collect();
        let next = value::pairs(replies.next().unwrap_or(Value::Nil));
        let mut found = DueRetries {
            next_ms: next
                .first()
                .and_then(|(_, score)| value::integer(score))
                .map(|ms| ms.max(0).unsigned_abs()),
            ..DueRetries::default()
        };
        if ids.is_empty() {
            return Ok(found);
        }
        let mut commands = redis::pipe();
        commands.cmd("HMGET").arg(&tries).arg(&ids);
        for id in &ids {
            commands.cmd("XRANGE").arg(&queue).arg(id).arg(id);
        }
        let mut replies = connected
            .all("read due retries", &commands)
            .await?
            .into_iter();
        let stored = value::items(replies.next().unwrap_or(Value::Nil));
        let mut orphans = Vec::new();
        for ((id, stored), reply) in ids.into_iter().zip(stored).zip(replies) {
            let Some(entry) = value::entries(reply)?.into_iter().next() else {
                orphans.push(id);
                continue;
            };
            let entry_id = entry.id;
            let tries = value::bytes(stored)
                .map_or_else(|| Ok(Tries::default()), |text| codec::read_tries(&text));
            match (codec::read_queued(&entry), tries) {
                (Ok(delivery), Ok(tries)) => found.deliveries.push((delivery, tries)),
                (Err(error), _) | (_, Err(error)) => {
                    found.unreadable.push((entry_id, error.to_string()))
                }
            }
        }
        if !orphans.is_empty() {
            let mut commands = redis::pipe();
            commands.cmd("ZREM").arg(&retry).arg(&orphans);
            commands.cmd("HDEL").arg(&tries).arg(&orphans);
            connected.all("clear schedules", &commands).await?;
        }
        Ok(found)
    }

    /// When the entry `id` is due, if it is scheduled, with its tries.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn schedule_of(
        &self,
        lane: &LaneKeys,
        id: EntryId,
    ) -> Result<Option<(u64, Tries)>, StoreError> {
        let mut commands = redis::pipe();
        commands
            .cmd("ZSCORE")
            .arg(self.keys().retry(lane.shard, &lane.uid))
            .arg(id.to_string());
        commands
            .cmd("HGET")
            .arg(self.keys().tries(lane.shard, &lane.uid))
            .arg(id.to_string());
        let mut replies = self
            .link()
            .connection()?
            .all("read a schedule", &commands)
            .await?
            .into_iter();
        let due = replies.next().and_then(|reply| value::integer(&reply));
        let tries = replies.next().and_then(value::bytes);
        match due {
            None => Ok(None),
            Some(due) => {
                let tries =
                    tries.map_or_else(|| Ok(Tries::default()), |text| codec::read_tries(&text))?;
                Ok(Some((due.max(0).unsigned_abs(), tries)))
            }
        }
    }
}

/// The value of a field for a dead letter.
pub(crate) fn field(value: impl ToString) -> Bytes {
    Bytes::from(value.to_string())
}
