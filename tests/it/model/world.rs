//! What the model knows of the world: one Redis, two daemons, and what may still go wrong.
//!
//! Small on purpose: one event that causes one or two deliveries, and queues of at most three entries. Time is left out.
//! Whatever a clock would decide (a lease, a schedule, a read that waits) may come at any moment, so that no property
//! rests on anybody's clock.

use std::fmt;

use pombo::delivery::State;

pub const DAEMONS: usize = 2;
/// The most deliveries that the event causes.
pub const DELIVERIES: usize = 2;
/// The most entries that a queue holds at a time.
pub const ENTRIES: usize = 4;
/// What is owned: the source, and the shard of each webhook.
pub const UNITS: usize = 1 + DELIVERIES;
pub const SOURCE: usize = 0;
/// No nonce: nobody's.
pub const NOBODY: u8 = 0;

/// Where the event stands in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    Unborn,
    Unread,
    Pending,
    Acknowledged,
}

/// One place of a webhook's queue.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    Absent,
    /// Without a schedule.
    Waiting,
    Scheduled,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stored {
    pub entry: Entry,
    /// Whether the stored cursor has passed it.
    pub behind: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Queue {
    pub entries: [Stored; ENTRIES],
    /// Whether the webhook is listed among those with work.
    pub due: bool,
    pub dead: u8,
}

/// What Redis keeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Redis {
    pub event: Event,
    pub group: bool,
    /// Whether the mark has passed the event.
    pub marked: bool,
    /// Whether a read whose reader is gone still waits for the event.
    pub abandoned_read: bool,
    /// The nonces of the daemons that beat, a bit each.
    pub listed: u8,
    pub owners: [u8; UNITS],
    pub queues: [Queue; DELIVERIES],
}

impl Redis {
    pub fn lists(&self, nonce: u8) -> bool {
        self.listed & (1 << nonce) != 0
    }
}

/// What a daemon believes of a shard or a source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tenure {
    Not,
    Owned,
    /// Being handed over.
    Draining,
}

/// A delivery's share of the event's ticket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Share {
    None,
    Open,
    Settled,
    Broken,
}

/// What is to be done with a delivery whose attempt is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Then {
    Nothing,
    Retry,
    GiveUp,
    Delivered,
    /// Only where a rule is broken: the entry was removed, and is to be added again.
    AddAgain,
}

/// A delivery as long as its home is the source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Part {
    pub share: Share,
    pub at: State,
    pub then: Then,
}

/// A delivery whose home is an entry of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hand {
    /// `AtSource` stands for: not in memory.
    pub at: State,
    pub then: Then,
    /// Whether the lane's cursor has passed the entry.
    pub passed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lane {
    pub up: bool,
    /// Only where a rule is broken: it has seen an empty queue, and is about to say so.
    pub saw_nothing: bool,
    pub hands: [Hand; ENTRIES],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Daemon {
    /// Nobody's while it has not joined.
    pub nonce: u8,
    pub crashed: bool,
    /// Whether the server is another one than that of its era.
    pub stale: bool,
    /// The nonces that ever stood under its name and may still be listed, a bit each.
    pub named: u8,
    /// Only where a rule is broken: the members as it saw them last.
    pub members: u8,
    pub units: [Tenure; UNITS],
    pub recovered: bool,
    /// Whether this session of the reader has acknowledged the event.
    pub acknowledged: bool,
    pub parts: [Part; DELIVERIES],
    pub lanes: [Lane; DELIVERIES],
}

/// What may still happen, each at most so often.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Left {
    /// Faults of any kind.
    pub faults: u8,
    pub crashes: u8,
    /// Requests or replies.
    pub lost: u8,
    /// Depositions of a daemon that lives.
    pub depositions: u8,
    /// Hand-overs that are cut off.
    pub cuts: u8,
    pub failovers: u8,
    pub groups: u8,
    /// Hand-overs; no fault.
    pub moves: u8,
    /// Attempts that fail; no fault.
    pub failures: u8,
    /// A full queue, a replay, a deletion: one each; no fault.
    pub full: u8,
    pub replays: u8,
    pub deletions: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub redis: Redis,
    /// What the replica has that will take over.
    pub replica: Option<Redis>,
    pub daemons: [Daemon; DAEMONS],
    pub left: Left,
    /// Faults so far.
    pub faults: u8,
    /// How often the receiver has answered 2xx.
    pub received: [u8; DELIVERIES],
    /// Whether the webhook was deleted.
    pub deleted: [bool; DELIVERIES],
}

pub const NO_PART: Part = Part {
    share: Share::None,
    at: State::AtSource,
    then: Then::Nothing,
};
pub const NO_HAND: Hand = Hand {
    at: State::AtSource,
    then: Then::Nothing,
    passed: false,
};
pub const NO_LANE: Lane = Lane {
    up: false,
    saw_nothing: false,
    hands: [NO_HAND; ENTRIES],
};
pub const DOWN: Daemon = Daemon {
    nonce: NOBODY,
    crashed: false,
    stale: false,
    named: 0,
    members: 0,
    units: [Tenure::Not; UNITS],
    recovered: false,
    acknowledged: false,
    parts: [NO_PART; DELIVERIES],
    lanes: [NO_LANE; DELIVERIES],
};
pub const EMPTY: Redis = Redis {
    event: Event::Unborn,
    group: true,
    marked: false,
    abandoned_read: false,
    listed: 0,
    owners: [NOBODY; UNITS],
    queues: [Queue {
        entries: [Stored {
            entry: Entry::Absent,
            behind: false,
        }; ENTRIES],
        due: false,
        dead: 0,
    }; DELIVERIES],
};

/// Whom a step belongs to.
pub const NOBODYS: u8 = DAEMONS as u8;

/// What became of a command on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Done,
    RequestLost,
    ReplyLost,
}

/// One step of the world, as a trace tells it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub who: u8,
    pub what: &'static str,
    /// The delivery that it is about, if it is about one.
    pub delivery: Option<u8>,
    pub entry: Option<u8>,
    pub fate: Fate,
    /// Whether it happens at last even if nothing is done about it, with no further fault.
    pub fair: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = ["daemon A", "daemon B", "        "];
        write!(f, "{}  {}", who[usize::from(self.who)], self.what)?;
        if let Some(delivery) = self.delivery {
            write!(f, ", delivery {}", delivery + 1)?;
        }
        if let Some(entry) = self.entry {
            write!(f, ", queue entry {}", entry + 1)?;
        }
        f.write_str(match self.fate {
            Fate::Done => "",
            Fate::RequestLost => "  (the request is lost)",
            Fate::ReplyLost => "  (done, but the reply is lost)",
        })
    }
}
