//! Sources that move between daemons.

use rustix::process::Signal;

use super::{config, members, next_reader, next_reader_of, reader};
use crate::faults::ledger::{Ledger, at_rest, subscribe};
use crate::support::proxy::Proxy;
use crate::support::receiver::Step;
use crate::support::redis::Redis;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_spread_and_each_has_one_reader() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let streams: Vec<String> = (0..6).map(|n| format!("in{n}")).collect();
    let with_streams = |name: &str| config(&redis, name).with("[[sources]]\nstream = \"in*\"");
    let (first, second) = (with_streams("web1"), with_streams("web2"));
    subscribe(&first.webhooks().await, &receiver, &["w"]).await;
    for stream in &streams {
        redis
            .add(stream, &[("id", "e0"), ("type", "a.b"), ("payload", "1")])
            .await;
    }
    let first = first.spawn().await;
    let second = second.spawn().await;
    let of = members(&["web1", "web2"]);
    let mine = streams
        .iter()
        .filter(|stream| of.of_source(stream) == Some("web1"));
    let mine = mine.count();
    assert!(mine > 0 && mine < streams.len(), "the names spread: {mine}");
    let owners = async || {
        let mut owners = Vec::new();
        for stream in &streams {
            owners.push(reader(&redis, stream).await);
        }
        owners
    };
    let owners = until("a reader each", owners, |owners| {
        let mut nonces = owners.clone();
        nonces.sort_unstable();
        nonces.dedup();
        let spread = nonces
            .iter()
            .map(|nonce| owners.iter().filter(|o| *o == nonce).count());
        let mut spread: Vec<usize> = spread.collect();
        spread.sort_unstable();
        let mut expected = [mine, streams.len() - mine];
        expected.sort_unstable();
        owners.iter().all(|owner| !owner.is_empty()) && spread == expected
    })
    .await;
    println!(
        "{mine} of {} streams are read by the first: {owners:?}",
        streams.len()
    );
    let mut added = 1;
    for stream in &streams {
        for _ in 0..5 {
            let id = format!("e{added}");
            redis
                .add(stream, &[("id", &id), ("type", "a.b"), ("payload", "1")])
                .await;
            added += 1;
        }
    }
    ledger.complete(&["w"], "e", added).await;
    assert_eq!(first.stop().await, Some(0));
    let all = async || reader(&redis, &streams[0]).await == reader(&redis, &streams[5]).await;
    until("one reader of all", all, |one| *one).await;
    redis
        .add(
            "in0",
            &[
                ("id", &format!("e{added}")),
                ("type", "a.b"),
                ("payload", "1"),
            ],
        )
        .await;
    ledger.complete(&["w"], "e", added + 1).await;
    assert_eq!(second.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_reader_was_handed_is_found_and_delivered_by_its_successor() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let of = members(&["web1", "web2"]);
    let reads = of.of_source("events").expect("a reader").to_owned();
    let other = if reads == "web1" { "web2" } else { "web1" };
    let (frozen, other) = (config(&redis, &reads), config(&redis, other));
    subscribe(&frozen.webhooks().await, &receiver, &["w"]).await;
    let frozen = frozen.spawn().await;
    let other = other.spawn().await;
    redis.event("e0", "a.b", "1").await;
    ledger.complete(&["w"], "e", 1).await;
    redis.settled("events").await;
    let before = reader(&redis, "events").await;
    frozen.signal(Signal::STOP);
    // Its blocked read is still there, and is handed this one.
    redis.event("e1", "a.b", "1").await;
    assert_eq!(redis.pending("events").await, 1);
    let _ = next_reader(&redis, &before).await;
    redis.event("e2", "a.b", "1").await;
    ledger.complete(&["w"], "e", 3).await;
    frozen.signal(Signal::CONT);
    frozen.log().wait_for("it joins anew").await;
    redis.event("e3", "a.b", "1").await;
    ledger.complete(&["w"], "e", 4).await;
    at_rest(&redis).await;
    assert_eq!(frozen.stop().await, Some(0));
    assert_eq!(other.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_belongs_to_a_daemon_without_this_source_is_read_by_one_that_has_it() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let of = members(&["web1", "web2"]);
    let belongs = of.of_source("special").expect("a daemon").to_owned();
    let has = if belongs == "web1" { "web2" } else { "web1" };
    let without = config(&redis, &belongs);
    let has = config(&redis, has).with("[[sources]]\nstream = \"special\"");
    subscribe(&has.webhooks().await, &receiver, &["w"]).await;
    let without = without.spawn().await;
    let has = has.spawn().await;
    redis
        .add(
            "special",
            &[("id", "e0"), ("type", "a.b"), ("payload", "1")],
        )
        .await;
    ledger.complete(&["w"], "e", 1).await;
    assert_eq!(without.stop().await, Some(0));
    assert_eq!(has.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_server_only_the_other_daemon_can_reach_is_read_by_that() {
    let (redis, far) = (Redis::start().await, Redis::start().await);
    let proxy = Proxy::start(&far).await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let of = members(&["web1", "web2"]);
    let with_source = |name: &str| {
        let behind = of.of_source("in@far") == Some(name);
        let url = if behind { proxy.url() } else { far.url() };
        let source = format!("[[sources]]\nname = \"far\"\nstream = \"in\"\nurl = {url:?}");
        config(&redis, name).with(&source)
    };
    let (first, second) = (with_source("web1"), with_source("web2"));
    subscribe(&first.webhooks().await, &receiver, &["w"]).await;
    let (first, second) = (first.spawn().await, second.spawn().await);
    let add = async |n: usize| {
        let id = format!("e{n}");
        far.add("in", &[("id", &id), ("type", "a.b"), ("payload", "1")])
            .await;
    };
    add(0).await;
    ledger.complete(&["w"], "e", 1).await;
    let before = reader(&redis, "in@far").await;
    proxy.cut_off();
    add(1).await;
    let next = next_reader_of(&redis, "in@far", &before).await;
    ledger.complete(&["w"], "e", 2).await;
    let cut_off = match of.of_source("in@far") {
        Some("web1") => &first,
        _ => &second,
    };
    cut_off
        .wait_for_readyz(|page| page.status == 503 && page.body.contains("not being read"))
        .await;
    proxy.mend();
    let back = next_reader_of(&redis, "in@far", &next).await;
    assert_eq!(
        back, before,
        "it belongs to the one that could not reach it"
    );
    add(2).await;
    ledger.complete(&["w"], "e", 3).await;
    assert_eq!(first.stop().await, Some(0));
    assert_eq!(second.stop().await, Some(0));
}
