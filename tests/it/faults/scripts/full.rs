//! What a full Redis refuses, and what it must still do, so that it can drain.

use pombo::event::EntryId;
use pombo::store::dead::Buried;
use pombo::store::lane::{Parked, Work, Written};
use pombo::store::ownership::{Beat, Listed};
use pombo::store::queue::{Enqueue, Removal};
use pombo::store::source::SourceStream;
use pombo::store::webhooks::Put;
use pombo::store::{Refusal, StoreError};

use super::{Bench, ME, SHARD, UID, caps, ending, event, storing, tries};
use crate::support::pombo::webhook;

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(
        matches!(
            result,
            Err(StoreError::Refused {
                refusal: Refusal::OutOfMemory,
                ..
            })
        ),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_full_redis_refuses_whole_what_would_add_to_it() {
    let bench = Bench::new().await;
    let id = bench.enqueue(&["e0"], 1).await[0];
    let now_ms = pombo::clock::Clock::system().unix_ms();
    let (store, generation) = (bench.store(), bench.generation());
    let buried = store
        .dead(
            &bench.lane,
            id,
            &event("e0"),
            &ending(now_ms),
            &caps(9),
            generation,
        )
        .await;
    buried.expect("ok");
    let letter = bench.dead().await.remove(0);
    bench.enqueue(&["e1"], 1).await;
    bench.fill().await;

    refused(
        bench
            .store_events(&bench.lane, &[storing("e2", Some(5), 1)])
            .await,
    );
    refused(store.replay(SHARD, UID, letter.id, 5).await);
    let batch = [Enqueue {
        uid: UID.into(),
        event: event("e3"),
    }];
    refused(store.enqueue(SHARD, &batch, 1, generation).await);
    refused(
        store
            .put_webhook(&webhook("w", "http://127.0.0.1/", &["*"]))
            .await,
    );
    assert_eq!(bench.queue().await.len(), 1);
    assert_eq!(bench.dead().await.len(), 1, "the dead letter stays");
    assert!(!bench.exists("retry:w-uid").await);
    assert_eq!(store.webhook_ids().await.expect("ok").len(), 0);
}

#[tokio::test]
async fn a_full_redis_still_schedules_buries_removes_acknowledges_and_changes_hands() {
    let bench = Bench::new().await;
    let mut unwanted = webhook("gone", "http://127.0.0.1/", &["*"]);
    bench.client.put(&mut unwanted).await;
    let ids = bench.enqueue(&["e0", "e1", "e2"], 1).await;
    let entry = bench.redis.event("e", "t", "{}").await;
    let _: () = bench.redis.run("XGROUP CREATE events pombo 0").await;
    let _: redis::Value = bench
        .redis
        .run("XREADGROUP GROUP pombo c STREAMS events >")
        .await;
    let now_ms = pombo::clock::Clock::system().unix_ms();
    bench.fill().await;
    let (store, generation) = (bench.store(), bench.generation());

    let scheduled = store
        .schedule(&bench.lane, ids[0], 5, &tries(1), generation)
        .await;
    assert_eq!(scheduled.expect("room"), Written::Done);
    let ending = ending(now_ms);
    let dead = store
        .dead(
            &bench.lane,
            ids[1],
            &event("e1"),
            &ending,
            &caps(9),
            generation,
        )
        .await;
    assert!(matches!(dead.expect("room"), Buried::Kept(_)));
    let buried = store
        .bury(
            SHARD,
            UID,
            None,
            &event("e9"),
            &ending,
            &caps(9),
            generation,
        )
        .await;
    assert!(matches!(buried.expect("room"), Buried::Kept(_)));
    let removal = |id| Removal {
        shard: SHARD,
        uid: UID.into(),
        id,
        tried: true,
    };
    let removed = store
        .remove(&[removal(ids[0]), removal(ids[2])], generation)
        .await;
    removed.expect("room");
    assert!(bench.queue().await.is_empty());
    let parked = Parked {
        hold_ms: now_ms + 9_000,
        cursor: EntryId::MIN,
    };
    let park = store
        .park(&bench.lane, parked, Work::Any, now_ms, generation)
        .await;
    assert_eq!(park.expect("room"), None);

    let stream = SourceStream::new(store.link().clone(), store.keys().clone(), "events");
    let id: EntryId = entry.parse().expect("an id");
    stream
        .acknowledge(&[id], Some(id), generation)
        .await
        .expect("room");
    assert_eq!(bench.redis.pending("events").await, 0);
    assert_eq!(stream.trim(id, generation).await.expect("room"), 1);

    assert!(matches!(
        store.beat("n", &Beat::new(1, "n"), true).await,
        Ok(Listed::Beats(_))
    ));
    store.depose(&["n".to_owned()]).await.expect("room");
    assert!(store.claim(SHARD, ME, "n:2").await.expect("room"));
    assert!(store.claim_source("events", "", "n").await.expect("room"));
    let deleted = store.delete_webhook(&unwanted).await;
    assert!(matches!(deleted, Ok(Put::Version(_))), "{deleted:?}");
}
