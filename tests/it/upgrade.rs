//! A rolling restart beside a daemon of the next version, which adds to what is stored, and writes forms of its own.

mod beside;
mod stored;

use serde_json::Value;

use crate::support::pombo::World;
use crate::support::receiver::{Receiver, Step};
use crate::support::redis::Entry;
use crate::support::wait::{stays, until};

/// A queue entry as this version writes it, with what the next one may add to it.
const ENTRY: &str = r#"d {"v":{v},"i":"{id}","t":"a.b","n":"default","x":[1],"o":"events","e":"1700000000456-{n}"} p {} a 0 x more"#;
/// The same in the first form.
const FIRST: &str = "v 1 i {id} t a.b n default m 1700000000123 o events e 1700000000456-{n} c application/json j 1 p {} a 0";
const QUEUE: &str = "pombo:{s00}:queue:";

/// Puts `more` into the stored specification of a webhook, as a daemon of the next version would.
async fn enrich(world: &World, id: &str) {
    let key = format!("pombo:{{cfg}}:webhook:{id}");
    let mut get = redis::cmd("HGET");
    let body: String = world.redis.query(get.arg(&key).arg("body")).await;
    let mut body: Value = serde_json::from_str(&body).expect("JSON");
    body["spec"]["colour"] = "blue".into();
    body["seen"] = 7.into();
    let mut set = redis::cmd("HSET");
    set.arg(&key).arg("body").arg(body.to_string());
    let _: u64 = world.redis.query(&set).await;
}

async fn stored(world: &World, id: &str) -> Value {
    let words = format!("HGET pombo:{{cfg}}:webhook:{id} body");
    serde_json::from_str(&world.redis.run::<String>(&words).await).expect("JSON")
}

/// Queues a delivery in the form of version `v`.
async fn queue(world: &World, uid: &str, n: usize, v: &str) -> String {
    let form = if v == "1" { FIRST } else { ENTRY };
    let fields = form
        .replace("{v}", v)
        .replace("{id}", &format!("q{n}"))
        .replace("{n}", &n.to_string());
    let id = world
        .redis
        .run(&format!("XADD {QUEUE}{uid} * {fields}"))
        .await;
    let _: u64 = world
        .redis
        .run(&format!("ZADD pombo:{{s00}}:due 1 {uid}"))
        .await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_next_version_adds_is_kept_and_what_only_it_can_read_is_left_alone() {
    let world = World::with("[ownership]\nshards = 1").await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/gone" => Step::status(410),
        _ => Step::status(200),
    })
    .await;
    let webhook = world.webhooks.all("w", &receiver.url("/w")).await;
    world.webhooks.all("gone", &receiver.url("/gone")).await;
    enrich(&world, "w").await;
    enrich(&world, "gone").await;
    queue(&world, &webhook.uid, 0, "1").await;
    queue(&world, &webhook.uid, 1, "3").await;
    let newer = queue(&world, &webhook.uid, 2, "4").await;
    // Beside it, tries that only the next version can read.
    let tries = r#"{"v":2,"n":5}"#;
    let mut command = redis::cmd("HSET");
    let key = format!("pombo:{{s00}}:tries:{}", webhook.uid);
    let _: u64 = world
        .redis
        .query(command.arg(&key).arg(&newer).arg(tries))
        .await;

    for round in 0..2 {
        let pombo = world.config.spawn().await;
        let event = format!("e{round}");
        world.redis.event(&event, "a.b", "{}").await;
        receiver
            .wait_until(|received| {
                let got = |id: &str| {
                    received
                        .iter()
                        .any(|one| one.path == "/w" && one.header("x-event-id") == id)
                };
                got(&event) && got("q0") && got("q1")
            })
            .await;
        if round == 0 {
            let line = pombo
                .log()
                .wait_for("cannot be read; it stays in the queue")
                .await;
            assert!(line.contains("upgrade"), "{line}");
        }
        world.redis.settled("events").await;
        assert_eq!(pombo.stop().await, Some(0));
    }
    // Written by this version, with what it does not know.
    until(
        "a disabled webhook",
        async || stored(&world, "gone").await,
        |body| body["disabled_reason"].is_string(),
    )
    .await;
    for id in ["w", "gone"] {
        let body = stored(&world, id).await;
        assert_eq!(body["spec"]["colour"], "blue", "{body}");
        assert_eq!(body["seen"], 7, "{body}");
    }
    let left = world
        .redis
        .entries(&format!("{QUEUE}{}", webhook.uid))
        .await;
    let left: Vec<String> = left.iter().map(Entry::event_id).collect();
    assert_eq!(left, ["q2"], "it waits for whoever can read it");
    let mut command = redis::cmd("HGET");
    let found: Option<String> = world.redis.query(command.arg(&key).arg(&newer)).await;
    assert_eq!(found.as_deref(), Some(tries));
}

#[tokio::test]
async fn while_only_the_next_version_can_read_a_webhook_its_queue_stays_and_no_event_passes_it_by()
{
    let world = World::with("[ownership]\nshards = 1").await;
    let receiver = Receiver::start().await;
    let webhook = world.webhooks.all("w", &receiver.url("/w")).await;
    world.webhooks.all("other", &receiver.url("/other")).await;
    let mut body = stored(&world, "w").await;
    body["v"] = 2.into();
    let mut set = redis::cmd("HSET");
    set.arg("pombo:{cfg}:webhook:w")
        .arg("body")
        .arg(body.to_string());
    let _: u64 = world.redis.query(&set).await;
    queue(&world, &webhook.uid, 1, "3").await;
    let pombo = world.config.spawn_unready().await;
    let line = pombo
        .log()
        .wait_for("a webhook is left as it was known")
        .await;
    assert!(
        line.contains("its form is 2") && line.contains("upgrade"),
        "{line}"
    );
    // It may want any event: one that is acknowledged without it would be lost to it.
    let newer = [("reason", "newer_version")];
    pombo
        .wait_for_metric("pombo_source_stopped", &newer, |stopped| stopped == 1.0)
        .await;
    world.redis.event("e", "a.b", "{}").await;
    stays(
        "its queue is not cleared",
        std::time::Duration::from_secs(1),
        async || {
            world
                .redis
                .entries(&format!("{QUEUE}{}", webhook.uid))
                .await
                .len()
        },
        |left| *left == 1,
    )
    .await;
    assert_eq!(pombo.stop().await, Some(0));
    body["v"] = 1.into();
    let mut set = redis::cmd("HSET");
    set.arg("pombo:{cfg}:webhook:w")
        .arg("body")
        .arg(body.to_string());
    let _: u64 = world.redis.query(&set).await;
    let able = world.config.spawn().await;
    receiver
        .wait_until(|received| {
            let got = |path| received.iter().filter(|one| one.path == path).count();
            got("/w") == 2 && got("/other") == 1
        })
        .await;
    assert_eq!(able.stop().await, Some(0));
}
