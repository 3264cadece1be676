//! Webhooks: tenants make, read, change and delete their own.
//!
//! A webhook that `pombo apply` made may be changed here like any other, because whoever holds the token is its owner
//! too; the next apply of its file says what is different and makes it as declared again. One that was made here is
//! never touched by an apply, unless it is told to adopt it.

pub mod body;
pub mod catalogue;
mod changes;
mod pointers;
pub mod secret;
pub mod test_delivery;
pub mod view;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::changes::{Changes, Purpose};
use self::view::{ListedWebhook, WebhookView, WebhookWithSecret};
use super::Api;
use super::caller::Caller;
use super::etag::{IfMatch, tagged};
use super::fields::{Fields, Query};
use super::path::WebhookId;
use super::problem::Problem;
use super::responses::{Conditional, Guarded, OfWebhook, WithBody};
use crate::delivery::is_id_byte;
use crate::signature::generate_secret;
use crate::store::webhooks::Put;
use crate::webhook::{EventFilter, Ordering, Webhook, WebhookSpec};

/// Who made a webhook, for those that came by the API.
const MANAGED_BY: &str = "api";
/// The most webhooks that a tenant can make here.
pub const MOST_OF_TENANT: u64 = 10_000;
/// The most webhooks of one listing, and what it holds without a limit.
pub const MOST_LISTED: usize = 10_000;
/// Characters of the longest id that a webhook can have.
const LONGEST_ID: usize = 64;
/// Webhooks read at a time.
const CHUNK: usize = 500;
/// How often a change is made anew because somebody else was faster.
pub(super) const MOST_CONFLICTS: u32 = 10;

/// The routes of this module.
pub fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(catalogue::list))
        .routes(routes!(show, update, delete))
        .routes(routes!(secret::rotate))
        .routes(routes!(test_delivery::send))
}

/// The webhook of this id.
///
/// # Errors
///
/// 404 for a `what`, in the same words whether there is no such webhook or it is another tenant's.
pub async fn find(api: &Api, caller: &Caller, id: &str, what: &str) -> Result<Webhook, Problem> {
    let found = match caller {
        _ if !is_id(id) => false,
        Caller::Operator => true,
        // By the tenant's own index first, so that another's webhook takes no longer than none.
        Caller::Tenant(tenant) => api.store.is_webhook_of(tenant, id).await?,
    };
    let webhook = match found {
        true => api.store.webhook(id).await?,
        false => None,
    };
    let webhook = webhook.filter(|webhook| caller.sees(webhook));
    webhook.ok_or_else(|| Problem::not_found(what))
}

/// Whether a webhook can have this id.
fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(is_id_byte)
}

/// Changes a webhook and stores it, unless `change` leaves it as it is. When somebody else was faster, the change is
/// made of what stands there then.
///
/// # Errors
///
/// 404, 412 as `if_match` asks, 409 when others keep changing it, whatever `change` refuses.
pub async fn change(
    api: &Api,
    caller: &Caller,
    id: &str,
    if_match: &IfMatch,
    change: impl Fn(&mut Webhook) -> Result<(), Problem>,
) -> Result<Webhook, Problem> {
    for _ in 0..MOST_CONFLICTS {
        let found = find(api, caller, id, "webhook").await?;
        if_match.check(&found)?;
        let mut changed = found.clone();
        change(&mut changed)?;
        if changed == found {
            return Ok(found);
        }
        changed.updated_ms = api.clock.unix_ms();
        if let Put::Version(version) = api.store.put_webhook(&changed).await? {
            changed.version = version;
            return Ok(changed);
        }
    }
    Err(keeps_changing())
}

fn keeps_changing() -> Problem {
    Problem::conflict("Somebody else keeps changing the webhook. Try again in a moment.")
}

/// List the webhooks
///
/// Those of the token's tenant, or for the operator of all tenants or of one, by the time of their creation and then by
/// id. At most `limit` of them: when as many come, ask for the next with `after` = the id of the last.
#[utoipa::path(
    get,
    path = "/webhooks",
    operation_id = "listWebhooks",
    tag = "Webhooks",
    params(
        ("tenantId" = Option<String>, Query, description = "For the operator: the webhooks of this tenant alone.",
            min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "acme"),
        ("limit" = Option<u32>, Query, description = "The most webhooks to answer with.",
            minimum = 1, maximum = 10000, example = 100),
        ("after" = Option<String>, Query, description = "Those after the webhook with this id.",
            min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$"),
    ),
    responses(
        (status = 200, description = "The webhooks, without their secrets.", body = Vec<ListedWebhook>),
        (status = 422, description = "Parameters are wrong; `errors` lists all of them.", body = Problem,
            content_type = "application/problem+json"),
        Guarded,
    )
)]
pub async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri);
    let tenant = caller.tenant_of_query(&api, &mut query)?;
    let limit = query.read("limit", "1 to 10000", |text| {
        let limit: usize = text.parse().ok()?;
        (1..=MOST_LISTED).contains(&limit).then_some(limit)
    });
    let after = query.take("after");
    query.finish()?;
    // One long list of a tenant at a time, and few in all.
    let _turn = api
        .listings
        .turn(tenant.as_deref().unwrap_or_default())
        .await?;
    let ids = api
        .store
        .webhook_ids_after(
            tenant.as_deref(),
            after.as_deref(),
            limit.unwrap_or(MOST_LISTED),
        )
        .await?;
    let Some(ids) = ids else {
        let mut query = Query::of(&Uri::default());
        query.refuse(
            "after",
            "is none of these webhooks",
            "the id of a webhook of the page before; if it was deleted meanwhile, begin anew",
        );
        return Err(query.finish().err().unwrap_or_else(Problem::internal));
    };
    let now_ms = api.clock.unix_ms();
    let mut listed = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let mut webhooks = Vec::with_capacity(chunk.len());
        for found in api.store.webhooks_by_id(chunk).await? {
            match found {
                Ok(Some(webhook)) if caller.sees(&webhook) => webhooks.push(webhook),
                Ok(_) => {}
                // One that other hands have spoilt does not hide the rest.
                Err(error) => tracing::error!(%error, "a webhook is left out of a list"),
            }
        }
        let places: Vec<(u16, &str)> = webhooks
            .iter()
            .map(|webhook| (api.store.shard_of(&webhook.spec.id), webhook.uid.as_str()))
            .collect();
        let stats = api.store.stats(&places).await?;
        let views = webhooks
            .iter()
            .zip(stats)
            .map(|(webhook, stats)| ListedWebhook {
                webhook: WebhookView::of(webhook, now_ms),
                stats: stats.into(),
            });
        listed.extend(views);
    }
    api.answer(StatusCode::OK, &listed)
}

/// Make a webhook
///
/// From now on it gets every event of its tenant that it asks for, signed with its secret.
#[utoipa::path(
    post,
    path = "/webhooks",
    operation_id = "createWebhook",
    tag = "Webhooks",
    params(
        ("tenantId" = Option<String>, Query, nullable = false, min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "acme",
            description = "For the operator: the tenant, instead of in the body."),
    ),
    request_body = body::NewWebhook,
    responses(
        (status = 201, description = "The webhook, with its secret.", body = WebhookWithSecret, headers(
            ("Location" = String, description = "Where it is to be found."),
            ("ETag" = String, description = "Its version, for `If-Match`."),
        )),
        (status = 409, description = "The tenant has 10,000 webhooks already.", body = Problem,
            content_type = "application/problem+json"),
        WithBody,
        Guarded,
    )
)]
pub async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let mut fields = Fields::of_body(&headers, &body)?;
    let tenant = caller.tenant_of_body(&api, &mut fields, &uri)?;
    let changes = Changes::read(&api, &mut fields, Purpose::Make);
    let secret = changes::secret(&mut fields);
    fields.finish()?;
    if api.store.count_webhooks(&tenant).await? >= MOST_OF_TENANT {
        return Err(Problem::conflict(format!(
            "A tenant has at most {MOST_OF_TENANT} webhooks. Delete one that is not needed any more."
        )));
    }
    let now_ms = api.clock.unix_ms();
    let mut webhook = Webhook {
        spec: blank(&api, tenant),
        uid: hex::encode(api.clock.random_bytes::<10>()),
        version: 0,
        secrets: vec![secret.unwrap_or_else(|| generate_secret(api.clock.random_bytes()))],
        rotation_ends_ms: None,
        disabled: None,
        managed_by: Some(MANAGED_BY.to_owned()),
        created_ms: now_ms,
        updated_ms: now_ms,
    };
    changes.make(&mut webhook);
    match api.store.put_webhook(&webhook).await? {
        Put::Version(version) => webhook.version = version,
        // Of 128 random bits there is no second webhook.
        Put::Conflict => return Err(keeps_changing()),
    }
    let view = WebhookView::with_secret(&webhook, now_ms);
    let mut response = tagged(api.answer(StatusCode::CREATED, &view)?, &webhook);
    let place = format!(
        "{}/webhooks/{}",
        api.settings.api.base_path, webhook.spec.id
    );
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// A webhook that is yet to be told everything about.
fn blank(api: &Api, tenant: String) -> WebhookSpec {
    let id = URL_SAFE_NO_PAD.encode(api.clock.random_bytes::<16>());
    WebhookSpec {
        id: format!("wh_{id}"),
        tenant,
        name: String::new(),
        description: None,
        url: String::new(),
        events: Vec::<EventFilter>::new(),
        secret: None,
        active: true,
        headers: Default::default(),
        rate_limit: None,
        max_in_flight: None,
        timeout: None,
        retry: None,
        ordering: Ordering::None,
        body_mode: None,
        signature_scheme: None,
    }
}

/// Show a webhook
///
/// With its secret, which is shown to nobody but its owner and the operator.
#[utoipa::path(
    get,
    path = "/webhooks/{webhookId}",
    operation_id = "getWebhook",
    tag = "Webhooks",
    params(("webhookId" = String, Path, description = "The webhook's id.", example = "wh_9yTqGg7bqk0H4rK1mYx2Zw")),
    responses(
        (status = 200, description = "The webhook.", body = WebhookWithSecret, headers(
            ("ETag" = String, description = "Its version, for `If-Match`."),
        )),
        OfWebhook,
        Guarded,
    )
)]
pub async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    WebhookId(id): WebhookId,
) -> Result<Response, Problem> {
    let webhook = find(&api, &caller, &id, "webhook").await?;
    let view = WebhookView::with_secret(&webhook, api.clock.unix_ms());
    Ok(tagged(api.answer(StatusCode::OK, &view)?, &webhook))
}

/// Change a webhook
///
/// What is left out stays as it is; lists and objects are replaced as a whole. `isActive: false` pauses it: nothing new
/// is queued, what is queued waits. `isActive: true` also enables it again after Pombo disabled it. With `If-Match`
/// nothing is changed unless the webhook still is of that version. One that `pombo apply` made is as its file says again
/// after the next apply.
#[utoipa::path(
    patch,
    path = "/webhooks/{webhookId}",
    operation_id = "updateWebhook",
    tag = "Webhooks",
    params(
        ("webhookId" = String, Path, description = "The webhook's id.", example = "wh_9yTqGg7bqk0H4rK1mYx2Zw"),
        ("If-Match" = Option<String>, Header, nullable = false, description = "The `ETag` of the version to be changed."),
    ),
    request_body = body::WebhookChanges,
    responses(
        (status = 200, description = "The webhook as it is now, without its secret.", body = WebhookView, headers(
            ("ETag" = String, description = "Its version, for `If-Match`."),
        )),
        OfWebhook,
        Conditional,
        WithBody,
        Guarded,
    )
)]
pub async fn update(
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
    let tenant_field = &api.settings.api.tenant_field;
    if fields.raw_named("secret").is_some() {
        let allowed = format!(
            "POST {}/webhooks/{id}/secret/rotate",
            api.settings.api.base_path
        );
        fields.refuse("secret", "cannot be changed like this", allowed);
    }
    if fields.raw_named(tenant_field).is_some() {
        fields.refuse(
            tenant_field,
            "cannot be changed",
            "nothing: a webhook stays with its tenant; make another one",
        );
    }
    let changes = Changes::read(&api, &mut fields, Purpose::Change);
    fields.finish()?;
    let webhook = change(&api, &caller, &id, &if_match, |webhook| {
        changes.make(webhook);
        Ok(())
    })
    .await?;
    let view = WebhookView::of(&webhook, api.clock.unix_ms());
    Ok(tagged(api.answer(StatusCode::OK, &view)?, &webhook))
}

/// Delete a webhook
///
/// It gets nothing more, and all that is kept for it goes with it: its queue, its dead letters, its history.
#[utoipa::path(
    delete,
    path = "/webhooks/{webhookId}",
    operation_id = "deleteWebhook",
    tag = "Webhooks",
    params(
        ("webhookId" = String, Path, description = "The webhook's id.", example = "wh_9yTqGg7bqk0H4rK1mYx2Zw"),
        ("If-Match" = Option<String>, Header, nullable = false, description = "The `ETag` of the version to be deleted."),
    ),
    responses(
        (status = 204, description = "It is gone."),
        OfWebhook,
        Conditional,
        Guarded,
    )
)]
pub async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    WebhookId(id): WebhookId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let if_match = IfMatch::of(&headers);
    for _ in 0..MOST_CONFLICTS {
        let found = find(&api, &caller, &id, "webhook").await?;
        if_match.check(&found)?;
        if let Put::Version(_) = api.store.delete_webhook(&found).await? {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
    }
    Err(keeps_changing())
}
