//! The page: Swagger UI out of the program itself, with a start of our own that asks nobody else for anything.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use utoipa_swagger_ui::Config;

use super::{PAGE_PATH, answer};
use crate::api::problem::Problem;

const HTML: &str = "text/html; charset=utf-8";
const INDEX: &str = include_str!("page/index.html");
const START: &str = include_str!("page/start.js");
const STYLE: &str = include_str!("page/style.css");

/// Scripts and calls from here alone. Swagger UI draws its icons from `data:` and sets styles on single elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    // Without the `/` at the end the page's own files would be looked for beside it.
    let within = "docs/";
    Router::new()
        .route(PAGE_PATH, get(move || async move { Redirect::to(within) }))
        .route(
            &format!("{PAGE_PATH}/"),
            get(|| async { guarded(answer(HTML, INDEX)) }),
        )
        .route(
            &format!("{PAGE_PATH}/{{file}}"),
            get(|Path(file): Path<String>| async move { guarded(serve(&file)) }),
        )
}

fn serve(file: &str) -> Response {
    let media_type = match file {
        "start.js" => return answer("text/javascript; charset=utf-8", START),
        "style.css" => return answer("text/css; charset=utf-8", STYLE),
        "swagger-ui.css" => "text/css; charset=utf-8",
        "swagger-ui-bundle.js" => "text/javascript; charset=utf-8",
        "favicon-32x32.png" => "image/png",
        _ => return Problem::not_found("page").into_response(),
    };
    match utoipa_swagger_ui::serve(file, Arc::new(Config::default())) {
        Ok(Some(found)) => answer(media_type, found.bytes.into_owned()),
        _ => Problem::not_found("page").into_response(),
    }
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
