//! An event out of a stream entry's fields.
//!
//! Platforms lay out their entries as they like, so a [`Layout`] made from a source's settings says where
//! the parts stand. The payload is never parsed and written anew: what an [`Event`] holds are the very
//! bytes that the platform wrote.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

mod cloudevents;
pub mod compose;
mod entry_id;
mod envelope;
mod fields;
mod json;
mod layout;
mod moment;
mod rejection;

pub use entry_id::{EntryId, EntryIdError, EntryIdText};
pub use layout::Layout;
pub use rejection::{RejectReason, Rejection, UnknownRejectReason};

#[cfg(test)]
mod tests;

/// One event, as it is fanned out.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The platform's id, or one derived from stream and entry id; visible ASCII, 1 to 256 bytes.
    pub id: String,
    /// A dotted name such as `crm.lead.created`; visible ASCII, 1 to 256 bytes.
    pub event_type: String,
    /// Whose event it is; visible ASCII, 1 to 256 bytes.
    pub tenant: String,
    /// When it happened, in Unix milliseconds: the platform's word, or else when the entry was added.
    pub time_ms: u64,
    /// When the entry was added to the stream, in Unix milliseconds.
    pub arrived_ms: u64,
    /// The stream that it came by.
    pub stream: Arc<str>,
    /// Its entry there.
    pub entry_id: EntryId,
    /// The media type of the payload; fit to be a header's value.
    pub content_type: String,
    /// The payload, byte for byte as the platform wrote it.
    pub payload: Bytes,
    /// Whether the payload was found to be one JSON value, so that it may be put inside an envelope.
    pub payload_is_json: bool,
    /// The envelope that the payload is a part of, if it was made ahead; see [`Event::enclose`].
    pub enclosed: Option<Bytes>,
}

impl Event {
    /// All of it but the payload's bytes.
    pub fn without_payload(&self) -> Event {
        Event {
            payload: Bytes::new(),
            enclosed: None,
            ..self.clone()
        }
    }
}

/// Shows everything but the payload's bytes, which are a customer's data.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .field("tenant", &self.tenant)
            .field("time_ms", &self.time_ms)
            .field("stream", &self.stream)
            .field("entry_id", &self.entry_id)
            .field("content_type", &self.content_type)
            .field("payload_bytes", &self.payload.len())
            .field("payload_is_json", &self.payload_is_json)
            .finish_non_exhaustive()
    }
}
