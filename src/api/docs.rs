//! The documentation of the API: the OpenAPI document, collected from the routes' own descriptions and put into the words
//! of the settings, and the page that shows it and tries calls.
//!
//! Both stand at the root whatever the base path, and need no token: they tell nothing that the program's source does
//! not. Nothing in them leads to another host.

mod adapt;
mod complete;
mod page;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::Value;

use super::problem::Problem;
use crate::settings::Settings;

/// Where the document is served.
pub const DOCUMENT_PATH: &str = "/openapi.json";
/// Where the page is served.
pub const PAGE_PATH: &str = "/docs";

/// The OpenAPI document of an API with these settings.
///
/// # Errors
///
/// What the routes say of themselves is no JSON: a bug.
pub fn document(settings: &Settings) -> serde_json::Result<Value> {
    let (_, described) = super::routes().split_for_parts();
    let mut document = serde_json::to_value(described)?;
    complete::complete(&mut document, settings);
    adapt::adapt(&mut document, settings);
    Ok(document)
}

/// The document as it is committed and printed: laid out over lines, with a line end.
///
/// # Errors
///
/// As [`document`].
pub fn document_text(settings: &Settings) -> serde_json::Result<String> {
    Ok(format!(
        "{}\n",
        serde_json::to_string_pretty(&document(settings)?)?
    ))
}

/// The routes of the document and the page.
pub fn router<S: Clone + Send + Sync + 'static>(settings: &Settings) -> Router<S> {
    // Made once: it does not change while the daemon runs.
    let document = match document(settings) {
        Ok(document) => Some(Bytes::from(document.to_string())),
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document could not be written");
            None
        }
    };
    let serve = move || async move {
        match document {
            Some(document) => answer("application/json", document),
            None => Problem::internal().into_response(),
        }
    };
    Router::new()
        .route(DOCUMENT_PATH, get(serve))
        .merge(page::router())
}

/// An answer that browsers ask about again before they use it another time.
fn answer(media_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests;
