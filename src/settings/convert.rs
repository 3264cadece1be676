//! Holds a layer against the schema: refuses unknown keys and wrong types, and turns the rest into values of the `config`
//! crate, each with its origin.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::net::IpAddr;

use config::{Map, Value, ValueKind};
use ipnet::IpNet;

use super::error::{Origin, Problem, Report};
use super::layers::{Input, Node, from_json};
use super::redis_url;
use super::schema::{self, Keys, Kind, join};
use super::units::{format_duration, format_size, parse_duration, parse_size};

const BUILT_IN: &str = "built in";

/// Turns a table as it was given into one in which every key is known and has a value of its kind. What is wrong is
/// reported and left out.
pub(super) fn table(
    path: &str,
    keys: Keys,
    given: BTreeMap<String, Node>,
    report: &mut Report,
) -> Map<String, Value> {
    let mut values = Map::new();
    for (name, node) in given {
        let key = join(path, &name);
        match schema::find(keys, &name) {
            None => report.add(unknown(path, keys, &name, &node.origin)),
            Some(kind) => {
                if let Some(value) = value(&key, kind, node, report) {
                    values.insert(name, value);
                }
            }
        }
    }
    values
}

/// Tells the report where every key of a tree of values was given.
pub(super) fn note_given(values: &Map<String, Value>, report: &mut Report) {
    let mut origins = HashMap::new();
    let mut empty = BTreeSet::new();
    for (name, value) in values {
        walk(name.clone(), value, &mut |path, value| {
            if let Some(origin) = value.origin() {
                origins.insert(path.to_owned(), parse_origin(origin));
            }
            if matches!(&value.kind, ValueKind::String(text) if text.is_empty()) {
                empty.insert(path.to_owned());
            }
        });
    }
    report.set_given(origins, empty);
}

fn walk(path: String, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(&path, value);
    match &value.kind {
        ValueKind::Table(inner) => inner
            .iter()
            .for_each(|(name, value)| walk(join(&path, name), value, visit)),
        ValueKind::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, item)| walk(format!("{path}[{index}]"), item, visit)),
        _ => {}
    }
}

fn parse_origin(text: &str) -> Origin {
    if text == BUILT_IN {
        Origin::BuiltIn
    } else {
        Origin::Given(text.to_owned())
    }
}

fn place(origin: &Origin) -> String {
    match origin {
        Origin::BuiltIn => BUILT_IN.to_owned(),
        Origin::Given(place) => place.clone(),
    }
}

fn unknown(path: &str, keys: Keys, name: &str, origin: &Origin) -> Problem {
    let names = schema::names(keys).join(", ");
    Problem {
        key: join(path, name),
        origin: place(origin),
        reason: "there is no such setting".into(),
        allowed: if path.is_empty() {
            format!("the sections {names}")
        } else {
            format!("the keys of {path} are {names}")
        },
        nearest: schema::nearest(path, keys, name),
    }
}

/// What is wrong with a value: the reason, and whether its text may be shown.
enum Wrong {
    Type(&'static str),
    /// The text as it was given, if it may be shown, and what is wrong with it.
    Text(Option<String>, String),
}

fn value(key: &str, kind: Kind, node: Node, report: &mut Report) -> Option<Value> {
    let origin = node.origin;
    let input = match (kind, node.input) {
        (
            Kind::Section(_) | Kind::Sections(_) | Kind::Networks | Kind::Texts { .. },
            Input::Raw(text),
        ) => match from_json(&origin, &text) {
            Ok(input) => input,
            Err(reason) => {
                report.add(problem(key, kind, &origin, Wrong::Text(None, reason)));
                return None;
            }
        },
        (_, input) => input,
    };
    let converted = match (kind, input) {
        (Kind::Section(keys), Input::Table(given)) => Ok(table(key, keys, given, report).into()),
        (Kind::Sections(keys), Input::List(items)) => {
            Ok(ValueKind::Array(sections(key, keys, items, report)))
        }
        (Kind::Networks, Input::List(items)) => {
            Ok(ValueKind::Array(texts(key, NETWORK, items, report)))
        }
        (Kind::Texts { allowed, check }, Input::List(items)) => {
            let text = Kind::Text { allowed, check };
            Ok(ValueKind::Array(texts(key, text, items, report)))
        }
        (kind, input) => leaf(kind, input),
    };
    match converted {
        Ok(kind) => Some(Value::new(Some(&place(&origin)), kind)),
        Err(wrong) => {
            report.add(problem(key, kind, &origin, wrong));
            None
        }
    }
}

fn sections(key: &str, keys: Keys, items: Vec<Node>, report: &mut Report) -> Vec<Value> {
    let mut values = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let key = format!("{key}[{index}]");
        // A place that is left out would shift the numbers of those that follow.
        let value = value(&key, Kind::Section(keys), item, report)
            .unwrap_or_else(|| Value::new(None, Map::<String, Value>::new()));
        values.push(value);
    }
    values
}

const NETWORK: Kind = Kind::Text {
    allowed: "networks, such as \"127.0.0.0/8\" or \"fd00::/8\", or single addresses",
    check: check_network,
};

fn texts(key: &str, kind: Kind, items: Vec<Node>, report: &mut Report) -> Vec<Value> {
    items
        .into_iter()
        .enumerate()
        .filter_map(|(index, item)| value(&format!("{key}[{index}]"), kind, item, report))
        .collect()
}

/// Reads a network, or an address as the network of it alone.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn check_network(text: &str) -> Result<(), String> {
    match parse_network(text) {
        None => Err("is no network".into()),
        Some(network) if network.trunc() != network => Err(format!(
            "is an address within the network {}, not a network",
            network.trunc()
        )),
        Some(_) => Ok(()),
    }
}

/// Converts a single value by the kind of its key. Public within the settings for the content of secret files.
fn leaf(kind: Kind, input: Input) -> Result<ValueKind, Wrong> {
    let shown = |text: &str| (!kind.is_secret()).then(|| text.to_owned());
    let wrong = |text: &str, reason: String| Wrong::Text(shown(text), reason);
    match (kind, input) {
        (Kind::Refused(why), _) => Err(Wrong::Text(None, why.into())),
        (Kind::Text { check, .. }, Input::Raw(text) | Input::Text(text)) => {
            check(&text).map_err(|reason| wrong(&text, reason))?;
            Ok(text.into())
        }
        (Kind::Secret | Kind::Url, Input::Raw(text) | Input::Text(text)) => {
            check_secret(kind, &text).map_err(|reason| wrong(&text, reason))?;
            Ok(text.into())
        }
        (Kind::Path, Input::Raw(text) | Input::Text(text)) => {
            if text.is_empty() || text.contains('\0') {
                return Err(Wrong::Text(None, "is no path".into()));
            }
            Ok(text.into())
        }
        (Kind::Choice(choices), Input::Raw(text) | Input::Text(text)) => {
            if !choices.contains(&text.as_str()) {
                return Err(wrong(&text, "is none of the choices".into()));
            }
            Ok(text.into())
        }
        (Kind::Duration { min, max }, Input::Raw(text) | Input::Text(text)) => {
            let duration =
                parse_duration(&text).map_err(|error| wrong(&text, error.to_string()))?;
            within(duration, min, max).map_err(|reason| wrong(&text, reason))?;
            Ok(format_duration(duration).into())
        }
        (Kind::Size { min, max }, Input::Raw(text) | Input::Text(text)) => {
            let bytes = parse_size(&text).map_err(|error| wrong(&text, error.to_string()))?;
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            within(bytes, min, max).map_err(|reason| wrong(&text, reason))?;
            Ok(bytes.into())
        }
        (Kind::Integer { min, max } | Kind::Size { min, max }, Input::Integer(number)) => {
            within(number, min, max).map_err(|reason| wrong(&number.to_string(), reason))?;
            Ok(number.into())
        }
        (Kind::Integer { min, max }, Input::Raw(text)) => {
            let number = text
                .trim()
                .parse()
                .map_err(|_| wrong(&text, "is no integer".into()))?;
            within(number, min, max).map_err(|reason| wrong(&text, reason))?;
            Ok(number.into())
        }
        (Kind::Float { check, .. }, Input::Integer(number)) => {
            float(number as f64, check, &number.to_string())
        }
        (Kind::Float { check, .. }, Input::Float(number)) => {
            float(number, check, &number.to_string())
        }
        (Kind::Float { check, .. }, Input::Raw(text)) => match text.trim().parse() {
            Ok(number) => float(number, check, &text),
            Err(_) => Err(wrong(&text, "is no number".into())),
        },
        (Kind::Flag, Input::Flag(flag)) => Ok(flag.into()),
        (Kind::Flag, Input::Raw(text)) => match text.as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(wrong(&text, "is neither true nor false".into())),
        },
        (_, input) => Err(Wrong::Type(input.describe())),
    }
}

/// What is wrong with the text of a secret, in words that do not repeat it.
pub(super) fn check_secret(kind: Kind, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    match kind {
        Kind::Url => redis_url::check(text),
        _ => Ok(()),
    }
}

fn float(number: f64, check: fn(f64) -> bool, text: &str) -> Result<ValueKind, Wrong> {
    if check(number) {
        Ok(number.into())
    } else {
        Err(Wrong::Text(Some(text.into()), "is out of range".into()))
    }
}

fn within<T: PartialOrd>(value: T, min: T, max: T) -> Result<(), String> {
    if value < min {
        Err("is too small".into())
    } else if value > max {
        Err("is too large".into())
    } else {
        Ok(())
    }
}

fn problem(key: &str, kind: Kind, origin: &Origin, wrong: Wrong) -> Problem {
    let reason = match wrong {
        Wrong::Type(what) => format!("is {what}, which is of the wrong type"),
        Wrong::Text(None, reason) => reason,
        Wrong::Text(Some(text), reason) => format!("{} {reason}", excerpt(&text)),
    };
    Problem {
        key: key.into(),
        origin: place(origin),
        reason,
        allowed: allowed(kind),
        nearest: None,
    }
}

/// A value for an error: quoted, escaped, and cut when it is long.
fn excerpt(text: &str) -> String {
    const MOST: usize = 60;
    let cut: String = text.chars().take(MOST).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{dots}")
}

/// What a key may hold, in words.
pub(super) fn allowed(kind: Kind) -> String {
    fn range(min: impl Display, max: impl Display) -> String {
        format!("{min} to {max}")
    }
    match kind {
        Kind::Text { allowed, .. } | Kind::Float { allowed, .. } | Kind::Texts { allowed, .. } => {
            allowed.into()
        }
        Kind::Secret => "text that is not empty".into(),
        Kind::Url => redis_url::ALLOWED.into(),
        Kind::Path => "the path of a file".into(),
        Kind::Integer { min, max } => format!("an integer from {}", range(min, max)),
        Kind::Flag => "true or false".into(),
        Kind::Duration { min, max } => format!(
            "a duration with its unit, {}, such as \"15s\" or \"250ms\"",
            range(format_duration(min), format_duration(max))
        ),
        Kind::Size { min, max } => {
            let bytes = |size: i64| format_size(usize::try_from(size).unwrap_or_default());
            format!(
                "a number of bytes, {}, such as 65536 or \"64KiB\"",
                range(bytes(min), bytes(max))
            )
        }
        Kind::Choice(choices) => {
            let quoted: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
            quoted.join(", ")
        }
        Kind::Networks => {
            "a list of networks, such as [\"127.0.0.0/8\"] (in the environment: as JSON)".into()
        }
        Kind::Section(keys) => format!(
            "a table (in the environment: as JSON, or one variable per key) of {}",
            schema::names(keys).join(", ")
        ),
        Kind::Sections(keys) => format!(
            "a list of tables (in the environment: as JSON, such as '[{{\"stream\":\"events\"}}]') of {}",
            schema::names(keys).join(", ")
        ),
        Kind::Refused(_) => String::new(),
    }
}
