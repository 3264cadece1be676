//! What requests about tokens hold and are answered.

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::rfc3339_ms;
use crate::settings::Secret;
use crate::store::tokens::StoredToken;

/// A token to be made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct NewToken {
    /// Whose token it is. Tokens of a tenant need not say it; the operator's make tokens of the tenant `default` without
    /// it.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 256,
        pattern = "^[!-~]+$",
        example = "acme"
    )]
    tenant_id: Option<String>,
    /// Its name, for people; no control characters.
    #[schema(min_length = 1, max_length = 100, example = "CRM sync")]
    name: String,
    /// Whether it is to be a token of the operator, for all tenants. Only the operator may ask for one, and without a
    /// tenant.
    #[schema(nullable = false, default = false)]
    operator: Option<bool>,
    /// From when on it is not accepted any more, in the future; null is never.
    #[schema(format = DateTime, example = "2036-03-13T12:00:00Z")]
    expires_at: Option<String>,
}

/// How the tokens of a tenant are to be replaced.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct RegenerateTokens {
    /// Whose tokens. Tokens of a tenant need not say it; the operator must, here or in the query.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 256,
        pattern = "^[!-~]+$",
        example = "acme"
    )]
    tenant_id: Option<String>,
    /// The name of the new token, for people; no control characters.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100,
        example = "CRM sync",
        default = "regenerated"
    )]
    name: Option<String>,
    /// For how many seconds the old tokens are still valid beside the new one.
    #[schema(minimum = 0, maximum = 604800, example = 86400, default = 0)]
    grace_seconds: Option<u64>,
}

/// A token that was just made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenWithText {
    /// Names the token; no secret.
    #[schema(example = "tok_9yTqGg7bqk0H4rK1mYx2Zw")]
    id: String,
    /// The token. It is shown this once.
    #[schema(example = "pmb_3q2-7wEjRWeJq83vEjRWeJq83u8SNFZ4mrze7xI0Vng")]
    token: String,
    /// Whose it is; not there for tokens of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "acme")]
    tenant_id: Option<String>,
    /// True for tokens of the operator, else not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    operator: Option<bool>,
    /// Its name, for people.
    #[schema(example = "CRM sync")]
    name: String,
    /// When it was made.
    #[schema(format = DateTime, example = "2026-03-13T12:00:00.000Z")]
    created_at: String,
    /// From when on it is not accepted any more; not there if it does not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime, example = "2036-03-13T12:00:00.000Z")]
    expires_at: Option<String>,
}

impl TokenWithText {
    pub(super) fn of(text: &Secret, token: &StoredToken) -> TokenWithText {
        let ListedToken {
            id,
            token: _,
            tenant_id,
            operator,
            name,
            created_at,
            expires_at,
        } = ListedToken::of(token);
        TokenWithText {
            id,
            token: text.expose().to_owned(),
            tenant_id,
            operator,
            name,
            created_at,
            expires_at,
        }
    }
}

/// A token as it is listed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedToken {
    /// Names the token; no secret.
    #[schema(example = "tok_9yTqGg7bqk0H4rK1mYx2Zw")]
    id: String,
    /// The end of the token, behind what all tokens begin with.
    #[schema(example = "pmb_…0Vng")]
    token: String,
    /// Whose it is; not there for tokens of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "acme")]
    tenant_id: Option<String>,
    /// True for tokens of the operator, else not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    operator: Option<bool>,
    /// Its name, for people.
    #[schema(example = "CRM sync")]
    name: String,
    /// When it was made.
    #[schema(format = DateTime, example = "2026-03-13T12:00:00.000Z")]
    created_at: String,
    /// From when on it is not accepted any more; not there if it does not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime, example = "2036-03-13T12:00:00.000Z")]
    expires_at: Option<String>,
}

impl ListedToken {
    pub(super) fn of(token: &StoredToken) -> ListedToken {
        ListedToken {
            id: token.id.clone(),
            token: token.masked(),
            tenant_id: token.tenant.clone(),
            operator: token.tenant.is_none().then_some(true),
            name: token.name.clone(),
            created_at: rfc3339_ms(token.created_ms),
            expires_at: token.expires_ms.map(rfc3339_ms),
        }
    }
}
