//! Every promise, each checked against what receivers saw and what Redis holds.

mod daemons;
mod deliveries;
mod limits;
mod order;
mod repeats;

use std::collections::HashMap;

use pombo::delivery::DeadReason;
use pombo::event::EntryId;
use pombo::webhook::Webhook;
use redis::RedisError;

use crate::faults::World;
use crate::plan::{Plan, STREAMS};
use crate::producer::Said;
use crate::report::Outcome;
use crate::support::pombo::Webhooks;
use crate::topology::Address;

/// Entries read at once.
const PAGE: usize = 1_000;
/// Connections over which a page is asked for at most.
const MOST_CONNECTIONS: usize = 20;
/// Of what goes wrong many times, the first are told.
const TOLD: usize = 8;

/// What there is to judge by.
pub struct Evidence<'a> {
    pub address: Address,
    pub webhooks: &'a Webhooks,
    pub subscribed: &'a [Webhook],
    pub world: &'a mut World,
    pub produced: Vec<(Said, u32)>,
    pub outcome: &'a mut Outcome,
}

/// The events that Redis holds at the end: what was to be delivered.
pub struct Events {
    /// By number.
    there: Vec<bool>,
}

impl Events {
    pub fn has(&self, number: u32) -> bool {
        self.there.get(number as usize).copied().unwrap_or(false)
    }

    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        let there = self.there.iter().enumerate().filter(|(_, there)| **there);
        there.map(|(number, _)| number as u32)
    }
}

impl Evidence<'_> {
    fn fail(&mut self, what: String) {
        self.outcome.failures.push(what);
    }

    /// Fails with the first of what is wrong, if anything is.
    fn fail_with(&mut self, promise: &str, wrong: &[String]) {
        if !wrong.is_empty() {
            let first = &wrong[..wrong.len().min(TOLD)];
            self.fail(format!(
                "{promise}: {} times not: {}",
                wrong.len(),
                first.join("; ")
            ));
        }
    }

    fn count_produced(&self, said: Said) -> u64 {
        let those = self.produced.iter().filter(|(found, _)| *found == said);
        those.count() as u64
    }
}

/// Makes all checks; what fails stands in the outcome.
///
/// # Errors
///
/// Redis, which is healed by now, does not answer.
pub async fn all(evidence: &mut Evidence<'_>) -> Result<(), RedisError> {
    evidence.outcome.refused = evidence.count_produced(Said::Refused);
    evidence.outcome.unanswered = evidence.count_produced(Said::Unknown);
    let events = read_streams(evidence).await?;
    let dead = deliveries::check(evidence, &events).await?;
    repeats::check(evidence, &dead);
    limits::check(evidence);
    order::check(evidence, &events);
    daemons::check(evidence).await;
    let ledger = evidence.world.ledger.clone();
    let (count, told) = ledger.wrongs();
    if count > 0 {
        evidence.outcome.failures.extend(told);
    }
    Ok(())
}

/// Reads the source streams, and holds them against what Redis said to the producer.
async fn read_streams(evidence: &mut Evidence<'_>) -> Result<Events, RedisError> {
    let mut events = Events {
        there: vec![false; evidence.produced.len()],
    };
    let mut wrong = Vec::new();
    for stream in STREAMS {
        let mut after = "-".to_owned();
        let mut last = None;
        loop {
            let page = read_page(&evidence.address, stream, &after).await?;
            let Some((id, _)) = page.last() else { break };
            after = format!("({id}");
            for (id, fields) in &page {
                let name = fields.get("id").map(String::as_str).unwrap_or_default();
                let Some(number) = Plan::number(name) else {
                    wrong.push(format!("{stream} {id} holds {name:?}"));
                    continue;
                };
                if last.is_some_and(|last| last >= number) {
                    wrong.push(format!("{name} stands after e{last:?}"));
                }
                last = Some(number);
                match events.there.get_mut(number as usize) {
                    Some(there) => *there = true,
                    None => wrong.push(format!("{name} was never sent")),
                }
            }
        }
    }
    evidence.fail_with("the producer keeps its numbers in order", &wrong);
    let (mut lost, mut conjured) = (Vec::new(), Vec::new());
    for (number, (said, _)) in evidence.produced.iter().enumerate() {
        match (said, events.there[number]) {
            (Said::Accepted, false) => lost.push(Plan::id(number as u32)),
            (Said::Refused | Said::Never, true) => conjured.push(Plan::id(number as u32)),
            _ => {}
        }
    }
    evidence.outcome.events = events.numbers().count() as u64;
    evidence.outcome.lost_by_redis = lost.len() as u64;
    if evidence.world.topology.keeps_everything() {
        evidence.fail_with("Redis keeps what it accepted", &lost);
    }
    evidence.fail_with("Redis holds nothing that it refused", &conjured);
    Ok(events)
}

async fn read_page(
    address: &Address,
    stream: &str,
    after: &str,
) -> Result<Vec<(String, HashMap<String, String>)>, RedisError> {
    let count = PAGE.to_string();
    address
        .run(&["XRANGE", stream, after, "+", "COUNT", &count])
        .await
}

/// The dead letters of each subscriber: number of the event -> how many.
pub type Dead = Vec<HashMap<u32, u16>>;

/// Reads all dead letters, each of which must say why.
async fn read_dead(evidence: &mut Evidence<'_>) -> Dead {
    let mut all = Vec::new();
    let mut wrong = Vec::new();
    for webhook in evidence.subscribed {
        let mut of_this: HashMap<u32, u16> = HashMap::new();
        let mut from = EntryId::MIN;
        loop {
            let store = evidence.webhooks.store();
            let shard = store.shard_of(&webhook.spec.id);
            let mut page = store.dead_letters(shard, &webhook.uid, from, PAGE).await;
            for _ in 0..MOST_CONNECTIONS {
                if page.is_ok() {
                    break;
                }
                // The connection of before may have led to a master that was replaced; the next one leads to its successor.
                evidence.webhooks.connected().await;
                page = store.dead_letters(shard, &webhook.uid, from, PAGE).await;
            }
            let (letters, more) = match page {
                Ok(page) => page,
                Err(error) => {
                    wrong.push(format!(
                        "those of {} cannot be read: {error}",
                        webhook.spec.id
                    ));
                    break;
                }
            };
            for letter in letters {
                match letter {
                    Ok(letter) => {
                        let (id, reason) = (&letter.event.id, letter.ending.reason);
                        match Plan::number(id) {
                            Some(number) => *of_this.entry(number).or_default() += 1,
                            None => wrong.push(format!("{id} is no event of ours")),
                        }
                        if reason != DeadReason::Exhausted {
                            wrong.push(format!("{id} died of {}", reason.as_str()));
                        }
                    }
                    Err(_) => wrong.push(format!("one of {} cannot be read", webhook.spec.id)),
                }
            }
            match more {
                Some(next) => from = next,
                None => break,
            }
        }
        all.push(of_this);
    }
    evidence.fail_with(
        "every dead letter tells its reason, that its attempts are used up",
        &wrong,
    );
    all
}
