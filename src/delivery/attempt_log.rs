//! What is kept of each attempt, for the people who look into a delivery.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{LONGEST_ERROR, cut};

/// Attempts of one delivery that are kept in detail: the first and the newest.
pub const LONGEST_LOG: usize = 20;
/// The beginning of an answer's body that is kept of the last attempt, in bytes.
const LONGEST_ANSWER: usize = 1_024;
/// The same of the attempts before it: a delivery that is tried for days must not grow with each.
const LONGEST_EARLIER_ANSWER: usize = 256;

/// How long the parts of an attempt took, in microseconds; `None` where there was no such part or no measurement.
///
/// One-letter names, because these stand in every record of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Phases {
    /// Looking up the receiver's name; `None` over a connection that was there already.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub dns_us: Option<u64>,
    /// TCP's handshake.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    /// TLS' handshake.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u64>,
    /// From the start of the attempt to the head of the answer.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
}

/// One attempt as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Which attempt it was, from 1: what its attempt header said.
    #[serde(rename = "n")]
    pub number: u32,
    /// When it began, in Unix milliseconds.
    #[serde(rename = "t")]
    pub started_ms: u64,
    /// The status of the answer, if there was one.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it failed, in plain words and at most [`LONGEST_ERROR`] bytes; empty when it did not.
    #[serde(rename = "e", default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// From its start to its end, in microseconds.
    #[serde(rename = "d")]
    pub total_us: u64,
    /// The parts of that time.
    #[serde(flatten)]
    pub phases: Phases,
    /// The beginning of the answer's body; what is not UTF-8 in it is replaced.
    #[serde(rename = "b", default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// What the request's headers can be told from.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<ShapeText>,
}

/// The attempts of a delivery, in order, the first and the newest of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptLog(Vec<AttemptRecord>);

impl AttemptLog {
    /// The attempts, in order. Where numbers are missing between the first and the second there were more.
    pub fn records(&self) -> &[AttemptRecord] {
        &self.0
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the newest attempt. Its texts are cut to what is kept, those of its predecessor further.
    pub fn push(&mut self, mut record: AttemptRecord) {
        if let Some(last) = self.0.last_mut() {
            shorten(&mut last.answer, LONGEST_EARLIER_ANSWER);
        }
        if self.0.is_empty() {
            // Nearly every delivery has one attempt, and room for one is not what a list begins with.
            self.0.reserve_exact(1);
        }
        shorten(&mut record.answer, LONGEST_ANSWER);
        shorten(&mut record.error, LONGEST_ERROR);
        if self.0.len() >= LONGEST_LOG {
            // The first one stays: it tells how the trouble began.
            self.0.remove(1);
        }
        self.0.push(record);
    }
}

fn shorten(text: &mut String, bytes: usize) {
    let end = cut(text, bytes).len();
    text.truncate(end);
}

/// What of a request's headers is not the same for every webhook, so that they can be shown later without being kept:
/// `<version>|<e or p>|<signature header>|<signatures>|<own headers, by commas>`, where `signatures` is the sum of 1 if the
/// headers of Standard Webhooks were sent, 2 if the older secret's signature was, 4 if `webhook-signature` was not.
///
/// Values of a webhook's own headers are secret and no part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestShape {
    /// The version of Pombo that sent it.
    pub version: String,
    /// Whether the body was an envelope.
    pub envelope: bool,
    /// The name of the signature's header.
    pub signature_header: String,
    /// Whether the headers of the Standard Webhooks specification were sent as well.
    pub standard_webhooks: bool,
    /// Whether the older secret's signature was sent in a header of its own, because one rotated.
    pub previous_signature: bool,
    /// Whether `webhook-signature` was missing among them, because no secret was fit for it.
    pub standard_unsigned: bool,
    /// The names of the webhook's own headers.
    pub own_headers: Vec<String>,
}

impl fmt::Display for RequestShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}|{}|{}|{}|{}",
            self.version,
            if self.envelope { 'e' } else { 'p' },
            self.signature_header,
            u8::from(self.standard_webhooks)
                + 2 * u8::from(self.previous_signature)
                + 4 * u8::from(self.standard_unsigned),
            self.own_headers.join(",")
        )
    }
}

/// A text that is no [`RequestShape`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is not the shape of a request")]
pub struct NoShape;

impl FromStr for RequestShape {
    type Err = NoShape;

    fn from_str(text: &str) -> Result<Self, NoShape> {
        // The names of headers may hold this sign too, and those of the webhook's own come last.
        let parts: Vec<&str> = text.splitn(5, '|').collect();
        let [version, body, signature_header, signatures, own] = parts[..] else {
            return Err(NoShape);
        };
        let signatures: u8 = signatures.parse().map_err(|_| NoShape)?;
        Ok(RequestShape {
            version: version.to_owned(),
            envelope: body == "e",
            signature_header: signature_header.to_owned(),
            standard_webhooks: signatures & 1 != 0,
            previous_signature: signatures & 2 != 0,
            standard_unsigned: signatures & 4 != 0,
            own_headers: own
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }
}

/// A [`RequestShape`] as it is stored: made once for all attempts that share it, and read when somebody looks at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShapeText(Arc<str>);

impl ShapeText {
    /// The shape; `None` where it cannot be read. It is there to be looked at, and keeps no delivery from being read.
    pub fn read(&self) -> Option<RequestShape> {
        self.0.parse().ok()
    }
}

impl From<&RequestShape> for ShapeText {
    fn from(shape: &RequestShape) -> ShapeText {
        ShapeText(shape.to_string().into())
    }
}

impl Serialize for ShapeText {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ShapeText {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(ShapeText(String::deserialize(from)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32) -> AttemptRecord {
        AttemptRecord {
            number,
            started_ms: u64::from(number),
            answer: "é".repeat(800),
            ..AttemptRecord::default()
        }
    }

    #[test]
    fn a_log_keeps_the_first_and_the_newest_attempts_and_shortens_old_answers() {
        let mut log = AttemptLog::default();
        (1..=100).for_each(|number| log.push(record(number)));
        let numbers: Vec<u32> = log.records().iter().map(|record| record.number).collect();
        assert_eq!(numbers.len(), LONGEST_LOG);
        assert_eq!((numbers[0], numbers[1], numbers[19]), (1, 82, 100));
        assert_eq!(log.records()[18].answer.len(), LONGEST_EARLIER_ANSWER);
        assert_eq!(log.records()[19].answer.len(), LONGEST_ANSWER);
    }

    #[test]
    fn a_record_reads_back_as_it_was_written_and_its_form_is_pinned() {
        let shape = RequestShape {
            version: "0.1.0".into(),
            envelope: true,
            signature_header: "x-signature".into(),
            standard_webhooks: true,
            previous_signature: false,
            standard_unsigned: false,
            own_headers: vec!["authorization".into(), "x-team".into()],
        };
        let record = AttemptRecord {
            number: 2,
            started_ms: 1_700_000_000_123,
            status: Some(500),
            error: "answered 500 Internal Server Error".into(),
            total_us: 1_234,
            phases: Phases {
                dns_us: Some(1),
                first_byte_us: Some(1_200),
                ..Phases::default()
            },
            answer: "oops".into(),
            shape: Some(ShapeText::from(&shape)),
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text,
            "{\"n\":2,\"t\":1700000000123,\"s\":500,\"e\":\"answered 500 Internal Server Error\",\"d\":1234,\
             \"q\":1,\"f\":1200,\"b\":\"oops\",\"h\":\"0.1.0|e|x-signature|1|authorization,x-team\"}"
        );
        let read: AttemptRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(read, record);
        assert_eq!(read.shape.unwrap().read(), Some(shape));
    }

    #[test]
    fn every_shape_reads_back_and_what_is_none_is_refused() {
        for bits in 0..8 {
            let shape = RequestShape {
                version: "0.1.0".into(),
                envelope: bits % 2 == 0,
                signature_header: "x-signature".into(),
                standard_webhooks: bits & 1 != 0,
                previous_signature: bits & 2 != 0,
                standard_unsigned: bits & 4 != 0,
                own_headers: vec!["a|b".into(), "|".into()],
            };
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        for text in ["", "0.1.0|e|x|1", "0.1.0|e|x|yes|", "0.1.0|e|x|y|1|"] {
            assert_eq!(text.parse::<RequestShape>(), Err(NoShape), "{text}");
            let record = format!("{{\"n\":1,\"t\":2,\"d\":3,\"h\":{text:?}}}");
            let record: AttemptRecord = serde_json::from_str(&record).unwrap();
            assert_eq!(record.number, 1);
            assert_eq!(record.shape.unwrap().read(), None, "{text}");
        }
    }
}
