//! What the lanes do to a webhook as a whole, and what the platform is told of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Dispatch;
use crate::registry::Registered;
use crate::store::dead::Dropped;
use crate::store::notices::Notice;
use crate::store::webhooks::Put;
use crate::webhook;

/// After a loss was told, those of the same webhook by the same cause are summed up for this long.
const SUM_UP: Duration = Duration::from_secs(10);

/// Dead letters that fell out and were not told of yet, by webhook and cause.
pub(super) type Untold = Mutex<HashMap<(Arc<str>, &'static str), u64>>;

impl Dispatch {
    /// Disables a webhook, unless it was changed since.
    pub(super) fn disable(
        self: &Arc<Dispatch>,
        registered: &Arc<Registered>,
        reason: &'static str,
    ) {
        let (dispatch, registered) = (self.clone(), registered.clone());
        self.tasks.spawn(async move {
            let now_ms = dispatch.clock.unix_ms();
            let mut webhook = match registered.webhook() {
                Ok(webhook) => webhook,
                Err(error) => {
                    tracing::error!(webhook_id = %registered.id(), %error, "a webhook could not be disabled");
                    return;
                }
            };
            webhook.disabled = Some(webhook::Disabled {
                reason: reason.to_owned(),
                at_ms: now_ms,
            });
            webhook.updated_ms = now_ms;
            let (id, tenant) = (webhook.spec.id.clone(), webhook.spec.tenant.clone());
            match dispatch.store.put_webhook(&webhook).await {
                Ok(Put::Version(_)) => {
                    tracing::warn!(webhook_id = %id, reason, "a webhook was disabled");
                    dispatch.announce(
                        "webhook_disabled",
                        &registered,
                        format!("webhook {id} of {tenant}: {reason}"),
                    );
                }
                Ok(Put::Conflict) => {}
                Err(error) => {
                    tracing::error!(webhook_id = %id, %error, "a webhook could not be disabled")
                }
            }
        });
    }

    /// Older dead letters fell out: counted, and logged and announced, the first at once and more in sums. A queue that
    /// fails for good at its bound loses thousands, one at a time.
    pub(crate) fn dead_letters_dropped(
        self: &Arc<Dispatch>,
        registered: &Arc<Registered>,
        dropped: Dropped,
    ) {
        for (cause, count) in [("count", dropped.by_count), ("age", dropped.by_age)] {
            if count == 0 {
                continue;
            }
            self.metrics.dead_letters_dropped(cause, count);
            let place = (registered.uid.clone(), cause);
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sum) = untold.get_mut(&place) {
                *sum += count;
                continue;
            }
            untold.insert(place.clone(), 0);
            drop(untold);
            self.tell_dropped(registered, cause, count);
            let (dispatch, registered) = (self.clone(), registered.clone());
            self.tasks.spawn(async move {
                loop {
                    tokio::select! {
                        _ = dispatch.era.ended() => {}
                        () = tokio::time::sleep(SUM_UP) => {}
                    }
                    let ended = dispatch.era.token().is_cancelled();
                    let count = {
                        let mut untold = dispatch
                            .untold
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner);
                        let count = untold.get_mut(&place).map_or(0, std::mem::take);
                        if count == 0 || ended {
                            untold.remove(&place);
                        }
                        count
                    };
                    if count > 0 {
                        dispatch.tell_dropped(&registered, cause, count);
                    }
                    if count == 0 || ended {
                        return;
                    }
                }
            });
        }
    }

    fn tell_dropped(self: &Arc<Dispatch>, registered: &Arc<Registered>, cause: &str, count: u64) {
        let id = registered.id();
        tracing::error!(webhook_id = %id, count, cause, "dead letters fell out of their bound and are lost");
        self.announce(
            "dead_letters_dropped",
            registered,
            format!("{count} dead letters of webhook {id} fell out of their bound by {cause}"),
        );
    }

    /// Announces something about a webhook on the notices stream, as best it can.
    pub(crate) fn announce(
        self: &Arc<Dispatch>,
        kind: &'static str,
        registered: &Arc<Registered>,
        detail: String,
    ) {
        let notice = Notice {
            kind,
            tenant: Some(registered.tenant().to_owned()),
            webhook_id: Some(registered.id().to_owned()),
            detail,
        };
        let dispatch = self.clone();
        self.tasks.spawn(async move {
            let (now_ms, most) = (
                dispatch.clock.unix_ms(),
                dispatch.settings.notices.max_count,
            );
            if let Err(error) = dispatch.store.announce(&notice, now_ms, most).await {
                tracing::warn!(%error, kind, "a notice could not be announced");
            }
        });
    }
}
