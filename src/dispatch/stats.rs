//! The statistics: how many deliveries of each webhook ended how, summed in memory and written down every second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::logging::StateLog;
use crate::membership::Era;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::stats::{Count, Ended};

/// How often the sums are written down.
const EVERY: Duration = Duration::from_secs(1);
/// Counts of one pipeline.
const CHUNK: usize = 400;

/// What was not written down yet. As many entries as there are webhooks whose deliveries ended since, and no more.
#[derive(Debug)]
pub(super) struct Stats {
    sums: Mutex<HashMap<Arc<str>, Sums>>,
    state: StateLog,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Sums {
    shard: u16,
    success: u64,
    failed: u64,
}

impl Stats {
    pub fn new(metrics: Arc<Metrics>) -> Stats {
        Stats {
            sums: Mutex::default(),
            state: StateLog::new("the statistics of deliveries"),
            metrics,
        }
    }

    fn sums(&self) -> MutexGuard<'_, HashMap<Arc<str>, Sums>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts deliveries that ended.
    pub fn count(&self, shard: u16, uid: &Arc<str>, ended: Ended, by: u64) {
        let mut all = self.sums();
        let sums = match all.get_mut(uid) {
            Some(sums) => sums,
            None => all.entry(uid.clone()).or_default(),
        };
        sums.shard = shard;
        match ended {
            Ended::Success => sums.success += by,
            Ended::Failed => sums.failed += by,
        }
    }

    /// A deleted webhook's sums are of no use.
    pub fn forget(&self, uid: &str) {
        self.sums().remove(uid);
    }

    fn take(&self) -> Vec<Count> {
        let sums = std::mem::take(&mut *self.sums());
        let counts = sums.into_iter().flat_map(|(uid, sums)| {
            let count = move |ended, by| Count {
                shard: sums.shard,
                uid: uid.clone(),
                ended,
                by,
            };
            [
                count(Ended::Success, sums.success),
                count(Ended::Failed, sums.failed),
            ]
        });
        counts.filter(|count| count.by > 0).collect()
    }

    /// Writes down what changed. What Redis refused is summed on; what may have been written is not written again.
    pub async fn flush(&self, store: &Store) {
        if store.link().connection().is_err() {
            return;
        }
        for chunk in self.take().chunks(CHUNK) {
            match store.add_counts(chunk).await {
                Ok(added) => {
                    let refused = chunk.iter().zip(added).filter(|(_, added)| !added);
                    let mut well = true;
                    for (count, _) in refused {
                        well = false;
                        self.count(count.shard, &count.uid, count.ended, count.by);
                    }
                    if well {
                        self.state.well();
                    } else {
                        self.state.trouble("refused", "Redis refused to count");
                    }
                }
                Err(error) => {
                    self.metrics.history_errors_total.inc_by(chunk.len() as u64);
                    self.state.trouble("lost", &error);
                }
            }
        }
    }

    /// Writes the sums down every second until the era is over, and a last time then. Sums of an era that lost its
    /// shards, or its Redis, are as true as others.
    pub async fn keep(self: Arc<Stats>, store: Store, era: Arc<Era>) {
        loop {
            let over = tokio::select! {
                _ = era.ended() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            self.flush(&store).await;
            if over {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written_down_and_a_forgotten_webhook_is_not() {
        let stats = Stats::new(Metrics::new());
        let (one, two) = (Arc::from("one"), Arc::from("two"));
        stats.count(3, &one, Ended::Success, 2);
        stats.count(3, &one, Ended::Success, 1);
        stats.count(4, &two, Ended::Failed, 1);
        stats.forget("two");
        let counts = stats.take();
        assert_eq!(counts.len(), 1);
        assert_eq!((counts[0].shard, &*counts[0].uid), (3, "one"));
        assert_eq!((counts[0].ended, counts[0].by), (Ended::Success, 3));
        assert!(stats.take().is_empty());
    }
}
