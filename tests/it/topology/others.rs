//! Other servers than the machine's own Redis: a newer one, and Valkey. `scripts/other-servers` fetches both.

use std::path::{Path, PathBuf};

use redis::Value;

use crate::faults::ledger::{Ledger, at_rest, config, share, subscribe};
use crate::support::receiver::Step;
use crate::support::redis::{Options, Redis};
use crate::support::wait::until;

/// A server that was fetched. Without one the test has nothing to run on, and says so.
fn fetched(program: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/servers")
        .join(program);
    let found = path.exists().then_some(path);
    if found.is_none() {
        println!("NOT RUN: there is no target/servers/{program}; scripts/other-servers fetches it");
    }
    found
}

async fn start(program: PathBuf) -> Redis {
    Redis::start_with(Options {
        program: Some(program),
        append_only: true,
        ..Options::default()
    })
    .await
}

/// Deliveries, retries, dead letters, another group, and a restart of the server.
async fn works(redis: &mut Redis) {
    const EACH: usize = 200;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match share(request.header("x-event-id"), 5) {
            0 if request.header("x-delivery-attempt") == "1" => Step::status(500),
            1 if request.path == "/gone" => Step::status(410),
            _ => Step::status(200),
        })
        .await;
    let config =
        config(&redis.url()).with("[[sources]]\nstream = \"events\"\ntrim = \"acknowledged\"");
    let webhooks = config.webhooks().await;
    subscribe(&webhooks, &receiver, &["a", "b"]).await;
    let gone = webhooks.all("gone", &receiver.url("/gone")).await;
    let pombo = config.start().await;
    redis.events("e", "many", EACH).await;
    ledger.complete(&["a", "b"], "e", EACH).await;
    webhooks.wait_for_dead(&gone, 1).await;
    redis.kill();
    redis.restart().await;
    pombo.wait_ready().await;
    redis.events_from("e", EACH, "many", EACH).await;
    ledger.complete(&["a", "b"], "e", 2 * EACH).await;
    redis.settled("events").await;
    // A client of its own again: the first one finds out with its next command that the server was another.
    let webhooks = config.webhooks().await;
    webhooks
        .delete(&webhooks.get("gone").await.expect("it is there"))
        .await;
    at_rest(redis).await;
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 0.0);
    assert_eq!(
        pombo.metric("pombo_redis_generations_total", &[]).await,
        1.0
    );
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_serves_as_redis_does() {
    let Some(program) = fetched("valkey/valkey-server") else {
        return;
    };
    let mut valkey = start(program).await;
    let info: String = valkey.run("INFO server").await;
    assert!(info.contains("valkey_version:"), "{info}");
    works(&mut valkey).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_redis_serves_as_an_older_one_does() {
    let Some(program) = fetched("redis/redis-server") else {
        return;
    };
    works(&mut start(program).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_is_removed_at_once_unless_another_group_needs_it() {
    let Some(program) = fetched("redis/redis-server") else {
        return;
    };
    let redis = start(program).await;
    let known: Vec<Value> = redis.run("COMMAND INFO XACKDEL").await;
    assert_ne!(known, [Value::Nil], "this server has no XACKDEL");
    redis
        .run::<()>("XGROUP CREATE events other 0 MKSTREAM")
        .await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config =
        config(&redis.url()).with("[[sources]]\nstream = \"events\"\ntrim = \"acknowledged\"");
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    redis.events("e", "many", 50).await;
    ledger.complete(&["w"], "e", 50).await;
    redis.settled("events").await;
    assert_eq!(
        redis.run::<u64>("XLEN events").await,
        50,
        "the other group has not read them"
    );
    redis
        .run::<()>("XREADGROUP GROUP other o COUNT 50 STREAMS events >")
        .await;
    let ids: Vec<String> = redis
        .entries("events")
        .await
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    redis
        .run::<u64>(&format!("XACK events other {}", ids.join(" ")))
        .await;
    redis.run::<u64>("XGROUP DESTROY events other").await;
    redis.events_from("e", 50, "many", 50).await;
    ledger.complete(&["w"], "e", 100).await;
    redis.settled("events").await;
    let calls = |info: &str, name: &str| {
        let prefix = format!("cmdstat_{name}:calls=");
        let found = info
            .lines()
            .find_map(|line| line.strip_prefix(prefix.as_str()));
        found.map_or(0u64, |rest| {
            rest.split(',')
                .next()
                .unwrap_or("0")
                .parse()
                .expect("a number")
        })
    };
    until(
        "the first fifty trimmed and the others removed",
        async || redis.run::<u64>("XLEN events").await,
        |length| *length == 0,
    )
    .await;
    let info: String = redis.run("INFO commandstats").await;
    assert!(calls(&info, "xackdel") > 0, "{info}");
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 0.0);
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_permission_for_xackdel_acknowledges_all_the_same() {
    let Some(program) = fetched("redis/redis-server") else {
        return;
    };
    let redis = start(program).await;
    redis
        .run::<()>("ACL SETUSER limited on >secret ~* &* +@all -xackdel")
        .await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = config(&redis.url())
        .with("[redis]\nusername = \"limited\"\npassword = \"secret\"")
        .with("[[sources]]\nstream = \"events\"\ntrim = \"acknowledged\"");
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    redis.events("e", "many", 50).await;
    ledger.complete(&["w"], "e", 50).await;
    redis.settled("events").await;
    pombo.stop().await;
}
