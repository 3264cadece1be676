//! What `/readyz` says of an era: whether its beats are in time, its webhooks current and its sources read.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::follower::Freshness;
use super::sources::SourcesState;
use crate::clock::Clock;
use crate::membership::Era;
use crate::readiness::{self, Readiness};

/// How often it is looked at whether the beat is in time and the webhooks are current.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Keeps readiness in step with the beats, and with what is known of the webhooks.
pub(super) async fn watch_era(
    readiness: Readiness,
    era: Arc<Era>,
    freshness: Arc<Freshness>,
    clock: Clock,
) {
    loop {
        tokio::select! {
            _ = era.ended() => return,
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
        let beaten = match era.is_valid() {
            true => Ok(()),
            false => Err(
                "the last beat in Redis is too old: nothing is sent before the next one".to_owned(),
            ),
        };
        readiness.set(readiness::OWNERSHIP, beaten);
        match freshness.is_fresh(&clock) {
            true => readiness.set(readiness::REGISTRY, Ok(())),
            false => readiness.set_held_up(
                readiness::REGISTRY,
                "the changes of webhooks cannot be followed for now".to_owned(),
            ),
        };
    }
}

/// Keeps readiness in step with the sources.
pub(super) async fn watch_sources(
    mut state: watch::Receiver<SourcesState>,
    configured: usize,
    readiness: Readiness,
    era: Arc<Era>,
) {
    loop {
        let now = state.borrow_and_update().clone();
        let condition = if now.looked_at < configured {
            Err("not all sources have been looked at yet".to_owned())
        } else if now.reading < now.owned {
            Err(format!(
                "{} of {} source streams are not being read",
                now.owned - now.reading,
                now.owned
            ))
        } else {
            Ok(())
        };
        match (condition, now.halted) {
            (Ok(()), Some(why)) => readiness.set_held_up(
                readiness::SOURCES,
                format!("the reading of events is halted for now: {why}"),
            ),
            (condition, _) => readiness.set(readiness::SOURCES, condition),
        };
        tokio::select! {
            _ = era.ended() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}
