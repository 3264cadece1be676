//! Every key that Pombo makes in Redis, each by one function.
//!
//! `{cfg}` and `{sNN}` are hash tags: on a Cluster all keys of the configuration live in one slot and all keys of a
//! shard in another, so that a script or a transaction never spans two.

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Makes the keys under one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// Keys under `prefix` (the setting `redis.prefix`).
    pub fn new(prefix: &str) -> Keys {
        Keys {
            prefix: prefix.into(),
        }
    }

    /// The consumer group of source streams: a fleet with another prefix has one of its own, and gets every event too.
    pub fn group(&self) -> &str {
        &self.prefix
    }

    /// HASH: schema version and number of shards, checked at boot.
    pub fn meta(&self) -> String {
        format!("{}:meta", self.prefix)
    }

    fn configuration(&self, rest: &str) -> String {
        format!("{}:{{cfg}}:{rest}", self.prefix)
    }

    /// HASH: one webhook: its `body` as JSON, its `uid` and its `version`.
    pub fn webhook(&self, id: &str) -> String {
        self.configuration(&format!("webhook:{id}"))
    }

    /// ZSET: ids of all webhooks by the time of their creation (Unix ms).
    pub fn webhooks(&self) -> String {
        self.configuration("webhooks")
    }

    /// ZSET: ids of a tenant's webhooks by the time of their creation (Unix ms).
    pub fn tenant_webhooks(&self, tenant: &str) -> String {
        self.configuration(&format!("tenant:{tenant}:webhooks"))
    }

    /// HASH: uid -> id of deleted webhooks whose queues wait to be removed by the owner of their shard.
    pub fn gone(&self) -> String {
        self.configuration("gone")
    }

    /// STREAM, capped: changes of webhooks, each with a number one above its predecessor's.
    pub fn changes(&self) -> String {
        self.configuration("changes")
    }

    /// STRING: the number of the last change.
    pub fn change_number(&self) -> String {
        self.configuration("change-number")
    }

    /// HASH, expires when the token ends: one API token, under the SHA-256 of its text in hex; its `body` as JSON, and
    /// when it `ends`.
    pub fn token(&self, sha256: &str) -> String {
        self.configuration(&format!("token:{sha256}"))
    }

    /// HASH: id of an API token -> SHA-256 of its text.
    pub fn tokens(&self) -> String {
        self.configuration("tokens")
    }

    /// ZSET: ids of all API tokens by the time of their creation (Unix ms).
    pub fn all_tokens(&self) -> String {
        self.configuration("token-ids")
    }

    /// ZSET: ids of a tenant's API tokens by the time of their creation (Unix ms); those of the operator for `None`.
    pub fn tenant_tokens(&self, tenant: Option<&str>) -> String {
        match tenant {
            Some(tenant) => self.configuration(&format!("tenant:{tenant}:tokens")),
            None => self.configuration("operator-tokens"),
        }
    }

    /// STRING, expires: what became of the event that was added under an idempotency key.
    pub fn idempotency(&self, digest: &str) -> String {
        self.configuration(&format!("idempotency:{digest}"))
    }

    /// HASH, expires: progress of a job that retries many deliveries.
    pub fn job(&self, id: &str) -> String {
        self.configuration(&format!("job:{id}"))
    }

    /// STRING, expires: the id of the job that works on a webhook's deliveries now.
    pub fn running_job(&self, webhook_id: &str) -> String {
        self.configuration(&format!("job-of:{webhook_id}"))
    }

    /// STREAM, capped: wake-ups of the daemon that joined under `nonce`.
    pub fn wake(&self, nonce: &str) -> String {
        self.configuration(&format!("wake:{nonce}"))
    }

    /// HASH: nonce -> beat of every live daemon.
    pub fn instances(&self) -> String {
        self.configuration("instances")
    }

    /// HASH: `owner` of a source stream, the `mark` up to which everything in it is settled, and the server and
    /// its term that it was `counted_on` last.
    pub fn source(&self, stream: &str) -> String {
        self.configuration(&format!("source:{stream}"))
    }

    /// STREAM, capped: entries of sources that were no events, with the reason.
    pub fn rejected(&self) -> String {
        self.configuration("rejected")
    }

    /// STREAM, capped: Pombo's own operational events, for the platform.
    pub fn notices(&self) -> String {
        self.configuration("notices")
    }

    /// Put together without `format!`: several are made for each delivery.
    fn sharded(&self, shard: u16, kind: &str, uid: &str) -> String {
        let mut key = String::with_capacity(self.prefix.len() + kind.len() + uid.len() + 10);
        key.push_str(&self.prefix);
        key.push_str(if shard < 10 { ":{s0" } else { ":{s" });
        key.push_str(itoa::Buffer::new().format(shard));
        key.push_str("}:");
        key.push_str(kind);
        key.push_str(uid);
        key
    }

    /// STRING: `<nonce>:<epoch>` of the shard's owner; `:<epoch>` when released.
    pub fn owner(&self, shard: u16) -> String {
        self.sharded(shard, "owner", "")
    }

    /// ZSET: uids of the shard's webhooks with work, by when it is due (Unix ms).
    pub fn due(&self, shard: u16) -> String {
        self.sharded(shard, "due", "")
    }

    /// STREAM: a webhook's waiting deliveries, payload inline.
    pub fn queue(&self, shard: u16, uid: &str) -> String {
        self.sharded(shard, "queue:", uid)
    }

    /// ZSET: queue id -> when its next attempt is due (Unix ms).
    pub fn retry(&self, shard: u16, uid: &str) -> String {
        self.sharded(shard, "retry:", uid)
    }

    /// HASH: queue id -> attempts so far, as JSON.
    pub fn tries(&self, shard: u16, uid: &str) -> String {
        self.sharded(shard, "tries:", uid)
    }

    /// HASH: `hold` (Unix ms before which nothing may be sent) and `cursor` of a parked lane.
    pub fn lane(&self, shard: u16, uid: &str) -> String {
        self.sharded(shard, "lane:", uid)
    }

    /// STREAM, capped by age and count: a webhook's dead letters.
    pub fn dead(&self, shard: u16, uid: &str) -> String {
        self.sharded(shard, "dead:", uid)
    }

    /// STREAM, capped by age and count: a webhook's deliveries that succeeded, newest last.
    pub fn history(&self, shard: u16, uid: &str) -> String {
        self.sharded(shard, "history:", uid)
    }

    /// HASH: running counts of a webhook's finished deliveries.
    pub fn stats(&self, shard: u16, uid: &str) -> String {
        self.sharded(shard, "stats:", uid)
    }

    /// SET: uids of the shard's webhooks that have dead letters, or had some.
    pub fn buried(&self, shard: u16) -> String {
        self.sharded(shard, "buried", "")
    }
}

/// The shard of a webhook among `shards`.
///
/// By the id and not by the uid, so that a webhook that is deleted and made again stays with its owner. The hash is
/// part of the stored form: it never changes for a Redis in use.
pub fn shard_of(webhook_id: &str, shards: u16) -> u16 {
    let digest = Sha256::digest(webhook_id.as_bytes());
    let word = u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    // The remainder is below `shards`, so it fits.
    (word % u64::from(shards.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_shard_share_their_hash_tag() {
        let keys = Keys::new("pombo");
        assert_eq!(keys.owner(7), "pombo:{s07}:owner");
        assert_eq!(keys.queue(7, "abc"), "pombo:{s07}:queue:abc");
        assert_eq!(keys.due(63), "pombo:{s63}:due");
        assert_eq!(keys.history(1_023, "abc"), "pombo:{s1023}:history:abc");
        assert_eq!(keys.changes(), "pombo:{cfg}:changes");
    }

    #[test]
    fn the_shard_of_an_id_is_pinned() {
        assert_eq!(shard_of("w1", 64), 18);
        assert!(shard_of("anything", 1) == 0);
    }

    #[test]
    fn ids_spread_over_all_shards() {
        let mut seen = vec![0u32; 64];
        for n in 0..64_000 {
            seen[usize::from(shard_of(&format!("webhook-{n}"), 64))] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)));
    }
}
