//! Daemons that join, and what must not keep them from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pombo::store::ownership::Beat;
use tokio::time::Instant;

use super::{config, members, settled};
use crate::support::proxy::Proxy;
use crate::support::receiver::{Receiver, Step};
use crate::support::redis::Redis;
use crate::support::wait::stays;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_one_that_died_a_daemon_joins_a_full_redis_and_drains_it() {
    let redis = Redis::start().await;
    let well = Arc::new(AtomicBool::new(false));
    let receiver = {
        let well = well.clone();
        Receiver::scripted(move |_| match well.load(Ordering::SeqCst) {
            true => Step::status(200),
            false => Step::status(500),
        })
        .await
    };
    let config = config(&redis, "web1");
    let webhooks = config.webhooks().await;
    for n in 0..4 {
        let id = format!("w{n}");
        webhooks.all(&id, &receiver.url(&format!("/{id}"))).await;
    }
    let first = config.spawn().await;
    redis.event("e", "a.b", "1").await;
    receiver.wait_for(8).await;
    assert_eq!(first.stop().await, Some(0));
    let dead = serde_json::to_string(&Beat::new(7, "web2")).expect("JSON");
    let mut list = redis::cmd("HSET");
    list.arg("pombo:{cfg}:instances").arg("dead").arg(dead);
    let _: u64 = redis.query(&list).await;
    well.store(true, Ordering::SeqCst);
    let failed = receiver.received().len();
    let _: () = redis.run("CONFIG SET maxmemory 1").await;
    let second = config.spawn_unready().await;
    second
        .wait_for_metric("pombo_shards_owned", &[], |owned| owned == 64.0)
        .await;
    receiver.wait_for(failed + 4).await;
    assert_eq!(second.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_redis_longer_than_the_lease_makes_nobody_depose_anybody() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let configs = ["web1", "web2"].map(|name| config(&redis, name));
    let webhooks = configs[0].webhooks().await;
    webhooks.all("w", &receiver.url("/")).await;
    let first = configs[0].spawn().await;
    let second = configs[1].spawn().await;
    let of = members(&["web1", "web2"]);
    settled(&of, &[("web1", &first), ("web2", &second)]).await;
    for _ in 0..2 {
        redis.freeze();
        // Longer than the lease of three seconds.
        let frozen = Instant::now();
        stays(
            "Redis frozen",
            Duration::from_secs(4),
            async || frozen.elapsed(),
            |_| true,
        )
        .await;
        redis.thaw();
        settled(&of, &[("web1", &first), ("web2", &second)]).await;
        for daemon in [&first, &second] {
            daemon.wait_ready().await;
        }
    }
    redis.event("e", "a.b", "1").await;
    receiver.wait_for(1).await;
    for daemon in [&first, &second] {
        let lines = daemon.log().lines();
        let deposed = lines.iter().find(|line| line.contains("deposed this one"));
        assert!(deposed.is_none(), "{deposed:?}");
    }
    assert_eq!(first.stop().await, Some(0));
    assert_eq!(second.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_way_to_redis_does_not_make_a_daemon_look_dead_while_it_begins() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let proxy = Proxy::start(&redis).await;
    proxy.delay(Duration::from_millis(100));
    let near = config(&redis, "web1");
    let far = config(&redis, "web2").with(&format!("[redis]\nurl = {:?}", proxy.url()));
    near.webhooks().await.all("w", &receiver.url("/")).await;
    let near = near.spawn().await;
    let far = far.spawn().await;
    let of = members(&["web1", "web2"]);
    settled(&of, &[("web1", &near), ("web2", &far)]).await;
    let lines = far.log().lines();
    let deposed = lines.iter().find(|line| line.contains("deposed this one"));
    assert!(deposed.is_none(), "{deposed:?}");
    redis.event("e", "a.b", "1").await;
    receiver.wait_for(1).await;
    assert_eq!(far.stop().await, Some(0));
    assert_eq!(near.stop().await, Some(0));
}

/// A user of Redis that may do everything but these commands.
async fn limited(redis: &Redis, without: &[&str]) {
    let mut command = redis::cmd("ACL");
    command
        .arg("SETUSER")
        .arg("limited")
        .arg("reset")
        .arg("on")
        .arg(">segredo");
    command.arg("~*").arg("&*").arg("+@all").arg(without);
    let _: String = redis.query(&command).await;
}

const LIMITED: &str = "[redis]\nusername = \"limited\"\npassword = \"segredo\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_cannot_begin_keeps_nothing_from_the_others() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let able = config(&redis, "able");
    let store = able.webhooks().await;
    let ids: Vec<String> = (0..12).map(|n| format!("w{n}")).collect();
    for id in &ids {
        store.all(id, &receiver.url(&format!("/{id}"))).await;
    }
    limited(&redis, &["-xrevrange"]).await;
    let first = able.spawn().await;
    let unable = config(&redis, "unable").with(LIMITED).spawn_unready().await;
    let line = unable.log().wait_for("could not begin").await;
    assert!(line.contains("xrevrange"), "{line}");
    first
        .wait_for_metric("pombo_shards_owned", &[], |owned| owned == 64.0)
        .await;
    redis.event("e", "a.b", "1").await;
    receiver.wait_for(ids.len()).await;
    let page = unable.get("/readyz").await;
    assert_eq!(page.status, 503);
    assert_eq!(unable.stop().await, Some(0));
    assert_eq!(first.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_can_no_longer_beat_is_not_ready_and_says_so() {
    let redis = Redis::start().await;
    limited(&redis, &[]).await;
    let pombo = config(&redis, "only").with(LIMITED).spawn().await;
    limited(&redis, &["-eval", "-evalsha"]).await;
    pombo
        .wait_for_readyz(|page| {
            page.status == 503 && page.body.contains("the last beat in Redis is too old")
        })
        .await;
    limited(&redis, &[]).await;
    pombo.wait_for_readyz(|page| page.status == 200).await;
    assert_eq!(pombo.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_with_another_prefix_gets_every_event_too() {
    let redis = Redis::start().await;
    let mut fleets = Vec::new();
    for prefix in ["pombo", "staging"] {
        let receiver = Receiver::start().await;
        let config = config(&redis, prefix).with(&format!("[redis]\nprefix = {prefix:?}"));
        config.webhooks().await.all("w", &receiver.url("/")).await;
        fleets.push((config.spawn().await, receiver));
    }
    redis.events("e", "many", 50).await;
    for (pombo, receiver) in fleets {
        receiver.wait_for(50).await;
        let lost = pombo.metric("pombo_events_lost_total", &[]).await;
        assert_eq!(lost, 0.0);
        assert_eq!(pombo.stop().await, Some(0));
    }
}
