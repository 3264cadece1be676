//! What a lane writes: each of it conditional on its daemon owning the shard.

use redis::Value;

use super::{LaneKeys, PAUSED_DUE_MS, Parked, Storing, Work, Written};
use crate::delivery::Tries;
use crate::event::EntryId;
use crate::store::error::StoreError;
use crate::store::scripts::{Call, Script};
use crate::store::{Store, codec, scripts, value};

fn written(reply: &Value, shard: u16) -> Result<Written, StoreError> {
    let word = match reply {
        Value::SimpleString(word) => word.as_bytes(),
        Value::BulkString(word) => word,
        _ => return Ok(Written::Done),
    };
    match word {
        b"FENCED" => Err(StoreError::Fenced { shard }),
        b"FULL" => Err(StoreError::QueueFull),
        b"GONE" => Ok(Written::Gone),
        _ => Ok(Written::Done),
    }
}

impl Store {
    /// STORE: gives deliveries that were only taken a home in the queue. Returns their entries, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] or [`StoreError::QueueFull`] and nothing is stored; after [`StoreError::Unavailable`] it
    /// may have been.
    pub async fn store(
        &self,
        lane: &LaneKeys,
        batch: &[Storing],
        now_ms: u64,
        generation: u64,
    ) -> Result<Vec<EntryId>, StoreError> {
        let (shard, uid) = (lane.shard, &lane.uid);
        let mut call = self
            .call_for(&scripts::STORE, lane)
            .key(self.keys().due(shard))
            .arg(lane.owner.as_bytes())
            .arg(uid.as_bytes())
            .number(batch.len() as u64)
            .number(self.most_queued);
        for storing in batch {
            call = call
                .arg(
                    storing
                        .due_ms
                        .map(|due| due.to_string())
                        .unwrap_or_default(),
                )
                .arg(
                    storing
                        .tries
                        .as_ref()
                        .map(codec::write_tries)
                        .unwrap_or_default(),
                );
            call = call.number(2 * codec::QUEUE_FIELDS);
            codec::each_queue_field(&storing.event, 0, |name, value| {
                call.push(name.as_bytes());
                call.push(value);
            });
        }
        let link = self.link();
        let mut connected = link.durable(&self.keys().due(shard), generation).await?;
        let reply = call.number(now_ms).run(&mut connected).await?;
        written(&reply, shard)?;
        connected.replicated().await;
        let ids: Vec<EntryId> = value::items(reply)
            .into_iter()
            .map(value::entry_id)
            .collect::<Result<_, StoreError>>()?;
        if ids.len() == batch.len() {
            Ok(ids)
        } else {
            Err(value::corrupt(
                "the reply of STORE",
                format!("{} ids for {} deliveries", ids.len(), batch.len()),
            ))
        }
    }

    /// SCHEDULE: the delivery `id` is to be tried again at `due_ms`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] and nothing is written.
    pub async fn schedule(
        &self,
        lane: &LaneKeys,
        id: EntryId,
        due_ms: u64,
        tries: &Tries,
        generation: u64,
    ) -> Result<Written, StoreError> {
        let tries = codec::write_tries(tries);
        self.write_schedule(lane, id, due_ms, tries, generation)
            .await
    }

    /// SCHEDULE: the entry `id`, which cannot be read, is looked at again at `due_ms`. Its tries stay as they are: they
    /// may be in order for a daemon that can read them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] and nothing is written.
    pub async fn postpone(
        &self,
        lane: &LaneKeys,
        id: EntryId,
        due_ms: u64,
        generation: u64,
    ) -> Result<Written, StoreError> {
        self.write_schedule(lane, id, due_ms, String::new(), generation)
            .await
    }

    /// PARK: the lane sleeps. Returns when it has work next (Unix ms), `None` for never.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] and nothing is written.
    pub async fn park(
        &self,
        lane: &LaneKeys,
        parked: Parked,
        work: Work,
        now_ms: u64,
        generation: u64,
    ) -> Result<Option<u64>, StoreError> {
        let (shard, uid) = (lane.shard, &lane.uid);
        let reply = self
            .call_for(&scripts::PARK, lane)
            .key(self.keys().lane(shard, uid))
            .key(self.keys().due(shard))
            .arg(lane.owner.as_bytes())
            .arg(uid.as_bytes())
            .arg(parked.cursor.to_string())
            .number(parked.hold_ms)
            .number(now_ms)
            .arg(match work {
                Work::Paused => PAUSED_DUE_MS.to_string(),
                Work::Any | Work::Head(_) => String::new(),
            })
            .arg(match work {
                Work::Head(Some(head)) => head.to_string(),
                Work::Head(None) => "-".to_owned(),
                Work::Any | Work::Paused => String::new(),
            })
            .run(&mut self.link().connection_of(generation)?)
            .await?;
        written(&reply, shard)?;
        Ok(value::integer(&reply).and_then(|due| u64::try_from(due).ok()))
    }

    /// Removes all that a deleted webhook left in its shard, its history and counts included.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn remove_lane(&self, shard: u16, uid: &str) -> Result<(), StoreError> {
        let keys = self.keys();
        let mut commands = redis::pipe();
        commands
            .cmd("UNLINK")
            .arg(keys.queue(shard, uid))
            .arg(keys.retry(shard, uid))
            .arg(keys.tries(shard, uid));
        commands
            .arg(keys.lane(shard, uid))
            .arg(keys.dead(shard, uid))
            .arg(keys.history(shard, uid))
            .arg(keys.stats(shard, uid));
        commands.cmd("ZREM").arg(keys.due(shard)).arg(uid);
        commands.cmd("SREM").arg(keys.buried(shard)).arg(uid);
        self.link()
            .connection()?
            .all("remove a deleted webhook's queue", &commands)
            .await
            .map(drop)
    }

    async fn write_schedule(
        &self,
        lane: &LaneKeys,
        id: EntryId,
        due_ms: u64,
        tries: String,
        generation: u64,
    ) -> Result<Written, StoreError> {
        let (shard, uid) = (lane.shard, &lane.uid);
        let reply = self
            .call_for(&scripts::SCHEDULE, lane)
            .key(self.keys().due(shard))
            .arg(lane.owner.as_bytes())
            .arg(uid.as_bytes())
            .arg(id.to_string())
            .number(due_ms)
            .arg(tries)
            .run(&mut self.link().connection_of(generation)?)
            .await?;
        written(&reply, shard)
    }

    /// A call with the keys that every script of a lane begins with.
    fn call_for(&self, script: &'static Script, lane: &LaneKeys) -> Call {
        let (keys, shard, uid) = (self.keys(), lane.shard, &lane.uid);
        script
            .call()
            .key(keys.owner(shard))
            .key(keys.queue(shard, uid))
            .key(keys.retry(shard, uid))
            .key(keys.tries(shard, uid))
    }
}
