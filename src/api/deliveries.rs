//! Deliveries over the API: a webhook's, page by page; one, with its attempts; those of an event.
//!
//! `PENDING` and `RETRYING` come from the webhook's queue and the schedules beside it, `FAILED` from its dead letters,
//! `SUCCESS` from its history. What a daemon has only taken, in memory and for a second at most, is not visible yet.

mod list;
mod lookup;
pub mod paging;
mod trace;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::list::DeliveryPage;
pub(super) use self::list::{ORDER_HEADER, TOTAL_HEADER};
pub use self::lookup::{Lookups, MOST_SEARCHED, find};
use self::paging::{Goal, Next, Paging};
pub use self::view::{Attempt, AttemptPhases, Delivery, DeliveryDetail, Status};
use super::caller::Caller;
use super::fields::Query;
use super::path::in_path;
use super::problem::{PROBLEM_JSON, Problem};
use super::responses::Guarded;
use super::{Api, webhooks};
use crate::delivery::{delivery_id, webhook_id_of};
use crate::settings::{HistoryPayload, Settings};
use crate::store::deliveries::{
    Counting, Counts, Found, From, Look, MOST_LOOKED_AT, Record, RecordState, Row, RowFilter,
    Shelf, Waiting,
};
use crate::webhook::Webhook;

/// What a listing may look at before it must wait for its turn to search.
const FREE: usize = 2_000;
/// The longest payload that lists show, in bytes.
const LISTED_PAYLOAD: usize = 64 * 1024;

pub(super) const ALLOWED_EVENT: &str = "an event type: 1 to 256 visible ASCII characters";
pub(super) const ALLOWED_TIME: &str =
    "a moment by RFC 3339, such as 2026-03-13T12:00:00Z (in a query, write + as %2B)";

/// All routes of deliveries.
pub fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .merge(list::routes())
        .routes(routes!(show))
        .merge(trace::routes())
}

/// A delivery of the caller's by its id, and its webhook; payloads above `longest_payload` bytes are left out.
///
/// # Errors
///
/// 404 in the same words whatever it is that does not exist for the caller.
pub(super) async fn delivery_of(
    api: &Api,
    caller: &Caller,
    id: &str,
    longest_payload: usize,
) -> Result<(Webhook, Record), Problem> {
    const WHAT: &str = "delivery";
    let webhook_id = webhook_id_of(id).ok_or_else(|| Problem::not_found(WHAT))?;
    let webhook = webhooks::find(api, caller, webhook_id, WHAT).await?;
    let record = find(api, &webhook, id, longest_payload).await?;
    let record = record.ok_or_else(|| Problem::not_found(WHAT))?;
    Ok((webhook, record))
}

/// How long what stands on a shelf is kept; `None` for a queue, which keeps what it has.
fn kept_for(settings: &Settings, shelf: Shelf) -> Option<Duration> {
    match shelf {
        Shelf::Queue => None,
        Shelf::Dead => Some(settings.dead_letters.max_age),
        Shelf::History => Some(settings.history.max_age),
    }
}

/// What came to a shelf before this moment (Unix ms) has expired.
pub(super) fn expired_before(settings: &Settings, shelf: Shelf, now_ms: u64) -> u64 {
    kept_for(settings, shelf).map_or(0, |age| {
        now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    })
}

/// Whether the payload of a delivery is shown.
fn shows_payload(settings: &Settings, record: &Record) -> bool {
    let has_payload = match &record.state {
        RecordState::Queued { .. } | RecordState::Dead(_) => None,
        RecordState::Finished { has_payload, .. } => Some(*has_payload),
    };
    match settings.history.payload {
        HistoryPayload::Failed => has_payload.is_none(),
        HistoryPayload::All => has_payload.unwrap_or(true),
        HistoryPayload::None => false,
    }
}

/// A moment as text, in Unix ms; those before 1970 are its beginning.
pub(super) fn moment(text: &str) -> Option<u64> {
    let moment: Timestamp = text.parse().ok()?;
    Some(u64::try_from(moment.as_millisecond()).unwrap_or(0))
}

pub(super) fn is_event_type(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The shelves on which deliveries of a status stand, and which of those in a queue are meant.
pub(super) fn shelves_of(status: Option<Status>) -> (&'static [Shelf], Option<Waiting>) {
    match status {
        None => (&Shelf::ALL, None),
        Some(Status::Pending) => (&[Shelf::Queue], Some(Waiting::ForItsTurn)),
        Some(Status::Retrying) => (&[Shelf::Queue], Some(Waiting::ForItsTime)),
        Some(Status::Failed) => (&[Shelf::Dead], None),
        Some(Status::Success) => (&[Shelf::History], None),
    }
}

/// Walks the shelves of a webhook until the goal is reached or the budget is spent.
pub(super) async fn walk(
    api: &Api,
    webhook: &Webhook,
    shelves: &[Shelf],
    filter: &RowFilter,
    goal: Goal,
    now_ms: u64,
) -> Result<Paging, Problem> {
    let shard = api.store.shard_of(&webhook.spec.id);
    let mut paging = Paging::new(shelves, goal);
    let mut turn = None;
    loop {
        let next = paging.next();
        if next.is_empty() {
            break;
        }
        if turn.is_none() && paging.cost() > FREE {
            turn = Some(api.searches.turn(&webhook.spec.tenant).await?);
        }
        let look = |next: &Next| Look {
            from: From::Before(next.before),
            floor_ms: expired_before(&api.settings, next.shelf, now_ms),
            now_ms,
            most_entries: MOST_LOOKED_AT,
            most_rows: next.rows.min(MOST_LOOKED_AT),
        };
        let looks: Vec<_> = next.iter().map(|next| (next.shelf, look(next))).collect();
        let all = api
            .store
            .rows_of_all(shard, &webhook.uid, filter, &looks)
            .await?;
        for (next, seen) in next.iter().zip(all) {
            paging.saw(next.shelf, seen);
        }
    }
    drop(turn);
    Ok(paging)
}

/// The deliveries of these rows, in order, and how many are where they were no more.
pub(super) async fn read_rows(
    api: &Api,
    webhook: &Webhook,
    rows: &[Row],
    now_ms: u64,
) -> Result<(Vec<Delivery>, usize), Problem> {
    let shard = api.store.shard_of(&webhook.spec.id);
    let places: Vec<_> = rows.iter().map(|row| row.place).collect();
    let records = api
        .store
        .records(shard, &webhook.uid, &places, LISTED_PAYLOAD)
        .await?;
    Ok(told(api, webhook, rows, records, now_ms))
}

/// From when on deliveries are counted at `now_ms`.
fn counting(settings: &Settings, now_ms: u64) -> Counting {
    let floor = |shelf| expired_before(settings, shelf, now_ms);
    Counting {
        now_ms,
        dead_floor_ms: floor(Shelf::Dead),
        history_floor_ms: floor(Shelf::History),
    }
}

pub(super) async fn counts(api: &Api, webhook: &Webhook, now_ms: u64) -> Result<Counts, Problem> {
    let shard = api.store.shard_of(&webhook.spec.id);
    let counting = counting(&api.settings, now_ms);
    let counts = api
        .store
        .delivery_counts(shard, &webhook.uid, &counting)
        .await?;
    Ok(counts)
}

/// As [`read_rows`], with how many deliveries of each kind there are.
pub(super) async fn read_rows_and_count(
    api: &Api,
    webhook: &Webhook,
    rows: &[Row],
    now_ms: u64,
) -> Result<(Vec<Delivery>, usize, Counts), Problem> {
    let shard = api.store.shard_of(&webhook.spec.id);
    let places: Vec<_> = rows.iter().map(|row| row.place).collect();
    let counting = counting(&api.settings, now_ms);
    let (records, counts) = api
        .store
        .counted_records(shard, &webhook.uid, &places, LISTED_PAYLOAD, &counting)
        .await?;
    let (deliveries, moved) = told(api, webhook, rows, records, now_ms);
    Ok((deliveries, moved, counts))
}

fn told(
    api: &Api,
    webhook: &Webhook,
    rows: &[Row],
    records: Vec<Found>,
    now_ms: u64,
) -> (Vec<Delivery>, usize) {
    let (mut deliveries, mut moved) = (Vec::with_capacity(rows.len()), 0);
    for (row, record) in rows.iter().zip(records) {
        match record {
            Ok(Some(record)) => {
                let id = delivery_id(&webhook.spec.id, &row.stream, row.entry_id);
                api.lookups.remember(&id, row.place);
                deliveries.push(Delivery::of(api, webhook, &record, now_ms));
            }
            Ok(None) => moved += 1,
            Err(error) => {
                tracing::warn!(webhook_id = %webhook.spec.id, %error, "a delivery cannot be shown");
            }
        }
    }
    (deliveries, moved)
}

impl Counts {
    /// How many there are of a status, or of all.
    pub(super) fn of(&self, status: Option<Status>) -> u64 {
        match status {
            None => self.queued + self.dead + self.history,
            Some(Status::Pending) => self.queued.saturating_sub(self.scheduled),
            Some(Status::Retrying) => self.scheduled,
            Some(Status::Failed) => self.dead,
            Some(Status::Success) => self.history,
        }
    }
}

/// Whether rows must be looked at to be counted.
pub(super) fn is_counted_by_rows(filter: &RowFilter) -> bool {
    filter.event_type.is_some() || filter.since_ms.is_some() || filter.until_ms.is_some()
}

/// Show a delivery with its attempts
///
/// Every attempt with its time, answer, durations and the headers of the request; of more than 20 the first one and the
/// newest. Signatures and the values of the webhook's own headers are masked. A delivery is looked for among the newest
/// 100,000 of each kind that its webhook has.
#[utoipa::path(
    get,
    path = "/webhooks/deliveries/{deliveryId}",
    tag = "Deliveries",
    operation_id = "getDelivery",
    params(
        ("deliveryId" = String, Path, description = "The delivery's id.", example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA.6Jm0c1tQnC3Z0VJt4m7b9g"),
    ),
    responses(
        (status = 200, description = "The delivery.", body = DeliveryDetail),
        Guarded,
        (status = 404, description = "There is no such delivery.", body = Problem, content_type = PROBLEM_JSON),
        (status = 422, description = "There are no such parameters.", body = Problem, content_type = PROBLEM_JSON),
    ),
)]
async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    Query::of(&uri).finish()?;
    let id = in_path(path, "delivery")?;
    let (webhook, record) = delivery_of(&api, &caller, &id, usize::MAX).await?;
    let now_ms = api.clock.unix_ms();
    let body = DeliveryDetail::of(&api, &webhook, &record, now_ms);
    api.answer_raw(StatusCode::OK, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_their_offset() {
        assert_eq!(moment("1970-01-01T01:00:01+01:00"), Some(1_000));
        assert_eq!(moment("1960-01-01T00:00:00Z"), Some(0));
        assert_eq!(moment("yesterday"), None);
    }
}
