//! What many operations can be refused with, for the documentation.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::problem::PROBLEM_JSON;

fn problems<const N: usize>(listed: [(u16, &str); N]) -> BTreeMap<String, RefOr<Response>> {
    listed
        .into_iter()
        .map(|(status, description)| {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new()
                .description(description)
                .content(PROBLEM_JSON, content)
                .build();
            (status.to_string(), RefOr::T(response))
        })
        .collect()
}

/// What any request can be refused with.
pub struct Guarded;

impl IntoResponses for Guarded {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([
            (400, "The request cannot be read at all."),
            (401, "There is no token, or it is not valid."),
            (403, "The token is valid, and not for this."),
            (
                429,
                "Too many requests; `Retry-After` says when to come back.",
            ),
            (
                500,
                "Something went wrong; its cause is in Pombo's log, under the request's id.",
            ),
            (
                503,
                "Redis is away or Pombo is at its limits; `Retry-After` says when to come back.",
            ),
        ])
    }
}

/// What a request with a body can be refused with besides.
pub struct WithBody;

impl IntoResponses for WithBody {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([
            (408, "The body did not arrive within `api.request_timeout`."),
            (413, "The body is larger than this installation allows."),
            (415, "The body is not said to be JSON."),
            (
                422,
                "Fields or parameters are wrong; `errors` lists all of them.",
            ),
        ])
    }
}

/// What a request about one webhook can be refused with besides.
pub struct OfWebhook;

impl IntoResponses for OfWebhook {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([
            (404, "There is no such webhook, or it is another tenant's."),
            (
                422,
                "Parameters or fields are wrong; `errors` lists all of them.",
            ),
        ])
    }
}

/// What a conditional change can be refused with besides.
pub struct Conditional;

impl IntoResponses for Conditional {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([
            (409, "Others keep changing it; try again."),
            (412, "It is not the version that `If-Match` names."),
        ])
    }
}
