//! Reads a file of webhooks. Every mistake is found at once and told with its line.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Kind};
use crate::settings::units::parse_duration;
use crate::settings::{Problem, alike, join};
use crate::target::TargetRules;
use crate::webhook::filter::ALLOWED_FILTERS;
use crate::webhook::{EventFilter, WebhookSpec};

/// What webhooks are held against besides their own rules: the settings of the daemon.
pub struct Surroundings<'a> {
    /// Which URLs may be called.
    pub rules: &'a TargetRules,
    /// The name of the signature's header, which no webhook may set.
    pub signature_header: &'a str,
}

/// Reads the text of the file called `name`.
///
/// # Errors
///
/// Everything that is wrong, in the order of the file. Holds no value of the file but choices and ids.
pub fn read(
    name: &str,
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<WebhookSpec>, Vec<Problem>> {
    let mut reader = Reader {
        name,
        lines: line_starts(text),
        found: Vec::new(),
    };
    let webhooks = reader.document(text, surroundings);
    if reader.found.is_empty() {
        return Ok(webhooks);
    }
    reader.found.sort_by_key(|(at, _)| *at);
    Err(reader
        .found
        .into_iter()
        .map(|(_, problem)| problem)
        .collect())
}

struct Reader<'a> {
    name: &'a str,
    lines: Vec<usize>,
    /// Problems, and where in the text they are.
    found: Vec<(usize, Problem)>,
}

fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    std::iter::once(0)
        .chain(ends.map(|(at, _)| at + 1))
        .collect()
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    fn refuse(&mut self, at: usize, key: &str, reason: impl Into<String>, allowed: &str) {
        let problem = Problem {
            key: key.to_owned(),
            origin: format!("{}:{}", self.name, self.line(at)),
            reason: reason.into(),
            allowed: allowed.to_owned(),
            nearest: None,
        };
        self.found.push((at, problem));
    }

    /// Refuses an unknown key, and returns the known one that was probably meant.
    fn unknown(&mut self, at: usize, key: &str, name: &str, known: &[&str]) -> Option<String> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        let nearest = alike(known.iter().map(|&known| known.to_owned()), &name);
        self.refuse(at, key, "is no key that there is", &known.join(", "));
        if let Some((_, problem)) = self.found.last_mut() {
            problem.nearest.clone_from(&nearest);
        }
        nearest
    }

    fn document(&mut self, text: &str, surroundings: &Surroundings<'_>) -> Vec<WebhookSpec> {
        const ALLOWED: &str = "[[webhooks]] tables; webhooks = [] says that there are none";
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            // The message alone: the error's full text would quote the line, and with it perhaps a secret.
            let at = error.span().map_or(0, |span| span.start);
            self.refuse(
                at,
                "(the file)",
                format!("is not valid TOML: {}", error.message()),
                "",
            );
        }
        if !errors.is_empty() {
            return Vec::new();
        }
        let mut webhooks = None;
        for (key, value) in document.into_inner() {
            let at = key.span().start;
            match key.into_inner().as_ref() {
                "webhooks" => webhooks = Some((at, value.into_inner())),
                other => {
                    self.unknown(at, &join("", other), other, &["webhooks"]);
                }
            }
        }
        let items = match webhooks {
            Some((_, DeValue::Array(items))) => items,
            Some((at, other)) => {
                self.refuse(at, "webhooks", format!("is {}", describe(&other)), ALLOWED);
                return Vec::new();
            }
            None if self.found.is_empty() => {
                self.refuse(0, "webhooks", "is missing: nothing is declared", ALLOWED);
                return Vec::new();
            }
            None => return Vec::new(),
        };
        let mut read = Vec::new();
        let mut first_lines = HashMap::new();
        for (index, item) in items.into_iter().enumerate() {
            let at = item.span().start;
            let path = format!("webhooks[{index}]");
            let DeValue::Table(table) = item.into_inner() else {
                self.refuse(at, &path, "is no table", ALLOWED);
                continue;
            };
            let one = One::new(self, path, at);
            let Some((webhook, id_at)) = one.read(table, surroundings) else {
                continue;
            };
            if let Some(id_at) = id_at {
                let line = self.line(id_at);
                if let Some(first) = first_lines.get(&webhook.id) {
                    self.refuse(
                        id_at,
                        &format!("webhooks[{index}].id"),
                        format!(
                            "is {:?}, as that of the webhook in line {first} is",
                            webhook.id
                        ),
                        "an id of its own for each webhook",
                    );
                } else {
                    first_lines.insert(webhook.id.clone(), line);
                }
            }
            read.push(webhook);
        }
        read
    }
}

/// One `[[webhooks]]` table while it is read.
struct One<'r, 'a> {
    reader: &'r mut Reader<'a>,
    path: String,
    at: usize,
    /// Where each key, and each element of a list, stands in the text.
    places: BTreeMap<String, usize>,
    /// What has a problem already.
    bad: BTreeSet<String>,
}

impl<'r, 'a> One<'r, 'a> {
    fn new(reader: &'r mut Reader<'a>, path: String, at: usize) -> Self {
        One {
            reader,
            path,
            at,
            places: BTreeMap::new(),
            bad: BTreeSet::new(),
        }
    }

    /// The webhook, and where its id stands if it has one that is fit to be compared. Stand-ins take the place of what
    /// is missing or wrong, so that a webhook with problems is of no use but for finding more of them.
    fn read(
        mut self,
        table: DeTable<'_>,
        surroundings: &Surroundings<'_>,
    ) -> Option<(WebhookSpec, Option<usize>)> {
        let mut object = self.table("", table, keys::WEBHOOK);
        for (name, stand_in) in keys::REQUIRED {
            if object.contains_key(name) {
                continue;
            }
            if !self.places.contains_key(name) {
                let allowed = keys::WEBHOOK.iter().find(|key| key.name == name);
                let allowed = allowed.map_or_else(String::new, |key| key.kind.allowed());
                self.refuse(name, "is missing", &allowed);
            }
            // The stand-ins are part of the program.
            let value = serde_json::from_str(stand_in).unwrap_or(Value::Null);
            object.insert(name.to_owned(), value);
        }
        if let Some(Value::Object(limit)) = object.get_mut("rate_limit")
            && !limit.contains_key("per_second")
        {
            if !self.is_bad("rate_limit.per_second") {
                self.refuse(
                    "rate_limit.per_second",
                    "is missing",
                    "a number above 0, at most 100000",
                );
            }
            limit.insert("per_second".to_owned(), Value::from(1));
        }
        let webhook: WebhookSpec = match serde_json::from_value(Value::Object(object)) {
            Ok(webhook) => webhook,
            // The error's own text could show a value.
            Err(_) => {
                self.refuse(
                    "",
                    "cannot be read, although each key can; this is a bug of Pombo",
                    "",
                );
                return None;
            }
        };
        for error in webhook.validate_for(surroundings.rules, surroundings.signature_header) {
            if !self.is_bad(&error.field) {
                self.refuse(&error.field, error.reason, &error.allowed);
            }
        }
        let id = self.places.get("id").copied();
        Some((webhook, id.filter(|_| !self.is_bad("id"))))
    }

    /// Refuses a key of the table, or the table itself (`""`), at the nearest place that is known.
    fn refuse(&mut self, key: &str, reason: impl Into<String>, allowed: &str) {
        let at = ancestors(key).find_map(|part| self.places.get(part));
        let at = at.copied().unwrap_or(self.at);
        let full = match key {
            "" => self.path.clone(),
            key => format!("{}.{key}", self.path),
        };
        self.reader.refuse(at, &full, reason, allowed);
        self.bad.insert(key.to_owned());
    }

    fn is_bad(&self, key: &str) -> bool {
        ancestors(key).any(|part| self.bad.contains(part))
    }

    fn table(&mut self, prefix: &str, table: DeTable<'_>, keys: &[Key]) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, value) in table {
            let at = key.span().start;
            let name = key.into_inner();
            let Some(known) = keys.iter().find(|known| known.name == name) else {
                let field = join(prefix, &name);
                let full = format!("{}.{field}", self.path);
                let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
                if let Some(nearest) = self.reader.unknown(at, &full, &name, &known) {
                    // It is there, in a way: one mistake is told once.
                    let meant = join(prefix, &nearest);
                    self.bad.insert(meant.clone());
                    self.places.entry(meant).or_insert(at);
                }
                continue;
            };
            let field = join(prefix, &name);
            self.places.insert(field.clone(), at);
            if let Some(value) = self.value(&field, value.into_inner(), known.kind) {
                object.insert(name.into_owned(), value);
            }
        }
        object
    }

    fn value(&mut self, field: &str, value: DeValue<'_>, kind: Kind) -> Option<Value> {
        match (kind, value) {
            (Kind::Text(_), DeValue::String(text)) => Some(Value::from(text.into_owned())),
            (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::from(flag)),
            (Kind::Whole(allowed), DeValue::Integer(number)) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
                match number.and_then(|number| u32::try_from(number).ok()) {
                    Some(number) => Some(Value::from(number)),
                    None => self.refused(field, "is out of range", allowed),
                }
            }
            (Kind::Number(allowed), value @ (DeValue::Integer(_) | DeValue::Float(_))) => {
                let number = match &value {
                    DeValue::Float(number) => number.as_str().parse().ok(),
                    DeValue::Integer(number) => {
                        i64::from_str_radix(number.as_str(), number.radix())
                            .ok()
                            .map(|number| number as f64)
                    }
                    _ => None,
                };
                match number.filter(|number: &f64| number.is_finite()) {
                    Some(number) => Some(Value::from(number)),
                    None => self.refused(field, "is out of range", allowed),
                }
            }
            (Kind::Duration(_), DeValue::String(text)) => match parse_duration(&text) {
                Ok(_) => Some(Value::from(text.into_owned())),
                Err(error) => self.refused(field, &error.to_string(), &kind.allowed()),
            },
            (Kind::Choice(choices), DeValue::String(text)) => {
                if choices.contains(&text.as_ref()) {
                    Some(Value::from(text.into_owned()))
                } else {
                    self.refused(field, "is none of the choices", &kind.allowed())
                }
            }
            (Kind::Filters, DeValue::Array(items)) => Some(self.filters(field, items)),
            (Kind::Headers, DeValue::Table(table)) => Some(self.headers(field, table)),
            (Kind::Table(keys), DeValue::Table(table)) => {
                Some(Value::Object(self.table(field, table, keys)))
            }
            (kind, value) => {
                let reason = format!("is {}", describe(&value));
                self.refused(field, &reason, &kind.allowed())
            }
        }
    }

    fn refused<T>(&mut self, field: &str, reason: &str, allowed: &str) -> Option<T> {
        self.refuse(field, reason, allowed);
        None
    }

    fn filters(&mut self, field: &str, items: toml::de::DeArray<'_>) -> Value {
        let mut filters = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let element = format!("{field}[{index}]");
            self.places.insert(element.clone(), item.span().start);
            let wrong = match item.into_inner() {
                DeValue::String(text) => match EventFilter::parse(&text) {
                    Ok(filter) => {
                        filters.push(Value::from(filter.as_str()));
                        continue;
                    }
                    Err(error) => format!("is no event filter: {error}"),
                },
                other => format!("is {}", describe(&other)),
            };
            self.refuse(&element, wrong, ALLOWED_FILTERS);
            self.bad.insert(field.to_owned());
        }
        Value::Array(filters)
    }

    fn headers(&mut self, field: &str, table: DeTable<'_>) -> Value {
        let mut headers = Map::new();
        for (name, value) in table {
            let at = name.span().start;
            let name = name.into_inner();
            let header = format!("{field}.{}", name.escape_debug());
            self.places.insert(header.clone(), at);
            match value.into_inner() {
                DeValue::String(text) => {
                    headers.insert(name.into_owned(), Value::from(text.into_owned()));
                }
                other => {
                    let reason = format!("is {}", describe(&other));
                    self.refuse(&header, reason, "a text: the header's value");
                }
            }
        }
        Value::Object(headers)
    }
}

/// A key and what it is part of, innermost first: `retry.first`, `retry`.
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |key| {
        key.rfind(['.', '[']).map(|end| &key[..end])
    })
}

/// What a value is, in words, without the value.
fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests;
