//! The bound on each webhook's queue: what it cannot hold is dead-lettered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use super::{Fanout, MOST_LENGTHS, Waiting};
use crate::delivery::{DeadReason, Tries, delivery_id};
use crate::store::StoreError;
use crate::store::dead::{Buried, Ending};

impl Fanout {
    /// How long the queues are by now: several daemons add to them.
    pub(super) fn note_lengths(&self, shard: u16, lengths: Vec<(Arc<str>, u64)>) {
        if let Some(writer) = self.writers.get(usize::from(shard)) {
            let mut queue = writer
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            queue.lengths.extend(lengths);
        }
    }

    /// Parts the batch into what its queues can hold and what they cannot.
    pub(super) async fn sort_by_bound(
        &self,
        shard: u16,
        batch: Vec<Waiting>,
    ) -> Result<(Vec<Waiting>, Vec<Waiting>), (StoreError, Vec<Waiting>)> {
        let most = self.settings.queue.max_deliveries;
        let Some(writer) = self.writers.get(usize::from(shard)) else {
            return Ok((batch, Vec::new()));
        };
        let mut added: HashMap<Arc<str>, u64> = HashMap::new();
        for waiting in &batch {
            *added.entry(waiting.to.uid.clone()).or_default() += 1;
        }
        let unsure: Vec<Arc<str>> = {
            let mut queue = writer
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if queue.lengths.len() > MOST_LENGTHS {
                queue.lengths.clear();
            }
            let fits = |(uid, count): &(&Arc<str>, &u64)| {
                queue
                    .lengths
                    .get(*uid)
                    .is_some_and(|length| length + **count <= most)
            };
            added
                .iter()
                .filter(|entry| !fits(entry))
                .map(|(uid, _)| uid.clone())
                .collect()
        };
        if !unsure.is_empty() {
            let lengths = match self.store.queue_lengths(shard, &unsure).await {
                Ok(lengths) => lengths,
                Err(error) => return Err((error, batch)),
            };
            let mut queue = writer
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            queue.lengths.extend(unsure.into_iter().zip(lengths));
        }
        let mut queue = writer
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (mut fitting, mut over) = (Vec::with_capacity(batch.len()), Vec::new());
        for waiting in batch {
            let length = queue.lengths.entry(waiting.to.uid.clone()).or_default();
            if *length < most {
                *length += 1;
                fitting.push(waiting);
            } else {
                over.push(waiting);
            }
        }
        Ok((fitting, over))
    }

    /// Dead-letters what its webhook's full queue cannot hold.
    pub(super) async fn bury_over_bound(
        &self,
        shard: u16,
        over: Vec<Waiting>,
    ) -> Result<(), (StoreError, Vec<Waiting>)> {
        let mut over = VecDeque::from(over);
        while let Some(waiting) = over.pop_front() {
            let webhook_id = waiting.to.id();
            let ending = Ending {
                webhook_id: webhook_id.to_owned(),
                delivery_id: delivery_id(webhook_id, &waiting.event.stream, waiting.event.entry_id),
                reason: DeadReason::QueueFull,
                tries: Tries {
                    last_error: format!(
                        "its queue holds {} deliveries",
                        self.settings.queue.max_deliveries
                    ),
                    ..Tries::default()
                },
                answer: bytes::Bytes::new(),
                at_ms: self.clock.unix_ms(),
            };
            let caps = &self.settings.dead_letters;
            let generation = self.era.generation;
            match self
                .store
                .bury(
                    shard,
                    &waiting.to.uid,
                    None,
                    &waiting.event,
                    &ending,
                    caps,
                    generation,
                )
                .await
            {
                Ok(buried) => {
                    self.metrics.dead(DeadReason::QueueFull.as_str());
                    self.dispatch.note_buried(shard, &waiting.to.uid);
                    if let Buried::Kept(dropped) = buried {
                        self.dispatch.dead_letters_dropped(&waiting.to, dropped);
                    }
                    waiting.share.settled();
                }
                Err(error) => {
                    over.push_front(waiting);
                    return Err((error, over.into()));
                }
            }
        }
        Ok(())
    }
}
