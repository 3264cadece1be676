//! Shards that move between daemons.

use std::collections::HashMap;
use std::time::Duration;

use pombo::membership::Members;
use pombo::webhook::{Ordering, RateLimit};
use tokio::time::Instant;

use super::{config, members, settled, share_of};
use crate::faults::ledger::{Ledger, at_rest, subscribe};
use crate::support::receiver::{Received, Receiver, Step};
use crate::support::redis::Redis;
use crate::support::wait::until;

const NAMES: [&str; 3] = ["web1", "web2", "web3"];

fn webhook_ids() -> Vec<String> {
    (0..12).map(|n| format!("w{n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_daemon_takes_its_part_while_events_flow_and_nothing_is_lost_or_sent_twice() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let ids = webhook_ids();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    // Nothing is cut off or believed lost here, however slow the machine is.
    let configs = NAMES.map(|name| {
        config(&redis, name).with(
            "[ownership]\nlease = \"20s\"\nhandover = \"20s\"\n[redis]\nresponse_timeout = \"10s\"",
        )
    });
    subscribe(&configs[0].webhooks().await, &receiver, &ids).await;

    let first = configs[0].spawn().await;
    let second = configs[1].spawn().await;
    let (two, three) = (members(&NAMES[..2]), members(&NAMES));
    settled(&two, &[("web1", &first), ("web2", &second)]).await;
    redis.events("e", "many", 400).await;
    let joined = Instant::now();
    let third = configs[2].spawn().await;
    redis.events_from("e", 400, "many", 400).await;
    settled(
        &three,
        &[("web1", &first), ("web2", &second), ("web3", &third)],
    )
    .await;
    // What belongs to it now was released by who had it, and nothing else was.
    let taken_from = |members: &Members, name: &str, by: &str, then: &Members| {
        let moves = |shard: &u16| {
            members.of_shard(*shard) == Some(name) && then.of_shard(*shard) == Some(by)
        };
        (0..64).filter(moves).count()
    };
    let one = members(&NAMES[..1]);
    let from_first =
        taken_from(&one, "web1", "web2", &two) + taken_from(&two, "web1", "web3", &three);
    let from_second = taken_from(&two, "web2", "web3", &three);
    for (daemon, wanted) in [(&first, from_first), (&second, from_second)] {
        daemon
            .wait_for_metric("pombo_shards_released_total", &[], |released| {
                released == wanted as f64
            })
            .await;
    }
    println!(
        "a third daemon had its {} shards {:?} after its start",
        share_of(&three, "web3"),
        joined.elapsed()
    );
    redis.events_from("e", 800, "many", 400).await;
    ledger.complete(&ids, "e", 1_200).await;
    at_rest(&redis).await;
    let stops = Instant::now();
    assert_eq!(third.stop().await, Some(0));
    settled(&two, &[("web1", &first), ("web2", &second)]).await;
    println!("its shards were back {:?} after its stop", stops.elapsed());
    redis.events_from("e", 1_200, "many", 100).await;
    ledger.complete(&ids, "e", 1_300).await;
    let moved = share_of(&three, "web3");
    for daemon in [&first, &second] {
        assert_eq!(daemon.metric("pombo_instances", &[]).await, 2.0);
    }
    assert!((10.0..=32.0).contains(&moved), "about a third: {moved}");
    assert!(ledger.duplicates().is_empty(), "{:?}", ledger.duplicates());
    assert_eq!(first.stop().await, Some(0));
    assert_eq!(second.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_stops_hands_over_at_once_although_a_receiver_hangs() {
    let redis = Redis::start().await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/hangs" => Step::Hang,
        _ => Step::status(200),
    })
    .await;
    let configs = NAMES.map(|name| config(&redis, name).with("[ownership]\nhandover = \"500ms\""));
    // Both in shards of the daemon that stops.
    let of = members(&NAMES[..2]);
    let store = configs[0].webhooks().await;
    let mine = (0..)
        .map(|n| format!("m{n}"))
        .filter(|id| of.of_shard(pombo::store::shard_of(id, 64)) == Some("web1"));
    let ids: Vec<String> = mine.take(2).collect();
    store.all(&ids[0], &receiver.url("/hangs")).await;
    store.all(&ids[1], &receiver.url("/")).await;
    let first = configs[0].spawn().await;
    let second = configs[1].spawn().await;
    settled(&of, &[("web1", &first), ("web2", &second)]).await;
    redis.event("e1", "a.b", "1").await;
    receiver.wait_for(2).await;
    let stopped = Instant::now();
    first.terminate();
    second
        .wait_for_metric("pombo_shards_owned", &[], |owned| owned == 64.0)
        .await;
    let took = stopped.elapsed();
    println!("all shards were taken over {took:?} after the stop began");
    assert!(took < Duration::from_secs(10), "{took:?}");
    // What was cut off goes out again from its new owner.
    receiver
        .wait_until(|received| received.iter().filter(|r| r.path == "/hangs").count() >= 2)
        .await;
    redis.event("e2", "a.b", "2").await;
    receiver
        .wait_until(|received| received.iter().filter(|r| r.path == "/").count() >= 2)
        .await;
    assert_eq!(first.stop().await, Some(0));
}

/// The numbers at the end of the events' ids, as they came.
fn numbers(received: &[Received], path: &str) -> Vec<u32> {
    let ids = received.iter().filter(|request| request.path == path);
    ids.filter_map(|request| request.header("x-event-id").strip_prefix('e')?.parse().ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_and_rate_hold_while_shards_move_to_and_fro() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let configs = NAMES.map(|name| config(&redis, name));
    let store = configs[0].webhooks().await;
    // Far more at once than requests can be delayed on their way: a limiter that did not start dry would show.
    let limit = RateLimit {
        per_second: 40.0,
        burst: 50,
    };
    let all = moving_ids();
    for id in &all {
        let path = format!("/{id}");
        store
            .make(id, &receiver.url(&path), &["*"], |spec| {
                if keeps_order(id) {
                    spec.ordering = Ordering::Fifo;
                } else {
                    spec.rate_limit = Some(limit);
                }
            })
            .await;
    }
    let first = configs[0].spawn().await;
    redis.events("e", "many", 150).await;
    let mut joins = 0;
    for _ in 0..3 {
        let other = configs[1].spawn().await;
        settled(&members(&NAMES[..2]), &[("web1", &first), ("web2", &other)]).await;
        assert_eq!(other.stop().await, Some(0));
        settled(&members(&NAMES[..1]), &[("web1", &first)]).await;
        joins += 1;
    }
    let received = receiver
        .wait_until(|received| {
            let mut got: HashMap<&str, Vec<u32>> = HashMap::new();
            for id in &all {
                got.insert(id, numbers(received, &format!("/{id}")));
            }
            got.values_mut().all(|numbers| {
                numbers.sort_unstable();
                numbers.dedup();
                numbers.len() >= 150
            })
        })
        .await;
    for id in &all {
        let path = format!("/{id}");
        let got = numbers(&received, &path);
        if keeps_order(id) {
            let mut highest = 0;
            for number in &got {
                let repeated = got.iter().filter(|other| *other == number).count() > 1;
                assert!(
                    *number >= highest || repeated,
                    "{id}: {number} after {highest}"
                );
                highest = highest.max(*number);
            }
        } else {
            let times: Vec<Instant> = received
                .iter()
                .filter(|request| request.path == path)
                .map(|request| request.at)
                .collect();
            for (from, start) in times.iter().enumerate() {
                for (until, end) in times.iter().enumerate().skip(from) {
                    // Requests may arrive closer together than they were sent, on a busy machine.
                    let window = (*end - *start).as_secs_f64() + 0.75;
                    let most = f64::from(limit.burst) + limit.per_second * window;
                    let sent = (until - from + 1) as f64;
                    assert!(sent <= most + 1.0, "{id}: {sent} within {window} s");
                }
            }
        }
    }
    println!("{joins} times shards went to another daemon and came back");
    assert_eq!(first.stop().await, Some(0));
}

/// Webhooks in shards that go to the second daemon as soon as there is one.
fn moving_ids() -> Vec<String> {
    let two = members(&NAMES[..2]);
    let all = ["fifo", "rate"].iter().flat_map(|kind| {
        let ids = (0..).map(move |n| format!("{kind}{n}"));
        ids.filter(|id| two.of_shard(pombo::store::shard_of(id, 64)) == Some("web2"))
            .take(3)
    });
    all.collect()
}

/// Whether a webhook keeps the order; the others have a rate limit.
fn keeps_order(id: &str) -> bool {
    id.starts_with("fifo")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_reader_cannot_send_itself_is_with_its_owner_within_a_moment() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let configs = NAMES.map(|name| config(&redis, name));
    let of = members(&NAMES[..2]);
    let reader = of.of_source("events").expect("a reader");
    let elsewhere = (0..)
        .map(|n| format!("w{n}"))
        .find(|id| of.of_shard(pombo::store::shard_of(id, 64)) != Some(reader))
        .expect("a webhook of the other daemon");
    let store = configs[0].webhooks().await;
    store.all(&elsewhere, &receiver.url("/")).await;
    let first = configs[0].spawn().await;
    let second = configs[1].spawn().await;
    settled(&of, &[("web1", &first), ("web2", &second)]).await;
    until(
        "the source at the daemon that it belongs to",
        async || {
            let daemon = if reader == "web1" { &first } else { &second };
            daemon
                .log()
                .lines()
                .iter()
                .any(|line| line.contains("reads the stream now"))
        },
        |reads| *reads,
    )
    .await;
    let mut took = Vec::new();
    for n in 0..100 {
        let sent = Instant::now();
        redis.event(&format!("e{n}"), "a.b", "1").await;
        let received = receiver.wait_for(n + 1).await;
        took.push(received[n].at.saturating_duration_since(sent));
    }
    took.sort_unstable();
    println!(
        "XADD to receipt by way of the queue: median {:?}, 99 of 100 within {:?}",
        took[50], took[98]
    );
    assert!(took[50] < Duration::from_millis(100), "{:?}", took[50]);
    let queued = first.metric("pombo_fanout_queued_total", &[]).await
        + second.metric("pombo_fanout_queued_total", &[]).await;
    assert_eq!(queued, 100.0, "all went through the queue");
    assert_eq!(first.stop().await, Some(0));
    assert_eq!(second.stop().await, Some(0));
}
