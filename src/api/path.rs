//! Parameters of paths. What cannot name anything is answered as what names nothing.

use std::collections::HashMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::fields::Query;
use super::problem::Problem;

/// The `{webhookId}` of a path without a query. Take it after the caller: whoever has no token learns nothing of ids.
#[derive(Debug, Clone)]
pub struct WebhookId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for WebhookId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<WebhookId, Problem> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let id = in_path(path, "webhook")?.remove("webhookId");
        // Whoever asks for a tenant's webhook must not believe that the answer kept to what was not looked at.
        Query::of(&parts.uri).finish()?;
        Ok(WebhookId(id.unwrap_or_default()))
    }
}

/// What of a path is needed.
///
/// # Errors
///
/// 404 for a `what`, if it cannot be read as text.
pub fn in_path<T>(path: Result<Path<T>, PathRejection>, what: &str) -> Result<T, Problem> {
    path.map(|Path(value)| value)
        .map_err(|_| Problem::not_found(what))
}
