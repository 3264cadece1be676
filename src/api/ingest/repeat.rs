//! Requests that may be sent again (draft-ietf-httpapi-idempotency-key-header): the same key and the same request have
//! the same answer, and one effect.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::AddedEvent;
use crate::api::Api;
use crate::api::problem::{Invalid, Problem};
use crate::delivery::short_digest;
use crate::store::idempotency::Known;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const ALLOWED: &str = "1 to 255 visible ASCII characters, once";
/// What a request may take beyond its timeout before its key is free again, in case it was cut off.
const MARGIN: Duration = Duration::from_secs(5);

/// The key of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

/// A digest of parts that cannot be mistaken for that of others: each goes with its length.
pub fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex::encode(hasher.finalize())
}

impl Key {
    /// The key in the headers, if there is one. Quotes around it, as the draft has them, are part of it.
    ///
    /// # Errors
    ///
    /// There are several, or it is none.
    pub fn of(headers: &HeaderMap) -> Result<Option<Key>, Invalid> {
        let mut lines = headers.get_all(HEADER).iter();
        let Some(first) = lines.next() else {
            return Ok(None);
        };
        let text = first.as_bytes();
        let visible = text.iter().all(u8::is_ascii_graphic);
        if lines.next().is_some() || !(1..=255).contains(&text.len()) || !visible {
            return Err(Invalid::parameter(
                "Idempotency-Key",
                "is no such key, or is given twice",
                ALLOWED,
            ));
        }
        Ok(Some(Key(String::from_utf8_lossy(text).into_owned())))
    }

    /// The id of an event that is added under the key and has none of its own.
    pub fn event_id(&self, tenant: &str, request: &str) -> String {
        format!("evt_{}", short_digest(&[tenant, &self.0, request]))
    }

    /// Keys of one tenant are no other's.
    fn digest_for(&self, tenant: &str) -> String {
        digest(&[tenant, &self.0])
    }
}

/// Carries `work` out unless the key was used already. Answers with the event, and whether it was added before.
///
/// # Errors
///
/// 409 while another request with the key is at work, 422 if the key was used for another request, whatever `work`
/// fails with: the key is then free for another try.
pub async fn once(
    api: &Api,
    key: &Key,
    tenant: &str,
    request: &str,
    work: impl Future<Output = Result<AddedEvent, Problem>>,
) -> Result<(AddedEvent, bool), Problem> {
    let digest = key.digest_for(tenant);
    let at_work = api.settings.api.request_timeout + MARGIN;
    match api
        .store
        .begin_idempotent(&digest, request, at_work)
        .await?
    {
        Known::New => {}
        Known::AtWork => {
            return Err(Problem::conflict(
                "A request with the same Idempotency-Key is under way, or was cut off. Try again in a moment.",
            ));
        }
        Known::OtherRequest => {
            return Err(Problem::invalid(vec![Invalid::parameter(
                "Idempotency-Key",
                "was used for another request in the last 24 hours",
                "another key for each event",
            )]));
        }
        Known::Answered(answer) => {
            let added = serde_json::from_str(&answer).map_err(|error| {
                tracing::error!(%error, "what is kept under an idempotency key is no answer");
                Problem::internal()
            })?;
            return Ok((added, true));
        }
    }
    match work.await {
        Ok(added) => {
            // Text always serialises.
            let answer = serde_json::to_string(&added).unwrap_or_default();
            if let Err(error) = api.store.end_idempotent(&digest, request, &answer).await {
                // The event is there, and that is what the caller must know. A repeat finds the key taken until it runs
                // out, and then adds the event again, under the same id.
                tracing::warn!(%error, "the answer under an idempotency key could not be kept");
            }
            Ok((added, false))
        }
        Err(problem) => {
            if let Err(error) = api.store.forget_idempotent(&digest).await {
                tracing::debug!(%error, "an idempotency key stays taken until it runs out");
            }
            Err(problem)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Key>, Invalid> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, line.parse().unwrap());
        }
        Key::of(&headers)
    }

    #[test]
    fn a_key_is_visible_ascii_and_stands_alone() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["k"]), Ok(Some(Key("k".into()))));
        assert!(read(&[&"k".repeat(255)]).is_ok());
        for wrong in [&[""][..], &["a b"], &["a", "a"], &[&"k".repeat(256)]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_event_of_another_tenant_key_or_request_has_another_id() {
        let id = |tenant, key: &str, request| Key(key.into()).event_id(tenant, request);
        let one = id("a", "k", "r");
        assert_eq!(one, id("a", "k", "r"));
        for other in [id("b", "k", "r"), id("a", "l", "r"), id("a", "k", "s")] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
