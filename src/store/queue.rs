//! Storing deliveries in the queues of their webhooks, in bulk, and removing the settled ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::Cmd;

use super::codec;
use super::connection::first_error;
use super::error::StoreError;
use super::history::Finished;
use super::ownership::nonce_of;
use super::{Store, value};
use crate::event::{EntryId, Event};

/// The bytes of history that one pipeline aims at, beside its removals: what is behind it on the connection waits.
const RECORD_BYTES: usize = 2 * 1024 * 1024;

/// Of a command that queues a delivery: what there is room for from the start, beside the payload.
const ENTRY_ARGUMENTS: usize = 3 + 2 * codec::QUEUE_FIELDS as usize;
const ENTRY_BYTES: usize = 256;

/// A delivery on its way into a queue.
#[derive(Debug, Clone)]
pub struct Enqueue {
    /// The webhook's uid.
    pub uid: Arc<str>,
    /// The event.
    pub event: Arc<Event>,
}

/// What was found when deliveries were queued.
#[derive(Debug, Default)]
pub struct Enqueued {
    /// The nonce of the shard's owner, who is to be woken; whoever claims a shard without one reads all that is due.
    pub owner: Option<String>,
    /// How many deliveries each of the queues holds now.
    pub lengths: Vec<(Arc<str>, u64)>,
}

/// A queue entry whose delivery is settled.
#[derive(Debug, Clone)]
pub struct Removal {
    /// The webhook's shard.
    pub shard: u16,
    /// The webhook's uid.
    pub uid: Arc<str>,
    /// The entry.
    pub id: EntryId,
    /// Whether a schedule or tries may stand beside it.
    pub tried: bool,
}

/// What came of [`Store::settle`].
#[derive(Debug)]
pub struct Settled {
    /// Whether the removals are done. If not, they may all be tried again.
    pub removed: Result<(), StoreError>,
    /// Entries of histories that were sent and are not known to be written.
    pub lost: usize,
    /// Why.
    pub lost_to: Option<StoreError>,
}

/// Entries of one queue to be removed, and those of them that may be scheduled.
#[derive(Default)]
struct Ids {
    all: Vec<EntryId>,
    tried: Vec<EntryId>,
}

/// A command on `key` and `ids`.
fn on_ids(name: &str, key: String, ids: &[EntryId]) -> Cmd {
    let mut command = Cmd::with_capacity(ids.len() + 2, key.len() + ids.len() * 20);
    command.arg(name).arg(key);
    for id in ids {
        command.arg(&*id.text());
    }
    command
}

impl Store {
    /// Adds deliveries to their queues, all of one shard, and marks their webhooks due: all of it or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] when the server is not of `generation`; a refusal means that nothing was stored. After
    /// [`StoreError::Unavailable`] it may have been.
    pub async fn enqueue(
        &self,
        shard: u16,
        batch: &[Enqueue],
        now_ms: u64,
        generation: u64,
    ) -> Result<Enqueued, StoreError> {
        let mut commands = redis::Pipeline::with_capacity(2 * batch.len() + 4);
        let mut uids: Vec<&str> = batch.iter().map(|delivery| &*delivery.uid).collect();
        uids.sort_unstable();
        uids.dedup();
        commands.cmd("ZADD").arg(self.keys().due(shard)).arg("LT");
        for uid in &uids {
            commands.arg(now_ms).arg(*uid);
        }
        for delivery in batch {
            let room = delivery.event.payload.len() + ENTRY_BYTES;
            let mut command = Cmd::with_capacity(ENTRY_ARGUMENTS, room);
            command
                .arg("XADD")
                .arg(self.keys().queue(shard, &delivery.uid))
                .arg("*");
            codec::each_queue_field(&delivery.event, 0, |name, value| {
                command.arg(name).arg(value);
            });
            commands.add_command(command);
        }
        // In the same moment: what other daemons added is part of it, and who claims the shard after it finds these
        // deliveries by itself.
        for uid in &uids {
            commands.cmd("XLEN").arg(self.keys().queue(shard, uid));
        }
        commands.cmd("GET").arg(self.keys().owner(shard));
        let link = self.link();
        let mut connected = link.durable(&self.keys().due(shard), generation).await?;
        let reply = connected
            .transaction("queue deliveries", &mut commands)
            .await?;
        connected.replicated().await;
        let mut replies = value::items(reply);
        let owner = replies.pop().and_then(value::text);
        let lengths = replies.split_off(replies.len().saturating_sub(uids.len()));
        let lengths = uids.into_iter().zip(&lengths).filter_map(|(uid, length)| {
            let length = value::integer(length)?.max(0).unsigned_abs();
            Some((Arc::from(uid), length))
        });
        Ok(Enqueued {
            owner: owner.as_deref().and_then(nonce_of).map(str::to_owned),
            lengths: lengths.collect(),
        })
    }

    /// Removes settled deliveries. Right from anyone and any number of times, because each names one exact entry.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] when the server is not of `generation`.
    pub async fn remove(&self, removals: &[Removal], generation: u64) -> Result<(), StoreError> {
        self.settle(removals, &mut Vec::new(), generation)
            .await
            .removed
    }

    /// Removes settled deliveries, and writes down as many of `finished` as fit one pipeline, which are taken off it.
    /// What was not sent stays there; what was sent and is not known to be written is lost, and never sent again: it
    /// could stand there twice.
    ///
    /// A plain pipeline and no transaction: where a full Redis refuses to write anything down, removals must be done all
    /// the same.
    pub async fn settle(
        &self,
        removals: &[Removal],
        finished: &mut Vec<Finished>,
        generation: u64,
    ) -> Settled {
        let mut settled = Settled {
            removed: Ok(()),
            lost: 0,
            lost_to: None,
        };
        let mut connected = match self.link().connection_of(generation) {
            Ok(connected) => connected,
            Err(error) => {
                settled.removed = Err(error);
                return settled;
            }
        };
        // Truth first: a record of what would be delivered again is worse than none.
        let mut commands = self.removing(removals);
        let removing = commands.len();
        let (mut sent, mut bytes) = (0, 0);
        while sent < finished.len() && bytes < RECORD_BYTES {
            bytes += finished[sent].size();
            sent += 1;
        }
        for finished in finished.drain(..sent) {
            commands.add_command(finished.into_command());
        }
        if commands.is_empty() {
            return settled;
        }
        match connected
            .pipeline("remove settled deliveries", &commands)
            .await
        {
            Ok(replies) => {
                let (removed, records) = replies.split_at(removing.min(replies.len()));
                settled.removed = first_error("remove settled deliveries", removed);
                if settled.removed.is_err() {
                    connected.count_error("remove settled deliveries");
                }
                let refused = records.iter().filter_map(value::server_error);
                settled.lost = refused.count();
                settled.lost_to = first_error("keep a history", records).err();
                if settled.lost > 0 {
                    connected.count_error("keep a history");
                }
            }
            Err(error) => {
                settled.lost = sent;
                settled.lost_to = (sent > 0).then(|| error.clone());
                settled.removed = Err(error);
            }
        }
        settled
    }

    fn removing(&self, removals: &[Removal]) -> redis::Pipeline {
        let mut by_webhook: BTreeMap<(u16, &str), Ids> = BTreeMap::new();
        for removal in removals {
            let ids = by_webhook.entry((removal.shard, &removal.uid)).or_default();
            if removal.tried {
                ids.tried.push(removal.id);
            }
            ids.all.push(removal.id);
        }
        let mut commands = redis::pipe();
        for ((shard, uid), Ids { all, tried }) in by_webhook {
            // The entry last: a schedule without its entry is noise that the lane clears, the reverse would be an
            // attempt at something delivered.
            if !tried.is_empty() {
                commands.add_command(on_ids("ZREM", self.keys().retry(shard, uid), &tried));
                commands.add_command(on_ids("HDEL", self.keys().tries(shard, uid), &tried));
            }
            commands.add_command(on_ids("XDEL", self.keys().queue(shard, uid), &all));
        }
        commands
    }

    /// How many deliveries each of the queues of one shard holds, in the order asked for.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn queue_lengths(
        &self,
        shard: u16,
        uids: &[Arc<str>],
    ) -> Result<Vec<u64>, StoreError> {
        let mut commands = redis::pipe();
        for uid in uids {
            commands.cmd("XLEN").arg(self.keys().queue(shard, uid));
        }
        let replies = self
            .link()
            .connection()?
            .all("measure queues", &commands)
            .await?;
        Ok(replies
            .iter()
            .map(|reply| value::integer(reply).unwrap_or(0).max(0).unsigned_abs())
            .collect())
    }
}
