//! Redis in trouble: away for longer than the lease, read-only, loading, slow, forgetful of scripts. The daemon neither
//! crashes nor spins, says what is wrong once, and goes on by itself within moments.

use std::time::Duration;

use tokio::time::Instant;

use super::ledger::{Ledger, at_rest, config, subscribe};
use crate::support::pombo::{Config, Process};
use crate::support::proxy::Proxy;
use crate::support::receiver::Step;
use crate::support::redis::{Options, Redis};
use crate::support::wait::{stays, until};

/// Within this it delivers again once Redis does its work; it takes far less on a machine that is not busy.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);
/// What a daemon may need of one core while there is nothing that it could do.
const MOST_CPU: f64 = 0.05;
/// Lines that one change of state may take: each part of the daemon that notices says so, and why.
const MOST_LINES: usize = 16;

fn short_lease(url: &str) -> Config {
    config(url).with("[ownership]\nlease = \"3s\"\n[redis]\nresponse_timeout = \"1s\"")
}

/// Processor time of a process so far.
fn cpu(process: &Process) -> Duration {
    let path = format!("/proc/{}/stat", process.pid());
    let stat = std::fs::read_to_string(path).expect("a running process");
    // After the name, which may hold anything, user and system time are the 12th and 13th field, in hundredths.
    let fields = stat.rsplit_once(") ").expect("a name").1.split(' ');
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Watches a daemon in trouble for `span`: it is not ready, and neither spins nor fills its log.
async fn suffers(pombo: &Process, span: Duration) -> String {
    pombo.wait_for_readyz(|page| page.status != 200).await;
    let (began, cpu_before) = (Instant::now(), cpu(pombo));
    // It is left alone meanwhile: answering the test would cost more than the trouble.
    stays(
        "not all of a core",
        span,
        async || cpu(pombo) - cpu_before,
        |used| *used < began.elapsed() + Duration::from_secs(1),
    )
    .await;
    let used = (cpu(pombo) - cpu_before).as_secs_f64() / began.elapsed().as_secs_f64();
    let page = pombo.get("/readyz").await;
    assert_ne!(page.status, 200, "{}", page.body);
    let lines = pombo.log().lines();
    println!(
        "{:.1} % of a core, {} lines in all; {}",
        used * 100.0,
        lines.len(),
        page.body
    );
    assert!(used < MOST_CPU, "{:.1} % of a core", used * 100.0);
    page.body
}

/// How soon an event that is added now is delivered.
async fn goes_on(redis: &Redis, ledger: &Ledger, event: &str) {
    let back = Instant::now();
    redis.event(event, "many", "{}").await;
    until(
        "a delivery after the trouble",
        async || ledger.count("w", event),
        |count| *count > 0,
    )
    .await;
    let took = back.elapsed();
    println!("delivering again after {took:?}");
    assert!(took < AGAIN_WITHIN, "{took:?}");
}

fn lines_since(pombo: &Process, before: usize) -> Vec<String> {
    pombo.log().lines().split_off(before)
}

struct Scene {
    redis: Redis,
    ledger: Ledger,
    pombo: Process,
    _receiver: crate::support::receiver::Receiver,
    _config: Config,
}

/// A daemon that has delivered something.
async fn scene(options: Options) -> Scene {
    let redis = Redis::start_with(options).await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = short_lease(&redis.url());
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.spawn().await;
    redis.events("e", "many", 50).await;
    ledger.complete(&["w"], "e", 50).await;
    at_rest(&redis).await;
    Scene {
        redis,
        ledger,
        pombo,
        _receiver: receiver,
        _config: config,
    }
}

fn durable() -> Options {
    Options {
        append_only: true,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_away_for_many_leases_costs_nothing_meanwhile_and_is_taken_up_again_at_once() {
    let mut scene = scene(durable()).await;
    let before = scene.pombo.log().lines().len();
    scene.redis.kill();
    suffers(&scene.pombo, Duration::from_secs(20)).await;
    let told = lines_since(&scene.pombo, before);
    assert!(told.len() <= MOST_LINES, "{}", told.join("\n"));
    scene.redis.restart().await;
    goes_on(&scene.redis, &scene.ledger, "back").await;
    scene.pombo.wait_ready().await;
    at_rest(&scene.redis).await;
    assert!(scene.ledger.duplicates().is_empty());
    assert_eq!(scene.pombo.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_redis_is_named_and_taken_up_again_once_it_takes_writes() {
    let scene = scene(Options::default()).await;
    let before = scene.pombo.log().lines().len();
    // The replica of a master that nobody is.
    let _: () = scene.redis.run("REPLICAOF 127.0.0.1 1").await;
    let readyz = suffers(&scene.pombo, Duration::from_secs(8)).await;
    let told = lines_since(&scene.pombo, before);
    assert!(
        readyz.contains("read-only") || told.iter().any(|line| line.contains("read-only")),
        "{readyz}\n{}",
        told.join("\n")
    );
    assert!(told.len() <= MOST_LINES, "{}", told.join("\n"));
    let _: () = scene.redis.run("REPLICAOF NO ONE").await;
    goes_on(&scene.redis, &scene.ledger, "back").await;
    scene.pombo.wait_ready().await;
    at_rest(&scene.redis).await;
    assert_eq!(scene.pombo.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loads_its_data_is_named_and_taken_up_once_it_has() {
    let mut scene = scene(durable()).await;
    let mut commands = redis::pipe();
    for n in 0..2_000 {
        commands.cmd("SET").arg(format!("filler:{n}")).arg(n);
    }
    scene.redis.pipeline(&commands).await;
    let _: () = scene.redis.run("BGREWRITEAOF").await;
    until(
        "a rewritten file",
        async || scene.redis.run::<String>("INFO persistence").await,
        |info| {
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        },
    )
    .await;
    // Some 6 s for so many keys, answering meanwhile.
    let slowly = [
        "--key-load-delay",
        "3000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let before = scene.pombo.log().lines().len();
    scene.redis.restart_loading(&slowly).await;
    let page = scene
        .pombo
        .wait_for_readyz(|page| page.status != 200 && page.body.contains("loading"))
        .await;
    println!("{}", page.body);
    until(
        "loaded data",
        async || scene.redis.run::<String>("INFO persistence").await,
        |info| info.contains("\nloading:0"),
    )
    .await;
    goes_on(&scene.redis, &scene.ledger, "back").await;
    scene.pombo.wait_ready().await;
    let told = lines_since(&scene.pombo, before);
    assert!(told.len() <= MOST_LINES, "{}", told.join("\n"));
    assert_eq!(scene.pombo.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_are_flushed_while_it_delivers_are_loaded_again() {
    const EVENTS: usize = 600;
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match request.header("x-delivery-attempt") {
            "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let config = config(&redis.url());
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    redis.events("e", "many", EVENTS).await;
    for round in 1..6 {
        let target = round * EVENTS / 8;
        until(
            "some of the flow",
            async || ledger.got("w"),
            |got| *got >= target,
        )
        .await;
        let _: () = redis.run("SCRIPT FLUSH").await;
    }
    ledger.complete(&["w"], "e", EVENTS).await;
    at_rest(&redis).await;
    assert!(ledger.duplicates().is_empty(), "{:?}", ledger.duplicates());
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_answers_late_both_ways_keeps_the_daemon_ready_and_delivering() {
    const EVENTS: usize = 300;
    let redis = Redis::start().await;
    let proxy = Proxy::start(&redis).await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    subscribe(&config(&redis.url()).webhooks().await, &receiver, &["w"]).await;
    let pombo = short_lease(&proxy.url()).spawn().await;
    // 200 ms each way are 400 ms from a request to its reply.
    proxy.delay(Duration::from_millis(400));
    let before = pombo.log().lines().len();
    redis.events("e", "many", EVENTS).await;
    ledger.complete(&["w"], "e", EVENTS).await;
    stays(
        "ready though Redis is slow",
        Duration::from_secs(5),
        async || pombo.get("/readyz").await,
        |page| page.status == 200,
    )
    .await;
    let told = lines_since(&pombo, before);
    assert!(told.len() <= 2, "{}", told.join("\n"));
    proxy.mend();
    goes_on(&redis, &ledger, "back").await;
    at_rest(&redis).await;
    assert!(ledger.duplicates().is_empty(), "{:?}", ledger.duplicates());
    assert_eq!(pombo.stop().await, Some(0));
}
