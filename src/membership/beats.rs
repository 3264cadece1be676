//! Joining, beating, claiming and leaving, for one daemon.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::{Ending, Era, Member, Members, Owned};
use crate::clock::Clock;
use crate::store::ownership::{Beat, Listed};
use crate::store::{Store, StoreError};

/// How often a daemon beats, unless its lease time is so short that it must beat more often.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// The part of the lease time after which a silent daemon is deposed. With what passes until the watcher's own next beat
/// (a fifth of the lease time at most) it is over within the lease time, and never before the silent one knows for
/// itself that it may not act any more (half of it).
const SILENT_FOR: f64 = 0.7;

/// Joins, beats and claims for one daemon.
pub struct Membership {
    store: Store,
    clock: Clock,
    name: String,
    lease: Duration,
    /// What each other daemon's beat was when it last changed, and when that was by this daemon's clock.
    seen: HashMap<String, (Beat, Duration)>,
    /// When its last good beat was sent.
    beaten_at: Duration,
    counter: u64,
    /// The nonce of the present era, or of the one that is being begun.
    joined: Option<Joined>,
    /// Shards that this daemon may have claimed without knowing, because no reply came.
    doubtful: HashSet<u16>,
}

impl Membership {
    /// The membership of the daemon `name`, with a lease time of `lease`.
    pub fn new(store: Store, clock: Clock, name: String, lease: Duration) -> Membership {
        Membership {
            store,
            clock,
            name,
            lease,
            seen: HashMap::new(),
            beaten_at: Duration::ZERO,
            counter: 0,
            joined: None,
            doubtful: HashSet::new(),
        }
    }

    /// How often to beat: five times within a lease, so that a lost beat or two cost nothing.
    pub fn beat_every(&self) -> Duration {
        BEAT_EVERY.min(self.lease / 5)
    }

    /// Joins under a new nonce, deposes this instance's own predecessors (whoever holds the instance's lock file is
    /// the only one of its name that lives), claims what belongs to this daemon and to nobody who lives, and tells the
    /// others, who hand over what belongs to it by now.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn join(&mut self) -> Result<(Arc<Era>, Members), StoreError> {
        let era = Arc::new(Era::new(
            hex::encode(self.clock.random_bytes::<8>()),
            self.store.link().generation(),
            self.clock.clone(),
            self.lease,
            self.store.shards(),
        ));
        self.seen.clear();
        self.doubtful.clear();
        self.joined = Some(Joined {
            nonce: era.nonce.clone(),
            others: Vec::new(),
        });
        let mut listed = self.send_beat(&era, true).await?.unwrap_or_default();
        let predecessors: Vec<String> = listed
            .iter()
            .filter(|member| member.nonce != era.nonce && member.beat.name == self.name)
            .map(|member| member.nonce.clone())
            .collect();
        self.store.depose(&predecessors).await?;
        listed.retain(|member| !predecessors.contains(&member.nonce));
        let members = Members::new(listed);
        if let Some(joined) = &mut self.joined {
            joined.others = members.others(&era.nonce);
        }
        self.claim(&era, &members, &HashSet::new()).await?;
        self.call_others(&era, &members).await;
        Ok((era, members))
    }

    /// Tells the others to look at who lives. A full Redis refuses that, and they look with their next beat.
    async fn call_others(&self, era: &Era, members: &Members) {
        if let Err(error) = self.store.call(&members.others(&era.nonce)).await {
            tracing::debug!(%error, "the other daemons could not be called");
        }
    }

    /// One beat: proves that this daemon lives, and deposes those that do not. Returns all live daemons.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; the era ends by itself if it is over.
    pub async fn beat(&mut self, era: &Era) -> Result<Members, StoreError> {
        let beaten_before = self.beaten_at;
        let Some(mut listed) = self.send_beat(era, false).await? else {
            era.end(Ending::Deposed);
            return Ok(Members::default());
        };
        let now = self.clock.monotonic();
        if now.saturating_sub(beaten_before) > self.beat_every() * 2 {
            // Who could not look must not judge: the others may have been as unable to beat as this one was.
            self.seen.values_mut().for_each(|(_, since)| *since = now);
        }
        let mut silent = Vec::new();
        for member in listed.iter().filter(|member| member.nonce != era.nonce) {
            let seen = self
                .seen
                .entry(member.nonce.clone())
                .or_insert_with(|| (member.beat.clone(), now));
            if seen.0 != member.beat {
                *seen = (member.beat.clone(), now);
            } else if now.saturating_sub(seen.1) >= self.lease.mul_f64(SILENT_FOR) {
                silent.push(member.nonce.clone());
            }
        }
        self.seen
            .retain(|nonce, _| listed.iter().any(|member| member.nonce == *nonce));
        if !silent.is_empty() {
            tracing::warn!(instances = ?silent, "other daemons stopped beating: what they owned is taken over");
            self.store.depose(&silent).await?;
            listed.retain(|member| !silent.contains(&member.nonce));
        }
        let members = Members::new(listed);
        if !silent.is_empty() {
            // Part of what they owned belongs to the others now, whose next beat may be far off.
            self.call_others(era, &members).await;
        }
        Ok(members)
    }

    async fn send_beat(
        &mut self,
        era: &Era,
        join: bool,
    ) -> Result<Option<Vec<Member>>, StoreError> {
        self.counter += 1;
        let sent = self.clock.monotonic();
        let mut beat = Beat::new(self.counter, &self.name);
        beat.leaving = era.is_leaving();
        beat.waiting = era.waiting();
        match self.store.beat(&era.nonce, &beat, join).await? {
            Listed::Deposed => Ok(None),
            Listed::Beats(listed) => {
                // A reply of another server proves nothing about what this era holds.
                if self.store.link().generation() != era.generation {
                    era.end(Ending::Replaced);
                    return Err(StoreError::Replaced);
                }
                era.beaten(sent);
                self.beaten_at = sent;
                let member = |(nonce, beat)| Member { nonce, beat };
                Ok(Some(listed.into_iter().map(member).collect()))
            }
        }
    }

    /// Claims the shards that belong to this daemon and that nobody who lives owns, but for those in `releasing`.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering. Some may have been claimed then; what is in doubt is found by the next call.
    pub async fn claim(
        &mut self,
        era: &Era,
        members: &Members,
        releasing: &HashSet<u16>,
    ) -> Result<(), StoreError> {
        let belongs = |shard: u16| members.of_shard(shard) == Some(&era.nonce);
        let wanted: Vec<u16> = (0..self.store.shards())
            .filter(|shard| belongs(*shard) || self.doubtful.contains(shard))
            .filter(|shard| era.owned(*shard).is_none() && !releasing.contains(shard))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let owners = self.store.owners(&wanted).await?;
        let nonces = owners.iter().flatten();
        let nonces = nonces.filter_map(|owner| owner.split(':').next());
        let living = living(&self.store, members, nonces).await?;
        self.doubtful.extend(&wanted);
        let claims = wanted.into_iter().zip(owners).map(async |(shard, owner)| {
            let had_owner = owner.is_some();
            let expected = owner.unwrap_or_default();
            let (nonce, epoch) = expected.split_once(':').unwrap_or_default();
            let value = if nonce == era.nonce {
                // Claimed before, by a call whose reply was lost. What belongs to another by now is handed over next.
                expected.clone()
            } else if !belongs(shard) || living.contains(nonce) {
                return Ok(());
            } else {
                // An owner that releases its shard leaves the epoch behind its empty name.
                let epoch = epoch.parse::<u64>().unwrap_or(0).wrapping_add(1);
                let value = format!("{}:{epoch}", era.nonce);
                if !self.store.claim(shard, &expected, &value).await? {
                    return Ok(());
                }
                value
            };
            era.own(
                shard,
                Owned {
                    value: Arc::from(value),
                    claimed_at: self.clock.monotonic(),
                    claimed_ms: self.clock.unix_ms(),
                    had_owner,
                    cut: era.token().child_token(),
                },
            );
            Ok::<_, StoreError>(())
        });
        try_join_all(claims).await?;
        self.doubtful.clear();
        Ok(())
    }

    /// Leaves, after everything was released: the others need not wait for a lease to run out.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; then the others find out by themselves.
    pub async fn leave(&mut self, era: &Era, members: &Members) -> Result<(), StoreError> {
        self.joined = None;
        self.store.depose(std::slice::from_ref(&era.nonce)).await?;
        self.call_others(era, members).await;
        Ok(())
    }

    /// Takes back a joining that was broken off, or whose era failed. Returns whether there were other daemons.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn take_back(&mut self) -> Result<bool, StoreError> {
        let Some(joined) = self.joined.take() else {
            return Ok(false);
        };
        self.store.depose(&[joined.nonce]).await?;
        // What was released for this daemon belongs to them again.
        if let Err(error) = self.store.call(&joined.others).await {
            tracing::debug!(%error, "the other daemons could not be called");
        }
        Ok(!joined.others.is_empty())
    }
}

/// Under which nonce this daemon has joined and not left, and who was there before.
#[derive(Debug)]
struct Joined {
    nonce: String,
    others: Vec<String>,
}

/// Those of `nonces` whose daemons live: by the list, or by asking, because one that is not in it may have joined since.
///
/// # Errors
///
/// Whatever keeps Redis from answering.
pub async fn living<'a>(
    store: &Store,
    members: &Members,
    nonces: impl Iterator<Item = &'a str>,
) -> Result<HashSet<String>, StoreError> {
    let nonces = nonces.filter(|nonce| !nonce.is_empty()).map(str::to_owned);
    let (mut living, unlisted): (HashSet<String>, HashSet<String>) =
        nonces.partition(|nonce| members.lives(nonce));
    living.extend(store.still_listed(unlisted.into_iter().collect()).await?);
    Ok(living)
}
