//! `[catalogue]`: the event types that the platform emits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::Report;
use super::schema::{Key, Kind};
use crate::webhook::EventFilter;

/// `[catalogue]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueSettings {
    /// The event types, in the order in which they are shown; empty: any well-formed name may be subscribed to.
    pub events: Vec<CatalogueEvent>,
}

/// One event type of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueEvent {
    /// Its name, such as `crm.lead.created`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What it tells, for people.
    #[serde(default)]
    pub description: String,
    /// A payload as it could be, in JSON: what a test delivery of this type carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
}

pub(super) const KEYS: &[Key] = &[Key::new("events", Kind::Sections(&[EVENT_KEYS]))];

const EVENT_KEYS: &[Key] = &[
    Key::text(
        "type",
        "the name of an event type, such as \"crm.lead.created\"",
        |text| match EventFilter::parse(text) {
            Ok(filter) if filter.is_exact() => Ok(()),
            Ok(_) => Err("is a pattern, not the name of one event type".into()),
            Err(error) => Err(format!("is no name of an event type: {error}")),
        },
    ),
    Key::text("description", "at most 500 characters", |text| {
        if text.chars().count() > 500 || text.chars().any(char::is_control) {
            Err("is too long, or has control characters".into())
        } else {
            Ok(())
        }
    }),
    Key::text("sample", "JSON of at most 64 KiB", |text| {
        if text.len() > 64 << 10 {
            Err("is longer than 64 KiB".into())
        } else if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            Err("is not valid JSON".into())
        } else {
            Ok(())
        }
    }),
];

/// Most event types of a catalogue.
const MOST: usize = 10_000;

impl CatalogueSettings {
    /// The event type of this name.
    pub fn find(&self, event_type: &str) -> Option<&CatalogueEvent> {
        self.events
            .iter()
            .find(|event| event.event_type == event_type)
    }

    pub(super) fn check(&self, report: &mut Report) {
        if self.events.len() > MOST {
            report.refuse(
                &["catalogue.events"],
                format!("has {} event types", self.events.len()),
                "at most 10000",
            );
        }
        let mut seen = BTreeMap::new();
        for (index, event) in self.events.iter().enumerate() {
            if let Some(first) = seen.insert(event.event_type.as_str(), index) {
                report.refuse(
                    &[&format!("catalogue.events[{index}].type")],
                    format!(
                        "is {:?}, as catalogue.events[{first}].type is",
                        event.event_type
                    ),
                    "each event type once",
                );
            }
        }
    }
}
