//! Retrying by hand: one delivery at once, many by a job.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::deliveries::paging::Goal;
use super::deliveries::{
    ALLOWED_EVENT, ALLOWED_TIME, Status, counts, delivery_of, is_counted_by_rows, is_event_type,
    moment, shelves_of, walk,
};
use super::fields::{Field, Fields, Query};
use super::jobs::{self, Job};
use super::path::in_path;
use super::problem::{PROBLEM_JSON, Problem};
use super::responses::{Guarded, WithBody};
use super::{Api, webhooks};
use crate::store::deliveries::{Record, RowFilter};
use crate::store::retry::Hastened;
use crate::webhook::Webhook;

/// Entries that are looked at to count what a retry is about; large ones count for more.
const BUDGET: usize = 20_000;

/// All routes of this file.
pub fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(retry))
        .routes(routes!(retry_many))
}

/// That a delivery is retried.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retried {
    /// The delivery; its id stays the same.
    #[schema(example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA.6Jm0c1tQnC3Z0VJt4m7b9g")]
    pub delivery_id: String,
    /// What happens now, in plain words.
    #[schema(example = "The delivery is pending again, and an attempt is due at once.")]
    pub message: String,
}

/// When the attempt comes that is due now.
fn when(webhook: &Webhook) -> &'static str {
    if webhook.disabled.is_some() {
        "The delivery is pending again. Its webhook was disabled by Pombo: the attempt waits until it is enabled."
    } else if !webhook.spec.active {
        "The delivery is pending again. Its webhook is not active: the attempt waits until it is."
    } else {
        "The delivery is pending again, and an attempt is due at once."
    }
}

/// Whether a retry took hold, or the delivery has moved on.
async fn retry_one(api: &Api, webhook: &Webhook, record: &Record) -> Result<bool, Problem> {
    let shard = api.store.shard_of(&webhook.spec.id);
    let (uid, id) = (webhook.uid.as_str(), record.place.id);
    let now_ms = api.clock.unix_ms();
    let took_hold = match Status::of(record, now_ms) {
        Status::Failed => {
            let queued = counts(api, webhook, now_ms).await?.queued;
            if queued >= api.settings.queue.max_deliveries {
                return Err(Problem::conflict(
                    "The webhook's queue is full. Try again when it has drained.",
                ));
            }
            api.store.replay(shard, uid, id, now_ms).await?
        }
        Status::Retrying => api.store.hasten(shard, uid, id, now_ms).await? == Hastened::Done,
        Status::Pending | Status::Success => false,
    };
    if took_hold {
        api.store
            .wake_owner(shard, std::slice::from_ref(&webhook.uid))
            .await?;
    }
    Ok(took_hold)
}

/// Retry a delivery
///
/// For a delivery that is `FAILED` or `RETRYING`: it is `PENDING` again and an attempt is due at once. The retry policy
/// counts anew for one that had failed; the attempts are numbered on. A delivery of a webhook that is not active, or that
/// Pombo disabled, waits until it is active again.
#[utoipa::path(
    post,
    path = "/webhooks/deliveries/{deliveryId}/retry",
    tag = "Deliveries",
    operation_id = "retryDelivery",
    params(
        ("deliveryId" = String, Path, description = "The delivery's id.", example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA.6Jm0c1tQnC3Z0VJt4m7b9g"),
    ),
    responses(
        (status = 200, description = "It is pending again.", body = Retried),
        Guarded,
        (status = 404, description = "There is no such delivery.", body = Problem, content_type = PROBLEM_JSON),
        (status = 409, description = "The delivery is neither `FAILED` nor `RETRYING`, or the webhook's queue is full.", body = Problem, content_type = PROBLEM_JSON),
        (status = 413, description = "The body is too large.", body = Problem, content_type = PROBLEM_JSON),
        (status = 422, description = "There are no such parameters.", body = Problem, content_type = PROBLEM_JSON),
    ),
)]
async fn retry(
    State(api): State<Arc<Api>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    Query::of(&uri).finish()?;
    let id = in_path(path, "delivery")?;
    let mut status = Status::Pending;
    // Somebody else, or its own attempt, may have been faster; then it is looked at once more.
    for _ in 0..2 {
        let (webhook, record) = delivery_of(&api, &caller, &id, 0).await?;
        status = Status::of(&record, api.clock.unix_ms());
        let retriable = matches!(status, Status::Failed | Status::Retrying);
        if !retriable {
            break;
        }
        let took_hold = retry_one(&api, &webhook, &record).await?;
        if status == Status::Failed {
            api.lookups.forget(&id);
        }
        if took_hold {
            let body = Retried {
                delivery_id: id,
                message: when(&webhook).to_owned(),
            };
            return api.answer(StatusCode::OK, &body);
        }
    }
    Err(Problem::conflict(format!(
        "The delivery is {}. Only one that is FAILED or RETRYING can be retried.",
        status.as_str()
    )))
}

/// Which deliveries are retried.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"status": "FAILED", "event": "crm.lead.created", "since": "2026-03-13T00:00:00Z"}))]
#[allow(dead_code, reason = "read field by field; this is its documentation")]
struct RetryRequest {
    /// Those that were given up, or those whose next attempt is scheduled; `FAILED` when not given.
    #[schema(required = false, value_type = RetriedStatus)]
    status: Option<RetriedStatus>,
    /// Of this event type alone.
    #[schema(required = false, value_type = String, min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "crm.lead.created")]
    event: Option<String>,
    /// Events that arrived then or later (RFC 3339).
    #[schema(required = false, value_type = String, format = DateTime, example = "2026-03-13T00:00:00Z")]
    since: Option<String>,
    /// Events that arrived before (RFC 3339).
    #[schema(required = false, value_type = String, format = DateTime, example = "2026-03-14T00:00:00Z")]
    until: Option<String>,
    /// Whether to count only; false when not given.
    #[schema(required = false, value_type = bool, example = false)]
    dry_run: Option<bool>,
}

/// Which status can be retried.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(dead_code, reason = "read field by field; this is its documentation")]
enum RetriedStatus {
    /// Those that were given up.
    Failed,
    /// Those whose next attempt is scheduled.
    Retrying,
}

/// How many deliveries a retry would be about.
#[derive(Debug, Serialize, ToSchema)]
pub struct DryRun {
    /// How many deliveries match.
    #[schema(example = 42, minimum = 0)]
    pub matched: u64,
    /// Whether that is all; else there are more.
    #[schema(example = true)]
    pub exact: bool,
}

fn given<T>(fields: &mut Fields, name: &'static str, field: Field<T>, allowed: &str) -> Option<T> {
    if matches!(field, Field::Null) {
        fields.refuse(name, "is null", allowed);
    }
    field.given()
}

fn time(fields: &mut Fields, name: &'static str) -> Option<u64> {
    let field = fields.text(name, ALLOWED_TIME);
    let text = given(fields, name, field, ALLOWED_TIME)?;
    let found = moment(&text);
    if found.is_none() {
        fields.refuse(name, "is no moment", ALLOWED_TIME);
    }
    found
}

/// What a request asks for: status, filter, and whether it is a dry run.
fn read_request(headers: &HeaderMap, body: &[u8]) -> Result<(Status, RowFilter, bool), Problem> {
    let mut fields = Fields::of_body(headers, body)?;
    let choices = [("FAILED", Status::Failed), ("RETRYING", Status::Retrying)];
    let field = fields.choice("status", &choices);
    let status = given(&mut fields, "status", field, "\"FAILED\", \"RETRYING\"");
    let status = status.unwrap_or(Status::Failed);
    let field = fields.text("event", ALLOWED_EVENT);
    let event_type = given(&mut fields, "event", field, ALLOWED_EVENT);
    if event_type
        .as_deref()
        .is_some_and(|text| !is_event_type(text))
    {
        fields.refuse("event", "is no event type", ALLOWED_EVENT);
    }
    let (since_ms, until_ms) = (time(&mut fields, "since"), time(&mut fields, "until"));
    let field = fields.flag("dryRun");
    let dry_run = given(&mut fields, "dryRun", field, "true or false");
    fields.finish()?;
    let filter = RowFilter {
        event_type,
        since_ms,
        until_ms,
        waiting: shelves_of(Some(status)).1,
        event_id: None,
    };
    Ok((status, filter, dry_run.unwrap_or(false)))
}

/// How many deliveries match, and whether that is all.
async fn count(
    api: &Api,
    webhook: &Webhook,
    status: Status,
    filter: &RowFilter,
) -> Result<DryRun, Problem> {
    let now_ms = api.clock.unix_ms();
    if !is_counted_by_rows(filter) {
        let counts = counts(api, webhook, now_ms).await?;
        return Ok(DryRun {
            matched: counts.of(Some(status)),
            exact: true,
        });
    }
    let goal = Goal {
        wanted: 0,
        count_all: true,
        since_ms: filter.since_ms.unwrap_or(0),
        budget: BUDGET,
        enough: BUDGET,
    };
    let walked = walk(
        api,
        webhook,
        shelves_of(Some(status)).0,
        filter,
        goal,
        now_ms,
    )
    .await?;
    Ok(DryRun {
        matched: walked.matched(),
        exact: walked.is_complete(),
    })
}

/// Retry many deliveries
///
/// All deliveries of a webhook that are `FAILED`, or all that are `RETRYING`, narrowed by event type and arrival. With
/// `dryRun` they are only counted (200). Else a job retries them, 200 a second and the oldest first (202); its progress is
/// at the address in `Location`. What fails again meanwhile is not retried once more. A webhook has one job at a time, a
/// daemon four. A job that was interrupted can simply be asked for again: what it has retried is `FAILED` no more.
#[utoipa::path(
    post,
    path = "/webhooks/{webhookId}/deliveries/retry",
    tag = "Deliveries",
    operation_id = "retryDeliveries",
    params(
        ("webhookId" = String, Path, description = "The webhook's id.", example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA"),
    ),
    request_body(content = RetryRequest, description = "Which deliveries; all that are `FAILED` when there is no body."),
    responses(
        (status = 200, description = "With `dryRun`: how many match.", body = DryRun),
        (status = 202, description = "A job has begun.", body = Job, headers(
            ("Location" = String, description = "Where the job's progress is."),
        )),
        Guarded,
        (status = 404, description = "There is no such webhook.", body = Problem, content_type = PROBLEM_JSON),
        (status = 409, description = "A job of this webhook is under way; its id is in `detail`.", body = Problem, content_type = PROBLEM_JSON),
        WithBody,
    ),
)]
async fn retry_many(
    State(api): State<Arc<Api>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    Query::of(&uri).finish()?;
    let webhook = webhooks::find(&api, &caller, &in_path(path, "webhook")?, "webhook").await?;
    let (status, filter, dry_run) = read_request(&headers, &body)?;
    let counted = count(&api, &webhook, status, &filter).await?;
    if dry_run {
        return api.answer(StatusCode::OK, &counted);
    }
    let job = jobs::begin(&api, webhook, status, filter, counted.matched).await?;
    let mut response = api.answer(StatusCode::ACCEPTED, &job)?;
    let base = &api.settings.api.base_path;
    let location = format!("{base}/webhooks/{}/jobs/{}", job.webhook_id, job.id);
    // Ids and the base path are visible ASCII.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<(Status, RowFilter, bool), Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        read_request(&headers, text.as_bytes())
    }

    #[test]
    fn a_request_has_defaults_and_names_every_mistake() {
        let (status, filter, dry_run) = request("").ok().unwrap();
        assert_eq!(status, Status::Failed);
        assert_eq!((filter, dry_run), (RowFilter::default(), false));
        let text =
            r#"{"status":"SUCCESS","event":"","since":"x","until":null,"dryRun":1,"all":true}"#;
        let problem = request(text).err().unwrap();
        let pointers: Vec<_> = problem
            .errors
            .iter()
            .filter_map(|error| error.pointer.as_deref())
            .collect();
        assert_eq!(
            pointers,
            ["/status", "/event", "/since", "/until", "/dryRun", "/all"]
        );
    }
}
