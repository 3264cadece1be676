//! How the parts of an event are found in a stream's entry: names, pointers, constants, defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Format, SourceSettings};
use crate::settings::error::Report;
use crate::settings::schema::{Key, Kind, join, visible};

/// Where the parts of an event are: names of fields, or JSON pointers. `None`: nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FieldNames {
    /// The event's type.
    #[serde(rename = "type", serialize_with = "or_empty")]
    pub event_type: Option<String>,
    /// The tenant.
    #[serde(serialize_with = "or_empty")]
    pub tenant: Option<String>,
    /// The payload; always somewhere.
    #[serde(serialize_with = "or_empty")]
    pub payload: Option<String>,
    /// The event's id.
    #[serde(serialize_with = "or_empty")]
    pub id: Option<String>,
    /// The event's time.
    #[serde(serialize_with = "or_empty")]
    pub time: Option<String>,
    /// The payload's content type.
    #[serde(serialize_with = "or_empty")]
    pub content_type: Option<String>,
}

fn or_empty<S: Serializer>(name: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(name.as_deref().unwrap_or_default())
}

impl FieldNames {
    /// The names that fields have unless the settings say otherwise: those of the parts.
    pub fn fields() -> FieldNames {
        let name = |name: &str| Some(name.to_owned());
        FieldNames {
            event_type: name("type"),
            tenant: name("tenant"),
            payload: name("payload"),
            id: name("id"),
            time: name("time"),
            content_type: None,
        }
    }

    /// The JSON pointers that are used unless the settings say otherwise.
    pub fn pointers() -> FieldNames {
        let FieldNames {
            event_type,
            tenant,
            payload,
            id,
            time,
            content_type,
        } = FieldNames::fields();
        let pointer = |name: Option<String>| name.map(|name| format!("/{name}"));
        FieldNames {
            event_type: pointer(event_type),
            tenant: pointer(tenant),
            payload: pointer(payload),
            id: pointer(id),
            time: pointer(time),
            content_type: pointer(content_type),
        }
    }

    /// Forgets where a part is, by its key in the settings.
    pub(super) fn remove(&mut self, part: &str) {
        match part {
            "type" => self.event_type = None,
            "tenant" => self.tenant = None,
            "content_type" => self.content_type = None,
            _ => {}
        }
    }
}

/// What was given of [`FieldNames`].
#[derive(Deserialize)]
struct Given {
    #[serde(rename = "type")]
    event_type: Option<String>,
    tenant: Option<String>,
    payload: Option<String>,
    id: Option<String>,
    time: Option<String>,
    content_type: Option<String>,
}

impl Given {
    fn over(self, base: FieldNames) -> FieldNames {
        let pick = |given: Option<String>, base: Option<String>| match given {
            Some(name) if name.is_empty() => None,
            Some(name) => Some(name),
            None => base,
        };
        FieldNames {
            event_type: pick(self.event_type, base.event_type),
            tenant: pick(self.tenant, base.tenant),
            // An empty pointer is a pointer: to the whole envelope.
            payload: self.payload.or(base.payload),
            id: pick(self.id, base.id),
            time: pick(self.time, base.time),
            content_type: pick(self.content_type, base.content_type),
        }
    }
}

pub(super) fn fields<'de, D: Deserializer<'de>>(from: D) -> Result<FieldNames, D::Error> {
    Given::deserialize(from).map(|given| given.over(FieldNames::fields()))
}

pub(super) fn pointers<'de, D: Deserializer<'de>>(from: D) -> Result<FieldNames, D::Error> {
    Given::deserialize(from).map(|given| given.over(FieldNames::pointers()))
}

pub(super) fn default_defaults() -> BTreeMap<String, String> {
    BTreeMap::from([("tenant".to_owned(), "default".to_owned())])
}

/// `defaults`: an empty text is written for, and read as, a part that has none.
pub(super) mod defaults {
    use super::*;

    pub(in crate::settings) fn serialize<S: Serializer>(
        defaults: &BTreeMap<String, String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let mut defaults = defaults.clone();
        defaults.entry("tenant".to_owned()).or_default();
        defaults.serialize(to)
    }

    pub(in crate::settings) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, String>, D::Error> {
        let mut defaults = default_defaults();
        defaults.extend(BTreeMap::<String, String>::deserialize(from)?);
        defaults.retain(|_, text| !text.is_empty());
        Ok(defaults)
    }
}

const FIELD: &str = "the name of a field, 1 to 256 characters, or \"\" for none";
const POINTER: &str = "a JSON pointer, such as \"/data/id\", or \"\" for none";
const VALUE: &str = "1 to 256 visible ASCII characters";

pub(in crate::settings) const FIELD_KEYS: &[Key] = &[
    Key::text("type", FIELD, check_field),
    Key::text("tenant", FIELD, check_field),
    Key::text(
        "payload",
        "the name of a field, 1 to 256 characters",
        |text| match text {
            "" => Err("is empty, but an event is nothing without a payload".into()),
            _ => check_field(text),
        },
    ),
    Key::text("id", FIELD, check_field),
    Key::text("time", FIELD, check_field),
    Key::text("content_type", FIELD, check_field),
];

pub(in crate::settings) const POINTER_KEYS: &[Key] = &[
    Key::text("type", POINTER, check_pointer),
    Key::text("tenant", POINTER, check_pointer),
    Key::text(
        "payload",
        "a JSON pointer, such as \"/data\", or \"\" for the whole envelope",
        check_pointer,
    ),
    Key::text("id", POINTER, check_pointer),
    Key::text("time", POINTER, check_pointer),
    Key::text("content_type", POINTER, check_pointer),
];

const NO_ID: Kind = Kind::Refused(
    "cannot be the same for several events: receivers drop events whose id they have seen (without an id of its own, an \
     event gets one made from its stream and entry id)",
);
const NO_TIME: Kind = Kind::Refused(
    "cannot be the same for several events (without a time of its own, an event has that of its stream entry)",
);
const NO_PAYLOAD: Kind = Kind::Refused("is what every event must bring itself");

pub(in crate::settings) const CONSTANT_KEYS: &[Key] = &[
    Key::text("type", VALUE, |text| visible(text, 256)),
    Key::text("tenant", VALUE, |text| visible(text, 256)),
    Key::text("content_type", VALUE, check_content_type),
    Key::new("id", NO_ID),
    Key::new("time", NO_TIME),
    Key::new("payload", NO_PAYLOAD),
];

pub(in crate::settings) const DEFAULT_KEYS: &[Key] = &[
    Key::text("type", VALUE, visible_or_empty),
    Key::text("tenant", VALUE, visible_or_empty),
    Key::text("content_type", VALUE, |text| match text {
        "" => Ok(()),
        _ => check_content_type(text),
    }),
    Key::new("id", NO_ID),
    Key::new("time", NO_TIME),
    Key::new("payload", NO_PAYLOAD),
];

fn visible_or_empty(text: &str) -> Result<(), String> {
    match text {
        "" => Ok(()),
        _ => visible(text, 256),
    }
}

fn check_field(text: &str) -> Result<(), String> {
    match text {
        "" => Ok(()),
        _ => crate::settings::redis::length(text, 256),
    }
}

fn check_pointer(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    if !text.starts_with('/') {
        return Err("does not begin with a slash".into());
    }
    let escapes = text.split('~').skip(1);
    if escapes
        .into_iter()
        .any(|after| !after.starts_with(['0', '1']))
    {
        return Err("has a ~ that is not part of ~0 (for ~) or ~1 (for /)".into());
    }
    crate::settings::redis::length(text, 1_024)
}

pub(super) fn check_attribute(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 256 {
        Err(format!("is {} bytes long", text.len()))
    } else if !text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    {
        Err("has a character that is not allowed".into())
    } else {
        Ok(())
    }
}

pub(super) fn check_content_type(text: &str) -> Result<(), String> {
    let (essence, _) = text.split_once(';').unwrap_or((text, ""));
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let well_formed = essence
        .trim()
        .split_once('/')
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    if text.len() > 256 {
        Err(format!("is {} bytes long", text.len()))
    } else if !well_formed || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        Err("is no content type".into())
    } else {
        Ok(())
    }
}

impl SourceSettings {
    /// The keys that mean something for the source's format; the others of [`FORMAT_KEYS`] must not be given.
    pub(in crate::settings) fn uses(&self, key: &str) -> bool {
        match key {
            "fields" => self.format == Format::Fields,
            "pointers" => self.format == Format::Json,
            "field" => self.format != Format::Fields,
            "tenant_attribute" => self.format == Format::CloudEvents,
            _ => true,
        }
    }

    pub(super) fn check_layout(&self, path: &str, report: &mut Report) {
        let format = join(path, "format");
        for name in FORMAT_KEYS {
            let key = join(path, name);
            if report.given(&key) && !self.uses(name) {
                report.refuse(
                    &[&key, &format],
                    format!(
                        "means nothing for the format {}, and would be ignored",
                        match self.format {
                            Format::Fields => "fields",
                            Format::Json => "json",
                            Format::CloudEvents => "cloudevents",
                        }
                    ),
                    match name {
                        "fields" => format!("{format} = \"fields\", or no {name}"),
                        "pointers" => format!("{format} = \"json\", or no {name}"),
                        "tenant_attribute" => format!("{format} = \"cloudevents\", or no {name}"),
                        _ => format!("{format} = \"json\" or \"cloudevents\", or no {name}"),
                    },
                );
            }
        }
        self.check_constants(path, report);
    }

    /// A constant wins over all else, so that whatever else is said of the same part is a mistake.
    fn check_constants(&self, path: &str, report: &mut Report) {
        let given_text = |report: &Report, table: &str, part: &str| {
            report.given_text(&join(&join(path, table), part))
        };
        for part in self.constants.keys() {
            let constant = join(&join(path, "constants"), part);
            for table in ["fields", "pointers", "defaults"] {
                if given_text(report, table, part) {
                    let other = join(&join(path, table), part);
                    report.refuse(
                        &[&constant, &other],
                        format!("is a constant, so that {other} would never be used"),
                        "one of the two",
                    );
                }
            }
        }
        let missing = |part: &str, place: &Option<String>| {
            place.is_none()
                && !self.constants.contains_key(part)
                && !self.defaults.contains_key(part)
        };
        let event_type = match self.format {
            Format::Fields => Some(("fields", &self.fields.event_type)),
            Format::Json => Some(("pointers", &self.pointers.event_type)),
            Format::CloudEvents => None,
        };
        if let Some((table, place)) = event_type
            && missing("type", place)
        {
            report.refuse(
                &[&join(&join(path, table), "type")],
                "says that events have no type, and there is neither a constant nor a default: all would be rejected",
                format!(
                    "a place for the type, or {path}.constants.type, or {path}.defaults.type"
                ),
            );
        }
    }
}

/// The keys that belong to some formats only.
pub(in crate::settings) const FORMAT_KEYS: [&str; 4] =
    ["fields", "pointers", "field", "tenant_attribute"];
