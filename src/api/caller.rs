//! Who calls: the operator, or one tenant. Every handler is given a caller and reaches things only through it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::fields::{Field, Fields, Query};
use super::guard::Notes;
use super::problem::Problem;
use super::{Api, Peer};
use crate::webhook::{DEFAULT_TENANT, Webhook};

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

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Caller, Problem> {
        let peer = parts.extensions.get::<Peer>().copied();
        let caller = api.authenticate(&parts.headers, peer).await?;
        if let Some(notes) = parts.extensions.get::<Notes>() {
            notes.caller(match caller {
                Caller::Operator => "operator",
                Caller::Tenant(_) => "tenant",
            });
        }
        Ok(caller)
    }
}
