//! Waiting for replicas before an event is acknowledged.

use crate::faults::ledger::{Ledger, config, subscribe};
use crate::support::cluster::Cluster;
use crate::support::pombo::Pombo;
use crate::support::receiver::Step;
use crate::support::redis::{Options, Redis};
use crate::support::wait::until;

const WAITS: &str = "[redis]\nwait_replicas = 1\nwait_timeout = \"50ms\"";

async fn missed(pombo: &Pombo) -> f64 {
    pombo.metric("pombo_replicas_missed_total", &[]).await
}

async fn waits(redis: &Redis) -> u64 {
    let info: String = redis.run("INFO commandstats").await;
    let calls = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_wait:calls="));
    calls.map_or(0, |rest| {
        let number = rest.split(',').next().unwrap_or("0");
        number.parse().expect("a number")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_waited_for_and_a_missing_replica_stops_nothing() {
    let options = || Options {
        tcp: true,
        ..Options::default()
    };
    let master = Redis::start_with(options()).await;
    let mut replica = Redis::start_with(options()).await;
    let port = master.port();
    replica
        .run::<()>(&format!("REPLICAOF 127.0.0.1 {port}"))
        .await;
    until(
        "a replica in step",
        async || replica.run::<String>("INFO replication").await,
        |info| info.contains("master_link_status:up"),
    )
    .await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match request.header("x-delivery-attempt") {
            "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let config = config(&master.url()).with(WAITS);
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    master.events("e", "many", 50).await;
    ledger.complete(&["w"], "e", 50).await;
    master.settled("events").await;
    assert!(waits(&master).await > 0);
    assert_eq!(missed(&pombo).await, 0.0);
    replica.kill();
    master.events_from("e", 50, "many", 50).await;
    ledger.complete(&["w"], "e", 100).await;
    master.settled("events").await;
    assert!(missed(&pombo).await > 0.0);
    assert_eq!(
        pombo.metric("pombo_redis_generations_total", &[]).await,
        0.0
    );
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_the_node_that_stored_is_the_one_that_waits() {
    let cluster = Cluster::start().await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match request.header("x-delivery-attempt") {
            "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let config = config("redis://ignored")
        .with(&cluster.settings())
        .with(WAITS)
        .with("[ownership]\nshards = 1");
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    cluster.events_from("e", 0, "many", 30).await;
    ledger.complete(&["w"], "e", 30).await;
    cluster.settled("events").await;
    let storing = cluster.master_of_key("pombo:{s00}:owner").await;
    for master in 0..3 {
        let waited = waits(&cluster.nodes[master]).await;
        assert_eq!(waited > 0, master == storing, "{master}: {waited}");
    }
    // The slot moves while things are stored there.
    let slot = cluster.slot("{s00}").await;
    let to = (storing + 1) % 3;
    let ((), ()) = tokio::join!(
        cluster.events_from("e", 30, "many", 30),
        cluster.reshard(slot, to)
    );
    ledger.complete(&["w"], "e", 60).await;
    cluster.settled("events").await;
    assert!(waits(&cluster.nodes[to]).await > 0);
    pombo.stop().await;
}
