//! BEAT, CLAIM, and TRIM of a source.

use pombo::event::EntryId;
use pombo::store::ownership::{Beat, Listed};
use pombo::store::source::SourceStream;

use super::{Bench, ME, SHARD};
use crate::support::redis::Redis;

#[tokio::test]
async fn a_beat_lists_all_and_tells_whoever_was_deposed() {
    let bench = Bench::new().await;
    let store = bench.store();
    let sent = Beat::new(1, "name");
    let beat = async |nonce: &str, join| match store.beat(nonce, &sent, join).await {
        Ok(Listed::Beats(listed)) => {
            assert!(listed.iter().all(|(_, beat)| *beat == sent));
            let mut nonces: Vec<String> = listed.into_iter().map(|(nonce, _)| nonce).collect();
            nonces.sort();
            Some(nonces)
        }
        Ok(Listed::Deposed) => None,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(beat("a", false).await, None, "it has not joined");
    assert_eq!(beat("a", true).await.expect("listed"), ["a"]);
    assert_eq!(beat("b", true).await.expect("listed"), ["a", "b"]);
    store.depose(&["a".to_owned()]).await.expect("an answer");
    assert_eq!(beat("a", false).await, None);
    assert_eq!(
        beat("b", false).await.expect("listed"),
        ["b"],
        "a beat that is refused lists nobody"
    );
}

#[tokio::test]
async fn a_claim_takes_what_the_caller_saw_and_nothing_else() {
    let bench = Bench::new().await;
    let store = bench.store();
    let claim =
        async |expected: &str, new: &str| store.claim(SHARD, expected, new).await.expect("ok");
    assert!(!claim("", "other:1").await, "it has an owner");
    assert!(!claim("me:2", "other:1").await);
    assert!(claim(ME, "other:2").await);
    assert!(claim("other:2", "").await, "a release");
    assert!(claim("", "me:3").await);
    let owners = store.owners(&[SHARD]).await.expect("ok");
    assert_eq!(owners[0].as_deref(), Some("me:3"));
    let claim =
        async |expected: &str, new: &str| store.claim_source("s", expected, new).await.expect("ok");
    assert!(claim("", "a").await && !claim("", "b").await && claim("a", "b").await);
    let owners = store.source_owners(&["s".to_owned()]).await.expect("ok");
    assert_eq!(owners[0].as_deref(), Some("b"));
}

async fn left(redis: &Redis) -> Vec<String> {
    let entries = redis.entries("events").await;
    entries.into_iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn trim_keeps_what_any_group_still_needs_and_all_after_the_mark() {
    let bench = Bench::new().await;
    let redis = &bench.redis;
    for n in 1..=9 {
        let _: String = redis.run(&format!("XADD events {n}-0 f v")).await;
    }
    let stream = SourceStream::new(
        bench.store().link().clone(),
        bench.store().keys().clone(),
        "events",
    );
    let trim = async |mark| {
        let mark = EntryId { ms: mark, seq: 0 };
        stream.trim(mark, bench.generation()).await.expect("ok")
    };
    assert_eq!(trim(9).await, 0, "no group of ours, nothing is known");
    let _: () = redis.run("XGROUP CREATE events pombo 0").await;
    assert_eq!(trim(9).await, 0, "nothing was read");
    let read = async |group: &str, count: u64| {
        let words = format!("XREADGROUP GROUP {group} c COUNT {count} STREAMS events >");
        let _: redis::Value = redis.run(&words).await;
    };
    read("pombo", 8).await;
    let _: u64 = redis.run("XACK events pombo 1-0 2-0 3-0 5-0").await;
    assert_eq!(trim(2).await, 2, "not beyond the mark");
    assert_eq!(left(redis).await[0], "3-0");
    let _: () = redis.run("XGROUP CREATE events slow 0").await;
    assert_eq!(trim(9).await, 0, "another group has read nothing");
    read("slow", 3).await;
    let _: u64 = redis.run("XACK events slow 3-0").await;
    assert_eq!(trim(9).await, 1, "4-0 is pending in both");
    assert_eq!(left(redis).await[0], "4-0");
    let _: u64 = redis.run("XACK events pombo 4-0").await;
    assert_eq!(trim(9).await, 0, "4-0 is pending in the other group");
    let _: u64 = redis.run("XACK events slow 4-0 5-0").await;
    assert_eq!(
        trim(9).await,
        2,
        "6-0 is pending in ours and not read by the other"
    );
    assert_eq!(left(redis).await, ["6-0", "7-0", "8-0", "9-0"]);
    let _: u64 = redis.run("XGROUP DESTROY events slow").await;
    let _: u64 = redis.run("XACK events pombo 6-0 7-0 8-0").await;
    assert_eq!(trim(9).await, 3, "9-0 was not read");
    assert_eq!(left(redis).await, ["9-0"]);
}
