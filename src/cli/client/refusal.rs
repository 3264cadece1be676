//! What the API says against a request, in words for a terminal and as an exit code.

use std::error::Error as _;
use std::fmt::Write as _;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;
use url::Url;

use crate::cli::pretty::{bounded, escape_line};
use crate::cli::trouble::Trouble;
use crate::exit::Exit;

/// How much of one text of an answer is shown, in bytes.
const SHOWN: usize = 2_000;

/// The API cannot be reached, or ended in the middle of an answer.
pub(super) fn unreachable(base: &Url, error: &reqwest::Error) -> Trouble {
    // The outer ones only say that something failed; they could quote the URL's query.
    let mut cause: &dyn std::error::Error = error;
    let mut source = error.source();
    while let Some(inner) = source {
        cause = inner;
        source = inner.source();
    }
    let reason = match error {
        error if error.is_timeout() => "no answer in time".to_owned(),
        error if error.source().is_none() => "the request failed".to_owned(),
        _ => cause.to_string(),
    };
    let hint = match reason.contains("certificate") || reason.contains("UnknownIssuer") {
        true => {
            "--ca-file trusts an authority of your own; the name in --url must be one of the certificate's."
        }
        false => {
            "See that `pombo serve` runs, and that --url, POMBO_URL or the settings say where."
        }
    };
    Trouble::new(
        Exit::Unavailable,
        format!(
            "cannot use the API at {base}: {}\n{hint}",
            escape_line(bounded(&reason, SHOWN).0)
        ),
    )
}

/// Something else than Pombo's API answered.
pub(super) fn foreign(base: &Url, status: StatusCode) -> Trouble {
    Trouble::new(
        Exit::Failure,
        format!(
            "what answers at {base} is not Pombo's API, or stands in front of it: {}, and no JSON\nSee that --url, \
             POMBO_URL or the settings are right, api.base_path included.",
            status.as_u16()
        ),
    )
}

/// The API answered with a problem. `known` is whether a token was sent.
pub(super) fn refused(
    base: &Url,
    status: StatusCode,
    headers: &HeaderMap,
    problem: Option<&Value>,
    known: bool,
) -> Trouble {
    let Some(problem) = problem.filter(|problem| problem["title"].is_string()) else {
        let Trouble { message, .. } = foreign(base, status);
        return Trouble::new(exit(status), message);
    };
    let text = |of: &Value| {
        let text = of.as_str().unwrap_or_default();
        escape_line(bounded(text, SHOWN).0)
    };
    let mut message = format!(
        "{} ({}): {}",
        text(&problem["title"]),
        status.as_u16(),
        text(&problem["detail"])
    );
    for error in problem["errors"].as_array().into_iter().flatten() {
        let place = match (error["pointer"].as_str(), error["parameter"].as_str()) {
            (Some(""), _) => "the body".to_owned(),
            (Some(pointer), _) => escape_line(pointer),
            (None, Some(parameter)) => escape_line(parameter),
            (None, None) => "the request".to_owned(),
        };
        let _ = write!(message, "\n  {place}: {}", text(&error["detail"]));
        if error["allowed"].is_string() {
            let _ = write!(message, " (allowed: {})", text(&error["allowed"]));
        }
    }
    match (status.as_u16(), known) {
        (401, false) => {
            message.push_str("\nSet POMBO_TOKEN, or give --token-file: `pombo token create` makes a token.");
        }
        (401, true) => message.push_str(
            "\nThe token that was sent (--token-file, --token or POMBO_TOKEN) is wrong, was replaced, or has expired.",
        ),
        (403, _) => message.push_str(
            "\nThe token that was sent (--token-file, --token or POMBO_TOKEN) is another tenant's, or not the operator's.",
        ),
        _ => {}
    }
    if let Some(seconds) = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
    {
        let _ = write!(
            message,
            "\nTry again in {} s.",
            escape_line(bounded(seconds, 40).0)
        );
    }
    Trouble::new(exit(status), message)
}

/// 65 for what was given, 69 for what passes, 70 for a bug there, else 1.
fn exit(status: StatusCode) -> Exit {
    match status.as_u16() {
        400 | 413 | 415 | 422 => Exit::Data,
        408 | 502 | 503 | 504 => Exit::Unavailable,
        _ => Exit::Failure,
    }
}
