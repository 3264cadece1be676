//! A Redis Cluster.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::receiver;
use crate::faults::ledger::{Ledger, config, subscribe};
use crate::support::cluster::Cluster;
use crate::support::pombo::Config;
use crate::support::receiver::Receiver;
use crate::support::wait::until;

/// Enough for each of three masters to have some.
const SHARDS: u16 = 8;
const WEBHOOKS: [&str; 4] = ["a", "b", "c", "d"];

fn settings(cluster: &Cluster) -> Config {
    config("redis://ignored")
        .with(&cluster.settings())
        .with(&format!("[ownership]\nshards = {SHARDS}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_delivers_while_its_slots_move_and_nobody_takes_it_for_another() {
    const EACH: usize = 60;
    let mut cluster = Cluster::start().await;
    let ledger = Ledger::default();
    let receiver = receiver(&ledger).await;
    let config = settings(&cluster);
    subscribe(&config.webhooks().await, &receiver, &WEBHOOKS).await;
    let pombo = config.start().await;
    let mut sent = EACH;
    cluster.events_from("e", 0, "many", EACH).await;
    ledger.complete(&WEBHOOKS, "e", sent).await;

    let mut slots = vec![
        cluster.slot("events").await,
        cluster.slot("pombo:{cfg}:changes").await,
    ];
    let mut masters = BTreeSet::new();
    for shard in 0..SHARDS {
        let slot = cluster.slot(&format!("pombo:{{s{shard:02}}}:owner")).await;
        masters.insert(cluster.master_of(slot).await);
        slots.push(slot);
    }
    assert_eq!(masters.len(), 3, "the shards are spread over the nodes");

    // Everything that is used moves to the next master, and then to one that nobody knew before, with events all along.
    let mut targets = Vec::new();
    for slot in &slots {
        targets.push((*slot, (cluster.master_of(*slot).await + 1) % 3));
    }
    let fresh = cluster.add_master().await;
    targets.extend(slots.iter().map(|slot| (*slot, fresh)));
    let began = Instant::now();
    for (slot, to) in targets {
        let ((), ()) = tokio::join!(
            cluster.events_from("e", sent, "many", EACH / 4),
            cluster.reshard(slot, to)
        );
        sent += EACH / 4;
    }
    ledger.complete(&WEBHOOKS, "e", sent).await;
    println!(
        "{} slots moved in {:?}, with {} deliveries; {} duplicates",
        2 * slots.len(),
        began.elapsed(),
        sent * WEBHOOKS.len(),
        ledger.duplicates().values().sum::<u32>()
    );
    cluster.settled("events").await;
    pombo.wait_ready().await;
    assert_eq!(
        pombo.metric("pombo_redis_generations_total", &[]).await,
        0.0
    );
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 0.0);
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_master_costs_a_generation_and_nothing_that_its_replica_has() {
    const EACH: usize = 100;
    let mut cluster = Cluster::start().await;
    let ledger = Ledger::default();
    let receiver = receiver(&ledger).await;
    let config = settings(&cluster);
    subscribe(&config.webhooks().await, &receiver, &WEBHOOKS).await;
    let pombo = config.start().await;
    cluster.events_from("e", 0, "many", EACH).await;
    ledger.complete(&WEBHOOKS, "e", EACH).await;

    // A failover by hand: the connections stand, and their servers are replicas.
    let replica = cluster.replica_of(cluster.master_of_key("events").await);
    cluster.fail_over_to(replica).await;
    cluster.events_from("e", EACH, "many", EACH).await;
    ledger.complete(&WEBHOOKS, "e", 2 * EACH).await;
    assert!(pombo.metric("pombo_redis_generations_total", &[]).await >= 1.0);

    // The master of the configuration dies, with events under way.
    let dying = cluster.master_of_key("pombo:{cfg}:changes").await;
    cluster.events_from("e", 2 * EACH, "many", EACH).await;
    for node in &cluster.nodes {
        let info: String = node.run("INFO replication").await;
        if info.contains("connected_slaves:1") {
            assert_eq!(node.run::<u64>("WAIT 1 5000").await, 1);
        }
    }
    let killed = Instant::now();
    cluster.kill(dying).await;
    let well = Instant::now();
    cluster.events_from("e", 3 * EACH, "many", EACH).await;
    ledger.complete(&WEBHOOKS, "e", 4 * EACH).await;
    println!(
        "the cluster was well {:?} after the kill, and all was delivered {:?} later; {} duplicates",
        well - killed,
        well.elapsed(),
        ledger.duplicates().values().sum::<u32>()
    );
    cluster.settled("events").await;
    pombo.wait_ready().await;
    assert!(pombo.metric("pombo_redis_generations_total", &[]).await >= 2.0);
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_command_of_a_pipeline_finds_its_key_wherever_that_is_by_now() {
    let cluster = Cluster::start().await;
    let webhooks = settings(&cluster).webhooks().await;
    let link = webhooks.store().link().clone();
    let generation = link.generation();
    let keys: Vec<String> = (0..12).map(|n| format!("{{t{}}}:{n}", n % 6)).collect();
    let write = |round: usize| {
        let mut commands = redis::pipe();
        for key in &keys {
            for word in ["a", "b"] {
                commands.cmd("RPUSH").arg(key).arg(format!("{word}{round}"));
            }
        }
        commands
    };
    let numbers = |replies: Vec<redis::Value>| -> Vec<i64> {
        let number = |reply| redis::from_redis_value(reply).expect("a number");
        replies.into_iter().map(number).collect()
    };
    let expected = |round: i64| -> Vec<i64> {
        keys.iter()
            .flat_map(|_| [2 * round - 1, 2 * round])
            .collect()
    };
    let mut connected = link.connection().unwrap();
    let all = connected.all("test", &write(1)).await.unwrap();
    assert_eq!(
        numbers(all),
        expected(1),
        "many slots, in the order of the commands"
    );

    // ASK: of two slots one key each is at the new master, and one still at the old.
    let mut moving = Vec::new();
    for tag in ["{t0}", "{t1}"] {
        let slot = cluster.slot(tag).await;
        let to = (cluster.master_of(slot).await + 1) % 3;
        cluster.begin_move(slot, to).await;
        cluster.move_key(&format!("{tag}:{}", &tag[2..3]), to).await;
        moving.push((slot, to));
    }
    let all = connected.all("test", &write(2)).await.unwrap();
    assert_eq!(numbers(all), expected(2), "while slots are on their way");
    // A transaction has nowhere to go meanwhile, and says that this passes.
    let mut both = redis::pipe();
    both.cmd("RPUSH")
        .arg("{t0}:0")
        .arg("x")
        .cmd("RPUSH")
        .arg("{t0}:6")
        .arg("x");
    let refused = connected.transaction("test", &mut both).await.unwrap_err();
    assert!(refused.is_passing(), "{refused}");
    for (slot, to) in &moving {
        cluster.end_move(*slot, *to).await;
    }
    // MOVED: all of a pipeline, then of one slot, then a transaction.
    let all = connected.all("test", &write(3)).await.unwrap();
    assert_eq!(numbers(all), expected(3), "after the slots moved");
    let slot = cluster.slot("{t2}").await;
    cluster
        .reshard(slot, (cluster.master_of(slot).await + 1) % 3)
        .await;
    let mut one = redis::pipe();
    one.cmd("RPUSH")
        .arg("{t2}:2")
        .arg("a")
        .cmd("LLEN")
        .arg("{t2}:2");
    let all = connected.all("test", &one).await.unwrap();
    assert_eq!(numbers(all), [7, 7]);
    let slot = cluster.slot("{t3}").await;
    cluster
        .reshard(slot, (cluster.master_of(slot).await + 1) % 3)
        .await;
    let mut one = redis::pipe();
    one.cmd("RPUSH")
        .arg("{t3}:3")
        .arg("a")
        .cmd("LLEN")
        .arg("{t3}:3");
    connected.transaction("test", &mut one).await.unwrap();
    // Slow reads and commands go the same ways.
    let mut lengths = redis::pipe();
    for key in &keys {
        lengths.cmd("LLEN").arg(key);
    }
    let slowly = link.slowly("test", &lengths).await.unwrap();
    assert_eq!(numbers(slowly).iter().sum::<i64>(), 12 * 6 + 2);
    let slots = connected
        .transaction("test", &mut write(4))
        .await
        .unwrap_err();
    assert!(slots.to_string().contains("several slots"), "{slots}");
    assert_eq!(link.generation(), generation, "no server was replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_glob_finds_streams_on_every_master_and_each_is_read_where_it_is() {
    let cluster = Cluster::start().await;
    let ledger = Ledger::default();
    let receiver = receiver(&ledger).await;
    let config = settings(&cluster)
        .with("[[sources]]\nstream = \"feed:*\"\ndiscover_every = \"1s\"")
        .with("[delivery]\nmax_in_flight = 8");
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let mut masters = BTreeSet::new();
    for n in 0..9 {
        let stream = format!("feed:{n}");
        masters.insert(cluster.master_of_key(&stream).await);
        let mut add = redis::cmd("XADD");
        add.arg(&stream).arg("*").arg("id").arg(format!("e{n}"));
        add.arg("type").arg("many").arg("payload").arg("{}");
        cluster.query::<String>(&stream, &add).await;
    }
    assert_eq!(masters.len(), 3);
    let pombo = config.start().await;
    ledger.complete(&["w"], "e", 9).await;
    for n in 0..9 {
        cluster.settled(&format!("feed:{n}")).await;
    }
    commands_work_too(&cluster, &config, &receiver).await;
    pombo.stop().await;
}

/// The commands that talk to Redis themselves, on what is spread over three masters.
async fn commands_work_too(cluster: &Cluster, config: &Config, receiver: &Receiver) {
    let run = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pombo"));
        command.arg("--config").arg(config.file()).args(arguments);
        let output = command.output().await.expect("a command that runs");
        let (out, errors) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(output.status.success(), "{arguments:?}: {out}{errors}");
        out
    };
    let checked = run(&["check-config"]).await;
    assert!(checked.contains("topology = \"cluster\""), "{checked}");
    let hooks: String = (0..6)
        .map(|n| {
            let url = receiver.url("/applied");
            format!(
                "[[webhooks]]\nid = \"hook{n}\"\nname = \"n\"\nurl = {url:?}\nevents = [\"gone.*\"]\n"
            )
        })
        .collect();
    let file = config.directory().join("hooks.toml");
    std::fs::write(&file, hooks).expect("a written file");
    let file = file.to_string_lossy().into_owned();
    let applied = run(&["apply", &file]).await;
    assert!(applied.contains("6 created"), "{applied}");
    assert!(run(&["apply", &file]).await.contains("6 unchanged"));
    let mut wrong = redis::cmd("XADD");
    wrong.arg("feed:1").arg("*").arg("nothing").arg("known");
    cluster.query::<String>("feed:1", &wrong).await;
    until(
        "a rejected entry",
        async || run(&["rejected", "list", "--output", "json"]).await,
        |listed| listed.contains("feed:1"),
    )
    .await;
    run(&["rejected", "purge", "--all", "--yes"]).await;
    assert_eq!(run(&["rejected", "list", "--output", "json"]).await, "[]\n");
    assert_eq!(run(&["dead", "list", "--output", "json"]).await, "[]\n");
    run(&["dead", "replay", "--all"]).await;
    let created = run(&["token", "create", "--operator"]).await;
    assert!(created.contains("pmb_"), "{created}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_no_cluster_is_told_from_one() {
    let redis = crate::support::redis::Redis::start_with(crate::support::redis::Options {
        tcp: true,
        ..Default::default()
    })
    .await;
    let config = config(&redis.tcp_url()).with("[redis]\ntopology = \"cluster\"");
    let pombo = config.start_unready();
    let told = until(
        "the reason",
        async || pombo.get("/readyz").await,
        |page| page.body.contains("cluster support disabled"),
    )
    .await;
    assert_eq!(told.status, 503);
    pombo.stop().await;
}
