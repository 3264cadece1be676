//! A webhook in little memory: one text, of which only what events are matched by is read in place.
//!
//! A daemon knows a hundred thousand webhooks and calls a few of them at a time. As a [`Webhook`] each would be a dozen
//! pieces of memory and a kilobyte; here it is one piece, from which the whole is made when it is needed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Secret, units};
use crate::signature::Scheme;
use crate::webhook::{
    BodyMode, Disabled, EventFilter, Ordering, RateLimit, RetryOverride, Webhook, WebhookSpec,
};

/// Why a webhook cannot be made from its packed form. Never seen: a webhook that was read from Redis can be packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it cannot be read back from the registry (column {column})")]
pub struct Unreadable {
    /// Where. The parser's own words could quote a secret.
    column: usize,
}

/// Id, tenant, filters and the rest of a webhook, one after the other. Hidden and wiped as a whole, for the rest holds
/// the secrets, header values and the URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    text: Secret,
    // Where the first three end.
    id: u32,
    tenant: u32,
    events: u32,
}

/// What stands between two filters: no filter has one.
const BETWEEN: char = ' ';

/// What is in no index, under keys as short as can be: they are in memory a hundred thousand times.
#[derive(Serialize, Deserialize)]
struct Rest<'a> {
    /// If it is not the id.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    #[serde(rename = "u")]
    url: Cow<'a, str>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    secret: Option<Cow<'a, Secret>>,
    #[serde(rename = "i", default, skip_serializing_if = "std::ops::Not::not")]
    inactive: bool,
    #[serde(rename = "h", default, skip_serializing_if = "is_empty")]
    headers: Cow<'a, BTreeMap<String, String>>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimit>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u32>,
    #[serde(
        rename = "t",
        default,
        with = "units::option_duration",
        skip_serializing_if = "Option::is_none"
    )]
    timeout: Option<Duration>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    retry: Option<Cow<'a, RetryOverride>>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    ordering: Option<Ordering>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    body_mode: Option<BodyMode>,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    signature_scheme: Option<Scheme>,
    #[serde(rename = "s")]
    secrets: Cow<'a, [Secret]>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    rotation_ends_ms: Option<u64>,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    disabled: Option<Cow<'a, Disabled>>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    managed_by: Option<Cow<'a, str>>,
    #[serde(rename = "c")]
    created_ms: u64,
    /// When it was not changed since, there is none.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    updated_ms: Option<u64>,
}

fn is_empty(headers: &BTreeMap<String, String>) -> bool {
    headers.is_empty()
}

impl<'a> Rest<'a> {
    fn of(webhook: &'a Webhook) -> Rest<'a> {
        // Taken apart whole, so that nothing that is added to a webhook is forgotten here.
        let Webhook {
            spec,
            uid: _,
            version: _,
            secrets,
            rotation_ends_ms,
            disabled,
            managed_by,
            created_ms,
            updated_ms,
        } = webhook;
        let WebhookSpec {
            id,
            tenant: _,
            name,
            description,
            url,
            events: _,
            secret,
            active,
            headers,
            rate_limit,
            max_in_flight,
            timeout,
            retry,
            ordering,
            body_mode,
            signature_scheme,
        } = spec;
        Rest {
            name: Some(Cow::Borrowed(name.as_str())).filter(|name| name != id),
            description: description.as_deref().map(Cow::Borrowed),
            url: Cow::Borrowed(url),
            secret: secret.as_ref().map(Cow::Borrowed),
            inactive: !active,
            headers: Cow::Borrowed(headers),
            rate_limit: *rate_limit,
            max_in_flight: *max_in_flight,
            timeout: *timeout,
            retry: retry.as_ref().map(Cow::Borrowed),
            ordering: Some(*ordering).filter(|ordering| *ordering != Ordering::default()),
            body_mode: *body_mode,
            signature_scheme: *signature_scheme,
            secrets: Cow::Borrowed(secrets),
            rotation_ends_ms: *rotation_ends_ms,
            disabled: disabled.as_ref().map(Cow::Borrowed),
            managed_by: managed_by.as_deref().map(Cow::Borrowed),
            created_ms: *created_ms,
            updated_ms: Some(*updated_ms).filter(|updated| updated != created_ms),
        }
    }
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Packed {
    pub(super) fn new(webhook: &Webhook) -> Packed {
        let (spec, rest) = (&webhook.spec, Rest::of(webhook));
        let filters: usize = spec.events.iter().map(|one| one.as_str().len() + 1).sum();
        // Counted first: a text that grew would leave copies of its secrets behind. Neither writing can fail, and if one
        // did, reading it back would.
        let mut length = Length(spec.id.len() + spec.tenant.len() + filters.saturating_sub(1));
        let _ = serde_json::to_writer(&mut length, &rest);
        let mut text = Vec::with_capacity(length.0);
        text.extend_from_slice(spec.id.as_bytes());
        let id = text.len();
        text.extend_from_slice(spec.tenant.as_bytes());
        let tenant = text.len();
        for (number, filter) in spec.events.iter().enumerate() {
            if number > 0 {
                text.push(BETWEEN as u8);
            }
            text.extend_from_slice(filter.as_str().as_bytes());
        }
        let events = text.len();
        let _ = serde_json::to_writer(&mut text, &rest);
        // Redis has no values of 4 GiB.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Packed {
            text: Secret::new(String::from_utf8(text).unwrap_or_default()),
            id: place(id),
            tenant: place(tenant),
            events: place(events),
        }
    }

    fn part(&self, from: u32, to: u32) -> &str {
        self.text
            .expose()
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }

    pub(super) fn id(&self) -> &str {
        self.part(0, self.id)
    }

    pub(super) fn tenant(&self) -> &str {
        self.part(self.id, self.tenant)
    }

    /// The filters, each with its place.
    pub(super) fn filters(&self) -> impl Iterator<Item = (u32, &str)> {
        let mut at = 0;
        // No filter is empty: nothing between two places is none.
        let events = self.part(self.tenant, self.events);
        let filters = events.split(BETWEEN).filter(|filter| !filter.is_empty());
        filters.map(move |filter| {
            let here = at;
            at += filter.len() as u32 + 1;
            (here, filter)
        })
    }

    /// The filter at a place that [`filters`](Packed::filters) told.
    pub(super) fn filter_at(&self, place: u32) -> &str {
        let rest = self.part(self.tenant.saturating_add(place), self.events);
        rest.split(BETWEEN).next().unwrap_or_default()
    }

    /// The whole webhook.
    pub(super) fn unpack(&self, uid: &str, version: u64) -> Result<Webhook, Unreadable> {
        let rest = self.text.expose().get(self.events as usize..);
        let rest: Rest<'_> =
            serde_json::from_str(rest.unwrap_or_default()).map_err(|error| Unreadable {
                column: error.column(),
            })?;
        let filters = self.filters().map(|(_, filter)| EventFilter::parse(filter));
        Ok(Webhook {
            spec: WebhookSpec {
                id: self.id().to_owned(),
                tenant: self.tenant().to_owned(),
                name: rest
                    .name
                    .map_or_else(|| self.id().to_owned(), Cow::into_owned),
                description: rest.description.map(Cow::into_owned),
                url: rest.url.into_owned(),
                events: filters
                    .collect::<Result<_, _>>()
                    .map_err(|_| Unreadable { column: 0 })?,
                secret: rest.secret.map(Cow::into_owned),
                active: !rest.inactive,
                headers: rest.headers.into_owned(),
                rate_limit: rest.rate_limit,
                max_in_flight: rest.max_in_flight,
                timeout: rest.timeout,
                retry: rest.retry.map(Cow::into_owned),
                ordering: rest.ordering.unwrap_or_default(),
                body_mode: rest.body_mode,
                signature_scheme: rest.signature_scheme,
            },
            uid: uid.to_owned(),
            version,
            secrets: rest.secrets.into_owned(),
            rotation_ends_ms: rest.rotation_ends_ms,
            disabled: rest.disabled.map(Cow::into_owned),
            managed_by: rest.managed_by.map(Cow::into_owned),
            created_ms: rest.created_ms,
            updated_ms: rest.updated_ms.unwrap_or(rest.created_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::webhook::tests::specs;

    fn webhooks() -> impl Strategy<Value = Webhook> {
        let disabled = proptest::option::of((any::<String>(), any::<u64>()));
        let managed_by = proptest::option::of(any::<String>());
        let secrets = proptest::collection::vec(any::<String>(), 0..3);
        let times = (
            any::<u64>(),
            any::<u64>(),
            any::<bool>(),
            any::<Option<u64>>(),
        );
        (specs(), any::<u64>(), secrets, disabled, managed_by, times).prop_map(
            |(
                spec,
                version,
                secrets,
                disabled,
                managed_by,
                (created_ms, other, unchanged, ends),
            )| {
                Webhook {
                    spec,
                    uid: "u".to_owned(),
                    version,
                    secrets: secrets.into_iter().map(Secret::new).collect(),
                    rotation_ends_ms: ends,
                    disabled: disabled.map(|(reason, at_ms)| Disabled { reason, at_ms }),
                    managed_by,
                    created_ms,
                    updated_ms: if unchanged { created_ms } else { other },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn any_webhook_is_the_same_after_it_was_packed(mut webhook in webhooks(), is_unnamed in any::<bool>()) {
            if is_unnamed {
                webhook.spec.name = webhook.spec.id.clone();
            }
            let packed = Packed::new(&webhook);
            prop_assert_eq!(packed.id(), &webhook.spec.id);
            prop_assert_eq!(packed.tenant(), &webhook.spec.tenant);
            let filters: Vec<&str> = packed.filters().map(|(_, filter)| filter).collect();
            let wanted: Vec<&str> = webhook.spec.events.iter().map(EventFilter::as_str).collect();
            prop_assert_eq!(filters, wanted);
            for (place, filter) in packed.filters() {
                prop_assert_eq!(packed.filter_at(place), filter);
            }
            prop_assert_eq!(packed.unpack("u", webhook.version), Ok(webhook.clone()));
            prop_assert_eq!(&packed, &Packed::new(&webhook));
        }

        #[test]
        fn nothing_packed_is_shown(mut webhook in webhooks()) {
            webhook.spec.id = "concealed".to_owned();
            webhook.secrets.push(Secret::new("concealed"));
            let shown = format!("{:?}", Packed::new(&webhook));
            prop_assert!(!shown.contains("concealed"));
        }
    }

    #[test]
    fn what_cannot_be_read_back_is_an_error_that_quotes_nothing() {
        let packed = Packed {
            text: Secret::new(r#"wt*{"n":"n","u":"concealed","s":"concealed","c":1}"#),
            id: 1,
            tenant: 2,
            events: 3,
        };
        let error = packed.unpack("u", 1).expect_err("secrets are a list");
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("column") && !shown.contains("concealed"),
            "{shown}"
        );
        let beyond = Packed {
            id: u32::MAX,
            ..packed
        };
        assert_eq!(beyond.id(), "");
    }
}
