//! Replacing what a webhook's deliveries are signed with, without a moment in which its receiver knows neither secret.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::view::{WebhookView, WebhookWithSecret};
use super::{body, change, changes, find};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::etag::{IfMatch, tagged};
use crate::api::fields::{Field, Fields};
use crate::api::path::WebhookId;
use crate::api::problem::{Invalid, Problem};
use crate::api::responses::{Conditional, Guarded, OfWebhook, WithBody};
use crate::signature::generate_secret;

/// For how long both secrets sign, in seconds.
const GRACE_S: u64 = 24 * 60 * 60;
const LONGEST_GRACE_S: u64 = 30 * 24 * 60 * 60;
const ALLOWED_GRACE: &str = "0 to 2592000 (seconds)";

/// Replace a webhook's secret
///
/// The new secret signs from now on; the present one signs beside it for `graceSeconds`, so that receivers can take the
/// new one over in their own time. A rotation that was still under way ends: at most two secrets sign.
#[utoipa::path(
    post,
    path = "/webhooks/{webhookId}/secret/rotate",
    operation_id = "rotateSecret",
    tag = "Webhooks",
    params(
        ("webhookId" = String, Path, description = "The webhook's id.", example = "wh_9yTqGg7bqk0H4rK1mYx2Zw"),
        ("If-Match" = Option<String>, Header, nullable = false, description = "The `ETag` of the version to be changed."),
    ),
    request_body = Option<body::Rotation>,
    responses(
        (status = 200, description = "The webhook, with its new secret.", body = WebhookWithSecret, headers(
            ("ETag" = String, description = "Its version, for `If-Match`."),
        )),
        OfWebhook,
        Conditional,
        WithBody,
        Guarded,
    )
)]
pub async fn rotate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    WebhookId(id): WebhookId,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let found = find(&api, &caller, &id, "webhook").await?;
    let if_match = IfMatch::of(&headers);
    if_match.check(&found)?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let grace_s = match fields.whole("graceSeconds", ALLOWED_GRACE) {
        Field::Absent => GRACE_S,
        Field::Given(seconds) if seconds <= LONGEST_GRACE_S => seconds,
        Field::Given(_) | Field::Null => {
            fields.refuse("graceSeconds", "is out of range", ALLOWED_GRACE);
            GRACE_S
        }
    };
    let chosen = changes::secret(&mut fields);
    fields.finish()?;
    let secret = chosen.unwrap_or_else(|| generate_secret(api.clock.random_bytes()));
    let now_ms = api.clock.unix_ms();
    let webhook = change(&api, &caller, &id, &if_match, |webhook| {
        if webhook.secrets.first() == Some(&secret) {
            return Err(Problem::invalid(vec![Invalid::at(
                "/secret",
                "is the present secret",
                "another one; leave it out to have one generated",
            )]));
        }
        let present = webhook.secrets.first().cloned();
        webhook.secrets = vec![secret.clone()];
        webhook.rotation_ends_ms = None;
        if grace_s > 0 {
            webhook.secrets.extend(present);
            webhook.rotation_ends_ms = Some(now_ms.saturating_add(grace_s * 1_000));
        }
        Ok(())
    })
    .await?;
    let view = WebhookView::with_secret(&webhook, now_ms);
    Ok(tagged(api.answer(StatusCode::OK, &view)?, &webhook))
}
