//! Under which conditions a daemon starts, waits, or refuses to.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::pombo::{Config, World};
use crate::support::receiver::{Receiver, Step};
use crate::support::redis::{Options, Redis};

#[tokio::test]
async fn a_second_daemon_of_the_same_name_does_not_start() {
    let world = World::new().await;
    let _first = world.config.spawn().await;
    let mut second = world.config.spawn_unready().await;
    assert_eq!(second.wait().await.code(), Some(75));
    second.log().wait_for("lock").await;
}

#[tokio::test]
async fn after_a_kill_its_successor_delivers_again_within_a_moment() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    let first = world.config.spawn().await;
    receiver.push(Step::Hang);
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(1).await;
    first.kill().await;
    world.redis.event("e2", "a.b", "2").await;
    let start = Instant::now();
    let _second = world.config.spawn_unready().await;
    let received = receiver.wait_for(3).await;
    println!("delivered again {:?} after the start", start.elapsed());
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    let mut again: Vec<&str> = received[1..]
        .iter()
        .map(|r| r.header("webhook-id"))
        .collect();
    again.sort_unstable();
    assert_eq!(again, ["e1", "e2"]);
    world.redis.settled("events").await;
}

#[tokio::test]
async fn a_redis_of_another_schema_or_number_of_shards_is_refused() {
    let world = World::new().await;
    for (words, told) in [
        ("HSET pombo:meta schema 0 shards 64", "schema version 0"),
        (
            "HSET pombo:meta schema 1 shards 32",
            "ownership.shards is 64",
        ),
    ] {
        world.redis.run::<i64>(words).await;
        let mut pombo = world.config.spawn_unready().await;
        assert_eq!(pombo.wait().await.code(), Some(78), "{words}");
        pombo.log().wait_for(told).await;
    }
    let before: Vec<String> = world.redis.keys("*").await;
    assert_eq!(before, ["pombo:meta"], "nothing else was touched");
}

#[tokio::test]
async fn without_redis_the_daemon_waits_and_says_so_and_then_works() {
    let (mut world, receiver) = (World::new().await, Receiver::start().await);
    world.redis.kill();
    let pombo = world.config.spawn_unready().await;
    pombo.log().wait_for("the connection to Redis").await;
    let page = pombo.get("/readyz").await;
    assert_eq!(page.status, 503);
    assert!(
        page.body.contains(r#""name":"redis","met":false"#),
        "{page:?}"
    );
    world.redis.restart().await;
    let webhooks = world.config.webhooks().await;
    webhooks.all("w", &receiver.url("/")).await;
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(1).await;
    pombo.wait_ready().await;
    let lines = pombo.log().lines();
    let waits = lines
        .iter()
        .filter(|line| line.contains("the connection to Redis"));
    assert!(waits.count() <= 3, "{lines:#?}");
}

#[tokio::test]
async fn a_redis_that_evicts_and_keeps_nothing_is_warned_about() {
    let redis = Redis::start_with(Options {
        max_memory: Some(100_000_000),
        arguments: vec!["--maxmemory-policy".to_owned(), "allkeys-lru".to_owned()],
        ..Options::default()
    });
    let redis = redis.await;
    let pombo = Config::new(&redis).spawn().await;
    pombo.log().wait_for("allkeys-lru").await;
    pombo.log().wait_for("append-only").await;
}

#[tokio::test]
async fn settings_without_a_source_are_refused() {
    let world = World::with("sources = []").await;
    let mut pombo = world.config.spawn_unready().await;
    assert_eq!(pombo.wait().await.code(), Some(78));
    pombo.log().wait_for("no source is given").await;
}

#[tokio::test]
async fn a_metrics_port_that_is_taken_ends_the_start_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let world = World::with(&format!("[metrics]\nlisten = \"{address}\"")).await;
    let mut pombo = world.config.spawn_unready().await;
    assert_eq!(pombo.wait().await.code(), Some(1));
    pombo.log().wait_for("metrics.listen").await;
}

#[tokio::test]
async fn an_api_port_that_is_taken_ends_the_start_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let world = World::with(&format!("[api]\nlisten = \"{address}\"")).await;
    let mut pombo = world.config.spawn_unready().await;
    assert_eq!(pombo.wait().await.code(), Some(1));
    pombo.log().wait_for("api.listen").await;
}
