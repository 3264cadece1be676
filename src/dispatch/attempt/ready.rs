//! An attempt of a lane: first made ready, then sent.

use std::sync::Arc;

use super::{Attempted, Prepared, Signatures};
use crate::dispatch::http_client::{HttpClient, Post};
use crate::event::Event;
use crate::metrics::Metrics;

/// An attempt that is ready to be sent.
///
/// A lane makes all requests that it starts together before it sends the first: a receiver that is woken by that one finds
/// the others coming, where it would fall asleep and be woken again for each (`scripts/bench one` tells).
pub struct Attempt {
    prepared: Arc<Prepared>,
    event: Arc<Event>,
    webhook_id: Arc<str>,
    number: u32,
    started_ms: u64,
    /// `None` where the URL may not be called, or the payload is long.
    post: Option<Post>,
}

impl Attempt {
    /// The `number`th attempt at `event`, started at `started_ms` (Unix ms), with what `prepared` has `signed` of it ahead.
    pub fn new(
        prepared: Arc<Prepared>,
        event: Arc<Event>,
        webhook_id: Arc<str>,
        number: u32,
        started_ms: u64,
        signed: Option<Box<Signatures>>,
    ) -> Attempt {
        let is_made = prepared.can_make_ahead(&event);
        let post =
            is_made.then(|| prepared.request(&event, &webhook_id, number, started_ms, signed));
        Attempt {
            prepared,
            event,
            webhook_id,
            number,
            started_ms,
            post,
        }
    }

    /// Sends it, and judges what comes of it.
    pub async fn send(self, client: Arc<HttpClient>, metrics: Arc<Metrics>) -> Attempted {
        let (prepared, number, started_ms) = (&self.prepared, self.number, self.started_ms);
        if prepared.forbidden.is_some() {
            let forbidden = Attempted::forbidden(prepared, number, started_ms);
            metrics.attempt(forbidden.result.class(), forbidden.duration);
            return forbidden;
        }
        let again = || prepared.request(&self.event, &self.webhook_id, number, started_ms, None);
        let post = self.post.unwrap_or_else(again);
        let posted = client.post_or_again(post, again).await;
        metrics.attempt(posted.result.class(), posted.duration);
        if posted.resent {
            metrics.resends_total.inc();
        }
        Attempted::of(posted, prepared, number, started_ms)
    }
}
