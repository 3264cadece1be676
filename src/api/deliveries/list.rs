//! A webhook's deliveries, page by page.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::paging::Goal;
use super::{
    ALLOWED_EVENT, ALLOWED_TIME, Delivery, Status, is_counted_by_rows, is_event_type, moment,
    read_rows, read_rows_and_count, shelves_of, walk,
};
use crate::api::caller::Caller;
use crate::api::fields::Query;
use crate::api::path::in_path;
use crate::api::problem::{PROBLEM_JSON, Problem};
use crate::api::responses::Guarded;
use crate::api::{Api, webhooks};
use crate::store::deliveries::RowFilter;

/// Whether `total` is exact, or only what was found within the budget of one request.
pub(in crate::api) const TOTAL_HEADER: HeaderName = HeaderName::from_static("pombo-total");
/// Whether the page is exact, or only the newest of what was found within that budget.
pub(in crate::api) const ORDER_HEADER: HeaderName = HeaderName::from_static("pombo-order");
/// How far back pages go: `page` times `limit`.
const MOST_PAGED: usize = 10_000;
/// Entries that one listing looks at; large ones count for more.
const BUDGET: usize = 20_000;
/// Of a listing that is filled, for each delivery up to the page's end, and at least. What it shows is nearly in order: more
/// would change that only where deliveries take long and are many, which is when Redis should be spared.
const ENOUGH_EACH: usize = 4;
const LEAST_ENOUGH: usize = 100;
/// How often a page is read again because deliveries moved on between the search and the reading.
const MOST_READS: usize = 2;

/// The route of this file.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// What a listing asks for.
struct Listing {
    page: usize,
    limit: usize,
    status: Option<Status>,
    filter: RowFilter,
}

fn number(text: &str, most: usize) -> Option<usize> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain);
    number.filter(|number| (1..=most).contains(number))
}

fn read_listing(uri: &Uri) -> Result<Listing, Problem> {
    let mut query = Query::of(uri);
    let page = query.read("page", "a whole number from 1 on", |text| {
        number(text, usize::MAX)
    });
    let limit = query.read("limit", "1 to 100", |text| number(text, 100));
    let (page, limit) = (page.unwrap_or(1), limit.unwrap_or(20));
    if page.saturating_mul(limit) > MOST_PAGED {
        query.refuse(
            "page",
            "goes further back than pages do",
            format!("page times limit up to {MOST_PAGED}; narrow the listing with status, event, since and until"),
        );
    }
    let names = Status::CHOICES.map(|(name, _)| name).join(", ");
    let status = query.read("status", &format!("one of {names}"), |text| {
        let found = Status::CHOICES.iter().find(|(name, _)| *name == text);
        found.map(|(_, status)| *status)
    });
    let event_type = query.read("event", ALLOWED_EVENT, |text| {
        is_event_type(text).then(|| text.to_owned())
    });
    let since_ms = query.read("since", ALLOWED_TIME, moment);
    let until_ms = query.read("until", ALLOWED_TIME, moment);
    query.finish()?;
    Ok(Listing {
        page,
        limit,
        status,
        filter: RowFilter {
            event_type,
            since_ms,
            until_ms,
            waiting: shelves_of(status).1,
            event_id: None,
        },
    })
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPage {
    /// The deliveries of the page, those whose event arrived last first.
    pub data: Vec<Delivery>,
    /// How many deliveries are retained under the filter; at least so many if the header `pombo-total` says `at-least`.
    #[schema(example = 1, minimum = 0)]
    pub total: u64,
    /// The page.
    #[schema(example = 1, minimum = 1)]
    pub page: usize,
    /// How many deliveries a page has.
    #[schema(example = 20, minimum = 1, maximum = 100)]
    pub limit: usize,
    /// How many pages there are.
    #[schema(example = 1, minimum = 0)]
    pub total_pages: u64,
}

/// List a webhook's deliveries
///
/// Newest first, by when the event arrived. A delivery is `PENDING` before its first attempt or when another one is due,
/// `RETRYING` when its next attempt is scheduled, `SUCCESS` after a 2xx and `FAILED` when it was given up. Deliveries that
/// are on the wire for the first time appear within a second. What is finished is kept for a time and up to a number (the
/// settings `history` and `dead_letters`).
///
/// `page` times `limit` goes up to 10,000. One request looks at about the newest 20,000 deliveries at most, fewer if their
/// payloads are large, whatever `since` and `until` say; what is older can be found by its id. A page that is filled is looked
/// for no further than four times as many deliveries as there are up to its end, or 100. Where that is not enough to know
/// that none is newer, because many took long, the page is the newest of what was found, and the header
/// `pombo-order` says `best-effort` instead of `exact`; a `total` that had to be counted one by one, because of `event`,
/// `since` or `until`, is what was found, and the header `pombo-total` says `at-least` instead of `exact` where that was not
/// all. A payload of more than 64 KiB is null here, and whole in the delivery itself.
#[utoipa::path(
    get,
    path = "/webhooks/{webhookId}/deliveries",
    tag = "Deliveries",
    operation_id = "listDeliveries",
    params(
        ("webhookId" = String, Path, description = "The webhook's id.", example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA"),
        ("page" = Option<usize>, Query, description = "Which page, from 1; 1 when not given.", minimum = 1, example = 1),
        ("limit" = Option<usize>, Query, description = "Deliveries of a page; 20 when not given.", minimum = 1, maximum = 100, example = 20),
        ("status" = Option<Status>, Query, description = "Of this status alone."),
        ("event" = Option<String>, Query, description = "Of this event type alone.", min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "crm.lead.created"),
        ("since" = Option<String>, Query, description = "Events that arrived then or later (RFC 3339).", format = DateTime, example = "2026-03-13T00:00:00Z"),
        ("until" = Option<String>, Query, description = "Events that arrived before (RFC 3339).", format = DateTime, example = "2026-03-14T00:00:00Z"),
    ),
    responses(
        (status = 200, description = "The page.", body = DeliveryPage, headers(
            ("pombo-total" = String, description = "`exact`, or `at-least` when there was too much to count."),
            ("pombo-order" = String, description = "`exact`, or `best-effort` when there was too much to look at."),
        )),
        Guarded,
        (status = 404, description = "There is no such webhook.", body = Problem, content_type = PROBLEM_JSON),
        (status = 422, description = "A parameter is not valid.", body = Problem, content_type = PROBLEM_JSON),
    ),
)]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let webhook = webhooks::find(&api, &caller, &in_path(path, "webhook")?, "webhook").await?;
    let Listing {
        page,
        limit,
        status,
        filter,
    } = read_listing(&uri)?;
    let now_ms = api.clock.unix_ms();
    let count_all = is_counted_by_rows(&filter);
    let goal = Goal {
        wanted: page * limit,
        count_all,
        since_ms: filter.since_ms.unwrap_or(0),
        budget: BUDGET,
        enough: (page * limit * ENOUGH_EACH).max(LEAST_ENOUGH),
    };
    let (shelves, _) = shelves_of(status);
    let skip = (page - 1) * limit;
    let mut read = 0;
    let (data, total, complete) = loop {
        let walked = walk(&api, &webhook, shelves, &filter, goal, now_ms).await?;
        let (matched, complete) = (walked.matched(), walked.is_complete());
        let all = walked.all();
        let rows = walked.page(skip, limit);
        let (data, moved, total) = match (count_all, all) {
            // Everything was seen. Counted a moment later, there could be more than the page shows, or less.
            (false, Some(all)) => {
                let (data, moved) = read_rows(&api, &webhook, &rows, now_ms).await?;
                (data, moved, (all - moved) as u64)
            }
            (false, None) => {
                let (data, moved, counts) =
                    read_rows_and_count(&api, &webhook, &rows, now_ms).await?;
                (data, moved, counts.of(status))
            }
            (true, _) => {
                let (data, moved) = read_rows(&api, &webhook, &rows, now_ms).await?;
                (data, moved, matched)
            }
        };
        read += 1;
        if moved == 0 || read == MOST_READS {
            break (data, total, complete);
        }
    };
    let body = DeliveryPage {
        data,
        total,
        page,
        limit,
        total_pages: total.div_ceil(limit as u64),
    };
    let mut response = api.answer_raw(StatusCode::OK, &body)?;
    let (total, order) = match (complete, count_all) {
        (true, _) => ("exact", "exact"),
        (false, false) => ("exact", "best-effort"),
        (false, true) => ("at-least", "best-effort"),
    };
    let headers = response.headers_mut();
    headers.insert(TOTAL_HEADER, HeaderValue::from_static(total));
    headers.insert(ORDER_HEADER, HeaderValue::from_static(order));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(query: &str) -> Result<Listing, Problem> {
        let uri = format!("/webhooks/a/deliveries?{query}");
        read_listing(&uri.parse().unwrap())
    }

    #[test]
    fn a_listing_has_defaults_and_names_every_mistake() {
        let plain = listing("").ok().unwrap();
        assert_eq!((plain.page, plain.limit, plain.status), (1, 20, None));
        let problem = listing("page=0&limit=101&status=done&event=&since=now&until=1&x=1")
            .err()
            .unwrap();
        assert_eq!(problem.status, 422);
        assert_eq!(problem.errors.len(), 7);
        assert!(listing("page=100&limit=100").is_ok());
        let too_far = listing("page=101&limit=100").err().unwrap();
        assert!(too_far.errors[0].allowed.contains("since and until"));
        assert!(listing("page=18446744073709551615&limit=100").is_err());
        assert!(listing("page=%2B1").is_err());
    }
}
