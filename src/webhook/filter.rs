//! Which event types a webhook wants: a name, or a pattern with wildcards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// The longest event type, and so the longest filter, in bytes.
pub const LONGEST_EVENT_TYPE: usize = 256;

/// Why a text is no [`EventFilter`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FilterError {
    /// Nothing was written.
    #[error("an event filter may not be empty")]
    Empty,
    /// Longer than any event type can be.
    #[error("an event filter has at most {LONGEST_EVENT_TYPE} bytes")]
    TooLong,
    /// Spaces, control characters or anything beyond ASCII.
    #[error("an event filter holds visible ASCII characters only")]
    NotVisibleAscii,
    /// Two dots in a row, or a dot at either end.
    #[error("an event filter has no empty segments: no dot at its ends, no two dots in a row")]
    EmptySegment,
    /// `**` before the end.
    #[error("`**` may only be the last segment")]
    DoubleStarInside,
    /// `*` next to other characters, as in `lead*`.
    #[error("a wildcard stands for whole segments: `*` alone between dots, or `**` at the end")]
    PartialWildcard,
}

/// What is allowed where a filter stands, for messages about a wrong one.
pub const ALLOWED_FILTERS: &str = "an event type such as `crm.lead.created`, a pattern such as \
     `crm.*.created` (`*` is one segment) or `crm.**` (one or more at the end), or `*` for everything";

/// An event type that a webhook asks for, by name or by pattern.
///
/// Types are split at their dots. `*` matches exactly one segment, a final `**` one or more, and a
/// filter that is nothing but `*` matches every event type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventFilter {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Exact,
    Everything,
    /// At least one segment is a wildcard.
    Pattern,
}

impl EventFilter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// Refuses what could never match, and wildcards in places where they would mean something else
    /// than their author thinks.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.len() > LONGEST_EVENT_TYPE {
            return Err(FilterError::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(FilterError::NotVisibleAscii);
        }
        let mut wildcards = false;
        let mut segments = text.split('.').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "" => return Err(FilterError::EmptySegment),
                "*" => wildcards = true,
                "**" if segments.peek().is_none() => wildcards = true,
                "**" => return Err(FilterError::DoubleStarInside),
                name if name.contains('*') => return Err(FilterError::PartialWildcard),
                _ => {}
            }
        }
        let kind = match (text, wildcards) {
            ("*" | "**", _) => Kind::Everything,
            (_, true) => Kind::Pattern,
            (_, false) => Kind::Exact,
        };
        Ok(EventFilter {
            text: text.into(),
            kind,
        })
    }

    /// The filter as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the filter names one event type, without a wildcard: such filters can be looked up
    /// instead of tried.
    pub fn is_exact(&self) -> bool {
        self.kind == Kind::Exact
    }

    /// Whether an event of this type is wanted.
    pub fn matches(&self, event_type: &str) -> bool {
        match self.kind {
            Kind::Everything => true,
            Kind::Exact => *self.text == *event_type,
            Kind::Pattern => matches_segments(&self.text, event_type),
        }
    }
}

/// Whether the filter with this text, as [`EventFilter::parse`] took it, wants an event of this type.
pub(crate) fn matches(filter: &str, event_type: &str) -> bool {
    matches!(filter, "*" | "**") || matches_segments(filter, event_type)
}

fn matches_segments(filter: &str, event_type: &str) -> bool {
    let mut actual = event_type.split('.');
    for wanted in filter.split('.') {
        let Some(segment) = actual.next() else {
            return false;
        };
        match wanted {
            "**" => return true,
            "*" => {}
            name if name == segment => {}
            _ => return false,
        }
    }
    actual.next().is_none()
}

impl FromStr for EventFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        EventFilter::parse(text)
    }
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Serialize for EventFilter {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for EventFilter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        EventFilter::parse(&text)
            .map_err(|error| de::Error::custom(format!("{error}; allowed: {ALLOWED_FILTERS}")))
    }
}
