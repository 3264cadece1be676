//! What a daemon with nothing to do asks of Redis: a managed one charges for commands.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::support::pombo::World;
use crate::support::receiver::Receiver;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_daemon_sends_fewer_than_two_commands_a_second() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    for n in 0..10 {
        let id = format!("w{n}");
        world.webhooks.all(&id, &receiver.url("/")).await;
    }
    let pombo = world.config.start().await;
    // It has worked before, and comes to rest.
    world.redis.events("e", "a.b", 20).await;
    receiver.wait_for(200).await;
    world.redis.settled("events").await;
    pombo
        .wait_for_metric("pombo_lanes", &[], |lanes| lanes == 0.0)
        .await;
    let url = world.redis.url();
    let socket = url.strip_prefix("unix://").expect("the URL of a socket");
    let mut monitor = UnixStream::connect(socket).await.expect("a connection");
    monitor.write_all(b"MONITOR\r\n").await.expect("written");
    let mut lines = BufReader::new(monitor).lines();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let watching = async {
        while let Ok(Some(line)) = lines.next_line().await {
            // +1700000000.000000 [0 unix:/…/socket] "XREAD" "BLOCK" …; what a script calls is marked lua.
            let command = line.split('"').nth(1).map(str::to_uppercase);
            if let Some(command) = command.filter(|_| !line.contains(" lua] ")) {
                *counts.entry(command).or_default() += 1;
            }
        }
    };
    let ended = tokio::time::timeout(WATCHED, watching).await;
    assert!(ended.is_err(), "MONITOR goes on");
    let sum: u32 = counts.values().sum();
    let rate = f64::from(sum) / WATCHED.as_secs_f64();
    println!("{rate:.2} commands a second: {counts:?}");
    assert!(sum > 0, "MONITOR shows commands");
    assert!(rate < 2.0, "{rate:.2} commands a second: {counts:?}");
    pombo.stop().await;
}
