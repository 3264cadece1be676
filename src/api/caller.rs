//! Who calls: the operator, or one tenant. Every handler is given a caller and reaches things only through it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use super::Api;
use super::fields::{Field, Fields, Query};
use super::guard::Notes;
use super::problem::Problem;
use crate::settings::Secret;
use crate::store::tokens::digest_of;
use crate::webhook::{DEFAULT_TENANT, Webhook};

/// The longest token that is looked at, in bytes; JWTs with many claims are long.
const LONGEST_TOKEN: usize = 8 * 1024;
const ALLOWED_TENANT: &str = "1 to 256 visible ASCII characters";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Whoever runs the platform: all tenants.
    Operator,
    /// One tenant: its own things, and nothing else exists.
    Tenant(String),
}

impl Caller {
    /// Whether the caller may know that this webhook exists.
    pub fn sees(&self, webhook: &Webhook) -> bool {
        self.sees_tenant(&webhook.spec.tenant)
    }

    /// Whether the caller may know of things of this tenant.
    pub fn sees_tenant(&self, tenant: &str) -> bool {
        match self {
            Caller::Operator => true,
            Caller::Tenant(own) => own == tenant,
        }
    }

    /// The tenant that a body is about: the caller's own, or for the operator the one that the body names, `default` if
    /// it names none. What is wrong is noted in `fields`.
    ///
    /// # Errors
    ///
    /// 403 when a tenant names another one: its own body told the name, so nothing is given away.
    pub fn tenant_of_body(&self, api: &Api, fields: &mut Fields) -> Result<String, Problem> {
        let name = &api.settings.api.tenant_field;
        let named = match fields.text_named(name, ALLOWED_TENANT) {
            Field::Given(tenant) if is_tenant(&tenant) => Some(tenant),
            Field::Given(_) | Field::Null => {
                fields.refuse(name, "is no tenant", ALLOWED_TENANT);
                None
            }
            Field::Absent => None,
        };
        self.choose(named)
            .map(|tenant| tenant.unwrap_or_else(|| DEFAULT_TENANT.to_owned()))
    }

    /// The tenant that a query is about: the caller's own, or for the operator the one that the query names; `None` is
    /// all of them.
    ///
    /// # Errors
    ///
    /// 403 when a tenant names another one.
    pub fn tenant_of_query(&self, api: &Api, query: &mut Query) -> Result<Option<String>, Problem> {
        let named = query.read(&api.settings.api.tenant_field, ALLOWED_TENANT, |text| {
            is_tenant(text).then(|| text.to_owned())
        });
        self.choose(named)
    }

    fn choose(&self, named: Option<String>) -> Result<Option<String>, Problem> {
        match (self, named) {
            (Caller::Operator, named) => Ok(named),
            (Caller::Tenant(own), Some(named)) if *own != named => Err(Problem::forbidden(
                "The token belongs to another tenant than the one that is named.",
            )),
            (Caller::Tenant(own), _) => Ok(Some(own.clone())),
        }
    }

    /// # Errors
    ///
    /// 403 for everybody but the operator.
    pub fn must_be_operator(&self) -> Result<(), Problem> {
        match self {
            Caller::Operator => Ok(()),
            Caller::Tenant(_) => Err(Problem::forbidden("This needs a token of the operator.")),
        }
    }
}

/// Whether a text can name a tenant.
pub fn is_tenant(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The token of a request: `Authorization: Bearer`, or the header of the setting `api.key_header`.
fn token_of(api: &Api, headers: &HeaderMap) -> Result<Secret, Problem> {
    let missing = || {
        Problem::unauthorized(format!(
            "Send a token as `Authorization: Bearer <token>`, or in the header {}.",
            api.settings.api.key_header
        ))
    };
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let text = value.to_str().unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") {
            token.trim()
        } else {
            ""
        }
    });
    let own = headers
        .get(api.settings.api.key_header.as_str())
        .map(|value| value.to_str().unwrap_or_default().trim());
    // Credentials of another kind may be there for a proxy in front.
    match bearer.filter(|token| !token.is_empty()).or(own) {
        Some(token) if !token.is_empty() && token.len() <= LONGEST_TOKEN => Ok(Secret::new(token)),
        _ => Err(missing()),
    }
}

impl Api {
    async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let token = token_of(self, headers)?;
        if let Some(operator) = &self.settings.api.operator_token
            && operator
                .expose()
                .as_bytes()
                .ct_eq(token.expose().as_bytes())
                .into()
        {
            return Ok(Caller::Operator);
        }
        let found = self
            .store
            .token_by_digest(&digest_of(&token), self.clock.unix_ms())
            .await?;
        match found {
            Some(token) => Ok(token.tenant.map_or(Caller::Operator, Caller::Tenant)),
            None => Err(Problem::unauthorized("The token is not valid.")),
        }
    }
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Caller, Problem> {
        let caller = api.authenticate(&parts.headers).await?;
        if let Some(notes) = parts.extensions.get::<Notes>() {
            notes.caller(match caller {
                Caller::Operator => "operator",
                Caller::Tenant(_) => "tenant",
            });
        }
        Ok(caller)
    }
}
