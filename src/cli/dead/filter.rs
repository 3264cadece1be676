//! Which dead letters a command is about.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cli::trouble::Trouble;
use crate::delivery::{DeadReason, webhook_id_of};
use crate::exit::Exit;
use crate::settings::units::parse_duration;
use crate::store::dead::DeadLetter;

/// The options that choose dead letters; all that are given must hold.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FilterArgs {
    /// Only those of this webhook
    #[arg(long, value_name = "WEBHOOK_ID")]
    pub webhook: Option<String>,

    /// Only those of this tenant
    #[arg(long)]
    pub tenant: Option<String>,

    /// Only those with this reason: exhausted, expired, gone, queue_full or not_json
    #[arg(long)]
    pub reason: Option<DeadReason>,

    /// Only those given up longer ago than this, such as 12h or 7d
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pub older_than: Option<Duration>,

    /// Only those given up within this time, such as 30m
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pub newer_than: Option<Duration>,
}

/// [`FilterArgs`] at a moment, with the ids of deliveries if there are some.
#[derive(Debug, Clone)]
pub struct Filter {
    args: FilterArgs,
    ids: BTreeSet<String>,
    now_ms: u64,
}

impl FilterArgs {
    /// Whether anything was chosen at all.
    pub fn is_some(&self) -> bool {
        self.webhook.is_some()
            || self.tenant.is_some()
            || self.reason.is_some()
            || self.older_than.is_some()
            || self.newer_than.is_some()
    }
}

impl Filter {
    /// A filter for ages before `now_ms` (Unix ms). `ids` are those of deliveries; without any, all match.
    ///
    /// # Errors
    ///
    /// One of `ids` is no delivery id.
    pub fn new(args: &FilterArgs, ids: &[String], now_ms: u64) -> Result<Filter, Trouble> {
        for id in ids {
            if webhook_id_of(id).is_none() {
                return Err(Trouble::new(
                    Exit::Usage,
                    format!(
                        "{id:?} is no delivery id: one is the webhook's id, a dot and 22 characters, as `pombo dead list` \
                         prints it"
                    ),
                ));
            }
        }
        Ok(Filter {
            args: args.clone(),
            ids: ids.iter().cloned().collect(),
            now_ms,
        })
    }

    /// The ids of the webhooks that dead letters can be of; `None` for any.
    pub fn webhooks(&self) -> Option<BTreeSet<&str>> {
        let mut of_ids: BTreeSet<&str> =
            self.ids.iter().filter_map(|id| webhook_id_of(id)).collect();
        match &self.args.webhook {
            Some(webhook) if self.ids.is_empty() => Some(BTreeSet::from([webhook.as_str()])),
            Some(webhook) => {
                of_ids.retain(|id| id == webhook);
                Some(of_ids)
            }
            None if self.ids.is_empty() => None,
            None => Some(of_ids),
        }
    }

    /// Whether a dead letter is among those that are meant.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let FilterArgs {
            webhook,
            tenant,
            reason,
            older_than,
            newer_than,
        } = &self.args;
        let age = Duration::from_millis(self.now_ms.saturating_sub(letter.ending.at_ms));
        (self.ids.is_empty() || self.ids.contains(&letter.ending.delivery_id))
            && webhook
                .as_ref()
                .is_none_or(|webhook| *webhook == letter.ending.webhook_id)
            && tenant
                .as_ref()
                .is_none_or(|tenant| *tenant == letter.event.tenant)
            && reason.is_none_or(|reason| reason == letter.ending.reason)
            && older_than.is_none_or(|least| age > least)
            && newer_than.is_none_or(|most| age < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Tries, delivery_id};
    use crate::event::{EntryId, Event};
    use crate::store::dead::Ending;

    fn letter(webhook: &str, reason: DeadReason, at_ms: u64) -> DeadLetter {
        let entry_id = EntryId { ms: 1, seq: 0 };
        DeadLetter {
            id: EntryId { ms: at_ms, seq: 0 },
            event: std::sync::Arc::new(Event {
                id: "evt_1".into(),
                event_type: "a.b".into(),
                tenant: "acme".into(),
                time_ms: 1,
                arrived_ms: 1,
                stream: "events".into(),
                entry_id,
                content_type: "application/json".into(),
                payload: "{}".into(),
                payload_is_json: true,
                enclosed: None,
            }),
            ending: Ending {
                webhook_id: webhook.into(),
                delivery_id: delivery_id(webhook, "events", entry_id),
                reason,
                tries: Tries::default(),
                answer: bytes::Bytes::new(),
                at_ms,
            },
        }
    }

    const NOW: u64 = 1_000_000;

    fn matches(args: FilterArgs, letter: &DeadLetter) -> bool {
        Filter::new(&args, &[], NOW).unwrap().matches(letter)
    }

    #[test]
    fn all_that_is_given_must_hold() {
        let letter = letter("w1", DeadReason::Gone, NOW - 60_000);
        let all = FilterArgs {
            webhook: Some("w1".into()),
            tenant: Some("acme".into()),
            reason: Some(DeadReason::Gone),
            older_than: Some(Duration::from_secs(59)),
            newer_than: Some(Duration::from_secs(61)),
        };
        assert!(matches(FilterArgs::default(), &letter));
        assert!(matches(all.clone(), &letter));
        let but = [
            FilterArgs {
                webhook: Some("w2".into()),
                ..all.clone()
            },
            FilterArgs {
                tenant: Some("globex".into()),
                ..all.clone()
            },
            FilterArgs {
                reason: Some(DeadReason::Expired),
                ..all.clone()
            },
            FilterArgs {
                older_than: Some(Duration::from_secs(60)),
                ..all.clone()
            },
            FilterArgs {
                newer_than: Some(Duration::from_secs(60)),
                ..all
            },
        ];
        for args in but {
            assert!(!matches(args.clone(), &letter), "{args:?}");
        }
    }

    #[test]
    fn ids_name_their_webhooks() {
        let (one, two) = (
            letter("w1", DeadReason::Gone, 1),
            letter("w2", DeadReason::Gone, 1),
        );
        let ids = [one.ending.delivery_id.clone()];
        let filter = Filter::new(&FilterArgs::default(), &ids, NOW).unwrap();
        assert_eq!(filter.webhooks(), Some(BTreeSet::from(["w1"])));
        assert!(filter.matches(&one) && !filter.matches(&two));
        let other = FilterArgs {
            webhook: Some("w2".into()),
            ..FilterArgs::default()
        };
        let filter = Filter::new(&other, &ids, NOW).unwrap();
        assert_eq!(filter.webhooks(), Some(BTreeSet::new()));
    }

    #[test]
    fn what_is_no_delivery_id_is_refused() {
        let refused = Filter::new(&FilterArgs::default(), &["evt_1".into()], NOW).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
    }
}
