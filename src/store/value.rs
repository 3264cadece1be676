//! Walking the replies of Redis by hand: cheaper than the library's typed stream replies, and bytes are moved, not copied.

use bytes::Bytes;
use redis::Value;

use super::connection::Link;
use super::error::StoreError;
use crate::event::EntryId;

/// A stream entry as Redis replied it; without fields if it was trimmed or deleted while it was pending.
#[derive(Debug)]
pub(crate) struct RawEntry {
    pub id: EntryId,
    pub fields: Option<Vec<(Bytes, Bytes)>>,
}

impl RawEntry {
    /// The value of a field, as text.
    pub fn text(&self, name: &str) -> Option<String> {
        let text = std::str::from_utf8(self.get(name)?).ok()?;
        Some(text.to_owned())
    }

    /// The value of a field, to keep.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        self.get(name).cloned()
    }

    /// The value of a field, to look at.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.fields
            .as_ref()?
            .iter()
            .find(|(field, _)| field == name.as_bytes())
            .map(|(_, value)| value)
    }
}

pub(crate) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> StoreError {
    StoreError::Corrupt {
        what: what.into(),
        reason: reason.into(),
    }
}

/// Code and details, if the reply is an error.
pub(crate) fn server_error(value: &Value) -> Option<(String, String)> {
    match value {
        Value::ServerError(error) => Some((
            error.code().to_owned(),
            error.details().unwrap_or_default().to_owned(),
        )),
        _ => None,
    }
}

pub(crate) fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        Value::SimpleString(text) => Some(Bytes::from(text)),
        Value::VerbatimString { text, .. } => Some(Bytes::from(text)),
        Value::Int(number) => Some(Bytes::from(number.to_string())),
        Value::Double(number) => Some(Bytes::from(number.to_string())),
        _ => None,
    }
}

pub(crate) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes.into()).ok())
}

pub(crate) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Double(number) => Some(*number as i64),
        Value::BulkString(bytes) => {
            let text = std::str::from_utf8(bytes).ok()?;
            // Scores come as floating-point text, possibly with an exponent.
            text.parse()
                .ok()
                .or_else(|| text.parse::<f64>().ok().map(|number| number as i64))
        }
        _ => None,
    }
}

pub(crate) fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(key, value)| [key, value])
            .collect(),
        _ => Vec::new(),
    }
}

/// The pairs of a flat or nested list of pairs.
pub(crate) fn pairs(value: Value) -> Vec<(Value, Value)> {
    match value {
        Value::Map(pairs) => pairs,
        other => {
            let mut list = items(other).into_iter();
            let mut pairs = Vec::new();
            while let Some(first) = list.next() {
                match first {
                    // RESP3 nests the pairs of a scored range.
                    Value::Array(mut pair) if pair.len() == 2 => {
                        let second = pair.pop().unwrap_or(Value::Nil);
                        pairs.push((pair.pop().unwrap_or(Value::Nil), second));
                    }
                    first => pairs.push((first, list.next().unwrap_or(Value::Nil))),
                }
            }
            pairs
        }
    }
}

/// The pairs of a hash as text.
pub(crate) fn text_map(value: Value) -> std::collections::HashMap<String, String> {
    pairs(value)
        .into_iter()
        .filter_map(|(key, value)| Some((text(key)?, text(value)?)))
        .collect()
}

pub(crate) fn entry_id(value: Value) -> Result<EntryId, StoreError> {
    let bytes = bytes(value).unwrap_or_default();
    let text = std::str::from_utf8(&bytes)
        .ok()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| corrupt("a stream entry's id", "it is not text"))?;
    text.parse().map_err(|_| {
        corrupt(
            "a stream entry's id",
            format!("{text:?} is not of the form ms-seq"),
        )
    })
}

/// The entries of one XRANGE, or of one stream of an XREADGROUP.
pub(crate) fn entries(value: Value) -> Result<Vec<RawEntry>, StoreError> {
    items(value)
        .into_iter()
        .filter(|item| !matches!(item, Value::Nil))
        .map(|item| {
            let mut parts = items(item).into_iter();
            let id = entry_id(parts.next().unwrap_or(Value::Nil))?;
            let fields = match parts.next() {
                None | Some(Value::Nil) => None,
                Some(list) => Some(fields(list)),
            };
            Ok(RawEntry { id, fields })
        })
        .collect()
}

/// The fields of an entry, which come as a flat list of names and values.
pub(crate) fn fields(list: Value) -> Vec<(Bytes, Bytes)> {
    let mut list = items(list).into_iter();
    let mut fields = Vec::with_capacity(list.len() / 2);
    while let (Some(name), Some(value)) = (list.next(), list.next()) {
        fields.push((
            bytes(name).unwrap_or_default(),
            bytes(value).unwrap_or_default(),
        ));
    }
    fields
}

/// The id of a stream's newest entry.
pub(crate) async fn newest(
    link: &Link,
    operation: &'static str,
    key: &str,
) -> Result<Option<EntryId>, StoreError> {
    let mut commands = redis::pipe();
    commands
        .cmd("XREVRANGE")
        .arg(key)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1);
    let reply = link.slowly(operation, &commands).await?.pop();
    Ok(entries(reply.unwrap_or(Value::Nil))?
        .first()
        .map(|entry| entry.id))
}

/// The streams of an XREAD or XREADGROUP reply, by key; none on a timeout.
pub(crate) fn streams(value: Value) -> Result<Vec<(String, Vec<RawEntry>)>, StoreError> {
    pairs(value)
        .into_iter()
        .map(|(key, list)| {
            let key = text(key)
                .ok_or_else(|| corrupt("the reply of a stream read", "a key is not text"))?;
            Ok((key, entries(list)?))
        })
        .collect()
}
