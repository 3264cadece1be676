//! Who lives, as a beat showed it, and to whom each shard and each source belongs.
//!
//! Every daemon computes the same assignment from the same list, by rendezvous hashing: what belongs to a daemon is what
//! it scores highest for, so that a daemon that joins takes its part of everybody's and nothing else moves. Scores are
//! those of names, not of nonces: a daemon that was restarted is given what it had.

use sha2::{Digest, Sha256};

use crate::store::ownership::Beat;

/// One daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Under which it joined.
    pub nonce: String,
    /// What it said of itself.
    pub beat: Beat,
}

/// All live daemons, as the last beat showed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    members: Vec<Member>,
}

impl Members {
    /// These daemons, in any order.
    pub fn new(mut members: Vec<Member>) -> Members {
        members.sort_unstable_by(|a, b| a.nonce.cmp(&b.nonce));
        Members { members }
    }

    /// Whether the daemon that joined under `nonce` lives.
    pub fn lives(&self, nonce: &str) -> bool {
        self.members.iter().any(|member| member.nonce == nonce)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The nonces of all but `mine`.
    pub fn others(&self, mine: &str) -> Vec<String> {
        self.members
            .iter()
            .filter(|member| member.nonce != mine)
            .map(|member| member.nonce.clone())
            .collect()
    }

    /// Whether anybody but `mine` stays, and could take over.
    pub fn has_successor(&self, mine: &str) -> bool {
        self.members
            .iter()
            .any(|member| member.nonce != mine && !member.beat.leaving)
    }

    /// Deliveries that wait in the queues of all daemons but `mine`.
    pub fn waiting_elsewhere(&self, mine: &str) -> u64 {
        self.members
            .iter()
            .filter(|member| member.nonce != mine)
            .map(|member| member.beat.waiting)
            .fold(0, u64::saturating_add)
    }

    /// The nonce of the daemon that `shard` belongs to; `None` if all are leaving.
    pub fn of_shard(&self, shard: u16) -> Option<&str> {
        self.highest(&format!("shard {shard}"))
    }

    /// The nonce of the daemon that the source `key` belongs to; `None` if all are leaving.
    pub fn of_source(&self, key: &str) -> Option<&str> {
        self.highest(&format!("source {key}"))
    }

    fn highest(&self, thing: &str) -> Option<&str> {
        self.members
            .iter()
            .filter(|member| !member.beat.leaving)
            .max_by_key(|member| (score(&member.beat.name, thing), &member.nonce))
            .map(|member| member.nonce.as_str())
    }
}

/// How much a daemon of this name wants a thing. Part of what daemons of different versions agree upon: it never changes.
fn score(name: &str, thing: &str) -> u64 {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([0])
        .chain_update(thing)
        .finalize();
    u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARDS: u16 = 64;

    fn members(names: &[&str]) -> Members {
        let member = |name: &&str| Member {
            nonce: format!("nonce of {name}"),
            beat: Beat::new(1, name),
        };
        Members::new(names.iter().map(member).collect())
    }

    fn assignment(members: &Members) -> Vec<Option<String>> {
        (0..SHARDS)
            .map(|shard| members.of_shard(shard).map(str::to_owned))
            .collect()
    }

    #[test]
    fn a_third_daemon_takes_its_part_and_nothing_moves_between_the_others() {
        let (two, three) = (members(&["a", "b"]), members(&["a", "b", "c"]));
        let (before, after) = (assignment(&two), assignment(&three));
        let moved: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .collect();
        assert!(
            moved
                .iter()
                .all(|(_, to)| to.as_deref() == Some("nonce of c"))
        );
        assert!((12..=30).contains(&moved.len()), "{}", moved.len());
    }

    #[test]
    fn a_daemon_that_was_restarted_is_given_what_it_had() {
        let before = members(&["a", "b", "c"]);
        let mut again = before.members.clone();
        again[1].nonce = "another nonce".to_owned();
        let again = Members::new(again);
        for shard in 0..SHARDS {
            let had = before.of_shard(shard) == Some("nonce of b");
            assert_eq!(had, again.of_shard(shard) == Some("another nonce"));
        }
    }

    #[test]
    fn a_daemon_that_leaves_lives_and_is_given_nothing() {
        let mut list = members(&["a", "b"]).members;
        list[0].beat.leaving = true;
        let members = Members::new(list);
        assert!(members.lives("nonce of a") && !members.has_successor("nonce of b"));
        assert!((0..SHARDS).all(|shard| members.of_shard(shard) == Some("nonce of b")));
        assert_eq!(members.of_source("events"), Some("nonce of b"));
    }

    #[test]
    fn scores_are_pinned() {
        // Daemons of different versions must agree while one replaces the other.
        assert_eq!(score("web1", "shard 7"), 0x8eef_96f9_a461_640a);
    }
}
