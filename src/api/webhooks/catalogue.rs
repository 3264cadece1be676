//! The catalogue: which event types there are to subscribe to.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::problem::Problem;
use crate::api::responses::Guarded;
use crate::settings::CatalogueSettings;
use crate::webhook::EventFilter;

/// The event type of deliveries that are sent on request. It needs no place in the catalogue.
pub const TEST_EVENT: &str = "webhook.test";

/// What is allowed where an event type of the catalogue stands.
pub const ALLOWED_EVENT: &str = "an event type that GET /webhooks/events lists, or webhook.test";

/// What is allowed in `events` where there is a catalogue.
const ALLOWED_FILTER: &str = "an event type that GET /webhooks/events lists, webhook.test, or a pattern that matches \
     one of them, such as crm.** or *";

/// An event type that can be subscribed to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventType)]
pub struct EventTypeView {
    /// Its name.
    #[serde(rename = "type")]
    #[schema(example = "crm.lead.created")]
    pub event_type: String,
    /// What it tells, for people; empty if nobody wrote it down.
    #[schema(example = "A lead was created in the CRM")]
    pub description: String,
}

/// List the event types
///
/// The catalogue of this installation, in its own order. An empty one means that any well-formed event type may be
/// subscribed to.
#[utoipa::path(
    get,
    path = "/webhooks/events",
    operation_id = "listEventTypes",
    tag = "Webhooks",
    responses(
        (status = 200, description = "The catalogue.", body = Vec<EventTypeView>),
        Guarded,
    )
)]
pub async fn list(State(api): State<Arc<Api>>, _caller: Caller) -> Result<Response, Problem> {
    let events: Vec<EventTypeView> = api
        .settings
        .catalogue
        .events
        .iter()
        .map(|event| EventTypeView {
            event_type: event.event_type.clone(),
            description: event.description.clone(),
        })
        .collect();
    api.answer(StatusCode::OK, &events)
}

/// Why a filter may not be subscribed to, and what may; nothing if it may.
pub fn refusal_of(
    filter: &EventFilter,
    catalogue: &CatalogueSettings,
) -> Option<(&'static str, &'static str)> {
    if catalogue.events.is_empty() || filter.matches(TEST_EVENT) {
        return None;
    }
    let known = catalogue
        .events
        .iter()
        .any(|event| filter.matches(&event.event_type));
    match (known, filter.is_exact()) {
        (true, _) => None,
        (false, true) => Some(("is no event type of the catalogue", ALLOWED_FILTER)),
        (false, false) => Some(("matches no event type of the catalogue", ALLOWED_FILTER)),
    }
}

/// Why there can be no event of this type, and what is allowed; nothing if there can.
pub fn refusal_of_type(
    event_type: &str,
    catalogue: &CatalogueSettings,
) -> Option<(&'static str, &'static str)> {
    let named = EventFilter::parse(event_type).is_ok_and(|filter| filter.is_exact());
    if !named {
        return Some((
            "is no name of an event type",
            "1 to 256 visible ASCII characters without wildcards, in segments with dots between them, such as \
             crm.lead.created",
        ));
    }
    let known = catalogue.events.is_empty()
        || event_type == TEST_EVENT
        || catalogue.find(event_type).is_some();
    (!known).then_some(("is no event type of the catalogue", ALLOWED_EVENT))
}
