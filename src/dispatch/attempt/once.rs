//! One attempt outside of any lane, for somebody who tries a webhook out and wants to see all of it.

use std::fmt;

use super::{Attempted, Prepared};
use crate::clock::Clock;
use crate::dispatch::http_client::HttpClient;
use crate::event::Event;

/// An attempt that was made outside of any lane.
pub struct Once {
    /// What came of it.
    pub attempted: Attempted,
    /// The headers of its request exactly as they were sent, with what is secret in them, in the order of their names;
    /// none where there was no request, because its URL may not be called.
    pub headers: Vec<(String, String)>,
}

/// Hides the values of headers.
impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Once")
            .field("attempted", &self.attempted)
            .field("headers", &names)
            .finish()
    }
}

/// Makes one first attempt at `event` now. The caller keeps to the webhook's limits, and asks [`Prepared::can_carry`]
/// before. It is no delivery: nothing is counted, and nothing kept.
pub async fn attempt_once(
    client: &HttpClient,
    clock: &Clock,
    prepared: &Prepared,
    event: &Event,
    webhook_id: &str,
) -> Once {
    const NUMBER: u32 = 1;
    let started_ms = clock.unix_ms();
    if prepared.forbidden.is_some() {
        return Once {
            attempted: Attempted::forbidden(prepared, NUMBER, started_ms),
            headers: Vec::new(),
        };
    }
    let request = prepared.request(event, webhook_id, NUMBER, started_ms, None);
    let headers = request.headers_as_sent();
    let posted = client.post(request).await;
    Once {
        attempted: Attempted::of(posted, prepared, NUMBER, started_ms),
        headers,
    }
}
