//! Finding a delivery by its id, without an index, and remembering where deliveries were found lately.
//!
//! An id tells the webhook and a digest of the event's entry, and nothing of where the delivery is now: it is searched
//! for on the webhook's shelves. Who has listed deliveries looks at one of them next, so that the places that were told
//! are kept in memory for a while; they are never trusted without a look at the entry.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::expired_before;
use crate::api::Api;
use crate::api::problem::Problem;
use crate::delivery::delivery_id;
use crate::store::deliveries::{From, Look, MOST_LOOKED_AT, Place, Record, RowFilter, Shelf};
use crate::webhook::Webhook;

/// Places in each of the two halves of the memory, about 150 bytes each.
const HALF: usize = 10_000;
/// Entries of a shelf that are searched for a delivery, the newest ones; large ones count for more.
pub const MOST_SEARCHED: usize = 100_000;

/// Where deliveries were found lately.
#[derive(Default)]
pub struct Lookups {
    places: Mutex<Places>,
}

/// Places by delivery id. When the young half is full it becomes the old one, and what was old is forgotten.
#[derive(Default)]
struct Places {
    young: HashMap<String, Place>,
    old: HashMap<String, Place>,
}

impl Lookups {
    fn places(&self) -> MutexGuard<'_, Places> {
        // Nothing panics while it is held.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers where a delivery was found.
    pub fn remember(&self, delivery_id: &str, place: Place) {
        let mut places = self.places();
        if places.young.len() >= HALF {
            places.old = std::mem::take(&mut places.young);
        }
        places.young.insert(delivery_id.to_owned(), place);
    }

    fn recall(&self, delivery_id: &str) -> Option<Place> {
        let places = self.places();
        let found = places.young.get(delivery_id);
        found.or_else(|| places.old.get(delivery_id)).copied()
    }

    /// Forgets where a delivery was, because it moves.
    pub fn forget(&self, delivery_id: &str) {
        let mut places = self.places();
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
    let _turn = api.searches.turn(&webhook.spec.tenant).await?;
    // It can move on between the search and the reading, and while the shelves are searched one after the other.
    for _ in 0..3 {
        let Some(place) = search(api, webhook, wanted_id).await? else {
            continue;
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
        let places = lookups.places();
        assert!(places.young.len() + places.old.len() <= 2 * HALF);
        drop(places);
        let last = 5 * HALF as u64 - 1;
        assert_eq!(lookups.recall(&last.to_string()), Some(place(last)));
        assert_eq!(lookups.recall("0"), None);
        lookups.forget(&last.to_string());
        assert_eq!(lookups.recall(&last.to_string()), None);
    }
}
