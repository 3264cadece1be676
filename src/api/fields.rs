//! Reads the bodies and queries of requests: everything that is wrong is found at once, unknown fields included.

mod query;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use serde_json::Value;
use serde_json::value::RawValue;

pub use self::query::Query;
use super::problem::{Invalid, Problem};

/// What was found under a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Field<T> {
    /// Nothing, or something that was already refused.
    Absent,
    /// `null`.
    Null,
    /// A value of the right type.
    Given(T),
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub fn given(self) -> Option<T> {
        match self {
            Field::Given(value) => Some(value),
            Field::Absent | Field::Null => None,
        }
    }

    fn map<U>(self, change: impl FnOnce(T) -> Option<U>) -> Result<Field<U>, ()> {
        match self {
            Field::Absent => Ok(Field::Absent),
            Field::Null => Ok(Field::Null),
            Field::Given(value) => change(value).map(Field::Given).ok_or(()),
        }
    }
}

/// The members of a JSON object, each to be taken once.
pub struct Fields {
    members: BTreeMap<String, Box<RawValue>>,
    known: Vec<&'static str>,
    pointer: String,
    errors: Vec<Invalid>,
}

/// Escapes a member's name for a JSON pointer (RFC 6901).
pub fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

impl Fields {
    /// The members of a request's body. An empty body is an empty object.
    ///
    /// # Errors
    ///
    /// 415 without the media type of JSON, 400 for what is no JSON, 422 for what is no object.
    pub fn of_body(headers: &HeaderMap, body: &[u8]) -> Result<Fields, Problem> {
        if body.is_empty() {
            return Ok(Fields::new(BTreeMap::new(), ""));
        }
        let media_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or_default().trim());
        let json = media_type.is_some_and(|media_type| {
            let media_type = media_type.to_ascii_lowercase();
            media_type == "application/json"
                || (media_type.starts_with("application/") && media_type.ends_with("+json"))
        });
        if !json {
            return Err(Problem::unsupported_media_type());
        }
        let text =
            std::str::from_utf8(body).map_err(|_| Problem::malformed("The body is not UTF-8."))?;
        let whole: &RawValue = serde_json::from_str(text).map_err(|error| {
            // The place alone: the parser's own words could quote a secret.
            Problem::malformed(format!(
                "The body is not valid JSON (line {}, column {}).",
                error.line(),
                error.column()
            ))
        })?;
        match serde_json::from_str(whole.get()) {
            Ok(members) => Ok(Fields::new(members, "")),
            Err(_) => Err(Problem::invalid(vec![Invalid::at(
                "",
                "the body is no object",
                "a JSON object",
            )])),
        }
    }

    fn new(members: BTreeMap<String, Box<RawValue>>, pointer: &str) -> Fields {
        Fields {
            members,
            known: Vec::new(),
            pointer: pointer.to_owned(),
            errors: Vec::new(),
        }
    }

    /// The JSON pointer of a member.
    pub fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, token(name))
    }

    /// Notes that something is wrong with the member `name`.
    pub fn refuse(&mut self, name: &str, detail: impl Into<String>, allowed: impl Into<String>) {
        let pointer = self.pointer(name);
        self.errors.push(Invalid::at(pointer, detail, allowed));
    }

    /// Notes that something is wrong at a pointer.
    pub fn refuse_at(&mut self, error: Invalid) {
        self.errors.push(error);
    }

    /// Whether anything is wrong with the member `name`, or a part of it, so far.
    pub fn is_bad(&self, name: &str) -> bool {
        let pointer = self.pointer(name);
        self.errors.iter().any(|error| {
            error.pointer.as_ref().is_some_and(|at| {
                at.strip_prefix(pointer.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        })
    }

    /// Whether the member is there, whatever it holds.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Takes a member as it was written, byte for byte.
    pub fn raw(&mut self, name: &'static str) -> Option<Box<RawValue>> {
        self.known.push(name);
        self.members.remove(name)
    }

    /// Takes a member whose name is a setting. Its name is not offered for misspelt ones.
    pub fn raw_named(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.members.remove(name)
    }

    /// Takes a member of any type.
    pub fn any(&mut self, name: &'static str) -> Field<Value> {
        let raw = self.raw(name);
        self.parsed(name, raw)
    }

    fn parsed(&mut self, name: &str, raw: Option<Box<RawValue>>) -> Field<Value> {
        match raw.map(|raw| serde_json::from_str::<Value>(raw.get())) {
            None => Field::Absent,
            Some(Ok(Value::Null)) => Field::Null,
            Some(Ok(value)) => Field::Given(value),
            Some(Err(_)) => {
                self.refuse(
                    name,
                    "cannot be read",
                    "JSON whose numbers are not too large",
                );
                Field::Absent
            }
        }
    }

    fn typed<T>(
        &mut self,
        name: &str,
        found: Field<Value>,
        what: &str,
        allowed: &str,
        convert: impl FnOnce(Value) -> Option<T>,
    ) -> Field<T> {
        found.map(convert).unwrap_or_else(|()| {
            self.refuse(name, format!("is not {what}"), allowed);
            Field::Absent
        })
    }

    /// Takes a text.
    pub fn text(&mut self, name: &'static str, allowed: &str) -> Field<String> {
        let found = self.any(name);
        self.typed(name, found, "a text", allowed, as_text)
    }

    /// Takes a text whose name is a setting.
    pub fn text_named(&mut self, name: &str, allowed: &str) -> Field<String> {
        let raw = self.raw_named(name);
        let found = self.parsed(name, raw);
        self.typed(name, found, "a text", allowed, as_text)
    }

    /// Takes true or false.
    pub fn flag(&mut self, name: &'static str) -> Field<bool> {
        let found = self.any(name);
        self.typed(name, found, "true or false", "true or false", |value| {
            value.as_bool()
        })
    }

    /// Takes a whole number that is not negative.
    pub fn whole(&mut self, name: &'static str, allowed: &str) -> Field<u64> {
        let found = self.any(name);
        self.typed(
            name,
            found,
            "a whole number of 0 or more",
            allowed,
            |value| {
                // 2.0 is as whole as 2 in JSON.
                value.as_u64().or_else(|| {
                    let number = value.as_f64()?;
                    ((0.0..=9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0)
                        .then_some(number as u64)
                })
            },
        )
    }

    /// Takes a number.
    pub fn number(&mut self, name: &'static str, allowed: &str) -> Field<f64> {
        let found = self.any(name);
        self.typed(name, found, "a number", allowed, |value| value.as_f64())
    }

    /// Takes one of some texts.
    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Field<T> {
        let allowed = choices
            .iter()
            .map(|(text, _)| format!("{text:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let found = self.any(name);
        self.typed(name, found, "one of the choices", &allowed, |value| {
            let text = value.as_str()?;
            choices
                .iter()
                .find(|(choice, _)| *choice == text)
                .map(|(_, value)| *value)
        })
    }

    /// Takes a list of texts. Each that is none is refused at its own place.
    pub fn texts(&mut self, name: &'static str, allowed: &str) -> Field<Vec<String>> {
        let found = self.any(name);
        let found = self.typed(name, found, "a list", allowed, |value| match value {
            Value::Array(items) => Some(items),
            _ => None,
        });
        let Field::Given(items) = found else {
            return match found {
                Field::Null => Field::Null,
                _ => Field::Absent,
            };
        };
        let mut texts = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            match as_text(item) {
                Some(text) => texts.push(text),
                None => {
                    let pointer = format!("{}/{index}", self.pointer(name));
                    self.errors
                        .push(Invalid::at(pointer, "is not a text", allowed));
                }
            }
        }
        Field::Given(texts)
    }

    /// Takes an object of texts under any names. Each that is none is refused at its own place.
    pub fn text_map(
        &mut self,
        name: &'static str,
        allowed: &str,
    ) -> Field<BTreeMap<String, String>> {
        let found = self.any(name);
        let found = self.typed(name, found, "an object", allowed, |value| match value {
            Value::Object(members) => Some(members),
            _ => None,
        });
        let Field::Given(members) = found else {
            return match found {
                Field::Null => Field::Null,
                _ => Field::Absent,
            };
        };
        let mut texts = BTreeMap::new();
        for (key, item) in members {
            match as_text(item) {
                Some(text) => {
                    texts.insert(key, text);
                }
                None => {
                    let pointer = format!("{}/{}", self.pointer(name), token(&key));
                    self.errors
                        .push(Invalid::at(pointer, "is not a text", allowed));
                }
            }
        }
        Field::Given(texts)
    }

    /// Takes an object and reads its members; what is wrong with them is noted here, under their own pointers.
    pub fn object<T>(
        &mut self,
        name: &'static str,
        allowed: &str,
        read: impl FnOnce(&mut Fields) -> T,
    ) -> Field<T> {
        let pointer = self.pointer(name);
        let Some(raw) = self.raw(name) else {
            return Field::Absent;
        };
        if raw.get() == "null" {
            return Field::Null;
        }
        let Ok(members) = serde_json::from_str(raw.get()) else {
            self.refuse(name, "is not an object", allowed);
            return Field::Absent;
        };
        let mut inner = Fields::new(members, &pointer);
        let value = read(&mut inner);
        inner.refuse_unknown();
        self.errors.append(&mut inner.errors);
        Field::Given(value)
    }

    fn refuse_unknown(&mut self) {
        let unknown: Vec<String> = std::mem::take(&mut self.members).into_keys().collect();
        for name in unknown {
            let shown: String = name.chars().take(100).collect();
            let allowed = match self.known.is_empty() {
                true => "no field at all".to_owned(),
                false => format!("the fields {}", self.known.join(", ")),
            };
            let pointer = format!("{}/{}", self.pointer, token(&shown));
            self.errors
                .push(Invalid::at(pointer, "there is no such field", allowed));
        }
    }

    /// Refuses whatever was not taken, and tells all that is wrong.
    ///
    /// # Errors
    ///
    /// 422 with every mistake.
    pub fn finish(mut self) -> Result<(), Problem> {
        self.refuse_unknown();
        match self.errors.is_empty() {
            true => Ok(()),
            false => Err(Problem::invalid(self.errors)),
        }
    }
}

fn as_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
