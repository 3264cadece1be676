//! Events that come in over the API: added to a source stream, as the platform would add them.
//!
//! An answer with 202 means that Redis has the entry, and nothing more: it is read, fanned out and delivered like every
//! other. What is written is read back first, so that no tenant can add an event that would be read as another's.

mod repeat;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::repeat::Key;
use super::caller::Caller;
use super::fields::{Field, Fields};
use super::problem::{Invalid, Problem};
use super::responses::{Guarded, WithBody};
use super::webhooks::catalogue;
use super::{Api, Ingest};
use crate::clock::rfc3339_ms;
use crate::event::compose::{self, Composed, Parts, compose};
use crate::settings::SourceSettings;
use crate::store::source::add_entry;

const ID: &str = "1 to 256 visible ASCII characters";
const TIME: &str = "a time as of RFC 3339, such as 2026-03-13T12:00:00Z, in the years 1970 to 9999";
const SOURCE: &str = "the name of a source of this installation";
const STREAM: &str = "the name of a stream that the source stands for";
const PAYLOAD: &str = "any JSON";
/// That an answer was given before, to the same request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// An event to be added.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct NewEvent {
    /// Its id, by which receivers know a repeat; made if it is left out.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 256,
        pattern = "^[!-~]+$",
        example = "evt_4711"
    )]
    id: Option<String>,
    /// Its type: one of the catalogue, or `webhook.test`.
    #[serde(rename = "type")]
    #[schema(
        min_length = 1,
        max_length = 256,
        pattern = "^[!-~]+$",
        example = "crm.lead.created"
    )]
    event_type: String,
    /// Whose event it is. Tokens of a tenant need not say it; without it an event of the operator's is of the source's
    /// default tenant.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 256,
        pattern = "^[!-~]+$",
        example = "acme"
    )]
    tenant_id: Option<String>,
    /// What it says: any JSON, delivered byte for byte as it stands here.
    #[schema(value_type = Value, example = json!({"name": "Ada"}))]
    payload: serde_json::Value,
    /// When it happened; now if it is left out.
    #[schema(
        nullable = false,
        format = "date-time",
        example = "2026-03-13T12:00:00.123Z"
    )]
    time: Option<String>,
    /// The source to add it to; not needed where there is but one.
    #[schema(nullable = false, min_length = 1, max_length = 512, example = "events")]
    source: Option<String>,
    /// The stream, where the source stands for several.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 512,
        example = "shop:1:events"
    )]
    stream: Option<String>,
}

/// An event that was added.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddedEvent {
    /// Its id.
    #[schema(example = "evt_4711")]
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(example = "crm.lead.created")]
    pub event_type: String,
    /// Whose event it is.
    #[schema(example = "acme")]
    pub tenant_id: String,
    /// The stream that it was added to.
    #[schema(example = "events")]
    pub stream: String,
    /// Its entry in the stream.
    #[schema(example = "1773403200123-0")]
    pub entry_id: String,
}

/// What is to be added, and where.
struct Addition {
    ingest: Ingest,
    stream: Arc<str>,
    entry: Composed,
}

/// The routes of this module.
pub fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(add))
}

/// Add an event
///
/// Once this is answered Redis has the event, and it is delivered to every webhook of its tenant that asks for its type.
/// With `Idempotency-Key` it is safe to send the same request again for 24 hours: the event is not added again, and the
/// answer is the first one, with `Idempotency-Replayed: true`.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "addEvent",
    tag = "Events",
    params(
        ("Idempotency-Key" = Option<String>, Header, nullable = false, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "A text of the caller's choosing, another one for each event.",
            example = "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ("tenantId" = Option<String>, Query, nullable = false, min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "acme",
            description = "For the operator: the tenant, instead of in the body."),
    ),
    request_body = NewEvent,
    responses(
        (status = 202, description = "Redis has the event.", body = AddedEvent, headers(
            ("Idempotency-Replayed" = String, description = "`true` if it was added before, by an earlier request with the same key."),
        )),
        (status = 409, description = "A request with the same key is under way.", body = Problem,
            content_type = "application/problem+json"),
        WithBody,
        Guarded,
    )
)]
pub async fn add(
    State(api): State<Arc<Api>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let mut fields = Fields::of_body(&headers, &body)?;
    // Without one, the operator means whatever the source says.
    let tenant = caller.tenant_named(&api, &mut fields, &uri)?;
    let key = match Key::of(&headers) {
        Ok(key) => key,
        Err(invalid) => {
            fields.refuse_at(invalid);
            None
        }
    };
    let event_type = event_type(&api, &mut fields);
    let id = id(&mut fields);
    let time = time(&mut fields);
    let payload = payload(&api, &mut fields);
    let place = place(&api, &caller, &mut fields);
    fields.finish()?;
    // All of them are there when nothing was refused.
    let (Some(event_type), Some(payload), Some((ingest, stream))) = (event_type, payload, place)
    else {
        return Err(Problem::internal());
    };
    let request = repeat::digest(&[
        &event_type,
        id.as_deref().unwrap_or_default(),
        tenant.as_deref().unwrap_or_default(),
        time.as_deref().unwrap_or_default(),
        &ingest.settings.name,
        &stream,
        payload.get(),
    ]);
    // Under a key the id follows from it and from the request: if all ends between adding and noting the answer, the
    // repeat adds the event again under the same id, and receivers can drop it. A layout without a place for ids has the
    // id made from the entry, and no such help.
    let made_id = match &key {
        Some(key) => key.event_id(tenant.as_deref().unwrap_or_default(), &request),
        None => format!("evt_{}", hex::encode(api.clock.random_bytes::<10>())),
    };
    let written_id = match &id {
        Some(id) => Some(id.as_str()),
        None if compose::has_place_for_id(&ingest.settings) => Some(made_id.as_str()),
        None => None,
    };
    let parts = Parts {
        event_type: &event_type,
        tenant: tenant.as_deref(),
        id: written_id,
        fallback_id: &made_id,
        time: time.as_deref(),
        payload: payload.get().as_bytes(),
    };
    let most = api.settings.delivery.max_payload;
    let now_ms = api.clock.unix_ms();
    let (entry, event) =
        compose(&ingest.settings, most, &stream, &parts, now_ms).map_err(|unfit| {
            Problem::invalid(vec![Invalid::at(
                "",
                unfit.to_string(),
                "an event that its source can hold",
            )])
        })?;
    // The promise of this module, whatever the layout does: a tenant's event is the tenant's.
    if !caller.sees_tenant(&event.tenant) {
        return Err(Problem::forbidden(
            "The source would read this as an event of another tenant.",
        ));
    }
    let addition = Addition {
        ingest,
        stream,
        entry,
    };
    // On its own task: a caller that hangs up must not leave an event added and its key not noted.
    let task = {
        let api = api.clone();
        let tenant = event.tenant;
        async move {
            match key {
                Some(key) => {
                    repeat::once(&api, &key, &tenant, &request, carry_out(&addition)).await
                }
                None => carry_out(&addition).await.map(|added| (added, false)),
            }
        }
    };
    let (added, replayed) = tokio::spawn(task)
        .await
        .map_err(|_| Problem::internal())??;
    let mut response = api.answer(StatusCode::ACCEPTED, &added)?;
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Adds the event.
async fn carry_out(addition: &Addition) -> Result<AddedEvent, Problem> {
    let Addition {
        ingest,
        stream,
        entry,
    } = addition;
    let entry_id = add_entry(&ingest.link, stream, &entry.fields).await?;
    let event = entry.event(entry_id).map_err(|_| Problem::internal())?;
    Ok(AddedEvent {
        id: event.id,
        event_type: event.event_type,
        tenant_id: event.tenant,
        stream: stream.to_string(),
        entry_id: entry_id.to_string(),
    })
}

/// A text that may be left out, but may not be null.
fn text(fields: &mut Fields, name: &'static str, allowed: &str) -> Option<String> {
    match fields.text(name, allowed) {
        Field::Given(text) => Some(text),
        Field::Absent => None,
        Field::Null => {
            fields.refuse(name, "is null", allowed);
            None
        }
    }
}

fn event_type(api: &Api, fields: &mut Fields) -> Option<String> {
    let event_type = text(fields, "type", catalogue::ALLOWED_EVENT);
    match &event_type {
        Some(event_type) => {
            let refusal = catalogue::refusal_of_type(event_type, &api.settings.catalogue);
            if let Some((detail, allowed)) = refusal {
                fields.refuse("type", detail, allowed);
            }
        }
        None if !fields.is_bad("type") => {
            fields.refuse("type", "is missing", catalogue::ALLOWED_EVENT);
        }
        None => {}
    }
    event_type
}

fn id(fields: &mut Fields) -> Option<String> {
    let id = text(fields, "id", ID)?;
    if !(1..=256).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        fields.refuse("id", "is no id of an event", ID);
    }
    Some(id)
}

/// The time in the one form that every layout can be read back from.
fn time(fields: &mut Fields) -> Option<String> {
    let text = text(fields, "time", TIME)?;
    let moment = text.parse::<jiff::Timestamp>().ok();
    let unix_ms = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
    if unix_ms.is_none() {
        fields.refuse("time", "is no such time", TIME);
    }
    unix_ms.map(rfc3339_ms)
}

fn payload(api: &Api, fields: &mut Fields) -> Option<Box<RawValue>> {
    let payload = fields.raw("payload");
    let most = api.settings.delivery.max_payload;
    match &payload {
        None => fields.refuse("payload", "is missing", PAYLOAD),
        Some(payload) if payload.get().len() > most => {
            let detail = format!("has {} bytes", payload.get().len());
            fields.refuse("payload", detail, format!("JSON of at most {most} bytes"));
        }
        Some(_) => {}
    }
    payload
}

/// The source and the stream that are meant.
fn place(api: &Api, caller: &Caller, fields: &mut Fields) -> Option<(Ingest, Arc<str>)> {
    let name = text(fields, "source", SOURCE);
    let stream = text(fields, "stream", STREAM);
    let found = match (&name, api.sources.as_slice()) {
        (Some(name), sources) => sources.iter().find(|one| one.settings.name == *name),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let Some(ingest) = found else {
        if !fields.is_bad("source") {
            let detail = match name {
                Some(_) => "there is no such source",
                None => "is missing, and there are several",
            };
            let allowed = match caller {
                Caller::Operator => {
                    let names: Vec<&str> =
                        api.sources.iter().map(|one| &*one.settings.name).collect();
                    format!("one of {}", names.join(", "))
                }
                // What the installation is made of is none of a tenant's business.
                Caller::Tenant(_) => SOURCE.to_owned(),
            };
            fields.refuse("source", detail, allowed);
        }
        return None;
    };
    let source: &SourceSettings = &ingest.settings;
    if source.is_glob() && *caller != Caller::Operator {
        // Which streams there are, and whose, is for the platform to know; and what tenants made up would take the places
        // of real ones, of which such a source reads so many and no more.
        let detail = "the source stands for several streams, and only the operator may add to them";
        fields.refuse("source", detail, "a source of one stream");
        return None;
    }
    let stream = match stream {
        Some(stream) if compose::reads(source, &stream) => stream,
        Some(_) => {
            fields.refuse("stream", "is none that the source reads", STREAM);
            return None;
        }
        None if source.is_glob() => {
            if !fields.is_bad("stream") {
                let detail = "is missing, and the source stands for several";
                fields.refuse("stream", detail, STREAM);
            }
            return None;
        }
        None => source.stream.clone(),
    };
    Some((ingest.clone(), Arc::from(stream)))
}
