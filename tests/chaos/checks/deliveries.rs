//! At least once: every event for each of its subscribers, delivered or a dead letter.

use std::collections::HashMap;

use redis::{RedisError, Value};

use super::{Dead, Events, Evidence, PAGE, TOLD, read_dead, read_page};
use crate::plan::{Behaviour, Plan, STREAMS, SUBSCRIBERS};
use crate::rest;
use crate::support::redis::GROUP;

pub async fn check(evidence: &mut Evidence<'_>, events: &Events) -> Result<Dead, RedisError> {
    let dead = read_dead(evidence).await;
    let ledger = evidence.world.ledger.clone();
    let plan = ledger.plan();
    let (mut lost, mut surplus, mut needless) = (Vec::new(), Vec::new(), Vec::new());
    let (mut deliveries, mut attempts) = (0, 0);
    for (index, one) in SUBSCRIBERS.iter().enumerate() {
        let book = ledger.book(index);
        attempts += book.attempts;
        for number in events.numbers() {
            if !one.wants(plan.event_type(number)) {
                continue;
            }
            deliveries += 1;
            let delivered = book.records.contains_key(&number);
            if !delivered && !dead[index].contains_key(&number) {
                lost.push((index, number));
            }
        }
        for number in book.records.keys().filter(|number| !events.has(**number)) {
            surplus.push(format!("e{number} to {}", one.id));
        }
        if one.behaviour != Behaviour::Refusing {
            needless.extend(
                dead[index]
                    .keys()
                    .map(|number| format!("e{number} of {}", one.id)),
            );
        }
    }
    let fan_out: u64 = events.numbers().map(|number| plan.fan_out(number)).sum();
    if fan_out != deliveries {
        evidence.fail(format!("{deliveries} deliveries were checked of {fan_out}"));
    }
    evidence.outcome.deliveries = deliveries;
    evidence.outcome.attempts = attempts;
    evidence.outcome.losses = lost.len() as u64;
    evidence.outcome.dead_letters = dead
        .iter()
        .flat_map(|of| of.values())
        .map(|n| u64::from(*n))
        .sum();
    let mut told = Vec::new();
    for (index, number) in lost.iter().take(TOLD) {
        told.push(whereabouts(evidence, *index, *number).await?);
    }
    if !lost.is_empty() {
        evidence.fail(format!(
            "every event is delivered to each of its webhooks, or stands among its dead letters: {} are not: {}",
            lost.len(),
            told.join("; ")
        ));
    }
    if evidence.world.topology.keeps_everything() {
        evidence.fail_with("nothing is delivered that Redis does not hold", &surplus);
    }
    evidence.fail_with(
        "only what is refused for good becomes a dead letter",
        &needless,
    );
    Ok(dead)
}

/// Where Redis has what is missing.
async fn whereabouts(
    evidence: &Evidence<'_>,
    subscriber: usize,
    number: u32,
) -> Result<String, RedisError> {
    let (address, id) = (&evidence.address, Plan::id(number));
    let stream = STREAMS[Plan::stream_of(number)];
    let mut places = Vec::new();
    if let Some(entry) = find(evidence, stream, "id", &id).await? {
        let pending: Vec<Value> = address
            .run(&["XPENDING", stream, GROUP, &entry, &entry, "1"])
            .await?;
        let state = if pending.is_empty() {
            "acknowledged"
        } else {
            "pending"
        };
        places.push(format!("{state} as {entry} of {stream}"));
    }
    let webhook = &evidence.subscribed[subscriber];
    let queue = rest::key(evidence.webhooks, webhook, "queue");
    match find(evidence, &queue, "i", &id).await? {
        Some(entry) => places.push(format!("queued as {entry}")),
        None => places.push("in no queue".to_owned()),
    }
    let sent_ms = evidence
        .produced
        .get(number as usize)
        .map_or(0, |(_, at)| *at);
    Ok(format!(
        "{id} (sent at {sent_ms} ms) for {}: {}",
        SUBSCRIBERS[subscriber].id,
        places.join(", ")
    ))
}

/// The entry of a stream with this value in this field.
async fn find(
    evidence: &Evidence<'_>,
    stream: &str,
    field: &str,
    value: &str,
) -> Result<Option<String>, RedisError> {
    let mut after = "-".to_owned();
    loop {
        let page: Vec<(String, HashMap<String, String>)> =
            read_page(&evidence.address, stream, &after).await?;
        let found = page
            .iter()
            .find(|(_, fields)| fields.get(field).is_some_and(|is| is == value));
        if let Some((id, _)) = found {
            return Ok(Some(id.clone()));
        }
        match page.last() {
            Some((id, _)) if page.len() == PAGE => after = format!("({id}"),
            _ => return Ok(None),
        }
    }
}
