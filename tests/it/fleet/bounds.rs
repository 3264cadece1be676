//! Bounds that hold for all daemons together.

use super::{config, members, settled};
use crate::support::receiver::{Answer, Gate, Receiver, Step};
use crate::support::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_all_daemons_together_stops_the_reading_until_there_is_room() {
    let redis = Redis::start().await;
    let gate = Gate::new();
    let receiver = {
        let gate = gate.clone();
        Receiver::scripted(move |_| Step::Answer(Answer::new(200).after(&gate))).await
    };
    let bounded = |name: &str| {
        config(&redis, name).with(
            "[queue]\nmax_deliveries = 90\nmax_total_deliveries = 100\n[delivery]\nmax_in_flight = 1",
        )
    };
    let (first, second) = (bounded("web1"), bounded("web2"));
    let of = members(&["web1", "web2"]);
    let webhooks = first.webhooks().await;
    for owner in ["web1", "web2"] {
        let id = (0..)
            .map(|n| format!("w{n}"))
            .find(|id| of.of_shard(pombo::store::shard_of(id, 64)) == Some(owner))
            .expect("a webhook of each");
        webhooks.all(&id, &receiver.url(&format!("/{id}"))).await;
    }
    let first = first.spawn().await;
    let second = second.spawn().await;
    settled(&of, &[("web1", &first), ("web2", &second)]).await;
    // Each has 60 waiting, which is below the bound, and both together are above it.
    redis.events("e", "many", 60).await;
    let reader = if of.of_source("events") == Some("web1") {
        &first
    } else {
        &second
    };
    let full = [("reason", "queues_full")];
    reader
        .wait_for_metric("pombo_source_stopped", &full, |stopped| stopped == 1.0)
        .await;
    reader
        .log()
        .wait_for("queue.max_total_deliveries is 100")
        .await;
    redis.events_from("e", 60, "many", 10).await;
    let group = redis.group("events").await.expect("the group");
    assert_eq!(group.lag, Some(10), "nothing more is read");
    gate.open();
    receiver.wait_for(140).await;
    reader
        .wait_for_metric("pombo_source_stopped", &full, |stopped| stopped == 0.0)
        .await;
    redis.settled("events").await;
    assert_eq!(receiver.received().len(), 140, "each once");
    assert_eq!(first.stop().await, Some(0));
    assert_eq!(second.stop().await, Some(0));
}
