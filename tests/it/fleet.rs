//! Several daemons on one Redis share its webhooks and its sources, and nothing is lost or sent twice when they move.

mod bounds;
mod joins;
mod moves;
mod sources;

use pombo::membership::{Member, Members};
use pombo::store::ownership::Beat;

use crate::support::pombo::{Config, Process};
use crate::support::redis::Redis;
use crate::support::wait::until;

/// Daemons of these names, to know what belongs to whom; the nonce of each is its name.
pub fn members(names: &[&str]) -> Members {
    let member = |name: &&str| Member {
        nonce: (*name).to_owned(),
        beat: Beat::new(1, name),
    };
    Members::new(names.iter().map(member).collect())
}

/// The settings of the daemon `name`, with the usual number of shards.
fn config(redis: &Redis, name: &str) -> Config {
    Config::with_redis_url(&redis.url())
        .with(&format!("[instance]\nname = {name:?}"))
        .with("[ownership]\nlease = \"3s\"\n[redis]\nresponse_timeout = \"1s\"")
}

/// How many of the 64 shards belong to `name`.
fn share_of(members: &Members, name: &str) -> f64 {
    (0..64)
        .filter(|shard| members.of_shard(*shard) == Some(name))
        .count() as f64
}

/// Waits until each of `daemons` owns what belongs to it.
async fn settled(members: &Members, daemons: &[(&str, &Process)]) {
    for (name, daemon) in daemons {
        let share = share_of(members, name);
        daemon
            .wait_for_metric("pombo_shards_owned", &[], |owned| owned == share)
            .await;
    }
}

/// Waits until the source `events` has another owner than `before`, and returns it.
async fn next_reader(redis: &Redis, before: &str) -> String {
    next_reader_of(redis, "events", before).await
}

/// Waits until a source has another owner than `before`, and returns it.
async fn next_reader_of(redis: &Redis, source: &str, before: &str) -> String {
    until(
        "another reader of the source",
        async || reader(redis, source).await,
        |owner| !owner.is_empty() && owner != before,
    )
    .await
}

/// The nonce of the daemon that reads `stream`; empty if none does.
async fn reader(redis: &Redis, stream: &str) -> String {
    let words = format!("HGET pombo:{{cfg}}:source:{stream} owner");
    redis
        .run::<Option<String>>(&words)
        .await
        .unwrap_or_default()
}
