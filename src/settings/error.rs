//! What is wrong with the settings, said so that a person can mend it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// One thing that is wrong. Holds no value of a secret or unknown key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The full key, such as `delivery.timeout` or `sources[1].format`.
    pub key: String,
    /// Where it was given: `/etc/pombo/pombo.toml:12`, `environment variable POMBO_REDIS__URL`; empty if nowhere.
    pub origin: String,
    /// What is wrong, and what would come of it.
    pub reason: String,
    /// What may be given instead; empty if the reason says it all.
    pub allowed: String,
    /// For an unknown key: the known one that was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean {nearest}?")?;
        }
        if !self.origin.is_empty() {
            write!(f, "\n    given in {}", self.origin)?;
        }
        if !self.allowed.is_empty() {
            write!(f, "\n    allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

/// The settings are refused: everything that is wrong with them, at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    /// At least one, in the order of their keys.
    pub problems: Vec<Problem>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the settings are wrong:")?,
            n => write!(f, "the settings are wrong in {n} places:")?,
        }
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Collects problems while settings are read. Knows where each key was given and which keys are bad already, so that
/// one mistake is reported once.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    bad: BTreeSet<String>,
    origins: HashMap<String, Origin>,
    empty: BTreeSet<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    BuiltIn,
    Given(String),
}

impl Report {
    pub(super) fn add(&mut self, problem: Problem) {
        self.bad.insert(problem.key.clone());
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Sets where every key was given, and which of them hold an empty text.
    pub(super) fn set_given(&mut self, origins: HashMap<String, Origin>, empty: BTreeSet<String>) {
        self.origins = origins;
        self.empty = empty;
    }

    /// Whether the key was given by someone, rather than left at its default.
    pub(super) fn given(&self, key: &str) -> bool {
        matches!(self.origins.get(key), Some(Origin::Given(_)))
    }

    /// Whether the key was given a text that is not empty.
    pub(super) fn given_text(&self, key: &str) -> bool {
        self.given(key) && !self.empty.contains(key)
    }

    /// Notes that a key cannot be relied upon, without a problem of its own.
    pub(super) fn mark_bad(&mut self, key: &str) {
        self.bad.insert(key.to_owned());
    }

    /// Refuses a combination of keys; the first is the one that is reported. Says nothing if one of them is bad anyway.
    pub(super) fn refuse(
        &mut self,
        keys: &[&str],
        reason: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        if keys.iter().any(|key| self.is_bad(key)) {
            return;
        }
        let origins: Vec<String> = keys.iter().filter_map(|key| self.origin_of(key)).collect();
        let mut unique: Vec<String> = Vec::new();
        for origin in origins {
            if !unique.contains(&origin) {
                unique.push(origin);
            }
        }
        self.problems.push(Problem {
            key: keys.first().copied().unwrap_or_default().into(),
            origin: unique.join(", "),
            reason: reason.into(),
            allowed: allowed.into(),
            nearest: None,
        });
    }

    /// Refuses a file that cannot be read.
    pub(super) fn need_file(&mut self, key: &str, path: &std::path::Path) {
        if let Err(error) = std::fs::File::open(path).and_then(|file| match file.metadata()? {
            found if found.is_dir() => Err(std::io::Error::other("it is a directory")),
            _ => Ok(()),
        }) {
            self.refuse(
                &[key],
                format!("{} cannot be read: {error}", path.display()),
                "",
            );
        }
    }

    pub(super) fn finish(mut self) -> Result<(), SettingsError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        self.problems
            .sort_by(|a, b| (&a.key, &a.origin).cmp(&(&b.key, &b.origin)));
        Err(SettingsError {
            problems: self.problems,
        })
    }

    pub(super) fn is_bad(&self, key: &str) -> bool {
        ancestors(key).any(|part| self.bad.contains(part))
    }

    fn origin_of(&self, key: &str) -> Option<String> {
        ancestors(key)
            .find_map(|part| self.origins.get(part))
            .and_then(|origin| match origin {
                Origin::Given(place) => Some(place.clone()),
                Origin::BuiltIn => None,
            })
    }
}

/// A key, and what it is part of: `sources[1].format`, `sources[1]`, `sources`.
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |key| {
        key.rfind(['.', '[']).map(|end| &key[..end])
    })
}
