//! STORE, SCHEDULE, HASTEN, DEAD, BURY, REPLAY and PARK.

use pombo::event::EntryId;
use pombo::store::StoreError;
use pombo::store::dead::{Buried, Dropped};
use pombo::store::lane::{PAUSED_DUE_MS, Parked, Work, Written};
use pombo::store::retry::Hastened;

use super::{Bench, LATER, SHARD, UID, caps, ending, event, lane, storing, tries};

#[tokio::test]
async fn store_gives_each_delivery_an_entry_a_schedule_if_it_has_one_and_its_tries() {
    let bench = Bench::new().await;
    let batch = [
        storing("e0", None, 0),
        storing("e1", Some(LATER), 2),
        storing("e2", Some(LATER + 5), 1),
    ];
    let ids = bench.store_events(&bench.lane, &batch).await.expect("room");
    let names: Vec<_> = bench.queue().await;
    let expected: Vec<_> = ids
        .iter()
        .copied()
        .zip(["e0", "e1", "e2"].map(str::to_owned))
        .collect();
    assert_eq!(names, expected);
    assert_eq!(bench.scheduled(ids[0]).await, None);
    assert_eq!(bench.scheduled(ids[1]).await, Some(LATER));
    assert_eq!(
        bench.due().await,
        Some(1_000),
        "the unscheduled one is due now"
    );
    let (due, found) = bench
        .store()
        .schedule_of(&bench.lane, ids[1])
        .await
        .expect("an answer")
        .expect("a schedule");
    assert_eq!((due, found), (LATER, tries(2)));
    let sizes = bench.store().sizes(&[(SHARD, UID.into())]).await;
    let sizes = sizes.expect("an answer");
    assert_eq!((sizes.waiting, sizes.scheduled), (3, 2));
    assert_eq!(sizes.oldest_ms, Some(5), "when the event arrived");
}

#[tokio::test]
async fn store_is_fenced_whole_and_moves_the_due_time_only_forward() {
    let bench = Bench::new().await;
    let fenced = bench
        .store_events(&lane("other:1"), &[storing("e0", None, 0)])
        .await;
    assert!(matches!(fenced, Err(StoreError::Fenced { shard: SHARD })));
    assert!(bench.queue().await.is_empty() && bench.due().await.is_none());
    let early = [storing("e0", Some(LATER), 1)];
    bench.store_events(&bench.lane, &early).await.expect("room");
    let late = [storing("e1", Some(LATER + 1_000), 1)];
    bench.store_events(&bench.lane, &late).await.expect("room");
    assert_eq!(bench.due().await, Some(LATER));
}

#[tokio::test]
async fn schedule_writes_beside_the_entry_is_fenced_and_notices_that_it_is_gone() {
    let bench = Bench::new().await;
    let id = bench.enqueue(&["e0"], LATER).await[0];
    let (store, generation) = (bench.store(), bench.generation());
    let schedule = async |owner: &str, due_ms| {
        store
            .schedule(&lane(owner), id, due_ms, &tries(1), generation)
            .await
    };
    assert!(matches!(
        schedule("other:1", 5).await,
        Err(StoreError::Fenced { .. })
    ));
    assert_eq!(bench.scheduled(id).await, None);
    assert_eq!(
        schedule(super::ME, LATER - 5).await.expect("ok"),
        Written::Done
    );
    assert_eq!(bench.scheduled(id).await, Some(LATER - 5));
    assert_eq!(bench.due().await, Some(LATER - 5));
    assert_eq!(bench.queue().await.len(), 1, "a schedule is no copy");
    let _: u64 = bench
        .redis
        .run(&format!("XDEL pombo:{{s01}}:queue:w-uid {id}"))
        .await;
    assert_eq!(schedule(super::ME, LATER).await.expect("ok"), Written::Gone);
    assert_eq!(
        bench.scheduled(id).await,
        Some(LATER - 5),
        "nothing changed"
    );
}

#[tokio::test]
async fn dead_moves_a_delivery_once_and_keeps_its_end() {
    let bench = Bench::new().await;
    let id = bench.enqueue(&["e0"], 1).await[0];
    let (store, generation) = (bench.store(), bench.generation());
    let scheduled = store
        .schedule(&bench.lane, id, 5, &tries(2), generation)
        .await;
    scheduled.expect("ok");
    let now_ms = pombo::clock::Clock::system().unix_ms();
    let bury = async |owner: &str| {
        let lane = lane(owner);
        let event = event("e0");
        let (ending, caps) = (ending(now_ms), caps(10));
        store
            .dead(&lane, id, &event, &ending, &caps, generation)
            .await
    };
    assert!(matches!(
        bury("other:1").await,
        Err(StoreError::Fenced { .. })
    ));
    assert_eq!(bench.queue().await.len(), 1);
    assert_eq!(
        bury(super::ME).await.expect("ok"),
        Buried::Kept(Dropped::default())
    );
    assert_eq!(bury(super::ME).await.expect("ok"), Buried::Gone);
    assert!(bench.queue().await.is_empty() && bench.scheduled(id).await.is_none());
    assert!(!bench.exists("tries:w-uid").await);
    let letters = bench.dead().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].event.payload, event("e0").payload);
    assert_eq!(letters[0].ending.tries.attempts, 3);
    assert_eq!(store.buried(SHARD).await.expect("an answer"), [UID]);
}

#[tokio::test]
async fn burials_keep_to_the_caps_by_count_and_by_age_and_tell_what_fell_out() {
    let bench = Bench::new().await;
    let now_ms = pombo::clock::Clock::system().unix_ms();
    let bury = async |owner: Option<&str>, at_ms, most| {
        let (event, ending, caps) = (event("e"), ending(at_ms), caps(most));
        let generation = bench.generation();
        bench
            .store()
            .bury(SHARD, UID, owner, &event, &ending, &caps, generation)
            .await
    };
    assert!(matches!(
        bury(Some("other:1"), now_ms, 9).await,
        Err(StoreError::Fenced { .. })
    ));
    assert!(bench.dead().await.is_empty());
    for _ in 0..3 {
        let kept = bury(Some(super::ME), now_ms, 3).await.expect("ok");
        assert_eq!(kept, Buried::Kept(Dropped::default()));
    }
    // The reader of a source buries for shards of others, too.
    let Buried::Kept(dropped) = bury(None, now_ms, 3).await.expect("ok") else {
        panic!("it was not kept")
    };
    assert_eq!((dropped.by_count, dropped.by_age), (1, 0));
    let in_two_hours = now_ms + 2 * 3_600_000;
    let Buried::Kept(dropped) = bury(None, in_two_hours, 3).await.expect("ok") else {
        panic!("it was not kept")
    };
    assert_eq!(dropped.by_age, 4, "all are an hour too old, by that clock");
    assert!(bench.dead().await.is_empty());
}

#[tokio::test]
async fn replay_puts_a_dead_letter_back_once_with_its_bytes_and_its_tries() {
    let bench = Bench::new().await;
    let id = bench.enqueue(&["e0"], LATER).await[0];
    let now_ms = pombo::clock::Clock::system().unix_ms();
    let (store, generation) = (bench.store(), bench.generation());
    store
        .dead(
            &bench.lane,
            id,
            &event("e0"),
            &ending(now_ms),
            &caps(9),
            generation,
        )
        .await
        .expect("ok");
    let letter = bench.dead().await.remove(0);
    assert_eq!(letter.ending.tries.log, tries(3).log);
    let stored = bench.redis.entries("pombo:{s01}:dead:w-uid").await;
    assert!(store.replay(SHARD, UID, letter.id, 777).await.expect("ok"));
    assert!(!store.replay(SHARD, UID, letter.id, 777).await.expect("ok"));
    assert!(bench.dead().await.is_empty());
    assert_eq!(bench.due().await, Some(777));
    let window = async |scheduled_too| {
        let window = store.window(&bench.lane, EntryId::MIN, 10, scheduled_too);
        window.await.expect("an answer").deliveries
    };
    assert!(window(false).await.is_empty(), "it is read with its tries");
    let (delivery, due) = window(true).await.remove(0);
    assert_eq!(due, Some(777));
    assert_eq!(delivery.event.payload, event("e0").payload);
    assert_eq!(delivery.event.entry_id, event("e0").entry_id);
    let schedule = store.schedule_of(&bench.lane, delivery.id).await;
    let (due, found) = schedule.expect("an answer").expect("a schedule");
    assert_eq!((due, found), (777, tries(3).replayed()));
    let failed: i64 = bench.redis.run("HGET pombo:{s01}:stats:w-uid failed").await;
    assert_eq!(failed, -1, "it was one once");
    let counts = store.stats(&[(SHARD, UID)]).await.expect("an answer");
    assert_eq!(counts[0].failed, 0, "nobody is shown less than none");

    // One of before there were logs.
    let before = delivery.id;
    let mut command = redis::cmd("XADD");
    command.arg("pombo:{s01}:dead:w-uid").arg("*");
    for (name, value) in stored[0].fields.iter().filter(|(name, _)| name != "again") {
        command.arg(name).arg(value);
    }
    let _: String = bench.redis.query(&command).await;
    let letter = bench.dead().await.remove(0);
    assert!(letter.ending.tries.log.is_empty());
    assert!(store.replay(SHARD, UID, letter.id, 888).await.expect("ok"));
    let (delivery, due) = window(false).await.remove(0);
    assert_eq!((due, bench.scheduled(before).await), (None, Some(777)));
    assert_eq!(delivery.attempts_before, 3, "the attempt header counts on");
}

#[tokio::test]
async fn hasten_moves_a_schedule_forward_and_makes_none() {
    let bench = Bench::new().await;
    let ids = bench.enqueue(&["e0", "e1"], LATER).await;
    let (store, generation) = (bench.store(), bench.generation());
    let scheduled = store
        .schedule(&bench.lane, ids[0], LATER, &tries(2), generation)
        .await;
    scheduled.expect("ok");
    let hasten = async |id, now_ms| store.hasten(SHARD, UID, id, now_ms).await.expect("ok");
    assert_eq!(hasten(ids[1], 5).await, Hastened::NotScheduled);
    assert_eq!(bench.scheduled(ids[1]).await, None);
    assert_eq!(bench.due().await, Some(LATER));
    assert_eq!(hasten(ids[0], 5_000).await, Hastened::Done);
    assert_eq!(bench.scheduled(ids[0]).await, Some(5_000));
    assert_eq!(bench.due().await, Some(5_000));
    assert_eq!(hasten(ids[0], 5_000).await, Hastened::NotScheduled);
    assert_eq!(hasten(ids[0], 6_000).await, Hastened::NotScheduled);
    assert_eq!(bench.scheduled(ids[0]).await, Some(5_000), "never later");
    let schedule = store.schedule_of(&bench.lane, ids[0]).await;
    let (_, kept) = schedule.expect("ok").expect("a schedule");
    assert_eq!(kept, tries(2), "its tries stay");

    // Somebody else's shard by now, a full Redis: all the same.
    assert!(store.claim(SHARD, super::ME, "other:1").await.expect("ok"));
    let again = [storing("e2", Some(LATER), 1)];
    let id = bench
        .store_events(&lane("other:1"), &again)
        .await
        .expect("room")[0];
    bench.fill().await;
    assert_eq!(hasten(id, 4_000).await, Hastened::Done);
    assert_eq!(bench.due().await, Some(4_000));
    let _: u64 = bench
        .redis
        .run(&format!("XDEL pombo:{{s01}}:queue:w-uid {id}"))
        .await;
    assert_eq!(hasten(id, 3_000).await, Hastened::Gone);
    assert_eq!(bench.scheduled(id).await, Some(4_000), "nothing changed");
}

#[tokio::test]
async fn a_lane_that_keeps_the_order_parks_until_its_first_entry_is_due() {
    let bench = Bench::new().await;
    let (store, generation) = (bench.store(), bench.generation());
    let park_by = async |work, hold_ms| {
        let parked = Parked {
            hold_ms,
            cursor: EntryId::MIN,
        };
        let park = store.park(&bench.lane, parked, work, 1_000, generation);
        park.await.expect("ok")
    };
    let park = async |hold_ms| park_by(Work::Head(None), hold_ms).await;
    let ids = bench.enqueue(&["e0", "e1"], LATER).await;
    assert_eq!(park(0).await, Some(1_000), "it can be sent");
    let schedule = async |id, due_ms| {
        let tries = tries(1);
        let scheduled = store.schedule(&bench.lane, id, due_ms, &tries, generation);
        scheduled.await.expect("ok")
    };
    schedule(ids[0], LATER).await;
    schedule(ids[1], 2_000).await;
    assert_eq!(park(0).await, Some(LATER), "what is behind it waits for it");
    let beyond = park_by(Work::Head(Some(ids[1])), 0).await;
    assert_eq!(beyond, Some(2_000), "unless the first one cannot be read");
    let parked = store.parked(&bench.lane).await.expect("ok");
    assert_eq!(
        parked.hold_ms, 0,
        "that is no hold, which nothing could move"
    );
    assert_eq!(park(LATER + 5).await, Some(LATER + 5), "this is one");
    let hastened = store.hasten(SHARD, UID, ids[0], 3_000).await;
    assert_eq!(hastened.expect("ok"), Hastened::Done);
    assert_eq!(park(0).await, Some(3_000));
}

#[tokio::test]
async fn park_reads_when_there_is_work_from_what_is_stored() {
    let bench = Bench::new().await;
    let (store, generation) = (bench.store(), bench.generation());
    let park = async |owner: &str, cursor, hold_ms, work| {
        let parked = Parked { hold_ms, cursor };
        store
            .park(&lane(owner), parked, work, 1_000, generation)
            .await
    };
    let fenced = park("other:1", EntryId::MIN, 0, Work::Any).await;
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })));

    // Nothing at all: nothing stays behind.
    assert_eq!(
        park(super::ME, EntryId::MIN, 0, Work::Any)
            .await
            .expect("ok"),
        None
    );
    assert!(bench.due().await.is_none() && !bench.exists("lane:w-uid").await);

    let ids = bench.enqueue(&["e0", "e1"], LATER).await;
    assert_eq!(
        park(super::ME, ids[0], 0, Work::Any).await.expect("ok"),
        Some(1_000),
        "an entry after the cursor is work for now"
    );
    assert_eq!(
        park(super::ME, ids[0], 5_000, Work::Any).await.expect("ok"),
        Some(5_000)
    );
    assert_eq!(bench.due().await, Some(5_000));

    for (id, due) in ids.iter().zip([LATER, LATER + 9]) {
        let scheduled = store
            .schedule(&bench.lane, *id, due, &tries(1), generation)
            .await;
        scheduled.expect("ok");
    }
    assert_eq!(
        park(super::ME, ids[1], 0, Work::Any).await.expect("ok"),
        Some(LATER)
    );
    assert_eq!(
        store.parked(&bench.lane).await.expect("ok"),
        Parked {
            hold_ms: 0,
            cursor: ids[1]
        }
    );
    assert_eq!(
        park(super::ME, ids[1], 0, Work::Paused).await.expect("ok"),
        Some(PAUSED_DUE_MS)
    );
    assert_eq!(bench.due().await, Some(PAUSED_DUE_MS), "it stays listed");

    // An entry before the cursor that has lost its schedule would be in nobody's sight.
    let _: u64 = bench
        .redis
        .run(&format!("ZREM pombo:{{s01}}:retry:w-uid {}", ids[0]))
        .await;
    assert_eq!(
        park(super::ME, ids[1], 0, Work::Any).await.expect("ok"),
        Some(1_000)
    );
    assert_eq!(
        store.parked(&bench.lane).await.expect("ok").cursor,
        EntryId::MIN
    );
}

#[tokio::test]
async fn park_keeps_a_hold_for_as_long_as_it_lasts_even_over_an_empty_queue() {
    let bench = Bench::new().await;
    let now_ms = pombo::clock::Clock::system().unix_ms();
    let hold_ms = now_ms + 60_000;
    let parked = Parked {
        hold_ms,
        cursor: EntryId::MIN,
    };
    let next = bench
        .store()
        .park(&bench.lane, parked, Work::Any, now_ms, bench.generation())
        .await;
    assert_eq!(next.expect("ok"), None);
    let found = bench.store().parked(&bench.lane).await.expect("ok");
    assert_eq!(found.hold_ms, hold_ms);
    let expires: i64 = bench.redis.run("PEXPIRETIME pombo:{s01}:lane:w-uid").await;
    assert_eq!(expires, i64::try_from(hold_ms).expect("a time"));
}
