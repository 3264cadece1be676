//! Redis itself is killed and started again.

use tokio::time::Instant;

use super::ledger::{Ledger, at_rest, config, share, subscribe};
use crate::support::receiver::Step;
use crate::support::redis::Redis;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_restarted_during_a_flow_loses_nothing_and_the_daemon_goes_on_by_itself() {
    const ROUNDS: usize = 3;
    const EACH: usize = 500;
    let mut redis = Redis::durable().await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| {
            let first = request.header("x-delivery-attempt") == "1";
            match share(request.header("x-event-id"), 10) {
                0 if first => Step::status(500),
                1 if first && request.path == "/flaky" => Step::Reset,
                _ => Step::status(200),
            }
        })
        .await;
    let config = config(&redis.url());
    let ids = ["healthy", "flaky"];
    subscribe(&config.webhooks().await, &receiver, &ids).await;
    let pombo = config.start().await;
    let mut outages = Vec::new();
    for round in 0..ROUNDS {
        redis.events_from("e", round * EACH, "many", EACH).await;
        let target = round * EACH + EACH / 3;
        until(
            "some of the flow",
            async || ledger.got("healthy"),
            |got| *got >= target,
        )
        .await;
        redis.kill();
        redis.restart().await;
        let back = Instant::now();
        let event = format!("back{round}");
        redis.event(&event, "many", "{}").await;
        until(
            "a delivery after the restart",
            async || ledger.count("healthy", &event),
            |count| *count > 0,
        )
        .await;
        outages.push(back.elapsed());
    }
    ledger.complete(&ids, "e", ROUNDS * EACH).await;
    at_rest(&redis).await;
    let generations = pombo.metric("pombo_redis_generations_total", &[]).await;
    println!(
        "{ROUNDS} restarts of Redis: delivering again {outages:?} after it was back; {} duplicates of {} deliveries",
        ledger.duplicates().values().sum::<u32>(),
        ROUNDS * EACH * ids.len()
    );
    assert_eq!(generations, ROUNDS as f64);
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 0.0);
    pombo.stop().await;
}
