//! The id of a Redis stream entry.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use thiserror::Error;

/// The id of a stream entry: when it was added, in Unix milliseconds, and its number among the
/// entries of that millisecond. Ids order as the entries of their stream do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct EntryId {
    /// When the entry was added, in Unix milliseconds, as the Redis server saw it.
    pub ms: u64,
    /// Counts the entries of one millisecond, from 0.
    pub seq: u64,
}

impl EntryId {
    /// Before every entry; no entry ever has it.
    pub const MIN: EntryId = EntryId { ms: 0, seq: 0 };
    /// The last id that there can be.
    pub const MAX: EntryId = EntryId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// The id right after this one; [`EntryId::MAX`] is its own.
    pub fn next(self) -> EntryId {
        match (self.ms.checked_add(1), self.seq.checked_add(1)) {
            (_, Some(seq)) => EntryId { seq, ..self },
            (Some(ms), None) => EntryId { ms, seq: 0 },
            (None, None) => EntryId::MAX,
        }
    }

    /// The id right before this one; [`EntryId::MIN`] is its own.
    pub fn previous(self) -> EntryId {
        match (self.ms.checked_sub(1), self.seq.checked_sub(1)) {
            (_, Some(seq)) => EntryId { seq, ..self },
            (Some(ms), None) => EntryId { ms, seq: u64::MAX },
            (None, None) => EntryId::MIN,
        }
    }

    /// The id as text, without an allocation: several are written for each delivery.
    pub fn text(self) -> EntryIdText {
        let mut text = EntryIdText {
            bytes: [0; LONGEST],
            length: 0,
        };
        let mut digits = itoa::Buffer::new();
        text.push(digits.format(self.ms));
        text.push("-");
        text.push(digits.format(self.seq));
        text
    }
}

/// Two numbers of 20 digits and a dash.
const LONGEST: usize = 41;

/// An [`EntryId`] as text; see [`EntryId::text`].
#[derive(Clone, Copy)]
pub struct EntryIdText {
    bytes: [u8; LONGEST],
    length: usize,
}

impl EntryIdText {
    fn push(&mut self, text: &str) {
        let end = self.length + text.len();
        self.bytes[self.length..end].copy_from_slice(text.as_bytes());
        self.length = end;
    }
}

impl Deref for EntryIdText {
    type Target = str;

    fn deref(&self) -> &str {
        // Digits and a dash are text.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A text that is no [`EntryId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a stream entry's id is two numbers with a dash between them, such as 1526919030474-0")]
pub struct EntryIdError;

impl FromStr for EntryId {
    type Err = EntryIdError;

    fn from_str(text: &str) -> Result<Self, EntryIdError> {
        let number = |digits: &str| {
            // `parse` alone would take a leading plus.
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).ok_or(EntryIdError)
        };
        let (ms, seq) = text.split_once('-').ok_or(EntryIdError)?;
        Ok(EntryId {
            ms: number(ms)?,
            seq: number(seq)?,
        })
    }
}
