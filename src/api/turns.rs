//! Whose turn it is to search: a search keeps Redis busy, whether there is anything to be found or not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// Searches at the same time, of all tenants.
const SEARCHES: usize = 4;
/// Searches of one tenant that may wait for their turn; each keeps a place of the requests at work.
const MOST_WAITING: usize = 16;
/// How long a search waits for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Tenants whose turns are remembered before those without one are forgotten.
const TENANTS: usize = 1_000;

/// Turns at one kind of search.
pub struct Turns {
    searches: Arc<Semaphore>,
    tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// That it is somebody's turn; it ends when this is dropped.
pub struct Turn {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            searches: Arc::new(Semaphore::new(SEARCHES)),
            tenants: Mutex::default(),
        }
    }
}

fn too_many() -> Problem {
    Problem::too_many("Too many searches are under way. Try again in a moment.", 5)
}

impl Turns {
    /// Waits for the turn to search: one search of a tenant at a time and few in all, so that nobody keeps Redis busy by
    /// asking for what does not exist, and no tenant keeps others from searching.
    ///
    /// # Errors
    ///
    /// 429 when it takes too long.
    pub async fn turn(&self, tenant: &str) -> Result<Turn, Problem> {
        let own = {
            // Nothing panics while it is held.
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
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
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_tenant_that_searches_does_not_keep_others_from_it() {
        let turns = Turns::default();
        let first = turns.turn("a").await.ok().unwrap();
        assert!(turns.turn("a").now_or_never().is_none());
        let mut others = Vec::new();
        for tenant in ["b", "c", "d"] {
            others.push(turns.turn(tenant).now_or_never().unwrap().ok().unwrap());
        }
        assert!(turns.turn("e").now_or_never().is_none());
        drop((first, others));
        assert!(turns.turn("a").await.is_ok());
    }
}
