//! A master that sentinels watch over.

use tokio::time::Instant;

use crate::faults::ledger::{Ledger, config, share, subscribe};
use crate::support::receiver::Step;
use crate::support::sentinel::Sentinels;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivering_goes_on_with_the_master_that_the_sentinels_have() {
    const EACH: usize = 200;
    let mut redis = Sentinels::start().await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match share(request.header("x-event-id"), 5) {
            0 if request.header("x-delivery-attempt") == "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let config = config("redis://ignored").with(&redis.settings());
    let ids = ["a", "b"];
    subscribe(&config.webhooks().await, &receiver, &ids).await;
    let pombo = config.start().await;

    // All is well: a failover that somebody asks for.
    let first = redis.in_step().await;
    redis.servers[first].events("e", "many", EACH).await;
    ledger.complete(&ids, "e", EACH).await;
    let second = redis.fail_over().await;
    assert_ne!(first, second);
    let failed_over = Instant::now();
    redis.in_step().await;
    redis.servers[second]
        .events_from("e", EACH, "many", EACH)
        .await;
    ledger.complete(&ids, "e", 2 * EACH).await;
    println!(
        "delivering {:?} after a failover by hand",
        failed_over.elapsed()
    );

    // The master dies with work that its replica has.
    redis.servers[second]
        .events_from("e", 2 * EACH, "many", EACH)
        .await;
    until(
        "some of it",
        async || ledger.got("a"),
        |got| *got > 2 * EACH,
    )
    .await;
    let third = {
        let wait: u64 = redis.servers[second].run("WAIT 1 5000").await;
        assert_eq!(wait, 1);
        redis.kill_master().await
    };
    let failed_over = Instant::now();
    redis.servers[third]
        .events_from("e", 3 * EACH, "many", EACH)
        .await;
    ledger.complete(&ids, "e", 4 * EACH).await;
    println!(
        "delivering {:?} after the death of a master; {} duplicates",
        failed_over.elapsed(),
        ledger.duplicates().values().sum::<u32>()
    );
    redis.servers[third].settled("events").await;
    let generations = pombo.metric("pombo_redis_generations_total", &[]).await;
    assert!(generations >= 2.0, "{generations}");
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 0.0);
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_was_cut_off_is_left_for_its_successor() {
    let mut redis = Sentinels::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = config("redis://ignored").with(&redis.settings());
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    let first = redis.in_step().await;
    redis.servers[first].event("e0", "many", "{}").await;
    ledger.complete(&["w"], "e", 1).await;
    // It stands still until another one is the master, and then goes on as if nothing had been: its connections stand.
    redis.servers[first].freeze();
    let second = until(
        "another master",
        async || redis.master().await,
        |found| *found != first,
    )
    .await;
    until(
        "a master that takes writes",
        async || {
            redis.servers[second]
                .run::<String>("INFO replication")
                .await
        },
        |info| info.contains("role:master"),
    )
    .await;
    redis.servers[second].event("e1", "many", "{}").await;
    redis.servers[first].thaw();
    ledger.complete(&["w"], "e", 2).await;
    redis.servers[second].settled("events").await;
    assert!(pombo.metric("pombo_redis_generations_total", &[]).await >= 1.0);
    pombo.stop().await;
    // Frozen or not, it must end with the test.
    redis.servers[first].kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_the_sentinels_do_not_know_is_told_by_its_name() {
    let redis = Sentinels::start().await;
    let config = config("redis://ignored")
        .with(&redis.settings())
        .with("[redis.sentinel]\nmaster = \"another\"");
    let pombo = config.start_unready();
    let page = pombo
        .wait_for_readyz(|page| page.status == 503 && page.body.contains("No such master"))
        .await;
    assert!(page.body.contains("127.0.0.1:"), "{}", page.body);
    pombo.stop().await;
}
