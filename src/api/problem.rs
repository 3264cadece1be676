//! What a refused request is told: problem details (RFC 9457), in one form for every error of the API.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::StoreError;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds after which a request that found Redis away may be tried again.
const REDIS_AGAIN_S: u32 = 2;
/// The most fields that one answer lists as wrong.
const MOST_ERRORS: usize = 100;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Invalid {
    /// Where in the body it is: a JSON pointer (RFC 6901); the empty one is the body as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/events/0")]
    pub pointer: Option<String>,
    /// Which parameter of the query, the path or the headers it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "limit")]
    pub parameter: Option<String>,
    /// What is wrong, in plain words.
    #[schema(example = "is no event type of the catalogue")]
    pub detail: String,
    /// What would be right.
    #[schema(example = "one of GET /webhooks/events, or a pattern that matches one of them")]
    pub allowed: String,
}

impl Invalid {
    /// Something wrong in the body.
    pub fn at(
        pointer: impl Into<String>,
        detail: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Invalid {
        Invalid {
            pointer: Some(pointer.into()),
            parameter: None,
            detail: detail.into(),
            allowed: allowed.into(),
        }
    }

    /// Something wrong with a parameter of the query, the path or the headers.
    pub fn parameter(
        name: impl Into<String>,
        detail: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Invalid {
        Invalid {
            pointer: None,
            parameter: Some(name.into()),
            detail: detail.into(),
            allowed: allowed.into(),
        }
    }
}

/// Problem details as RFC 9457 has them. The answer's `x-request-id` names the request in the log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: a URN that never changes.
    #[serde(rename = "type")]
    #[schema(example = "urn:pombo:problem:validation")]
    pub kind: String,
    /// The kind in plain words.
    #[schema(example = "The request is not valid")]
    pub title: String,
    /// The status of the answer.
    #[schema(example = 422)]
    pub status: u16,
    /// What happened this time, and what to do about it.
    #[schema(example = "2 fields are wrong.")]
    pub detail: String,
    /// Everything that is wrong with the request, where that is the problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<Invalid>,
    /// Seconds to wait before the request is sent again.
    #[serde(skip)]
    pub retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem of a kind, such as `not-found`.
    pub fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:pombo:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    /// 400: the body is not even JSON, or a header cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            "The request cannot be read",
            detail,
        )
    }

    /// 401: there is no token, or it is not valid.
    pub fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "A valid token is needed",
            detail,
        )
    }

    /// 403: the token is valid, and not for this.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The token does not allow this",
            detail,
        )
    }

    /// 404, with the same words whether the thing does not exist or is another tenant's.
    pub fn not_found(what: &str) -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is no such thing",
            format!("There is no such {what}."),
        )
    }

    /// 405: the path is there, but not for this method; the header `Allow` has those that are.
    pub fn wrong_method() -> Problem {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "wrong-method",
            "The method is not allowed here",
            "The header Allow has the methods that are answered here.",
        )
    }

    /// 409: not in the state in which it is.
    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(
            StatusCode::CONFLICT,
            "conflict",
            "The state does not allow this",
            detail,
        )
    }

    /// 412: somebody changed it since the caller looked.
    pub fn changed_meanwhile() -> Problem {
        Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "changed",
            "It was changed meanwhile",
            "The version is not the one that If-Match names. Read it again, and decide anew.",
        )
    }

    /// 413: the body is larger than the setting `api.max_body`.
    pub fn too_large(most: usize) -> Problem {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
            format!("A body may have {most} bytes."),
        )
    }

    /// 415: the body is not said to be JSON.
    pub fn unsupported_media_type() -> Problem {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The body is of the wrong type",
            "Send JSON, with the header Content-Type: application/json.",
        )
    }

    /// 422: fields or parameters are wrong; all of them are listed.
    pub fn invalid(mut errors: Vec<Invalid>) -> Problem {
        let detail = match errors.len() {
            1 => "1 field is wrong.".to_owned(),
            n => format!("{n} fields are wrong."),
        };
        errors.truncate(MOST_ERRORS);
        Problem {
            errors,
            ..Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "validation",
                "The request is not valid",
                detail,
            )
        }
    }

    /// 429: too much of something for now.
    pub fn too_many(detail: impl Into<String>, retry_after_s: u32) -> Problem {
        Problem {
            retry_after_s: Some(retry_after_s.max(1)),
            ..Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many",
                "Too many requests",
                detail,
            )
        }
    }

    /// 503: what is needed is away for now.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem {
            retry_after_s: Some(REDIS_AGAIN_S),
            ..Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Not available for now",
                detail,
            )
        }
    }

    /// 500: a bug, or something stored that Pombo did not store. The cause is in the log, not in the answer.
    pub fn internal() -> Problem {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong",
            "The cause is in Pombo's log, under the request's id.",
        )
    }
}

/// What a failure of Redis means for a request: 503 for whatever passes, else 500 and a line in the log.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match &error {
            StoreError::Unavailable { .. } | StoreError::Refused { .. } | StoreError::Replaced => {
                tracing::warn!(%error, "a request to the API could not be served");
                Problem::unavailable("Redis is not available. Try again in a moment.")
            }
            _ => {
                tracing::error!(%error, "a request to the API failed");
                Problem::internal()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Text and numbers always serialise.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"pombo\""),
            );
        }
        response
    }
}
