//! Parts of a JSON text as slices of it, without building a tree.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Whether the bytes are one JSON value, white space around it aside.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    // Unlike IgnoredAny, a RawValue must be UTF-8 throughout.
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

/// The top level of a JSON object, read once.
pub(super) struct Object<'a> {
    whole: &'a str,
    members: Vec<(String, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// `None` when the bytes are no JSON object.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let raw: &RawValue = serde_json::from_slice(bytes).ok()?;
        let Members(members) = serde_json::from_str(raw.get()).ok()?;
        Some(Object {
            whole: raw.get(),
            members,
        })
    }

    /// A member by name, as its JSON text; the last of several, as most parsers have it.
    pub(super) fn member(&self, name: &str) -> Option<&'a str> {
        self.members
            .iter()
            .rev()
            .find(|(member, _)| member == name)
            .map(|(_, value)| value.get())
    }

    /// What a JSON pointer (RFC 6901) leads to, as its JSON text. The empty pointer is the whole.
    pub(super) fn point(&self, pointer: &str) -> Option<&'a str> {
        if pointer.is_empty() {
            return Some(self.whole);
        }
        let mut tokens = pointer.strip_prefix('/')?.split('/').map(unescape);
        let first = self.member(&tokens.next()?)?;
        tokens.try_fold(first, |value, token| step(value, &token))
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn step<'a>(value: &'a str, token: &str) -> Option<&'a str> {
    let mut deserializer = serde_json::Deserializer::from_str(value);
    deserializer
        .deserialize_any(Step { token })
        .ok()
        .flatten()
        .map(RawValue::get)
}

/// A scalar's text: of a string what it says, of a whole number its digits. `Some(None)` stands for
/// `null`; `None` for what is no such scalar.
pub(super) fn scalar(value: &str) -> Option<Option<String>> {
    match value.as_bytes().first()? {
        b'n' => Some(None),
        b'"' => serde_json::from_str(value).ok().map(Some),
        b'0'..=b'9' | b'-' if value.bytes().skip(1).all(|byte| byte.is_ascii_digit()) => {
            Some(Some(value.to_owned()))
        }
        _ => None,
    }
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Collect)
    }
}

/// One step of a pointer: into an object's member or an array's element.
struct Step<'t> {
    token: &'t str,
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object or array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.token {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // As RFC 6901 has it: no sign and no leading zeros.
        let plain = self.token.bytes().all(|byte| byte.is_ascii_digit())
            && (self.token == "0" || !self.token.starts_with('0'));
        let wanted = self.token.parse::<usize>().ok().filter(|_| plain);
        let mut found = None;
        let mut index = 0;
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if Some(index) == wanted {
                found = Some(element);
            }
            index += 1;
        }
        Ok(found)
    }
}
