//! Is this daemon doing its work, and if not, why not?
//!
//! The parts of the daemon each report on their own condition; `/readyz` and systemd's readiness
//! read the whole.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// Redis answers, and is one that Pombo can work with.
pub const REDIS: &str = "redis";
/// The webhooks are known and the changes to them are followed.
pub const REGISTRY: &str = "registry";
/// The sources that this daemon owns are being read.
pub const SOURCES: &str = "sources";
/// This daemon's heartbeat is in time and its share of the work is settled.
pub const OWNERSHIP: &str = "ownership";

const UNCHECKED: &str = "has not been checked yet";

/// The conditions under which the daemon is ready, each with the reason why it is not met. A cheap
/// handle: clones share.
#[derive(Clone, Debug)]
pub struct Readiness {
    conditions: Arc<watch::Sender<Vec<Condition>>>,
}

/// One condition, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What it is about: [`REDIS`] and so on.
    pub name: &'static str,
    /// Whether it is met.
    pub met: bool,
    /// Why it is not met, or what holds it up although it is met, in plain words and without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    /// Not ready until each of `names` has been reported as met.
    pub fn new(names: &[&'static str]) -> Self {
        let conditions = names
            .iter()
            .map(|name| Condition {
                name,
                met: false,
                reason: Some(UNCHECKED.to_owned()),
            })
            .collect();
        Readiness {
            conditions: Arc::new(watch::Sender::new(conditions)),
        }
    }

    /// Reports one condition: met, or why not. A name that is new is added. Reporting what is known
    /// already wakes nobody.
    ///
    /// Returns whether this was a change.
    pub fn set(&self, name: &'static str, state: Result<(), String>) -> bool {
        self.report(Condition {
            name,
            met: state.is_ok(),
            reason: state.err(),
        })
    }

    /// Reports a condition that is met, with what holds it up: the daemon does what it can, and restarting it or sending
    /// its callers elsewhere would not help.
    ///
    /// Returns whether this was a change.
    pub fn set_held_up(&self, name: &'static str, by: String) -> bool {
        self.report(Condition {
            name,
            met: true,
            reason: Some(by),
        })
    }

    fn report(&self, now: Condition) -> bool {
        let name = now.name;
        self.conditions.send_if_modified(|conditions| {
            match conditions
                .iter_mut()
                .find(|condition| condition.name == name)
            {
                Some(known) if *known == now => return false,
                Some(known) => *known = now,
                None => conditions.push(now),
            }
            true
        })
    }

    /// Whether every condition is met.
    pub fn is_ready(&self) -> bool {
        all_met(&self.conditions.borrow())
    }

    /// Every condition, in the order in which they were named.
    pub fn conditions(&self) -> Vec<Condition> {
        self.conditions.borrow().clone()
    }

    /// Why the daemon is not ready, in one line; none when it is.
    pub fn missing(&self) -> Option<String> {
        let conditions = self.conditions.borrow();
        let missing: Vec<String> = conditions
            .iter()
            .filter(|condition| !condition.met)
            .filter_map(|condition| {
                Some(format!(
                    "{}: {}",
                    condition.name,
                    condition.reason.as_deref()?
                ))
            })
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    /// Returns once every condition is met, at once if they are. Cancel-safe.
    pub async fn ready(&self) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self
            .conditions
            .subscribe()
            .wait_for(|conditions| all_met(conditions))
            .await;
    }

    /// Returns once anything has changed since `seen` was taken from [`Readiness::conditions`].
    /// Cancel-safe.
    pub async fn changed_since(&self, seen: &[Condition]) -> Vec<Condition> {
        let mut conditions = self.conditions.subscribe();
        match conditions.wait_for(|now| now.as_slice() != seen).await {
            Ok(now) => now.clone(),
            Err(_) => self.conditions(),
        }
    }
}

fn all_met(conditions: &[Condition]) -> bool {
    conditions.iter().all(|condition| condition.met)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_ready_before_every_condition_has_been_reported() {
        let readiness = Readiness::new(&[REDIS, REGISTRY]);
        assert!(!readiness.is_ready());
        readiness.set(REDIS, Ok(()));
        assert_eq!(
            readiness.missing().as_deref(),
            Some("registry: has not been checked yet")
        );
        readiness.set(REGISTRY, Ok(()));
        assert!(readiness.is_ready());
        assert_eq!(readiness.missing(), None);
    }

    #[test]
    fn every_unmet_condition_tells_its_reason() {
        let readiness = Readiness::new(&[REDIS, REGISTRY, SOURCES]);
        readiness.set(REDIS, Err("no answer".to_owned()));
        readiness.set(REGISTRY, Ok(()));
        readiness.set(SOURCES, Err("Redis is full".to_owned()));
        assert_eq!(
            readiness.missing().as_deref(),
            Some("redis: no answer; sources: Redis is full")
        );
    }

    #[test]
    fn only_a_change_counts_as_one() {
        let readiness = Readiness::new(&[REDIS]);
        assert!(readiness.set(REDIS, Err("no answer".to_owned())));
        assert!(!readiness.set(REDIS, Err("no answer".to_owned())));
        assert!(readiness.set(REDIS, Ok(())));
        assert!(!readiness.set(REDIS, Ok(())));
    }

    #[test]
    fn a_condition_that_nobody_named_before_counts_too() {
        let readiness = Readiness::new(&[]);
        assert!(readiness.is_ready());
        readiness.set(OWNERSHIP, Err("deposed".to_owned()));
        assert!(!readiness.is_ready());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_when_the_last_condition_is_met() {
        let readiness = Readiness::new(&[REDIS]);
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        readiness.set(REDIS, Ok(()));
        waiting.await.expect("the waiting task does not panic");
    }

    #[tokio::test]
    async fn a_change_made_before_the_wait_is_not_missed() {
        let readiness = Readiness::new(&[REDIS]);
        let seen = readiness.conditions();
        readiness.set(REDIS, Ok(()));
        assert!(readiness.changed_since(&seen).await[0].met);
    }
}
