//! The waker: tells other daemons of work in the queues of their shards, many webhooks at a time.
//!
//! One that is lost is made good by the owner's sweep, which comes to a shard every few minutes: so it is tried again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::membership::Era;
use crate::store::Store;
use crate::store::ownership::Work;

/// The pause after a message that failed.
const AGAIN: Duration = Duration::from_millis(100);
/// Webhooks that may wait to be told of; the sweep finds the others.
const MOST_WAITING: usize = 100_000;

type Wakes = HashMap<String, HashSet<(u16, Arc<str>)>>;

/// See the module's own words.
pub(super) struct Waker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// By the nonce of the daemon.
    wakes: Mutex<Wakes>,
    more: Notify,
}

impl Waker {
    /// A waker that works until the era is over.
    pub fn start(store: Store, era: Arc<Era>) -> Waker {
        let shared = Arc::new(Shared::default());
        let waking = shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = era.ended() => {}
                () = waking.keep_waking(&store) => {}
            }
        });
        Waker { shared }
    }

    /// The daemon `nonce` is to look at these webhooks of `shard`.
    pub fn wake(&self, nonce: String, shard: u16, uids: Vec<Arc<str>>) {
        let work = uids.into_iter().map(|uid| (shard, uid)).collect();
        self.shared.add(nonce, work);
        self.shared.more.notify_one();
    }
}

impl Shared {
    fn wakes(&self) -> std::sync::MutexGuard<'_, Wakes> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes in while one message is on its way goes with the next.
    async fn keep_waking(&self, store: &Store) {
        loop {
            self.more.notified().await;
            loop {
                let wakes = std::mem::take(&mut *self.wakes());
                let wakes: Vec<(String, Work)> = wakes
                    .into_iter()
                    .map(|(nonce, work)| (nonce, work.into_iter().collect()))
                    .collect();
                match store.wake(&wakes).await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!(%error, "waking daemons is tried again"),
                }
                wakes
                    .into_iter()
                    .for_each(|(nonce, work)| self.add(nonce, work));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    fn add(&self, nonce: String, work: Work) {
        let mut wakes = self.wakes();
        let of_daemon = wakes.entry(nonce).or_default();
        if of_daemon.len() < MOST_WAITING {
            of_daemon.extend(work);
        }
    }
}
