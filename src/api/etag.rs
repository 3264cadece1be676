//! Versions of webhooks, and the changes that are made only if nobody else made one before.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::problem::Problem;
use crate::delivery::short_digest;
use crate::webhook::Webhook;

/// The entity tag of a webhook's present version. It follows from the incarnation too: a webhook that is deleted and
/// made again under its id counts its versions anew.
pub fn etag_of(webhook: &Webhook) -> String {
    let version = webhook.version.to_string();
    format!("\"{}\"", short_digest(&[&webhook.uid, &version]))
}

/// The answer with the webhook's entity tag.
pub fn tagged(mut response: Response, webhook: &Webhook) -> Response {
    // Base64url within quotes is fit for a header.
    if let Ok(value) = HeaderValue::try_from(etag_of(webhook)) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// What `If-Match` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// Nothing: there is no such header, or it says `*`.
    Anything,
    /// One of these versions.
    Versions(Vec<String>),
}

impl IfMatch {
    /// Reads the header, all lines of it. What is no entity tag, or a weak one, matches nothing (RFC 9110, 13.1.1).
    pub fn of(headers: &HeaderMap) -> IfMatch {
        let lines: Vec<&HeaderValue> = headers.get_all(header::IF_MATCH).iter().collect();
        if lines.is_empty() {
            return IfMatch::Anything;
        }
        let tags: Vec<String> = lines
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .map(|tag| tag.trim().to_owned())
            .collect();
        match tags.as_slice() {
            [only] if only == "*" => IfMatch::Anything,
            _ => IfMatch::Versions(tags),
        }
    }

    /// # Errors
    ///
    /// 412 if the webhook is not of a version that is asked for.
    pub fn check(&self, webhook: &Webhook) -> Result<(), Problem> {
        match self {
            IfMatch::Versions(tags) if !tags.contains(&etag_of(webhook)) => {
                Err(Problem::changed_meanwhile())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> IfMatch {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, line.parse().unwrap());
        }
        IfMatch::of(&headers)
    }

    #[test]
    fn a_star_or_nothing_asks_for_nothing() {
        assert_eq!(read(&[]), IfMatch::Anything);
        assert_eq!(read(&[" * "]), IfMatch::Anything);
        assert_ne!(read(&[""]), IfMatch::Anything);
    }

    #[test]
    fn tags_may_stand_in_one_line_or_several() {
        let all = IfMatch::Versions(vec!["\"a\"".into(), "W/\"b\"".into(), "\"c\"".into()]);
        assert_eq!(read(&["\"a\", W/\"b\"", "\"c\""]), all);
    }
}
