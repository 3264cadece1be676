//! What keys there are, and what each may hold. The sections list their own keys, beside their types; this file says what
//! a key can be. Everything that comes in is held against these lists before it becomes a setting.

use std::time::Duration;

use super::{
    api, catalogue, dead_letters, delivery, history, instance, logging, metrics, ownership, queue,
    redis, retry, shutdown, signature, source, targets,
};

/// The keys of a table: several lists, so that tables can share one.
pub(super) type Keys = &'static [&'static [Key]];

/// Says what is wrong with a text, if anything; the reason completes the sentence "the value …".
pub(super) type TextCheck = fn(&str) -> Result<(), String>;

/// One key of a table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a key holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text {
        allowed: &'static str,
        check: TextCheck,
    },
    /// Text that is never shown, and that a file can hold instead.
    Secret,
    /// A Redis URL: a secret of which all but the password can be shown.
    Url,
    Path,
    Integer {
        min: i64,
        max: i64,
    },
    Float {
        allowed: &'static str,
        check: fn(f64) -> bool,
    },
    Flag,
    Duration {
        min: Duration,
        max: Duration,
    },
    Size {
        min: i64,
        max: i64,
    },
    Choice(&'static [&'static str]),
    /// A list of networks.
    Networks,
    /// A list of texts.
    Texts {
        allowed: &'static str,
        check: TextCheck,
    },
    Section(Keys),
    /// A list of tables.
    Sections(Keys),
    /// A key that one could expect here, and why there is none.
    Refused(&'static str),
}

impl Kind {
    /// Whether the value must never be shown in an error.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Kind::Secret | Kind::Url)
    }
}

impl Key {
    pub(super) const fn new(name: &'static str, kind: Kind) -> Key {
        Key { name, kind }
    }

    pub(super) const fn text(name: &'static str, allowed: &'static str, check: TextCheck) -> Key {
        Key::new(name, Kind::Text { allowed, check })
    }

    pub(super) const fn integer(name: &'static str, min: i64, max: i64) -> Key {
        Key::new(name, Kind::Integer { min, max })
    }

    pub(super) const fn size(name: &'static str, min: i64, max: i64) -> Key {
        Key::new(name, Kind::Size { min, max })
    }

    pub(super) const fn duration(name: &'static str, min: Duration, max: Duration) -> Key {
        Key::new(name, Kind::Duration { min, max })
    }
}

pub(super) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

pub(super) const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// All sections, in the order in which they are printed.
pub(super) const ROOT: Keys = &[&[
    Key::new("instance", Kind::Section(&[instance::KEYS])),
    Key::new("redis", Kind::Section(&[redis::SERVER_KEYS, redis::KEYS])),
    Key::new(
        "sources",
        Kind::Sections(&[source::KEYS, redis::SERVER_KEYS]),
    ),
    Key::new("delivery", Kind::Section(&[delivery::KEYS])),
    Key::new("retry", Kind::Section(&[retry::KEYS])),
    Key::new("signature", Kind::Section(&[signature::KEYS])),
    Key::new("targets", Kind::Section(&[targets::KEYS])),
    Key::new("queue", Kind::Section(&[queue::KEYS])),
    Key::new("dead_letters", Kind::Section(&[dead_letters::KEYS])),
    Key::new("history", Kind::Section(&[history::KEYS])),
    Key::new("rejected", Kind::Section(&[queue::CAP_KEYS])),
    Key::new("notices", Kind::Section(&[queue::CAP_KEYS])),
    Key::new("ownership", Kind::Section(&[ownership::KEYS])),
    Key::new("catalogue", Kind::Section(&[catalogue::KEYS])),
    Key::new("api", Kind::Section(&[api::KEYS])),
    Key::new("metrics", Kind::Section(&[metrics::KEYS])),
    Key::new("logging", Kind::Section(&[logging::KEYS])),
    Key::new("shutdown", Kind::Section(&[shutdown::KEYS])),
]];

/// The keys of a table, in order.
pub(super) fn iter(keys: Keys) -> impl Iterator<Item = &'static Key> {
    keys.iter().copied().flatten()
}

/// What a name is within a table: one of its keys, or the `_file` of a secret.
pub(super) fn find(keys: Keys, name: &str) -> Option<Kind> {
    iter(keys)
        .find(|key| key.name == name)
        .map(|key| key.kind)
        .or_else(|| {
            let secret = name.strip_suffix("_file")?;
            iter(keys)
                .any(|key| key.name == secret && key.kind.is_secret())
                .then_some(Kind::Path)
        })
}

/// The names that a table accepts, `_file` forms included.
pub(super) fn names(keys: Keys) -> Vec<String> {
    iter(keys)
        .filter(|key| !matches!(key.kind, Kind::Refused(_)))
        .flat_map(|key| {
            let file = key.kind.is_secret().then(|| format!("{}_file", key.name));
            std::iter::once(key.name.to_owned()).chain(file)
        })
        .collect()
}

/// The full key that was probably meant by an unknown `name` in the table at `path`: one that is spelt alike in the same
/// table, else one of the same name in another.
pub(super) fn nearest(path: &str, keys: Keys, name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    if let Some(known) = alike(names(keys), &name) {
        return Some(join(path, &known));
    }
    elsewhere("", ROOT, &name)
}

/// The one of `known` that `name` is probably a misspelling of.
pub(crate) fn alike(known: impl IntoIterator<Item = String>, name: &str) -> Option<String> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&known, name), known))
        .filter(|(likeness, known)| {
            let distance = strsim::damerau_levenshtein(known, name);
            *likeness >= 0.85 || (distance <= 2 && distance * 2 < known.len())
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn elsewhere(path: &str, keys: Keys, name: &str) -> Option<String> {
    if names(keys).iter().any(|known| known == name) {
        return Some(join(path, name));
    }
    iter(keys).find_map(|key| match key.kind {
        Kind::Section(inner) => elsewhere(&join(path, key.name), inner, name),
        _ => None,
    })
}

/// A key below a path. A name that is not plain is quoted, and cut if it is long.
pub(crate) fn join(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name.len() <= 80
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let shown = if plain {
        name.to_owned()
    } else {
        let cut: String = name.chars().take(80).collect();
        format!("{cut:?}")
    };
    if path.is_empty() {
        shown
    } else {
        format!("{path}.{shown}")
    }
}

/// A check for texts of `min..=max` visible ASCII characters.
pub(super) fn visible(text: &str, max: usize) -> Result<(), String> {
    if text.is_empty() {
        Err("is empty".into())
    } else if text.len() > max {
        Err(format!("is {} bytes long", text.len()))
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("has a character that is not visible ASCII".into())
    } else {
        Ok(())
    }
}
