//! A daemon of the next version beside this one: it says more of itself, and is given its share.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::fleet::members;
use crate::support::pombo::World;
use crate::support::redis::Redis;

const NEXT: &str = "the-next-version";
const INSTANCES: &str = "pombo:{cfg}:instances";

/// Beats as the next version might, until `end`.
async fn beat(redis: &Redis, end: CancellationToken) {
    let mut beats = tokio::time::interval(Duration::from_millis(200));
    for counter in 1.. {
        tokio::select! {
            () = end.cancelled() => return,
            _ = beats.tick() => {}
        }
        let beat = serde_json::json!({
            "v": 2, "counter": counter, "name": "next", "leaving": false, "waiting": 0, "zone": {"name": "b"},
        });
        let mut command = redis::cmd("HSET");
        command.arg(INSTANCES).arg(NEXT).arg(beat.to_string());
        let _: u64 = redis.query(&command).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_of_the_next_version_has_its_share_for_as_long_as_it_beats() {
    let world =
        World::with("[ownership]\nlease = \"3s\"\nshards = 64\n[redis]\nresponse_timeout = \"1s\"")
            .await;
    let pombo = world.config.start().await;
    let own = |wanted: f64| {
        pombo.wait_for_metric("pombo_shards_owned", &[], move |owned| owned == wanted)
    };
    own(64.0).await;
    let members = members(&["test", "next"]);
    let share = (0..64)
        .filter(|shard| members.of_shard(*shard) == Some("next"))
        .count();
    assert!((8..56).contains(&share), "{share}");

    let end = CancellationToken::new();
    tokio::join!(beat(&world.redis, end.clone()), async {
        own((64 - share) as f64).await;
        pombo
            .wait_for_metric("pombo_instances", &[], |known| known == 2.0)
            .await;
        end.cancel();
    });
    // Its beats are over, as if it had been killed.
    own(64.0).await;
    pombo.stop().await;
}
