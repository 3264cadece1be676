//! Parameters of paths. What cannot name anything is answered as what names nothing.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::fields::Query;
use super::problem::Problem;
use crate::delivery::is_id_byte;

/// The `{webhookId}` of a path without a query. Take it after the caller: whoever has no token learns nothing of ids.
#[derive(Debug, Clone)]
pub struct WebhookId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for WebhookId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<WebhookId, Problem> {
        let unknown = || Problem::not_found("webhook");
        let Path(mut parameters) =
            Path::<HashMap<String, String>>::from_request_parts(parts, state)
                .await
                .map_err(|_| unknown())?;
        let id = parameters.remove("webhookId").unwrap_or_default();
        // Whoever asks for a tenant's webhook must not believe that the answer kept to what was not looked at.
        Query::of(&parts.uri).finish()?;
        let whole = (1..=64).contains(&id.len()) && id.bytes().all(is_id_byte);
        whole.then_some(WebhookId(id)).ok_or_else(unknown)
    }
}
