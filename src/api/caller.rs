//! Who calls: the operator, or one tenant. Every handler is given a caller and reaches things only through it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::Uri;
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

    /// The tenant that a request with a body is about: the caller's own, or for the operator the one that the body or the
    /// query names, `default` if neither does. What is wrong with the body is noted in `fields`.
    ///
    /// # Errors
    ///
    /// 403 when a tenant names another one: its own request told the name, so nothing is given away. 422 for a parameter
    /// of the query that there is not.
    pub fn tenant_of_body(
        &self,
        api: &Api,
        fields: &mut Fields,
        uri: &Uri,
    ) -> Result<String, Problem> {
        let named = self.tenant_named(api, fields, uri)?;
        Ok(named.unwrap_or_else(|| DEFAULT_TENANT.to_owned()))
    }

    /// The same, `None` where the operator names no tenant.
    ///
    /// # Errors
    ///
    /// As [`Caller::tenant_of_body`].
    pub fn tenant_named(
        &self,
        api: &Api,
        fields: &mut Fields,
        uri: &Uri,
    ) -> Result<Option<String>, Problem> {
        let name = &api.settings.api.tenant_field;
        let mut query = Query::of(uri);
        let in_query = query.read(name, ALLOWED_TENANT, |text| {
            is_tenant(text).then(|| text.to_owned())
        });
        query.finish()?;
        let in_body = match fields.text_named(name, ALLOWED_TENANT) {
            Field::Given(tenant) if is_tenant(&tenant) => Some(tenant),
            Field::Given(_) | Field::Null => {
                fields.refuse(name, "is no tenant", ALLOWED_TENANT);
                None
            }
            Field::Absent => None,
        };
        if let (Some(one), Some(other)) = (&in_body, &in_query)
            && one != other
        {
            fields.refuse(name, "is another one than in the query", "one tenant");
        }
        self.choose(in_body.or(in_query))
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
