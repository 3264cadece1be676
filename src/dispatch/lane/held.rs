//! Deliveries in a lane's hands, by where they are kept and what they wait for.

use std::sync::Arc;

use tokio::time::Instant;

use crate::delivery::Tries;
use crate::dispatch::attempt::Signatures;
use crate::dispatch::budget::TakenPermit;
use crate::event::{EntryId, Event};
use crate::source::ticket::Share;

/// A delivery in the lane's hands.
pub(super) struct Held {
    pub event: Arc<Event>,
    pub tries: Option<Tries>,
    /// Attempts before a replay: the attempt header counts on.
    pub attempts_before: u32,
    pub home: Home,
    /// What the lane's `prepared` has signed of it ahead.
    pub signed: Option<Box<Signatures>>,
}

/// Where a delivery's body is kept.
pub(super) enum Home {
    /// In the source entry: the share keeps it pending there.
    Source { share: Share, permit: TakenPermit },
    /// In this entry of the queue.
    Queue(EntryId),
}

/// A taken delivery that is not in flight.
pub(super) struct Taken {
    pub held: Held,
    pub since: Instant,
}

/// A taken delivery that could not be stored: its home is still the source entry, and it may be attempted from there.
pub(super) struct Unstored {
    pub held: Held,
    /// When its next attempt is due (Unix ms; `None` = at once).
    pub due_ms: Option<u64>,
    /// Not to be stored before.
    pub store_after: Instant,
}

/// The delivery is over as far as its source is concerned.
pub(super) fn settle_source(home: Home) {
    if let Home::Source { share, .. } = home {
        share.settled();
    }
}
