//! When nothing is left to do, as Redis has it.

use std::collections::HashMap;
use std::time::Duration;

use pombo::webhook::Webhook;
use redis::{RedisError, Value};
use tokio::time::Instant;

use crate::plan::STREAMS;
use crate::support::pombo::Webhooks;
use crate::support::redis::GROUP;
use crate::topology::Address;

/// How long all that is left may take once everything is healed. Only what is stuck takes this long.
const PATIENCE: Duration = Duration::from_secs(90);

/// The key of a webhook's own, in its shard.
pub fn key(webhooks: &Webhooks, webhook: &Webhook, what: &str) -> String {
    let shard = webhooks.store().shard_of(&webhook.spec.id);
    format!("pombo:{{s{shard:02}}}:{what}:{}", webhook.uid)
}

/// Waits until every entry is read and acknowledged, and no queue and no schedule holds anything. Returns how long that
/// took.
///
/// # Errors
///
/// What was left when patience ran out.
pub async fn wait(
    address: &Address,
    webhooks: &Webhooks,
    all: &[Webhook],
    verbose: bool,
) -> Result<Duration, Vec<String>> {
    let begun = Instant::now();
    let mut told = begun;
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        ticks.tick().await;
        let left = match left(address, webhooks, all).await {
            Ok(left) if left.is_empty() => return Ok(begun.elapsed()),
            Ok(left) => left,
            Err(error) => vec![format!("Redis does not answer: {error}")],
        };
        if verbose && told.elapsed() > Duration::from_secs(2) {
            told = Instant::now();
            eprintln!(
                "  {:.0} s after the end: {}",
                begun.elapsed().as_secs_f64(),
                left.join("; ")
            );
        }
        if begun.elapsed() > PATIENCE {
            return Err(left);
        }
    }
}

async fn left(
    address: &Address,
    webhooks: &Webhooks,
    all: &[Webhook],
) -> Result<Vec<String>, RedisError> {
    let mut left = Vec::new();
    for stream in STREAMS {
        match group(address, stream).await? {
            None => left.push(format!("{stream} has no group")),
            Some(group) => {
                if group.pending > 0 {
                    left.push(format!("{} entries of {stream} are pending", group.pending));
                }
                if group.last_delivered != group.last_generated {
                    left.push(format!(
                        "{stream} is read up to {} of {}",
                        group.last_delivered, group.last_generated
                    ));
                }
            }
        }
    }
    for webhook in all {
        let queued: u64 = address
            .run(&["XLEN", &key(webhooks, webhook, "queue")])
            .await?;
        if queued > 0 {
            left.push(format!("{queued} deliveries wait for {}", webhook.spec.id));
        }
        for what in ["retry", "tries"] {
            let there: bool = address
                .run(&["EXISTS", &key(webhooks, webhook, what)])
                .await?;
            if there {
                left.push(format!("{} has something under {what}", webhook.spec.id));
            }
        }
    }
    Ok(left)
}

struct Group {
    pending: u64,
    last_delivered: String,
    last_generated: String,
}

async fn group(address: &Address, stream: &str) -> Result<Option<Group>, RedisError> {
    let groups: Vec<HashMap<String, Value>> = address.run(&["XINFO", "GROUPS", stream]).await?;
    let about: HashMap<String, Value> = address.run(&["XINFO", "STREAM", stream]).await?;
    let read = |from: &HashMap<String, Value>, name: &str| {
        let value = from.get(name).cloned().unwrap_or(Value::Nil);
        redis::from_redis_value::<String>(value).unwrap_or_default()
    };
    let found = groups.iter().find(|group| read(group, "name") == GROUP);
    Ok(found.map(|group| Group {
        pending: read(group, "pending").parse().unwrap_or(u64::MAX),
        last_delivered: read(group, "last-delivered-id"),
        last_generated: read(&about, "last-generated-id"),
    }))
}
