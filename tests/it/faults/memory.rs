//! Redis runs out of memory.

use super::ledger::{Ledger, at_rest, config, share, subscribe};
use crate::support::receiver::{Answer, Gate, Step};
use crate::support::redis::Redis;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_loses_nothing_and_goes_on_by_itself_once_it_has_drained() {
    const EVENTS: usize = 3_000;
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let gate = Gate::new();
    let slow = ledger
        .receiver({
            let gate = gate.clone();
            move |request| match share(request.header("x-event-id"), 8) {
                0 if request.header("x-delivery-attempt") == "1" => Step::status(500),
                _ => Answer::new(200).after(&gate).into(),
            }
        })
        .await;
    // Reading goes on to the brim: what is tested is what happens there.
    let config = config(&redis.url()).with("[redis]\nmemory_watermark = 1.0");
    let ids = ["a", "b"];
    subscribe(&config.webhooks().await, &slow, &ids).await;
    let payload = format!(r#"{{"filler":"{}"}}"#, "x".repeat(1_000));
    let mut commands = redis::pipe();
    for n in 0..EVENTS {
        let add = commands.cmd("XADD").arg("events").arg("*");
        add.arg("id").arg(format!("e{n}"));
        add.arg("type").arg("many").arg("payload").arg(&payload);
    }
    redis.pipeline(&commands).await;
    // Room for about a third of what the two queues would take.
    let limit = used(&redis).await + 2_500_000;
    let _: () = redis.run(&format!("CONFIG SET maxmemory {limit}")).await;

    let pombo = config.start_unready();
    pombo
        .wait_for_metric("pombo_redis_errors_total", &[], |errors| errors >= 1.0)
        .await;
    // The first error may be one of a busy machine; the one that counts comes when there is no room.
    let full = until(
        "a full Redis",
        async || used(&redis).await,
        |full| full * 10 >= limit * 9,
    )
    .await;
    let read_then = EVENTS as u64
        - redis
            .group("events")
            .await
            .map_or(0, |group| group.lag.unwrap_or(0));
    gate.open();
    ledger.complete(&ids, "e", EVENTS).await;
    at_rest(&redis).await;
    println!(
        "refused at {full} of {limit} bytes with {read_then} of {EVENTS} events read; {} duplicates of {} deliveries; {} bytes at the end",
        ledger.duplicates().values().sum::<u32>(),
        EVENTS * ids.len(),
        used(&redis).await,
    );
    assert!(ledger.duplicates().is_empty(), "{:?}", ledger.duplicates());
    pombo.wait_ready().await;
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_halts_at_the_watermark_and_goes_on_below_it() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = config(&redis.url()).with("[redis]\nmemory_watermark = 0.5");
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let _: () = redis
        .run(&format!(
            "CONFIG SET maxmemory {}",
            2 * used(&redis).await - 100_000
        ))
        .await;
    let pombo = config.start_unready();
    pombo
        .wait_for_metric(
            "pombo_source_stopped",
            &[("reason", "memory_watermark")],
            |on| on == 1.0,
        )
        .await;
    let page = pombo
        .wait_for_readyz(|page| page.body.contains("halted for now: memory_watermark"))
        .await;
    assert_eq!(page.status, 200, "its API can be used: {}", page.body);
    redis.events("e", "many", 10).await;
    let _: () = redis.run("CONFIG SET maxmemory 0").await;
    pombo
        .wait_for_readyz(|page| !page.body.contains("halted"))
        .await;
    ledger.complete(&["w"], "e", 10).await;
    at_rest(&redis).await;
    pombo.stop().await;
}

async fn used(redis: &Redis) -> u64 {
    until(
        "INFO",
        async || redis.run::<String>("INFO memory").await,
        |info| info.contains("used_memory:"),
    )
    .await
    .lines()
    .find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok())
    .expect("a number")
}
