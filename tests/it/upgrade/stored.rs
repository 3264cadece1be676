//! What a daemon stores while it delivers, as it stands in Redis: what another version would have to read.

use crate::support::pombo::World;
use crate::support::receiver::{Receiver, Step};
use crate::support::redis::Redis;
use crate::support::wait::until;

/// What this version stores. A change here is a change of the stored form: the version before must still read it, and this
/// one what the version before wrote.
const STORED: &str = include_str!("stored.txt");

/// `text` with runs of characters that `belong` replaced by `by`, where they are at least `least` long.
fn masked(text: &str, belongs: fn(char) -> bool, least: usize, by: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(belongs) {
        let (before, run) = rest.split_at(at);
        let end = run
            .find(|character| !belongs(character))
            .unwrap_or(run.len());
        masked.push_str(before);
        masked.push_str(if end >= least { by } else { &run[..end] });
        rest = &run[end..];
    }
    masked + rest
}

/// An attempt's log with how long its parts took replaced; whether it made a connection is up to the pool.
fn without_durations(log: &str) -> String {
    let mut log = log.to_owned();
    for (name, by) in [("\"d\":", "D"), ("\"c\":", ""), ("\"f\":", "F")] {
        if let Some(at) = log.find(name) {
            let from = at + name.len();
            let end = log[from..]
                .find(|c: char| !c.is_ascii_digit())
                .expect("a number's end");
            match by {
                "" => log.replace_range(at..from + end + 1, ""),
                by => log.replace_range(from..from + end, by),
            }
        }
    }
    log
}

/// `text` with what differs from run to run replaced: the `known` by their names, times by `T`, digests by `HEX`.
fn normal(text: &str, known: &[(String, &str)]) -> String {
    let text = known.iter().fold(text.to_owned(), |text, (value, name)| {
        text.replace(value, name)
    });
    // Digests first: one may have as many digits in a row as a time.
    let text = masked(&text, |character| character.is_ascii_hexdigit(), 40, "HEX");
    let text = masked(&text, |character| character.is_ascii_digit(), 13, "T");
    // Entries of the same millisecond are numbered.
    let text = text.replace("T-1", "T-0");
    let start = text.find("\"g\":[").or_else(|| text.find("\"l\":["));
    match start {
        Some(at) => format!("{}{}", &text[..at], without_durations(&text[at..])),
        None => text,
    }
}

fn pairs(value: Vec<(String, String)>) -> Vec<String> {
    let mut lines: Vec<String> = value
        .into_iter()
        .map(|(name, value)| format!("  {name} = {value}"))
        .collect();
    lines.sort();
    lines
}

async fn lines(redis: &Redis, key: &str, known: &[(String, &str)]) -> Vec<String> {
    let kind: String = redis.query(redis::cmd("TYPE").arg(key)).await;
    let contents = match kind.as_str() {
        "string" => {
            let text: String = redis.query(redis::cmd("GET").arg(key)).await;
            vec![format!("  {text}")]
        }
        "hash" => pairs(redis.query(redis::cmd("HGETALL").arg(key)).await),
        "zset" => {
            let mut range = redis::cmd("ZRANGE");
            range.arg(key).arg(0).arg(-1).arg("WITHSCORES");
            pairs(redis.query(&range).await)
        }
        "set" => redis
            .query::<Vec<String>>(redis::cmd("SMEMBERS").arg(key))
            .await
            .into_iter()
            .map(|member| format!("  {member}"))
            .collect(),
        "stream" => {
            let entries = redis.entries(key).await;
            entries
                .into_iter()
                .flat_map(|entry| {
                    let fields = entry.fields.into_iter();
                    let fields = fields.map(|(name, value)| format!("  {name} = {value}"));
                    std::iter::once("  entry".to_owned()).chain(fields)
                })
                .collect()
        }
        other => panic!("{key} is a {other}"),
    };
    std::iter::once(format!("{key} ({kind})"))
        .chain(contents)
        .map(|line| normal(&line, known))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stored_forms_of_a_flow_are_as_they_were() {
    let world = World::with(
        "[instance]\nname = \"daemon\"\n[ownership]\nshards = 1\n[retry]\nfirst = \"1h\"\nlongest = \"1h\"\njitter = 0.0",
    )
    .await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/later" => Step::status(500),
        "/gone" => Step::status(410),
        _ => Step::status(204),
    })
    .await;
    let version = format!("\"{}|", env!("CARGO_PKG_VERSION"));
    let mut known = vec![(receiver.url(""), "URL"), (version, "\"VERSION|")];
    let token = world.webhooks.tenant_token("default").await;
    let hint = &token[token.len() - 4..];
    known.push((format!("\"hint\":\"{hint}\""), "\"hint\":\"HINT\""));
    for name in ["ok", "later", "gone"] {
        let webhook = world
            .webhooks
            .all(name, &receiver.url(&format!("/{name}")))
            .await;
        known.push((
            webhook.uid.to_string(),
            match name {
                "ok" => "UID-OK",
                "later" => "UID-LATER",
                _ => "UID-GONE",
            },
        ));
    }
    let pombo = world.config.start().await;
    world.redis.event("e", "a.b", "{\"n\":1.50}").await;
    world.redis.add("events", &[("type", "a b")]).await;
    for key in [
        "dead:UID-GONE",
        "tries:UID-LATER",
        "history:UID-OK",
        "rejected",
        "notices",
    ] {
        let key = known.iter().fold(key.to_owned(), |key, (value, name)| {
            key.replace(name, value)
        });
        until(
            "everything is stored",
            async || world.redis.keys(&format!("*{key}*")).await.len(),
            |found| *found > 0,
        )
        .await;
    }
    world.redis.settled("events").await;
    let dead = known
        .iter()
        .find(|(_, name)| *name == "UID-GONE")
        .expect("its uid")
        .0
        .clone();
    let dead = world
        .redis
        .entries(&format!("pombo:{{s00}}:dead:{dead}"))
        .await;
    known.push((dead[0].field("delivery_id").to_owned(), "gone.DIGEST"));
    let members: Vec<(String, String)> = world
        .redis
        .query(redis::cmd("HGETALL").arg("pombo:{cfg}:instances"))
        .await;
    let beat: serde_json::Value = serde_json::from_str(&members[0].1).expect("JSON");
    let names: Vec<&String> = beat.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["counter", "leaving", "name", "v", "waiting"]);
    pombo.stop().await;
    // Whoever has work for a shard of another daemon wakes that one.
    let _: String = world.redis.run("SET pombo:{s00}:owner another:2").await;
    let woken = ["a-webhook".to_owned()];
    world
        .webhooks
        .store()
        .wake_owner(0, &woken)
        .await
        .expect("a reply");
    let mut dump = Vec::new();
    for key in world.redis.keys("*").await {
        dump.extend(lines(&world.redis, &key, &known).await);
    }
    let dump = dump.join("\n") + "\n";
    assert!(dump == STORED, "stored is now:\n{dump}");
}
