//! The life of a delivery, as a table: which state follows which, and by what.
//!
//! A delivery has one durable home at a time: its entry in the source stream, or one entry of its
//! webhook's queue. In memory it is *taken* while its home is the source and *queued* while it is the
//! queue; between the two it is *storing*, and its home is not known until Redis has replied. A state
//! named `…InFlight` has a POST on the wire.

use Change::*;
use State::*;

/// Where a delivery stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Nothing in memory; the home is the source entry. Every delivery starts here, and what a crash,
    /// a lost reply or a lost generation leaves unfinished is found here again.
    AtSource,
    /// Held by its lane, to be sent within a moment; the home is the source entry.
    Taken,
    /// As taken, with a POST in flight.
    TakenInFlight,
    /// On its way into the queue; the home is not known until the reply.
    Storing,
    /// On its way into the queue with a POST in flight.
    StoringInFlight,
    /// On its way into the queue, its POST already over; what came of it waits for the reply.
    StoringLanded,
    /// The home is an entry of the webhook's queue.
    Queued,
    /// As queued, with a POST in flight.
    QueuedInFlight,
    /// The receiver has it. An end.
    Delivered,
    /// Given up, and kept with its reason. An end.
    Dead,
    /// Its webhook is gone. An end.
    Discarded,
}

/// What moves a delivery from one state to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// The lane took the offer.
    Offered,
    /// The delivery was added to the queue without being offered, or after the offer was declined.
    Enqueued,
    /// Adding it to the queue failed, or its reply was lost.
    EnqueueFailed,
    /// The queue was at its bound, and a dead letter was written instead.
    Overflowed,
    /// A POST went out.
    Started,
    /// The receiver answered 2xx.
    Succeeded,
    /// The attempt failed; the next one is scheduled, or the delivery is about to be buried.
    Failed,
    /// A taken delivery had not started within its time.
    Unstarted,
    /// A taken delivery's POST was still in flight after its time.
    Lingered,
    /// The POST was over before the reply to STORE.
    Landed,
    /// STORE replied with the queue entry.
    Stored,
    /// STORE failed, was fenced, or its reply was lost.
    StoreFailed,
    /// DEAD moved the delivery to the dead letters.
    Buried,
    /// The dead letter was put back into its queue.
    Replayed,
    /// The webhook was deleted.
    WebhookDeleted,
    /// What was known in memory is void: the server, or this daemon's ownership, is not what it was.
    Voided,
}

/// Every transition there is: state, change, following state.
pub const TRANSITIONS: [(State, Change, State); 34] = [
    (AtSource, Offered, Taken),
    (AtSource, Enqueued, Queued),
    (AtSource, EnqueueFailed, AtSource),
    (AtSource, Overflowed, Dead),
    (AtSource, WebhookDeleted, Discarded),
    // Until it is durable, the source entry is what a crash leaves.
    (Taken, Started, TakenInFlight),
    (Taken, Unstarted, Storing),
    (Taken, WebhookDeleted, Discarded),
    (Taken, Voided, AtSource),
    (TakenInFlight, Succeeded, Delivered),
    (TakenInFlight, Failed, Storing),
    (TakenInFlight, Lingered, StoringInFlight),
    (TakenInFlight, WebhookDeleted, Discarded),
    (TakenInFlight, Voided, AtSource),
    // A failed STORE may have stored all the same: one repeat is the price, a loss is not.
    (Storing, Stored, Queued),
    (Storing, StoreFailed, Taken),
    // Given up, or its queue is full: buried in the step that would have stored it.
    (Storing, Buried, Dead),
    (Storing, WebhookDeleted, Discarded),
    (Storing, Voided, AtSource),
    (StoringInFlight, Stored, QueuedInFlight),
    (StoringInFlight, StoreFailed, TakenInFlight),
    (StoringInFlight, Landed, StoringLanded),
    (StoringInFlight, WebhookDeleted, Discarded),
    (StoringInFlight, Voided, AtSource),
    // The held result is then applied to the state that the reply leads to.
    (StoringLanded, Stored, QueuedInFlight),
    (StoringLanded, StoreFailed, TakenInFlight),
    (StoringLanded, Voided, AtSource),
    // From here on the queue entry is what a crash leaves; voiding memory changes nothing.
    (Queued, Started, QueuedInFlight),
    (Queued, Buried, Dead),
    (Queued, WebhookDeleted, Discarded),
    (QueuedInFlight, Succeeded, Delivered),
    (QueuedInFlight, Failed, Queued),
    (QueuedInFlight, WebhookDeleted, Discarded),
    (Dead, Replayed, Queued),
];

/// Where the body of a delivery durably lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Home {
    /// The entry of the source stream.
    Source,
    /// An entry of the webhook's queue.
    Queue,
    /// The source, and perhaps the queue too: not known before the reply to STORE.
    Undecided,
    /// An entry of the webhook's dead letters.
    DeadLetters,
    /// Nowhere: it is done with.
    Nowhere,
}

impl State {
    /// The state that follows by `change`; `None` where the table has no such transition.
    pub fn after(self, change: Change) -> Option<State> {
        TRANSITIONS
            .iter()
            .find(|(from, by, _)| *from == self && *by == change)
            .map(|(_, _, to)| *to)
    }

    /// Where the body durably lives in this state.
    pub fn home(self) -> Home {
        match self {
            AtSource | Taken | TakenInFlight => Home::Source,
            Storing | StoringInFlight | StoringLanded => Home::Undecided,
            Queued | QueuedInFlight => Home::Queue,
            Dead => Home::DeadLetters,
            Delivered | Discarded => Home::Nowhere,
        }
    }

    /// Whether the event's ticket may be counted down: the delivery is settled, or durable elsewhere
    /// than in the source entry.
    pub fn settles_ticket(self) -> bool {
        !matches!(self.home(), Home::Source | Home::Undecided)
    }

    /// Whether a POST is on the wire.
    pub fn in_flight(self) -> bool {
        matches!(self, TakenInFlight | StoringInFlight | QueuedInFlight)
    }
}
