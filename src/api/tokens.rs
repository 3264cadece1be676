//! API tokens: made, listed, ended, and replaced by a new one.

mod body;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::body::{ListedToken, NewToken, RegenerateTokens, TokenWithText};
use super::Api;
use super::caller::Caller;
use super::fields::{Field, Fields, Query};
use super::path::in_path;
use super::problem::Problem;
use super::responses::{Guarded, WithBody};
use crate::settings::Secret;
use crate::store::tokens::{Kept, MOST_TOKENS, StoredToken, Whose, digest_of};
use crate::webhook::DEFAULT_TENANT;

const LONGEST_NAME: usize = 100;
const NAME: &str = "1 to 100 characters, none of them a control character";
const TIME: &str = "a time in the future as RFC 3339 has it, such as 2026-03-13T12:00:00Z";
const GRACE: &str = "a whole number from 0 to 604800 (7 days)";
const LONGEST_GRACE_S: u64 = 7 * 24 * 60 * 60;
/// The name of a token that replaces others and was not given one.
const REGENERATED: &str = "regenerated";

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(regenerate))
        .routes(routes!(remove))
}

/// Make a token
///
/// The token itself is in the answer and nowhere else: only its SHA-256 is kept. Tokens of a tenant make tokens of that
/// tenant; those of the operator make tokens of any tenant, and with `operator` of the operator.
#[utoipa::path(
    post,
    path = "/tokens",
    operation_id = "createToken",
    tag = "Tokens",
    params(
        ("tenantId" = Option<String>, Query, nullable = false, min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "acme",
            description = "For the operator: the tenant, instead of in the body."),
    ),
    request_body = NewToken,
    responses(
        (status = 201, description = "The token.", body = TokenWithText),
        (status = 409, description = "There are 1,000 tokens already.", body = Problem, content_type = "application/problem+json"),
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
    let tenant = owner(&api, &caller, &mut fields, &uri)?;
    let name = name(&mut fields);
    if name.is_none() && !fields.is_bad("name") {
        fields.refuse("name", "is missing", NAME);
    }
    let now_ms = api.clock.unix_ms();
    let expires_ms = match fields.text("expiresAt", TIME) {
        Field::Given(text) => {
            let moment = moment_ms(&text).filter(|ms| *ms > now_ms);
            if moment.is_none() {
                fields.refuse("expiresAt", "is no time in the future", TIME);
            }
            moment
        }
        Field::Absent | Field::Null => None,
    };
    fields.finish()?;
    let name = name.unwrap_or_default();
    let (text, token) = StoredToken::generate(&api.clock, tenant, name, expires_ms);
    match api.store.put_token(&digest_of(&text), &token).await? {
        Kept::Yes => made(&api, &text, &token),
        Kept::Full => Err(Problem::conflict(format!(
            "There are {MOST_TOKENS} tokens already. Delete some first."
        ))),
    }
}

/// List tokens
///
/// Newest first, 1,000 at most. A token is never shown again; its last four characters tell one from another.
#[utoipa::path(
    get,
    path = "/tokens",
    operation_id = "listTokens",
    tag = "Tokens",
    params(
        ("tenantId" = Option<String>, Query, description = "For the operator: the tokens of this tenant alone.",
            min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "acme"),
    ),
    responses(
        (status = 200, description = "The tokens.", body = Vec<ListedToken>),
        (status = 422, description = "Parameters are wrong; `errors` lists all of them.", body = Problem, content_type = "application/problem+json"),
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
    query.finish()?;
    let whose = tenant.as_deref().map_or(Whose::All, Whose::Tenant);
    let tokens = api.store.list_tokens(whose).await?;
    let listed: Vec<_> = tokens.iter().map(ListedToken::of).collect();
    api.answer(StatusCode::OK, &listed)
}

/// Replace the tokens of a tenant by a new one
///
/// The new token is valid at once. All other tokens of the tenant end: at once, or after a grace in which both are valid.
#[utoipa::path(
    post,
    path = "/tokens/regenerate",
    operation_id = "regenerateTokens",
    tag = "Tokens",
    params(
        ("tenantId" = Option<String>, Query, nullable = false, min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "acme",
            description = "For the operator: the tenant, instead of in the body."),
    ),
    request_body = Option<RegenerateTokens>,
    responses(
        (status = 201, description = "The new token.", body = TokenWithText),
        (status = 409, description = "There are 1,000 tokens already, and all of them would be kept for the grace.", body = Problem, content_type = "application/problem+json"),
        WithBody,
        Guarded,
    )
)]
pub async fn regenerate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let mut fields = Fields::of_body(&headers, &body)?;
    let tenant = caller.tenant_named(&api, &mut fields, &uri)?;
    let field = &api.settings.api.tenant_field;
    if tenant.is_none() && !fields.is_bad(field) {
        // It ends tokens: nobody's end by an oversight.
        fields.refuse(field, "is missing", "the tenant whose tokens are replaced");
    }
    let name = name(&mut fields).unwrap_or_else(|| REGENERATED.to_owned());
    let grace_s = fields.whole("graceSeconds", GRACE).given().unwrap_or(0);
    if grace_s > LONGEST_GRACE_S {
        fields.refuse("graceSeconds", "is too long", GRACE);
    }
    fields.finish()?;
    let (text, token) = StoredToken::generate(&api.clock, tenant, name, None);
    let others_end_ms = (grace_s > 0).then(|| token.created_ms + grace_s * 1_000);
    let digest = digest_of(&text);
    let replaced = api.store.replace_tokens(&digest, &token, others_end_ms);
    match replaced.await? {
        Kept::Yes => made(&api, &text, &token),
        Kept::Full => Err(Problem::conflict(format!(
            "There are {MOST_TOKENS} tokens already, and all would be kept for the grace. Regenerate without one, or \
             delete some first."
        ))),
    }
}

/// End a token
///
/// It is not accepted any more from now on. A token may end itself.
#[utoipa::path(
    delete,
    path = "/tokens/{tokenId}",
    operation_id = "deleteToken",
    tag = "Tokens",
    params(("tokenId" = String, Path, description = "The token's id.", example = "tok_9yTqGg7bqk0H4rK1mYx2Zw")),
    responses(
        (status = 204, description = "It is not accepted any more."),
        (status = 404, description = "There is no such token, or it is another tenant's.", body = Problem, content_type = "application/problem+json"),
        Guarded,
    )
)]
pub async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = in_path(id, "token")?;
    let tenant = match &caller {
        Caller::Operator => None,
        Caller::Tenant(tenant) => Some(tenant.as_str()),
    };
    if !api.store.remove_token(&id, tenant).await? {
        return Err(Problem::not_found("token"));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn made(api: &Api, text: &Secret, token: &StoredToken) -> Result<Response, Problem> {
    api.answer(StatusCode::CREATED, &TokenWithText::of(text, token))
}

/// Whose token a body asks for; `None` is the operator.
fn owner(
    api: &Api,
    caller: &Caller,
    fields: &mut Fields,
    uri: &Uri,
) -> Result<Option<String>, Problem> {
    let tenant = caller.tenant_named(api, fields, uri)?;
    let named = tenant.is_some();
    let operator = fields.flag("operator");
    if operator == Field::Null {
        fields.refuse("operator", "is null", "true or false");
    }
    if operator.given() != Some(true) {
        return Ok(Some(tenant.unwrap_or_else(|| DEFAULT_TENANT.to_owned())));
    }
    caller.must_be_operator()?;
    if named {
        fields.refuse("operator", "is given beside a tenant", "one of both");
    }
    Ok(None)
}

fn name(fields: &mut Fields) -> Option<String> {
    let name = fields.text("name", NAME);
    if name == Field::Null {
        fields.refuse("name", "is not a text", NAME);
    }
    let name = name.given()?;
    let length = name.chars().count();
    if !(1..=LONGEST_NAME).contains(&length) || name.chars().any(char::is_control) {
        fields.refuse(
            "name",
            "is empty, too long, or holds control characters",
            NAME,
        );
        return None;
    }
    Some(name)
}

fn moment_ms(text: &str) -> Option<u64> {
    let moment: Timestamp = text.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok()
}
