//! Claims, step by step, as daemons make them at their own times.

use std::collections::HashSet;
use std::time::Duration;

use pombo::clock::Clock;
use pombo::membership::Membership;

use crate::support::pombo::{Webhooks, World};

fn member(webhooks: &Webhooks, name: &str) -> Membership {
    let lease = Duration::from_secs(10);
    Membership::new(
        webhooks.store().clone(),
        Clock::system(),
        name.to_owned(),
        lease,
    )
}

#[tokio::test]
async fn a_shard_whose_owner_joined_after_the_list_was_read_is_not_claimed_from_it() {
    let world = World::with("[ownership]\nshards = 16").await;
    let store = world.webhooks.store();
    let mut first = member(&world.webhooks, "first");
    let (era, old_list) = first.join().await.expect("a daemon that joins");
    assert_eq!(era.owned_shards().len(), 16);
    for shard in 0..16 {
        let owned = era.disown(shard).expect("a shard");
        assert!(store.claim(shard, &owned.value, "").await.expect("a reply"));
    }
    let mut second = member(&world.webhooks, "second");
    let (other, _) = second.join().await.expect("a daemon that joins");
    let others = other.owned_shards();
    assert!(!others.is_empty() && others.len() < 16, "{others:?}");

    let nothing = HashSet::new();
    first
        .claim(&era, &old_list, &nothing)
        .await
        .expect("a reply");
    let taken: Vec<u16> = (0..16)
        .filter(|shard| era.owned(*shard).is_some())
        .collect();
    assert!(
        taken.iter().all(|shard| !others.contains(shard)),
        "{taken:?}"
    );
    assert_eq!(taken.len() + others.len(), 16);
}
