//! The envelope: an event as one JSON object, which is the body of most deliveries.

use bytes::Bytes;

use super::Event;
use crate::clock::rfc3339_ms;

impl Event {
    /// The event in its envelope, `{"id","type","timestamp","tenantId","data"}` with `data` the platform's own bytes, and
    /// `tenant_field` for the name of the tenant's field.
    pub fn envelope(&self, tenant_field: &str) -> Bytes {
        match &self.enclosed {
            Some(enclosed) => enclosed.clone(),
            None => self.made_envelope(tenant_field),
        }
    }

    /// Makes the envelope ahead, once for all who will ask for it with the same `tenant_field`. The payload becomes a part of
    /// it, so that its bytes are there once.
    pub fn enclose(&mut self, tenant_field: &str) {
        if !self.payload_is_json || self.enclosed.is_some() {
            return;
        }
        let envelope = self.made_envelope(tenant_field);
        let end = envelope.len() - END.len();
        self.payload = envelope.slice(end - self.payload.len()..end);
        self.enclosed = Some(envelope);
    }

    fn made_envelope(&self, tenant_field: &str) -> Bytes {
        let parts = [&*self.id, &self.event_type, &self.tenant, tenant_field];
        let parts: usize = parts.iter().map(|part| quoted_bytes(part)).sum();
        // It lives as long as the event: more room than it needs would be memory that nobody counts.
        let mut text = Vec::with_capacity(self.payload.len() + parts + FIXED_BYTES);
        text.extend_from_slice(b"{\"id\":");
        quote(&mut text, &self.id);
        text.extend_from_slice(b",\"type\":");
        quote(&mut text, &self.event_type);
        text.extend_from_slice(b",\"timestamp\":\"");
        text.extend_from_slice(rfc3339_ms(self.time_ms).as_bytes());
        text.extend_from_slice(b"\",");
        quote(&mut text, tenant_field);
        text.push(b':');
        quote(&mut text, &self.tenant);
        text.extend_from_slice(b",\"data\":");
        text.extend_from_slice(&self.payload);
        text.extend_from_slice(END);
        Bytes::from(text)
    }
}

/// What follows the payload.
const END: &[u8] = b"}";
/// What the envelope takes beside the payload and the event's parts, and a little more.
const FIXED_BYTES: usize = 80;

/// What a part takes inside its quotes: it is visible ASCII.
fn quoted_bytes(part: &str) -> usize {
    let escaped = part.bytes().filter(|byte| matches!(byte, b'"' | b'\\'));
    part.len() + escaped.count()
}

fn quote(text: &mut Vec<u8>, value: &str) {
    // Text always serialises, and writing to memory does not fail.
    let _ = serde_json::to_writer(text, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EntryId;

    fn event() -> Event {
        Event {
            id: "evt\"1\\".into(),
            event_type: "a.b".into(),
            tenant: "t".into(),
            time_ms: 1_700_000_000_123,
            arrived_ms: 0,
            stream: "s".into(),
            entry_id: EntryId::MIN,
            content_type: "application/json".into(),
            payload_is_json: true,
            payload: Bytes::from_static(b"{ \"n\" : 1.0e0 , \"n\":2 }"),
            enclosed: None,
        }
    }

    #[test]
    fn the_envelope_holds_the_platforms_own_bytes() {
        assert_eq!(
            std::str::from_utf8(&event().envelope("officeId")).unwrap(),
            "{\"id\":\"evt\\\"1\\\\\",\"type\":\"a.b\",\"timestamp\":\"2023-11-14T22:13:20.123Z\",\
             \"officeId\":\"t\",\"data\":{ \"n\" : 1.0e0 , \"n\":2 }}"
        );
    }

    #[test]
    fn an_event_that_was_enclosed_has_the_same_envelope_and_payload_in_one_piece_of_memory() {
        let plain = event();
        let mut enclosed = event();
        enclosed.enclose("officeId");
        enclosed.enclose("officeId");
        let envelope = enclosed.envelope("officeId");
        assert_eq!(envelope, plain.envelope("officeId"));
        assert_eq!(enclosed.payload, plain.payload);
        let (whole, part) = (envelope.as_ptr_range(), enclosed.payload.as_ptr_range());
        assert!(whole.start < part.start && part.end < whole.end);
    }

    #[test]
    fn an_envelope_takes_the_room_it_needs() {
        let event = Event {
            id: "\"".repeat(256),
            event_type: "\\".repeat(256),
            tenant: "t".repeat(256),
            payload: Bytes::from(format!("\"{}\"", "x".repeat(10_000))),
            ..event()
        };
        let envelope = Vec::from(event.envelope("officeId"));
        let room = envelope.capacity() - envelope.len();
        assert!(room < 16, "{room}");
    }

    #[test]
    fn what_is_not_json_is_not_enclosed() {
        let mut event = Event {
            payload_is_json: false,
            payload: Bytes::from_static(b"a: b"),
            ..event()
        };
        event.enclose("officeId");
        assert_eq!((event.enclosed, &event.payload[..]), (None, &b"a: b"[..]));
    }
}
