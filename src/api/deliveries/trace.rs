//! The deliveries of an event, found without an index: the delivery path writes none for this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Delivery, expired_before, read_rows};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::fields::Query;
use crate::api::path::in_path;
use crate::api::problem::{PROBLEM_JSON, Problem};
use crate::api::responses::Guarded;
use crate::store::deliveries::{From, Look, MOST_LOOKED_AT, Row, RowFilter, Shelf};
use crate::webhook::Webhook;

/// Webhooks of the tenant that are searched, the newest ones.
const MOST_WEBHOOKS: usize = 100;
/// Entries of each shelf that are searched, the newest ones; large ones count for more.
const MOST_ENTRIES: usize = 2_000;
/// Deliveries that are told: a platform may give many events the same id.
const MOST_TOLD: usize = 1_000;
/// How long a search goes on.
const LONGEST: Duration = Duration::from_secs(5);

/// All routes of this file.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(trace))
}

/// The deliveries of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventDeliveries {
    /// The deliveries that were found, by webhook.
    pub data: Vec<Delivery>,
    /// Whether everything was searched; else there may be more.
    #[schema(example = true)]
    pub complete: bool,
}

/// List the deliveries of an event
///
/// What became of an event, at all webhooks of its tenant. There is no index of events: the newest 100 webhooks of the
/// tenant are searched, of each the newest 2,000 deliveries that wait, failed or succeeded, for 5 seconds at most, and up to
/// 1,000 deliveries are told; `complete` says whether that was everything. The operator names the tenant.
#[utoipa::path(
    get,
    path = "/events/{eventId}/deliveries",
    tag = "Events",
    operation_id = "listEventDeliveries",
    params(
        ("eventId" = String, Path, description = "The event's id.", example = "evt_01J9Z3"),
        ("tenantId" = Option<String>, Query, description = "The tenant; needed with the operator's token.", min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "acme"),
    ),
    responses(
        (status = 200, description = "The deliveries that were found.", body = EventDeliveries),
        Guarded,
        (status = 404, description = "The id is no text; an event that is not found is an empty list.", body = Problem, content_type = PROBLEM_JSON),
        (status = 422, description = "A parameter is not valid.", body = Problem, content_type = PROBLEM_JSON),
    ),
)]
async fn trace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let event_id = in_path(path, "event")?;
    let mut query = Query::of(&uri);
    let tenant = caller.tenant_of_query(&api, &mut query)?;
    if tenant.is_none() {
        let name = &api.settings.api.tenant_field;
        query.refuse(name, "is missing", "the tenant whose event it is");
    }
    query.finish()?;
    // The check above has refused a missing one.
    let tenant = tenant.unwrap_or_default();
    let _turn = api.searches.turn(&tenant).await?;
    let (ids, more) = api.store.newest_webhook_ids(&tenant, MOST_WEBHOOKS).await?;
    let mut trace = Trace {
        api: &api,
        filter: RowFilter {
            event_id: Some(event_id),
            ..RowFilter::default()
        },
        now_ms: api.clock.unix_ms(),
        deadline: Instant::now() + LONGEST,
        complete: !more,
    };
    let mut data = Vec::new();
    for webhook in api.store.webhooks_by_id(&ids).await? {
        match webhook {
            Ok(Some(webhook)) if webhook.spec.tenant == tenant => {
                let mut rows = trace.rows(&webhook).await?;
                if rows.len() > MOST_TOLD - data.len() {
                    rows.truncate(MOST_TOLD - data.len());
                    trace.complete = false;
                }
                let (found, _) = read_rows(&api, &webhook, &rows, trace.now_ms).await?;
                data.extend(found);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "a webhook's deliveries cannot be searched");
                trace.complete = false;
            }
        }
    }
    let complete = trace.complete;
    api.answer_raw(StatusCode::OK, &EventDeliveries { data, complete })
}

struct Trace<'a> {
    api: &'a Api,
    filter: RowFilter,
    now_ms: u64,
    deadline: Instant,
    complete: bool,
}

impl Trace<'_> {
    async fn rows(&mut self, webhook: &Webhook) -> Result<Vec<Row>, Problem> {
        let mut found: BTreeMap<_, Row> = BTreeMap::new();
        for shelf in Shelf::ALL {
            for row in self.shelf(webhook, shelf).await? {
                // The same delivery on two shelves is where it came last.
                let key = (row.entry_id, row.stream.clone());
                match found.get(&key) {
                    Some(other) if other.place.id >= row.place.id => {}
                    _ => {
                        found.insert(key, row);
                    }
                }
            }
        }
        Ok(found.into_values().rev().collect())
    }

    async fn shelf(&mut self, webhook: &Webhook, shelf: Shelf) -> Result<Vec<Row>, Problem> {
        let shard = self.api.store.shard_of(&webhook.spec.id);
        let (mut found, mut before, mut cost) = (Vec::new(), None, 0);
        loop {
            if cost >= MOST_ENTRIES || Instant::now() >= self.deadline {
                self.complete = false;
                return Ok(found);
            }
            let look = Look {
                from: From::Before(before),
                floor_ms: expired_before(&self.api.settings, shelf, self.now_ms),
                now_ms: self.now_ms,
                most_entries: MOST_LOOKED_AT,
                most_rows: MOST_LOOKED_AT,
            };
            let store = &self.api.store;
            let seen = store
                .rows(shard, &webhook.uid, shelf, &self.filter, &look)
                .await?;
            found.extend(seen.rows);
            if seen.ended {
                return Ok(found);
            }
            before = seen.last;
            cost += seen.cost.max(1);
        }
    }
}
