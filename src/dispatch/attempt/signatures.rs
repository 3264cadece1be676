//! The signatures of a request. They tell its second; within that they may be made ahead of it.

use http::HeaderValue;

use super::Prepared;
use crate::event::Event;
use crate::signature::SigningKeys;

/// The signatures of an event as of a moment, by all secrets that sign then.
pub struct Signatures {
    unix_s: u64,
    /// Whether they are by the secrets that remain after a rotation.
    is_rotated: bool,
    /// The operator's header.
    pub(super) own: Option<HeaderValue>,
    /// The one beside it, while a secret rotates.
    pub(super) previous: Option<HeaderValue>,
    /// That of Standard Webhooks.
    pub(super) standard: Option<HeaderValue>,
}

impl Prepared {
    /// The signatures of a request for `event` that will be made soon, as of `at_ms` (Unix ms); `None` where that is none, or
    /// the payload is long.
    pub fn sign_ahead(&self, event: &Event, at_ms: u64) -> Option<Box<Signatures>> {
        let is_made = self.can_carry(event) && self.can_make_ahead(event);
        is_made.then(|| Box::new(self.sign(event, at_ms)))
    }

    fn sign(&self, event: &Event, at_ms: u64) -> Signatures {
        self.sign_body(event, &self.body(event), at_ms)
    }

    fn sign_body(&self, event: &Event, body: &[u8], at_ms: u64) -> Signatures {
        let unix_s = at_ms / 1_000;
        let (is_rotated, keys) = self.keys_at(at_ms);
        // Signatures are visible ASCII.
        let header = |text: String| HeaderValue::try_from(text).ok();
        let standard = self.standard_webhooks;
        Signatures {
            unix_s,
            is_rotated,
            own: header(keys.sign(self.scheme, unix_s, body)),
            previous: keys.sign_previous(self.scheme, body).and_then(header),
            standard: standard
                .then(|| keys.sign_standard(&event.id, unix_s, body))
                .flatten()
                .and_then(header),
        }
    }

    /// Those that were `made` for this event and its `body` before, if they hold for `at_ms` (Unix ms) as well; or else new
    /// ones.
    pub(super) fn signatures(
        &self,
        made: Option<Box<Signatures>>,
        event: &Event,
        body: &[u8],
        at_ms: u64,
    ) -> Signatures {
        let (is_rotated, _) = self.keys_at(at_ms);
        match made {
            Some(made) if made.unix_s == at_ms / 1_000 && made.is_rotated == is_rotated => *made,
            _ => self.sign_body(event, body, at_ms),
        }
    }

    /// What signs at `at_ms` (Unix ms), and whether that is what remains after a rotation.
    fn keys_at(&self, at_ms: u64) -> (bool, &SigningKeys) {
        match &self.rotated {
            Some((end, keys)) if at_ms >= *end => (true, keys),
            _ => (false, &self.keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::event::EntryId;
    use crate::settings::{Secret, Settings};
    use crate::signature::Scheme;
    use crate::webhook::Webhook;

    /// A webhook whose rotation ends then, signed under `scheme`.
    fn rotating(scheme: Scheme, rotation_ends_ms: u64) -> Prepared {
        let mut settings = Settings::load(None, None, std::iter::empty()).expect("the defaults");
        settings.signature.scheme = scheme;
        let spec = serde_json::json!({
            "id": "w", "name": "w", "url": "https://example.com/", "events": ["*"],
        });
        let webhook = Webhook {
            spec: serde_json::from_value(spec).expect("a webhook"),
            uid: "u".to_owned(),
            version: 1,
            secrets: ["whsec_bmV3", "whsec_b2xk"].map(Secret::from).to_vec(),
            rotation_ends_ms: Some(rotation_ends_ms),
            disabled: None,
            managed_by: None,
            created_ms: 1,
            updated_ms: 1,
        };
        Prepared::new(&webhook, &settings).expect("a webhook that can be called")
    }

    fn event() -> Event {
        Event {
            id: "e".into(),
            event_type: "a.b".into(),
            tenant: "t".into(),
            time_ms: 0,
            arrived_ms: 0,
            stream: "s".into(),
            entry_id: EntryId::MIN,
            content_type: "application/json".into(),
            payload_is_json: true,
            payload: Bytes::from_static(b"1"),
            enclosed: None,
        }
    }

    fn headers(signatures: Signatures) -> [Option<HeaderValue>; 3] {
        [signatures.own, signatures.previous, signatures.standard]
    }

    proptest! {
        #[test]
        fn whatever_was_signed_ahead_a_request_is_signed_as_of_its_own_moment(
            scheme in prop::sample::select(vec![Scheme::Timestamped, Scheme::Sha256, Scheme::Hex]),
            ends_ms in 0..4_000_u64,
            made_ms in 0..4_000_u64,
            at_ms in 0..4_000_u64,
        ) {
            let (prepared, event) = (rotating(scheme, ends_ms), event());
            let made = prepared.sign(&event, made_ms);
            let used = prepared.signatures(Some(Box::new(made)), &event, &prepared.body(&event), at_ms);
            prop_assert_eq!(headers(used), headers(prepared.sign(&event, at_ms)));
        }
    }

    #[test]
    fn what_was_signed_ahead_is_used_within_its_second() {
        let (prepared, event) = (rotating(Scheme::Timestamped, 5_500), event());
        let ahead = HeaderValue::from_static("ahead");
        let own_at = |at_ms| {
            let made = Signatures {
                own: Some(ahead.clone()),
                ..prepared.sign(&event, 4_100)
            };
            prepared
                .signatures(Some(Box::new(made)), &event, &prepared.body(&event), at_ms)
                .own
        };
        assert_eq!(own_at(4_999), Some(ahead.clone()));
        assert_ne!(own_at(5_000), Some(ahead));
    }
}
