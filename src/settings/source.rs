//! `[[sources]]`: the streams that the platform adds its events to, and how their entries are events.

pub(super) mod layout;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use layout::FieldNames;

use super::error::Report;
use super::redis::{RedisServer, SERVER_KEYS, length};
use super::schema::{Key, Kind, days, join, millis, visible};
use super::units;

/// One of `[[sources]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceSettings {
    /// The source's label in metrics and logs; if it was not given, the stream or glob. Unique.
    pub name: String,
    /// The stream's key, or a glob of keys.
    pub stream: String,
    /// The Redis that holds the stream, if it is not that of `[redis]`; its keys stand directly in the source.
    #[serde(flatten)]
    pub server: Option<RedisServer>,
    /// How an entry is an event.
    pub format: Format,
    /// For [`Format::Fields`]: the entry's fields. A part that is a constant has none.
    #[serde(deserialize_with = "layout::fields")]
    pub fields: FieldNames,
    /// For [`Format::Json`]: JSON pointers into the envelope; that of the payload may be empty, for all of it.
    #[serde(deserialize_with = "layout::pointers")]
    pub pointers: FieldNames,
    /// For [`Format::Json`] and [`Format::CloudEvents`]: the entry's field that holds the envelope.
    pub field: String,
    /// For [`Format::CloudEvents`]: the extension attribute that holds the tenant.
    pub tenant_attribute: String,
    /// Parts that every event has, whatever its entry says: `type`, `tenant`, `content_type`.
    pub constants: BTreeMap<String, String>,
    /// Parts of events that do not bring their own: `type`, `tenant`, `content_type`. Without `tenant`, an event that has
    /// none is to be rejected.
    #[serde(with = "layout::defaults")]
    pub defaults: BTreeMap<String, String>,
    /// The payload's content type where nothing else says it.
    pub content_type: String,
    /// Where reading begins if there is no consumer group yet.
    pub start: Start,
    /// Whether Pombo trims the stream.
    pub trim: Trim,
    /// How often a glob is looked up, 1 s to 1 d.
    #[serde(with = "units::duration")]
    pub discover_every: Duration,
    /// How many streams a glob may stand for, 1 to 10,000.
    pub max_streams: usize,
    /// Entries taken with one read, 1 to 10,000.
    pub read_count: usize,
}

/// How an entry of a source stream is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Format {
    /// Each part is a field of the entry.
    #[serde(rename = "fields")]
    Fields,
    /// One field holds a JSON envelope.
    #[serde(rename = "json")]
    Json,
    /// One field holds a CloudEvent in structured mode.
    #[serde(rename = "cloudevents")]
    CloudEvents,
}

/// Where a new consumer group begins to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// With the first entry that the stream has.
    #[serde(rename = "0")]
    Beginning,
    /// With what is added from now on.
    #[serde(rename = "$")]
    New,
}

/// Who trims the source stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trim {
    /// The platform.
    None,
    /// Pombo, up to what every consumer group has acknowledged.
    Acknowledged,
}

impl Default for SourceSettings {
    /// The defaults of every key; the stream is empty and must be given.
    fn default() -> SourceSettings {
        SourceSettings {
            name: String::new(),
            stream: String::new(),
            server: None,
            format: Format::Fields,
            fields: FieldNames::fields(),
            pointers: FieldNames::pointers(),
            field: "data".into(),
            tenant_attribute: "tenant".into(),
            constants: BTreeMap::new(),
            defaults: layout::default_defaults(),
            content_type: "application/json".into(),
            start: Start::Beginning,
            trim: Trim::None,
            discover_every: Duration::from_secs(30),
            max_streams: 256,
            read_count: 500,
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    Key::text("name", "1 to 100 visible ASCII characters", |text| {
        visible(text, 100)
    }),
    Key::text(
        "stream",
        "the key of a stream or a glob of keys, 1 to 512 bytes",
        |text| length(text, 512),
    ),
    Key::new("format", Kind::Choice(&["fields", "json", "cloudevents"])),
    Key::new("fields", Kind::Section(&[layout::FIELD_KEYS])),
    Key::new("pointers", Kind::Section(&[layout::POINTER_KEYS])),
    Key::text("field", "1 to 256 characters", |text| length(text, 256)),
    Key::text(
        "tenant_attribute",
        "1 to 256 lower-case letters and digits, as CloudEvents has it for attributes",
        layout::check_attribute,
    ),
    Key::new("constants", Kind::Section(&[layout::CONSTANT_KEYS])),
    Key::new("defaults", Kind::Section(&[layout::DEFAULT_KEYS])),
    Key::text(
        "content_type",
        "a content type, such as \"application/json\"",
        layout::check_content_type,
    ),
    Key::new("start", Kind::Choice(&["0", "$"])),
    Key::new("trim", Kind::Choice(&["none", "acknowledged"])),
    Key::duration("discover_every", millis(1_000), days(1)),
    Key::integer("max_streams", 1, 10_000),
    Key::integer("read_count", 1, 10_000),
];

impl SourceSettings {
    /// A source of one stream (or glob) on Pombo's own Redis, with the defaults of everything else.
    pub fn new(stream: impl Into<String>) -> SourceSettings {
        let stream = stream.into();
        SourceSettings {
            name: stream.clone(),
            stream,
            ..SourceSettings::default()
        }
    }

    /// Whether `stream` is a glob.
    pub fn is_glob(&self) -> bool {
        self.stream.contains(['*', '?', '[', '\\'])
    }

    pub(super) fn complete(&mut self) {
        if self.name.is_empty() {
            self.name.clone_from(&self.stream);
        }
        for part in self.constants.keys() {
            self.fields.remove(part);
            self.pointers.remove(part);
            self.defaults.remove(part);
        }
    }

    fn check(&self, path: &str, own_prefix: &str, report: &mut Report) {
        let stream = join(path, "stream");
        if self.stream.is_empty() {
            report.refuse(
                &[&stream],
                "is missing: a source is nothing without its stream",
                "the key of a stream or a glob of keys",
            );
            return;
        }
        if let Err(reason) = visible(&self.name, 100) {
            report.refuse(
                &[&join(path, "name"), &stream],
                format!("is taken from the stream, and as a name that {reason}"),
                "a name of 1 to 100 visible ASCII characters",
            );
        }
        if self.server.is_none() && self.stream.starts_with(&format!("{own_prefix}:{{")) {
            report.refuse(
                &[&stream, "redis.prefix"],
                "is one of Pombo's own keys (see redis.prefix): its state would be read as events",
                "a stream that your platform writes",
            );
        }
        match &self.server {
            Some(server) => server.check(path, report),
            None => self.check_no_server(path, report),
        }
        self.check_layout(path, report);
    }

    fn check_no_server(&self, path: &str, report: &mut Report) {
        let url = join(path, "url");
        let url_file = join(path, "url_file");
        for key in SERVER_KEYS.iter().filter(|key| key.name != "url") {
            let key = join(path, key.name);
            if report.given(&key) {
                report.refuse(
                    &[&key, &url, &url_file],
                    "is about a Redis of the source's own, but there is none: the source is read from that of [redis]",
                    format!("{url} beside it"),
                );
            }
        }
    }
}

/// Checks every source, and that no two of them are in each other's way.
pub(super) fn check_all(
    sources: &[SourceSettings],
    own: &super::RedisSettings,
    report: &mut Report,
) {
    let own_url = own.server.url.expose();
    let url = |source: &SourceSettings| {
        let own = source.server.as_ref();
        own.map_or(own_url, |server| server.url.expose()).to_owned()
    };
    for (index, source) in sources.iter().enumerate() {
        let path = format!("sources[{index}]");
        source.check(&path, &own.prefix, report);
        let earlier = sources[..index].iter().enumerate();
        for (other_index, other) in earlier {
            let other_path = format!("sources[{other_index}]");
            if source.stream.is_empty() || other.stream.is_empty() {
                continue;
            }
            if source.stream == other.stream && url(source) == url(other) {
                report.refuse(
                    &[&join(&path, "stream"), &join(&other_path, "stream")],
                    format!(
                        "is that of {other_path} too, and each of its events can only be read once"
                    ),
                    "one source for a stream",
                );
            } else if source.name == other.name {
                report.refuse(
                    &[
                        &join(&path, "name"),
                        &join(&other_path, "name"),
                        &join(&path, "stream"),
                    ],
                    format!(
                        "is {:?}, as that of {other_path} is: their metrics could not be told apart",
                        source.name
                    ),
                    "a name of its own for each source",
                );
            }
        }
    }
}
