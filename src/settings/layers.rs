//! Reads the layers of settings, as they were given: TOML files with the line of every key, and the environment.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem, Report};
use super::schema::join;

/// A value as it was given, and where.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) input: Input,
}

/// A value before anybody knows what it ought to be.
#[derive(Clone)]
pub(super) enum Input {
    /// Text of the environment, whose type is that of its key.
    Raw(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// Something that no setting is, in words.
    Other(&'static str),
}

impl Input {
    /// What it is, in words, without its value.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Input::Raw(_) | Input::Text(_) => "text",
            Input::Integer(_) => "an integer",
            Input::Float(_) => "a number with a fraction",
            Input::Flag(_) => "true or false",
            Input::List(_) => "a list",
            Input::Table(_) => "a table",
            Input::Other(what) => what,
        }
    }
}

/// Reads a TOML file. Without it (`None`), the text is that of the built-in defaults.
pub(super) fn from_toml(
    file: Option<&Path>,
    text: &str,
    report: &mut Report,
) -> BTreeMap<String, Node> {
    let lines = Lines { file, text };
    match DeTable::parse(text) {
        Ok(table) => lines.table(table.into_inner()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            // The message alone: the error's full text would quote the line, and with it perhaps a password.
            report.add(Problem {
                key: "(the file)".into(),
                origin: match lines.origin(at) {
                    Origin::Given(place) => format!("{place}, column {}", lines.column(at)),
                    Origin::BuiltIn => String::new(),
                },
                reason: format!("is not valid TOML: {}", error.message()),
                allowed: String::new(),
                nearest: None,
            });
            BTreeMap::new()
        }
    }
}

struct Lines<'a> {
    file: Option<&'a Path>,
    text: &'a str,
}

impl Lines<'_> {
    fn before(&self, at: usize) -> &[u8] {
        let bytes = self.text.as_bytes();
        &bytes[..at.min(bytes.len())]
    }

    fn origin(&self, at: usize) -> Origin {
        let Some(file) = self.file else {
            return Origin::BuiltIn;
        };
        let line = 1 + self
            .before(at)
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        Origin::Given(format!("{}:{line}", file.display()))
    }

    fn column(&self, at: usize) -> usize {
        1 + self
            .before(at)
            .iter()
            .rev()
            .take_while(|byte| **byte != b'\n')
            .count()
    }

    fn table(&self, table: DeTable<'_>) -> BTreeMap<String, Node> {
        table
            .into_iter()
            .map(|(key, value)| {
                let origin = self.origin(key.span().start);
                let name = key.into_inner().into_owned();
                let input = self.input(value.into_inner());
                (name, Node { origin, input })
            })
            .collect()
    }

    fn input(&self, value: DeValue<'_>) -> Input {
        match value {
            DeValue::String(text) => Input::Text(text.into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Input::Other("an integer that is too large"), Input::Integer),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or(Input::Other("no number"), Input::Float),
            DeValue::Boolean(flag) => Input::Flag(flag),
            DeValue::Datetime(_) => Input::Other("a date or a time"),
            DeValue::Array(items) => Input::List(
                items
                    .into_iter()
                    .map(|item| Node {
                        origin: self.origin(item.span().start),
                        input: self.input(item.into_inner()),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Input::Table(self.table(table)),
        }
    }
}

/// Reads the variables of the environment that are settings: `POMBO_SECTION__KEY`, or `POMBO__SECTION` for a whole one.
/// Others that begin with `POMBO_` are left alone, for Kubernetes makes some for every service of that name.
pub(super) fn from_environment(
    variables: &BTreeMap<String, String>,
    report: &mut Report,
) -> BTreeMap<String, Node> {
    let mut root = BTreeMap::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix("POMBO_") else {
            continue;
        };
        let rest = match rest.strip_prefix('_') {
            Some(whole) => whole,
            None if rest.contains("__") => rest,
            None => continue,
        };
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        let origin = Origin::Given(format!("environment variable {variable}"));
        let input = if text.contains('\u{FFFD}') {
            Input::Other("text that is not UTF-8")
        } else {
            Input::Raw(text.clone())
        };
        if !insert(&mut root, &path, Node { origin, input }) {
            report.add(Problem {
                key: path
                    .iter()
                    .fold(String::new(), |path, name| join(&path, name)),
                origin: format!("environment variable {variable}"),
                reason: "is given by another environment variable too, whole or in part".into(),
                allowed: "one of the two".into(),
                nearest: None,
            });
        }
    }
    root
}

/// Puts a node at its path; false if there is something else already.
fn insert(table: &mut BTreeMap<String, Node>, path: &[String], node: Node) -> bool {
    let Some((name, below)) = path.split_first() else {
        return false;
    };
    if below.is_empty() {
        if table.contains_key(name) {
            return false;
        }
        table.insert(name.clone(), node);
        return true;
    }
    let section = table.entry(name.clone()).or_insert_with(|| Node {
        origin: node.origin.clone(),
        input: Input::Table(BTreeMap::new()),
    });
    match &mut section.input {
        Input::Table(inner) => insert(inner, below, node),
        _ => false,
    }
}

/// Reads JSON out of a variable of the environment. The error says where it is wrong and shows nothing of it.
pub(super) fn from_json(origin: &Origin, text: &str) -> Result<Input, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(json_input(origin, value)),
        Err(error) => Err(format!(
            "is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        )),
    }
}

fn json_input(origin: &Origin, value: serde_json::Value) -> Input {
    use serde_json::Value;
    let node = |value| Node {
        origin: origin.clone(),
        input: json_input(origin, value),
    };
    match value {
        Value::Null => Input::Other("null"),
        Value::Bool(flag) => Input::Flag(flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Input::Integer(integer),
            (None, Some(float)) => Input::Float(float),
            (None, None) => Input::Other("a number that is too large"),
        },
        Value::String(text) => Input::Text(text),
        Value::Array(items) => Input::List(items.into_iter().map(node).collect()),
        Value::Object(entries) => Input::Table(
            entries
                .into_iter()
                .map(|(name, value)| (name, node(value)))
                .collect(),
        ),
    }
}
