//! The follower: keeps the registry current and takes up wake-ups, by one blocking read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::logging::StateLog;
use crate::membership::Era;
use crate::registry::Registry;
use crate::store::changes::{Change, Position};
use crate::store::{Store, StoreError};

/// How long one read waits.
const BLOCK: Duration = Duration::from_secs(2);
/// Without a reply for this long the registry may be stale, and no events are fanned out by it.
const FRESH_FOR: Duration = Duration::from_secs(3);
/// The pause after an error.
const AGAIN: Duration = Duration::from_millis(200);

/// When the registry was last known to be current.
#[derive(Debug, Default)]
pub struct Freshness {
    replied_at_ms: AtomicU64,
}

impl Freshness {
    fn now(&self, clock: &Clock) {
        self.replied_at_ms.store(
            u64::try_from(clock.monotonic().as_millis()).unwrap_or(0),
            Ordering::Release,
        );
    }

    /// Whether the registry may be trusted.
    pub fn is_fresh(&self, clock: &Clock) -> bool {
        let replied = Duration::from_millis(self.replied_at_ms.load(Ordering::Acquire));
        clock.monotonic() < replied + FRESH_FOR
    }
}

/// What the follower works with.
pub struct Follower {
    /// The daemon's Redis.
    pub store: Store,
    /// The registry that it keeps.
    pub registry: Arc<Registry>,
    /// The dispatch that it tells.
    pub dispatch: Arc<Dispatch>,
    /// The era.
    pub era: Arc<Era>,
    /// Time.
    pub clock: Clock,
    /// When the registry was last current.
    pub freshness: Arc<Freshness>,
    /// Told which source streams other daemons ask for.
    pub asked: mpsc::Sender<String>,
}

/// Fills the registry and returns from where to follow. What changes meanwhile is followed afterwards.
///
/// # Errors
///
/// Whatever keeps Redis from answering.
pub async fn load(
    store: &Store,
    registry: &Registry,
    dispatch: Option<&Arc<Dispatch>>,
) -> Result<Position, StoreError> {
    let position = store.change_position().await?;
    let mut fresh = registry.fresh();
    let unreadable = store.each_webhook(|webhook| fresh.add(&webhook)).await?;
    for (_, error) in &unreadable {
        tracing::error!(%error, "a webhook is left as it was known, or out");
    }
    let kept: Vec<String> = unreadable.iter().map(|(id, _)| id.clone()).collect();
    let replaced = registry.replace(fresh, &kept);
    for (id, error) in &unreadable {
        if matches!(error, StoreError::Newer { .. }) {
            registry.note_newer(id);
        }
    }
    if let Some(dispatch) = dispatch {
        replaced
            .iter()
            .for_each(|change| dispatch.webhook_replaced(change));
    }
    Ok(position)
}

impl Follower {
    /// Follows from `position` until the era is over.
    pub async fn run(self, mut position: Position) {
        let state = StateLog::new("following of webhooks");
        self.freshness.now(&self.clock);
        loop {
            let followed = tokio::select! {
                _ = self.era.ended() => return,
                followed = self.follow(&mut position, &state) => followed,
            };
            let Err(error) = followed else { continue };
            if self.era.ends_with(&error) {
                return;
            }
            state.trouble("failed", &error);
            tokio::time::sleep(AGAIN).await;
            // Changes may have been missed, or the stream that told of them be gone.
            loop {
                let loaded = tokio::select! {
                    _ = self.era.ended() => return,
                    loaded = load(&self.store, &self.registry, Some(&self.dispatch)) => loaded,
                };
                match loaded {
                    Ok(found) => {
                        position = Position {
                            wakes: position.wakes,
                            ..found
                        };
                        self.freshness.now(&self.clock);
                        break;
                    }
                    Err(error) => {
                        if self.era.ends_with(&error) {
                            return;
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        }
    }

    async fn follow(&self, position: &mut Position, state: &StateLog) -> Result<(), StoreError> {
        let mut connected = self
            .store
            .link()
            .blocking(&self.store.keys().changes(), BLOCK, self.era.generation)
            .await?;
        loop {
            let changes = self
                .store
                .follow(&mut connected, &self.era.nonce, position, BLOCK)
                .await?;
            state.well();
            let mut ids = Vec::new();
            for change in changes {
                match change {
                    Change::Wake {
                        shard,
                        uid,
                        rescheduled: true,
                    } => self.dispatch.wake(shard, &Arc::from(uid)),
                    Change::Wake { shard, uid, .. } => {
                        self.dispatch.wake_for_more(shard, &Arc::from(uid));
                    }
                    Change::Members => self.era.call(),
                    // Who is not heard asks again; a daemon that stops releases its sources anyway.
                    Change::Source(source) => drop(self.asked.try_send(source)),
                    Change::Webhook { number, id } => {
                        if number != position.number + 1 {
                            return Err(StoreError::Corrupt {
                                what: "the stream of changes".to_owned(),
                                reason: format!(
                                    "change {} is followed by {number}",
                                    position.number
                                ),
                            });
                        }
                        position.number = number;
                        ids.push(id);
                    }
                }
            }
            ids.sort_unstable();
            ids.dedup();
            for chunk in ids.chunks(500) {
                let found = self.store.webhooks_by_id(chunk).await?;
                for (id, webhook) in chunk.iter().zip(found) {
                    match webhook {
                        Ok(webhook) => self
                            .dispatch
                            .webhook_replaced(&self.registry.apply(id, webhook)),
                        Err(error) => {
                            tracing::error!(%error, "a change of a webhook is left out");
                            if matches!(error, StoreError::Newer { .. }) {
                                self.registry.note_newer(id);
                            }
                        }
                    }
                }
            }
            self.freshness.now(&self.clock);
        }
    }
}
