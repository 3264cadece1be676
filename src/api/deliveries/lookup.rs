//! Finding a delivery by its id, without an index: whose turn it is to search, and where deliveries were found lately.
//!
//! An id tells the webhook and a digest of the event's entry, and nothing of where the delivery is now: it is searched
//! for on the webhook's shelves. Who has listed deliveries looks at one of them next, so that the places that were told
//! are kept in memory for a while; they are never trusted without a look at the entry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::expired_before;
use crate::api::Api;
use crate::api::problem::Problem;
use crate::delivery::delivery_id;
use crate::store::deliveries::{From, Look, MOST_LOOKED_AT, Place, Record, RowFilter, Shelf};
use crate::webhook::Webhook;

/// Searches at the same time, of all tenants.
const SEARCHES: usize = 4;
/// Searches of one tenant that may wait for their turn; each keeps a place of the requests at work.
const MOST_WAITING: usize = 16;
/// How long a search waits for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Places in each of the two halves of the memory, about 150 bytes each.
const HALF: usize = 10_000;
/// Tenants whose turns are remembered before those without one are forgotten.
const TENANTS: usize = 1_000;
/// Entries of a shelf that are searched for a delivery, the newest ones; large ones count for more.
pub const MOST_SEARCHED: usize = 100_000;

/// See the module's own words.
pub struct Lookups {
    searches: Arc<Semaphore>,
    tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
    places: Mutex<Places>,
}

/// Places by delivery id. When the young half is full it becomes the old one, and what was old is forgotten.
#[derive(Default)]
struct Places {
    young: HashMap<String, Place>,
    old: HashMap<String, Place>,
}

/// That it is somebody's turn; it ends when this is dropped.
pub struct Turn {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

impl Default for Lookups {
    fn default() -> Lookups {
        Lookups {
            searches: Arc::new(Semaphore::new(SEARCHES)),
            tenants: Mutex::default(),
            places: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one of these is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_many() -> Problem {
    Problem::too_many("Too many searches are under way. Try again in a moment.", 5)
}

impl Lookups {
    /// Waits for the turn to search: one search of a tenant at a time and few in all, so that nobody keeps Redis busy by
    /// asking for what does not exist, and no tenant keeps others from searching.
    ///
    /// # Errors
    ///
    /// 429 when it takes too long.
    pub async fn turn(&self, tenant: &str) -> Result<Turn, Problem> {
        let own = {
            let mut tenants = lock(&self.tenants);
            if tenants.len() >= TENANTS {
                tenants.retain(|_, turns| Arc::strong_count(turns) > 1);
            }
            let turns = tenants.entry(tenant.to_owned());
            turns.or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
        };
        // The map has one, and each that waits or searches.
        if Arc::strong_count(&own) > 2 + MOST_WAITING {
            return Err(too_many());
        }
        let shared = self.searches.clone();
        let both = async move {
            // In this order, so that nobody holds a shared turn while waiting for an own one.
            let own = own.acquire_owned().await.ok()?;
            let shared = shared.acquire_owned().await.ok()?;
            Some(Turn {
                _own: own,
                _shared: shared,
            })
        };
        let turn = tokio::time::timeout(LONGEST_WAIT, both).await;
        turn.ok().flatten().ok_or_else(too_many)
    }

    /// Remembers where a delivery was found.
    pub fn remember(&self, delivery_id: &str, place: Place) {
        let mut places = lock(&self.places);
        if places.young.len() >= HALF {
            places.old = std::mem::take(&mut places.young);
        }
        places.young.insert(delivery_id.to_owned(), place);
    }

    fn recall(&self, delivery_id: &str) -> Option<Place> {
        let places = lock(&self.places);
        let found = places.young.get(delivery_id);
        found.or_else(|| places.old.get(delivery_id)).copied()
    }

    /// Forgets where a delivery was, because it moves.
    pub fn forget(&self, delivery_id: &str) {
        let mut places = lock(&self.places);
        places.young.remove(delivery_id);
        places.old.remove(delivery_id);
    }
}

/// The delivery of this id as it is now, if `webhook` has it and it is not too far back.
///
/// # Errors
///
/// 429 without a turn; whatever keeps Redis from answering.
pub async fn find(
    api: &Api,
    webhook: &Webhook,
    wanted_id: &str,
    longest_payload: usize,
) -> Result<Option<Record>, Problem> {
    if let Some(place) = api.lookups.recall(wanted_id) {
        if let Some(record) = record_at(api, webhook, wanted_id, place, longest_payload).await? {
            return Ok(Some(record));
        }
        api.lookups.forget(wanted_id);
    }
    let _turn = api.lookups.turn(&webhook.spec.tenant).await?;
    // It can move on between the search and the reading.
    for _ in 0..3 {
        let Some(place) = search(api, webhook, wanted_id).await? else {
            return Ok(None);
        };
        if let Some(record) = record_at(api, webhook, wanted_id, place, longest_payload).await? {
            api.lookups.remember(wanted_id, place);
            return Ok(Some(record));
        }
    }
    Ok(None)
}

async fn record_at(
    api: &Api,
    webhook: &Webhook,
    wanted_id: &str,
    place: Place,
    longest_payload: usize,
) -> Result<Option<Record>, Problem> {
    let shard = api.store.shard_of(&webhook.spec.id);
    let records = api
        .store
        .records(shard, &webhook.uid, &[place], longest_payload)
        .await?;
    let Some(Some(record)) = records.into_iter().next().transpose()? else {
        return Ok(None);
    };
    let event = record.event();
    // Another delivery can stand there when the webhook was deleted and made again.
    let found_id = delivery_id(&webhook.spec.id, &event.stream, event.entry_id);
    Ok((found_id == wanted_id).then_some(record))
}

async fn search(api: &Api, webhook: &Webhook, wanted_id: &str) -> Result<Option<Place>, Problem> {
    let shard = api.store.shard_of(&webhook.spec.id);
    let now_ms = api.clock.unix_ms();
    for shelf in Shelf::ALL {
        let (mut before, mut cost) = (None, 0);
        while cost < MOST_SEARCHED {
            let look = Look {
                from: From::Before(before),
                floor_ms: expired_before(&api.settings, shelf, now_ms),
                now_ms,
                most_entries: MOST_LOOKED_AT,
                most_rows: MOST_LOOKED_AT,
            };
            let all = RowFilter::default();
            let seen = api
                .store
                .rows(shard, &webhook.uid, shelf, &all, &look)
                .await?;
            let found = seen
                .rows
                .iter()
                .find(|row| delivery_id(&webhook.spec.id, &row.stream, row.entry_id) == wanted_id);
            if let Some(row) = found {
                return Ok(Some(row.place));
            }
            if seen.ended {
                break;
            }
            before = seen.last;
            cost += seen.cost.max(1);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::event::EntryId;

    fn place(ms: u64) -> Place {
        Place {
            shelf: Shelf::Dead,
            id: EntryId { ms, seq: 0 },
        }
    }

    #[test]
    fn the_memory_of_places_is_bounded_and_keeps_the_newest() {
        let lookups = Lookups::default();
        for n in 0..5 * HALF as u64 {
            lookups.remember(&n.to_string(), place(n));
        }
        let places = lock(&lookups.places);
        assert!(places.young.len() + places.old.len() <= 2 * HALF);
        drop(places);
        let last = 5 * HALF as u64 - 1;
        assert_eq!(lookups.recall(&last.to_string()), Some(place(last)));
        assert_eq!(lookups.recall("0"), None);
        lookups.forget(&last.to_string());
        assert_eq!(lookups.recall(&last.to_string()), None);
    }

    #[tokio::test]
    async fn a_tenant_that_searches_does_not_keep_others_from_it() {
        let lookups = Lookups::default();
        let first = lookups.turn("a").await.ok().unwrap();
        assert!(lookups.turn("a").now_or_never().is_none());
        let mut others = Vec::new();
        for tenant in ["b", "c", "d"] {
            others.push(lookups.turn(tenant).now_or_never().unwrap().ok().unwrap());
        }
        assert!(lookups.turn("e").now_or_never().is_none());
        drop((first, others));
        assert!(lookups.turn("a").await.is_ok());
    }
}
