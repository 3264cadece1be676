//! Webhooks as a daemon of the next version may store them: of the same form, with keys that this one does not know.
//!
//! During a rolling restart both versions work on the same webhooks. What is unknown is passed over when a webhook is
//! read, and kept when it is changed.

use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Map, Value};

use super::StoredWebhook;
use crate::webhook::{RateLimit, RetryOverride, WebhookSpec};

/// What every form of a stored webhook has.
#[derive(Deserialize)]
pub(super) struct Form {
    pub v: u8,
}

/// The objects of the stored form: where each stands, and its keys.
fn objects() -> [(&'static [&'static str], &'static [&'static str]); 4] {
    [
        (&[], keys_of::<StoredWebhook>()),
        (&["spec"], keys_of::<WebhookSpec>()),
        (&["spec", "rate_limit"], keys_of::<RateLimit>()),
        (&["spec", "retry"], keys_of::<RetryOverride>()),
    ]
}

/// The keys that a type is read from.
fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Keys<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Keys<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(Self::Error::custom("only the keys are asked for"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys: &'static [&'static str] = &[];
    // It fails by design, after the keys were told.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

fn object_at<'a>(root: &'a mut Value, place: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut found = root;
    for key in place {
        found = found.get_mut(key)?;
    }
    found.as_object_mut()
}

/// What this daemon knows of a stored webhook, if that is enough.
pub(super) fn known_part(body: &[u8]) -> Option<StoredWebhook> {
    let mut root: Value = serde_json::from_slice(body).ok()?;
    for (place, keys) in objects() {
        if let Some(object) = object_at(&mut root, place) {
            object.retain(|key, _| keys.contains(&key.as_str()));
        }
    }
    serde_json::from_value(root).ok()
}

/// `body`, with what stands in the `stored` one and this daemon does not know.
pub(super) fn with_unknown_of(stored: Option<bytes::Bytes>, body: String) -> String {
    let stored = stored.and_then(|stored| serde_json::from_slice::<Value>(&stored).ok());
    let (Some(mut stored), Ok(mut root)) = (stored, serde_json::from_str::<Value>(&body)) else {
        return body;
    };
    let mut kept = false;
    for (place, keys) in objects() {
        let (Some(from), Some(into)) = (object_at(&mut stored, place), object_at(&mut root, place))
        else {
            continue;
        };
        for (key, value) in from.iter().filter(|(key, _)| !keys.contains(&key.as_str())) {
            into.insert(key.clone(), value.clone());
            kept = true;
        }
    }
    // Written anew only where there is something to keep: the order of the keys is then another one.
    if kept { root.to_string() } else { body }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: &str = r#"{"v":1,"spec":{"id":"w","tenant":"default","name":"w","url":"https://example.com/","events":["a.*"],"active":true,"rate_limit":{"per_second":5.0,"burst":1},"ordering":"none"},"secrets":["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="],"disabled_at_ms":0,"created_ms":1,"updated_ms":2}"#;

    fn next() -> String {
        TODAY
            .replace(r#""name":"w","#, r#""name":"w","colour":{"deep":[]},"#)
            .replace(r#""burst":1"#, r#""burst":1,"per":"host""#)
            .replace(r#""updated_ms":2"#, r#""updated_ms":2,"seen":3"#)
    }

    #[test]
    fn a_webhook_with_keys_of_the_next_version_is_read_without_them_and_written_with_them() {
        assert!(serde_json::from_str::<StoredWebhook>(&next()).is_err());
        let known = known_part(next().as_bytes()).expect("enough to go on with");
        let written = serde_json::to_string(&known).unwrap();
        assert_eq!(written, TODAY, "the bytes of today are pinned");
        let kept = with_unknown_of(Some(next().into()), written.clone());
        let (kept, next): (Value, Value) = (
            serde_json::from_str(&kept).unwrap(),
            serde_json::from_str(&next()).unwrap(),
        );
        assert_eq!(kept, next);
        assert_eq!(with_unknown_of(Some(TODAY.into()), written), TODAY);
    }

    #[test]
    fn the_objects_of_the_stored_form_know_their_keys() {
        for (place, keys) in objects() {
            assert!(keys.len() >= 2, "{place:?}: {keys:?}");
        }
        assert!(keys_of::<WebhookSpec>().contains(&"signature_scheme"));
    }
}
