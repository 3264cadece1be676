//! What many operations share, for the documentation: refusals, and bodies that may be left out.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder};

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

/// Makes a body that the types call optional one that may be left out, and not one that may be `null`.
pub fn optional_bodies(document: &mut OpenApi) {
    for path in document.paths.paths.values_mut() {
        let operations = [
            &mut path.post,
            &mut path.patch,
            &mut path.put,
            &mut path.delete,
        ];
        for body in operations
            .into_iter()
            .flatten()
            .filter_map(|operation| operation.request_body.as_mut())
        {
            let RefOr::T(body) = body else { continue };
            for content in body.content.values_mut() {
                let RefOr::T(content) = content else { continue };
                let Some(RefOr::T(Schema::OneOf(choice))) = &mut content.schema else {
                    continue;
                };
                let before = choice.items.len();
                choice.items.retain(|item| !is_null(item));
                if before == 2 && choice.items.len() == 1 {
                    content.schema = choice.items.pop();
                    body.required = Some(Required::False);
                }
            }
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::new(Type::Null))
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
