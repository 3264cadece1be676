//! The keys of a `[[webhooks]]` table: what each may hold, as far as its shape goes. Values are judged by
//! [`crate::webhook::WebhookSpec::validate`].

use crate::webhook::filter::ALLOWED_FILTERS;

/// One key of a table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a key holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text(&'static str),
    Flag,
    Whole(&'static str),
    Number(&'static str),
    Duration(&'static str),
    Choice(&'static [&'static str]),
    Filters,
    /// A table of texts under any names.
    Headers,
    Table(&'static [Key]),
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// Those without which there is no webhook, and a value that passes every check: it stands in for one that is missing or
/// wrong, so that the rest can be checked all the same.
pub(super) const REQUIRED: [(&str, &str); 4] = [
    ("id", "\"x\""),
    ("name", "\"x\""),
    ("url", "\"https://example.com/\""),
    ("events", "[\"*\"]"),
];

pub(super) const WEBHOOK: &[Key] = &[
    key("id", Kind::Text("1 to 64 letters, digits, `_` and `-`")),
    key("tenant", Kind::Text("1 to 256 visible ASCII characters")),
    key("name", Kind::Text("1 to 100 characters")),
    key("description", Kind::Text("at most 500 characters")),
    key("url", Kind::Text("an http:// or https:// URL")),
    key("events", Kind::Filters),
    key(
        "secret",
        Kind::Text("1 to 512 bytes of text; leave it out to have one generated"),
    ),
    key("active", Kind::Flag),
    key("headers", Kind::Headers),
    key(
        "rate_limit",
        Kind::Table(&[
            key(
                "per_second",
                Kind::Number("a number above 0, at most 100000"),
            ),
            key("burst", Kind::Whole("a whole number, at least 1")),
        ]),
    ),
    key("max_in_flight", Kind::Whole("a whole number, 1 to 10000")),
    key("timeout", Kind::Duration("\"100ms\" to \"5m\"")),
    key(
        "retry",
        Kind::Table(&[
            key("first", Kind::Duration("\"100ms\" to \"30d\"")),
            key("factor", Kind::Number("a number, 1 to 100")),
            key("longest", Kind::Duration("\"100ms\" to \"30d\"")),
            key(
                "jitter",
                Kind::Number("a number, 0 to 1, as a share of the delay"),
            ),
            key(
                "max_attempts",
                Kind::Whole("a whole number, 1 to 1000, the first attempt counted"),
            ),
            key("max_age", Kind::Duration("\"100ms\" to \"365d\"")),
        ]),
    ),
    key("ordering", Kind::Choice(&["none", "fifo"])),
    key("body_mode", Kind::Choice(&["envelope", "payload"])),
    key(
        "signature_scheme",
        Kind::Choice(&["timestamped", "sha256", "hex"]),
    ),
];

impl Kind {
    /// What would be right, in words.
    pub(super) fn allowed(self) -> String {
        match self {
            Kind::Text(allowed) | Kind::Whole(allowed) | Kind::Number(allowed) => {
                allowed.to_owned()
            }
            Kind::Duration(allowed) => format!("{allowed}, a number with a unit"),
            Kind::Flag => "true or false".to_owned(),
            Kind::Choice(choices) => choices
                .iter()
                .map(|choice| format!("{choice:?}"))
                .collect::<Vec<_>>()
                .join(" or "),
            Kind::Filters => format!("a list of 1 to 100 texts, each {ALLOWED_FILTERS}"),
            Kind::Headers => "a table of headers, each a name = \"value\"".to_owned(),
            Kind::Table(keys) => format!("a table of {}", names(keys)),
        }
    }
}

/// The names of the keys, for a message.
pub(super) fn names(keys: &[Key]) -> String {
    keys.iter()
        .map(|key| key.name)
        .collect::<Vec<_>>()
        .join(", ")
}
