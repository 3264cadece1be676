//! Durations and sizes as people write them: "15s", "250ms", "1h30m", "4d"; "16KiB", "1MB", 1048576.

use std::time::Duration;

/// Why a text is no duration or no size. Says what to write instead; does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

/// Reads a duration: one or more whole numbers, each with a unit of ns, us, ms, s, m, h, d or w (and their longer names).
/// A number alone is refused, for nobody can tell what it counts; so are months and years, which have no fixed length.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let refuse = |reason: String| Err(UnitError(reason));
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return refuse("is empty".into());
    }
    if trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("has no unit".into());
    }
    if trimmed
        .split(|c: char| !c.is_ascii_alphabetic())
        .any(has_no_fixed_length)
    {
        return refuse("has a month or a year in it, which have no fixed length".into());
    }
    humantime::parse_duration(trimmed).or_else(|error| {
        use humantime::DurationError as E;
        refuse(match error {
            E::InvalidCharacter(_) => "has a character that no duration has".into(),
            E::NumberExpected(_) => "has no number before a unit".into(),
            E::UnknownUnit { unit, .. } if unit.is_empty() => "ends without a unit".into(),
            E::UnknownUnit { .. } => "has an unknown unit (known: ms, s, m, h, d)".into(),
            E::NumberOverflow => "is too large or too fine a number".into(),
            E::Empty => "is empty".into(),
        })
    })
}

fn has_no_fixed_length(unit: &str) -> bool {
    unit == "M"
        || matches!(
            unit.to_ascii_lowercase().as_str(),
            "month" | "months" | "y" | "yr" | "year" | "years"
        )
}

/// Writes a duration in its largest whole units, such as "4d", "1h30m" or "250ms"; what [`parse_duration`] reads back.
pub fn format_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (nanos, unit) in UNITS {
        if rest >= nanos {
            text.push_str(&format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    text
}

const SIZE_UNITS: [(&str, u64); 7] = [
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
];

/// Reads a size in bytes: a whole number, alone or with a unit of B, KB, MB, GB (powers of 1000), KiB, MiB or GiB (of 1024).
pub fn parse_size(text: &str) -> Result<usize, UnitError> {
    let trimmed = text.trim();
    let digits = trimmed
        .bytes()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(UnitError("does not begin with a whole number".into()));
    }
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = if unit.is_empty() {
        1
    } else {
        SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(|| {
                UnitError("has an unknown unit (known: B, KB, MB, GB, KiB, MiB, GiB)".into())
            })?
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| UnitError("is too large a number".into()))
}

/// Writes a size in the largest of GiB, MiB, KiB and B that makes it a whole number; what [`parse_size`] reads back.
pub fn format_size(bytes: usize) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes != 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// For `#[serde(with = "…")]`: a [`Duration`] as text.
pub mod duration {
    use super::*;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it as [`format_duration`] does.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(*duration))
    }

    /// Reads it as [`parse_duration`] does; numbers are refused.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text).map_err(|error| D::Error::custom(format!("the duration {error}")))
    }
}

/// For `#[serde(with = "…", default)]`: an `Option` of a [`Duration`] as text.
pub mod option_duration {
    use super::*;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it as [`format_duration`] does, or none.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => to.serialize_some(&format_duration(*duration)),
            None => to.serialize_none(),
        }
    }

    /// Reads it as [`parse_duration`] does, or none.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| {
                parse_duration(&text)
                    .map_err(|error| D::Error::custom(format!("the duration {error}")))
            })
            .transpose()
    }
}

/// For `#[serde(with = "…")]`: a number of bytes as text, or as an integer when read.
pub mod size {
    use super::*;
    use serde::{Deserializer, Serializer, de};
    use std::fmt;

    /// Writes it as [`format_size`] does.
    pub fn serialize<S: Serializer>(bytes: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_size(*bytes))
    }

    /// Reads text as [`parse_size`] does, and integers as bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        struct Size;
        impl de::Visitor<'_> for Size {
            type Value = usize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"16KiB\", or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<usize, E> {
                usize::try_from(bytes).map_err(|_| E::custom("the size is too large"))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<usize, E> {
                usize::try_from(bytes)
                    .map_err(|_| E::custom("the size is negative or too large a number"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
                parse_size(text).map_err(|error| E::custom(format!("the size {error}")))
            }
        }
        from.deserialize_any(Size)
    }
}

#[cfg(test)]
mod tests;
