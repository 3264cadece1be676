//! A whole delivery as it stands on its shelf.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::{Place, Shelf};
use crate::delivery::{AttemptLog, Tries};
use crate::event::Event;
use crate::store::codec;
use crate::store::dead::{self, DeadLetter};
use crate::store::error::StoreError;
use crate::store::value::{self, RawEntry};

/// A whole delivery.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it is.
    pub place: Place,
    /// The payload's bytes, if it is not part of the event here because it is too long.
    pub payload_left_out: bool,
    /// How it is with it.
    pub state: RecordState,
}

/// How it is with a delivery.
#[derive(Clone, Debug)]
pub enum RecordState {
    /// It waits.
    Queued {
        /// What it delivers.
        event: Arc<Event>,
        /// When its next attempt is due (Unix ms); `None` when it is not scheduled.
        due_ms: Option<u64>,
        /// What was tried so far.
        tries: Tries,
    },
    /// It was given up.
    Dead(Box<DeadLetter>),
    /// It succeeded.
    Finished {
        /// What was delivered; the payload is empty unless it was kept.
        event: Arc<Event>,
        /// Whether the payload was kept.
        has_payload: bool,
        /// Attempts in all.
        attempts: u32,
        /// What is kept of them.
        log: AttemptLog,
    },
}

impl Record {
    /// What is delivered.
    pub fn event(&self) -> &Event {
        match &self.state {
            RecordState::Queued { event, .. } | RecordState::Finished { event, .. } => event,
            RecordState::Dead(letter) => &letter.event,
        }
    }
}

/// Reads a reply of RECORDS; `None` for what is there no more.
pub(super) fn read_record(place: Place, reply: Value) -> Result<Option<Record>, StoreError> {
    if matches!(reply, Value::Nil) {
        return Ok(None);
    }
    let mut parts = value::items(reply).into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let mut fields = value::fields(next());
    let left_out = value::integer(&next()).unwrap_or(0) > 0;
    let (due, tries) = (value::text(next()), value::bytes(next()));
    let has_payload = fields.iter().any(|(name, _)| &name[..] == b"p");
    if !has_payload && place.shelf != Shelf::History {
        // The readers of queue entries and dead letters want one.
        fields.push((Bytes::from_static(b"p"), Bytes::new()));
    }
    let entry = RawEntry {
        id: place.id,
        fields: Some(fields),
    };
    let state = match place.shelf {
        Shelf::Queue => {
            let queued = codec::read_queued(&entry)?;
            let tries = tries.filter(|text| !text.is_empty());
            RecordState::Queued {
                event: queued.event,
                due_ms: due.and_then(|due| due.parse().ok()),
                tries: match tries {
                    Some(text) => codec::read_tries(&text)?,
                    None => Tries {
                        attempts: queued.attempts_before,
                        ..Tries::default()
                    },
                },
            }
        }
        Shelf::Dead => RecordState::Dead(Box::new(dead::read(&entry)?)),
        Shelf::History => {
            let finished = codec::read_history(&entry)?;
            RecordState::Finished {
                event: finished.event,
                has_payload: has_payload || left_out,
                attempts: finished.attempts,
                log: finished.log,
            }
        }
    };
    Ok(Some(Record {
        place,
        payload_left_out: left_out,
        state,
    }))
}
