//! Reads what a body says about a webhook, and judges it: everything that is wrong is found at once.

use std::time::Duration;

use serde_json::Value;

use super::catalogue;
use super::pointers::invalid;
use crate::api::Api;
use crate::api::fields::{Field, Fields};
use crate::api::problem::Invalid;
use crate::retry::RetryOverride;
use crate::settings::Secret;
use crate::signature::Scheme;
use crate::target::{LONGEST_URL, TargetRules};
use crate::webhook::filter::ALLOWED_FILTERS;
use crate::webhook::{BodyMode, EventFilter, Ordering, RateLimit, Webhook, WebhookSpec};

const NAME: &str = "1 to 100 characters";
const DESCRIPTION: &str = "at most 500 characters, or null for none";
const URL: &str = "an absolute http:// or https:// URL without credentials, at most 2048 bytes, on an allowed network";
const EVENTS: &str = "a list of 1 to 100 event types or patterns";
const HEADERS: &str = "an object of at most 32 headers, each a text, or null for none";
const RATE_LIMIT: &str = "an object with perSecond and burst, or null for no limit";
const RETRY: &str =
    "an object with firstMs, factor, longestMs, jitter, maxAttempts and maxAgeMs, or null";
const SECRET: &str = "16 to 512 printable ASCII characters; leave it out to have one generated";
const MOST_EVENTS: usize = 100;

/// Whether a webhook is made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its name, URL and events must be given.
    Make,
    /// What is left out stays as it is.
    Change,
}

/// What a body says; each part as far as it was right.
#[derive(Clone)]
pub struct Changes {
    name: Option<String>,
    description: Option<Option<String>>,
    url: Option<String>,
    events: Option<Vec<EventFilter>>,
    /// Whether deliveries are wanted.
    pub active: Option<bool>,
    headers: Option<std::collections::BTreeMap<String, String>>,
    rate_limit: Option<Option<RateLimit>>,
    max_in_flight: Option<Option<u32>>,
    timeout: Option<Option<Duration>>,
    retry: Option<Option<RetryOverride>>,
    ordering: Option<Ordering>,
    body_mode: Option<Option<BodyMode>>,
    signature_scheme: Option<Option<Scheme>>,
}

/// A member that may be left out, but may not be null.
fn solid<T>(fields: &mut Fields, name: &str, found: Field<T>, allowed: &str) -> Option<T> {
    match found {
        Field::Given(value) => Some(value),
        Field::Absent => None,
        Field::Null => {
            fields.refuse(name, "is null", allowed);
            None
        }
    }
}

/// A member that null clears.
fn clearable<T>(found: Field<T>) -> Option<Option<T>> {
    match found {
        Field::Given(value) => Some(Some(value)),
        Field::Null => Some(None),
        Field::Absent => None,
    }
}

impl Changes {
    /// Takes every member about a webhook out of `fields`; what is wrong is noted there.
    pub fn read(api: &Api, fields: &mut Fields, purpose: Purpose) -> Changes {
        let name = fields.text("name", NAME);
        let name = solid(fields, "name", name, NAME);
        let description = clearable(fields.text("description", DESCRIPTION));
        let url = fields.text("url", URL);
        let url = solid(fields, "url", url, URL).and_then(|url| callable(fields, url));
        let events = events(api, fields);
        let active = fields.flag("isActive");
        let active = solid(fields, "isActive", active, "true or false");
        let headers = clearable(fields.text_map("headers", HEADERS));
        let changes = Changes {
            name,
            description,
            url,
            events,
            active,
            headers: headers.map(Option::unwrap_or_default),
            rate_limit: clearable(fields.object("rateLimit", RATE_LIMIT, rate_limit)),
            max_in_flight: clearable(fields.whole("maxInFlight", "1 to 10000, or null"))
                .map(|most| most.map(narrow)),
            timeout: clearable(fields.whole("timeoutMs", "100 to 300000 (milliseconds), or null"))
                .map(|ms| ms.map(Duration::from_millis)),
            retry: clearable(fields.object("retry", RETRY, retry)),
            ordering: clearable(fields.choice(
                "ordering",
                &[("none", Ordering::None), ("fifo", Ordering::Fifo)],
            ))
            .map(Option::unwrap_or_default),
            body_mode: clearable(fields.choice(
                "bodyMode",
                &[
                    ("envelope", BodyMode::Envelope),
                    ("payload", BodyMode::Payload),
                ],
            )),
            signature_scheme: clearable(fields.choice(
                "signatureScheme",
                &[
                    ("timestamped", Scheme::Timestamped),
                    ("sha256", Scheme::Sha256),
                    ("hex", Scheme::Hex),
                ],
            )),
        };
        if purpose == Purpose::Make {
            for (name, missing, allowed) in [
                ("name", changes.name.is_none(), NAME),
                ("url", changes.url.is_none(), URL),
                ("events", changes.events.is_none(), EVENTS),
            ] {
                if missing && !fields.is_bad(name) {
                    fields.refuse(name, "is missing", allowed);
                }
            }
        }
        changes.judge(api, fields);
        changes
    }

    /// Judges the values on a webhook with which nothing else is wrong, so that a stored one which stricter settings
    /// would refuse today can still be paused or mended field by field.
    fn judge(&self, api: &Api, fields: &mut Fields) {
        let mut sound = WebhookSpec {
            id: "sound".to_owned(),
            tenant: "sound".to_owned(),
            name: "sound".to_owned(),
            description: None,
            url: "https://sound.example.com/".to_owned(),
            events: EventFilter::parse("*").into_iter().collect(),
            secret: None,
            active: true,
            headers: Default::default(),
            rate_limit: None,
            max_in_flight: None,
            timeout: None,
            retry: None,
            ordering: Ordering::None,
            body_mode: None,
            signature_scheme: None,
        };
        self.make_spec(&mut sound);
        let targets = &api.settings.targets;
        let rules = TargetRules::new(targets.allow.clone(), targets.https_only);
        for error in sound.validate_for(&rules, &api.settings.signature.header) {
            fields.refuse_at(invalid(error, &sound));
        }
    }

    fn make_spec(&self, spec: &mut WebhookSpec) {
        fn set<T: Clone>(place: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                *place = value.clone();
            }
        }
        set(&mut spec.name, &self.name);
        set(&mut spec.description, &self.description);
        set(&mut spec.url, &self.url);
        set(&mut spec.events, &self.events);
        set(&mut spec.active, &self.active);
        set(&mut spec.headers, &self.headers);
        set(&mut spec.rate_limit, &self.rate_limit);
        set(&mut spec.max_in_flight, &self.max_in_flight);
        set(&mut spec.timeout, &self.timeout);
        set(&mut spec.retry, &self.retry);
        set(&mut spec.ordering, &self.ordering);
        set(&mut spec.body_mode, &self.body_mode);
        set(&mut spec.signature_scheme, &self.signature_scheme);
    }

    /// Makes them true of a webhook.
    pub fn make(&self, webhook: &mut Webhook) {
        self.make_spec(&mut webhook.spec);
        if self.active == Some(true) {
            webhook.disabled = None;
        }
    }
}

/// The URL as deliveries can be sent to it: as it was written where it can be, else as browsers would write it.
fn callable(fields: &mut Fields, url: String) -> Option<String> {
    let begins = |scheme: &str| {
        url.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    if !begins("http://") && !begins("https://") {
        fields.refuse("url", "begins with neither http:// nor https://", URL);
        return None;
    }
    let fits = |text: &str| {
        text.parse::<http::Uri>()
            .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
    };
    if fits(&url) {
        return Some(url);
    }
    if url.len() > LONGEST_URL || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        // As it is, so that the rules say what is wrong with it: writing it anew would mend it in silence.
        return Some(url);
    }
    // Names in other scripts, and characters that have to be escaped. What is no URL at all is told by the rules.
    match url::Url::parse(&url) {
        Ok(written) if fits(written.as_str()) => Some(written.into()),
        Ok(_) => {
            fields.refuse("url", "cannot be called", URL);
            None
        }
        Err(_) => Some(url),
    }
}

fn events(api: &Api, fields: &mut Fields) -> Option<Vec<EventFilter>> {
    let found = fields.any("events");
    let items = match solid(fields, "events", found, EVENTS)? {
        Value::Array(items) => items,
        _ => {
            fields.refuse("events", "is not a list", EVENTS);
            return None;
        }
    };
    if !(1..=MOST_EVENTS).contains(&items.len()) {
        fields.refuse("events", format!("has {} entries", items.len()), EVENTS);
        return None;
    }
    let at = fields.pointer("events");
    let mut filters = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let mut refuse = |detail: String, allowed: &str| {
            fields.refuse_at(Invalid::at(format!("{at}/{index}"), detail, allowed));
        };
        let Some(text) = item.as_str() else {
            refuse("is not a text".to_owned(), ALLOWED_FILTERS);
            continue;
        };
        match EventFilter::parse(text) {
            Err(error) => refuse(error.to_string(), ALLOWED_FILTERS),
            Ok(filter) => match catalogue::refusal_of(&filter, &api.settings.catalogue) {
                Some((detail, allowed)) => refuse(detail.to_owned(), allowed),
                None => filters.push(filter),
            },
        }
    }
    (filters.len() == items.len()).then_some(filters)
}

/// A number too large for its field is out of its range as well.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn rate_limit(inner: &mut Fields) -> RateLimit {
    let allowed = "0.0001 to 100000";
    let per_second = inner.number("perSecond", allowed);
    let per_second = solid(inner, "perSecond", per_second, allowed);
    if per_second.is_none() && !inner.is_bad("perSecond") {
        inner.refuse("perSecond", "is missing", allowed);
    }
    let burst = inner.whole("burst", "1 to 100000");
    let burst = solid(inner, "burst", burst, "1 to 100000");
    RateLimit {
        // Where it is wrong already, a value with which nothing else is.
        per_second: per_second.unwrap_or(100_000.0),
        burst: burst.map_or(1, narrow),
    }
}

fn retry(inner: &mut Fields) -> RetryOverride {
    let delay = "100 to 2592000000 (milliseconds)";
    let millis = |found: Field<u64>| found.given().map(Duration::from_millis);
    RetryOverride {
        first: millis(inner.whole("firstMs", delay)),
        factor: inner.number("factor", "1 to 100").given(),
        longest: millis(inner.whole("longestMs", delay)),
        jitter: inner.number("jitter", "0 to 1").given(),
        max_attempts: inner.whole("maxAttempts", "1 to 1000").given().map(narrow),
        max_age: millis(inner.whole("maxAgeMs", "100 to 31536000000 (milliseconds)")),
    }
}

/// Takes a chosen secret; null is as good as nothing.
pub fn secret(fields: &mut Fields) -> Option<Secret> {
    let text = fields.text("secret", SECRET).given()?;
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !(16..=512).contains(&text.len()) || !printable {
        fields.refuse(
            "secret",
            "is too short, too long, or holds other characters",
            SECRET,
        );
        return None;
    }
    Some(Secret::new(text))
}
