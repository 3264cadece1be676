//! What a step of the model is made with: the table of a delivery's life, the rules, and the fates of a command.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use pombo::delivery::{Change, State, TRANSITIONS};

use super::world::*;

/// The rules that keep deliveries from being lost, each of which the model can do without, to show that it is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// S1: a retry is a schedule beside the queue entry, never a copy of it.
    RetryIsASchedule,
    /// S2: what was stored or acknowledged on a server that was replaced is void.
    ReplacedServerVoidsMemory,
    /// S3: what creates or schedules asks for the owner.
    CreatingAsksForOwner,
    /// S3: what buries is conditional on the home.
    BuryingAsksForHome,
    /// A share is settled by the reply that says so, not by the request.
    SettledByTheReply,
    /// A share that is dropped breaks its ticket.
    DroppedShareBreaks,
    /// What is pending is read before and beside what is new.
    PendingIsRead,
    /// What is pending and in nobody's hands is looked for again and again.
    PendingIsReconciled,
    /// A shard is released when nothing of it is in memory any more.
    DrainedBeforeReleased,
    /// What a living daemon owns is claimed only after it has released it.
    ReleasedBeforeClaimed,
    /// The owner is read first, then the list that says whether it lives.
    OwnerReadBeforeMembers,
    /// What stands as one's own is taken up, though the reply to the claim was lost.
    OwnClaimIsKnown,
    /// A queue entry and its listing among the work are one transaction.
    QueuedIsListed,
    /// A lane parks by what is stored, not by what it has seen.
    ParkReadsWhatIsStored,
    /// A lane that parks looks for entries behind its cursor that are not scheduled.
    ParkLooksForGaps,
    /// The mark stays below what is not acknowledged.
    MarkStaysBelow,
}

/// Where the exploration begins, and what may happen.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// How many deliveries the event causes, and whether both webhooks are of one shard.
    pub deliveries: usize,
    pub one_shard: bool,
    /// Which daemon owns what when the event comes; `None` where neither has joined yet.
    pub owners: Option<[u8; UNITS]>,
    /// Whether the event stands in the source already.
    pub born: bool,
    pub left: Left,
    /// The rule that is left out.
    pub without: Option<Rule>,
}

impl Scenario {
    pub fn unit_of(&self, delivery: usize) -> usize {
        1 + if self.one_shard { 0 } else { delivery }
    }

    pub fn units(&self) -> usize {
        if self.one_shard {
            2
        } else {
            1 + self.deliveries
        }
    }

    pub fn begin(&self) -> World {
        let mut world = World {
            redis: EMPTY,
            replica: None,
            daemons: [DOWN; DAEMONS],
            left: self.left,
            faults: 0,
            received: [0; DELIVERIES],
            deleted: [false; DELIVERIES],
        };
        if self.born {
            world.redis.event = Event::Unread;
        }
        if let Some(owners) = self.owners {
            for (at, daemon) in (0u8..).zip(&mut world.daemons) {
                daemon.nonce = at + 1;
                daemon.named = 1 << daemon.nonce;
                world.redis.listed |= daemon.named;
                for (unit, owner) in owners.into_iter().enumerate().take(self.units()) {
                    if owner == at {
                        daemon.units[unit] = Tenure::Owned;
                        world.redis.owners[unit] = daemon.nonce;
                    }
                }
            }
        }
        world
    }
}

/// A state of the world that follows another one.
pub struct Next {
    pub step: Step,
    pub world: World,
    /// The property that the step broke by itself.
    pub wrong: Option<&'static str>,
}

/// The machine: its rules, and the table by which its deliveries live.
pub struct Machine {
    pub scenario: Scenario,
    table: [[Option<State>; CHANGES]; STATES],
    wrong: Cell<Option<&'static str>>,
    used: RefCell<[[bool; CHANGES]; STATES]>,
}

const STATES: usize = State::Discarded as usize + 1;
const CHANGES: usize = Change::Voided as usize + 1;

impl Machine {
    pub fn new(scenario: Scenario) -> Machine {
        let mut table = [[None; CHANGES]; STATES];
        for (from, by, to) in TRANSITIONS {
            table[from as usize][by as usize] = Some(to);
        }
        Machine {
            scenario,
            table,
            wrong: Cell::new(None),
            used: RefCell::new([[false; CHANGES]; STATES]),
        }
    }

    /// Whether the rule is kept.
    pub fn keeps(&self, rule: Rule) -> bool {
        self.scenario.without != Some(rule)
    }

    /// The state that follows in the table that the daemon's code is written by.
    pub fn after(&self, at: State, by: Change) -> State {
        self.used.borrow_mut()[at as usize][by as usize] = true;
        match self.table[at as usize][by as usize] {
            Some(to) => to,
            None => panic!("the table of a delivery's life has nothing for {by:?} in {at:?}"),
        }
    }

    /// The transitions that were taken.
    pub fn used(&self) -> HashSet<(State, Change)> {
        let used = self.used.borrow();
        TRANSITIONS
            .iter()
            .filter(|(from, by, _)| used[*from as usize][*by as usize])
            .map(|(from, by, _)| (*from, *by))
            .collect()
    }

    /// The step that is being made breaks a property.
    pub fn is_wrong(&self, what: &'static str) {
        self.wrong.set(Some(what));
    }
}

/// The steps that may follow one state of the world, collected.
pub struct Steps<'a> {
    pub machine: &'a Machine,
    pub from: World,
    pub next: Vec<Next>,
}

/// A step without its fate, as the builders below take it.
#[derive(Clone, Copy)]
pub struct Told {
    pub who: usize,
    pub what: &'static str,
    pub delivery: Option<usize>,
    pub entry: Option<usize>,
    pub fair: bool,
}

pub fn told(who: usize, what: &'static str) -> Told {
    Told {
        who,
        what,
        delivery: None,
        entry: None,
        fair: true,
    }
}

impl Told {
    pub fn of(self, delivery: usize) -> Told {
        Told {
            delivery: Some(delivery),
            ..self
        }
    }

    pub fn entry(self, entry: usize) -> Told {
        Told {
            entry: Some(entry),
            ..self
        }
    }

    /// It may happen, and need not.
    pub fn perhaps(self) -> Told {
        Told {
            fair: false,
            ..self
        }
    }

    pub fn fair_if(self, fair: bool) -> Told {
        Told {
            fair: self.fair && fair,
            ..self
        }
    }
}

impl Steps<'_> {
    fn push(&mut self, told: Told, fate: Fate, mut world: World) {
        tidy(&mut world);
        if world == self.from {
            self.machine.wrong.set(None);
            return;
        }
        let small = |number: usize| u8::try_from(number).expect("few of anything");
        self.next.push(Next {
            step: Step {
                who: small(told.who),
                what: told.what,
                delivery: told.delivery.map(small),
                entry: told.entry.map(small),
                fate,
                fair: told.fair && fate == Fate::Done,
            },
            world,
            wrong: self.machine.wrong.take(),
        });
    }

    /// Something that happens within one process, or by itself.
    pub fn local(&mut self, told: Told, change: impl FnOnce(&Machine, &mut World)) {
        let mut world = self.from;
        change(self.machine, &mut world);
        self.push(told, Fate::Done, world);
    }

    /// A fault, if one may still happen.
    pub fn fault(&mut self, told: Told, change: impl FnOnce(&Machine, &mut World)) {
        if self.from.left.faults > 0 {
            let mut world = self.from;
            spend(&mut world);
            change(self.machine, &mut world);
            self.push(told.perhaps(), Fate::Done, world);
        }
    }

    /// A command: done and answered, or its request is lost, or its reply.
    pub fn command<R>(
        &mut self,
        told: Told,
        redis: impl Fn(&Machine, &mut World) -> R,
        reply: impl Fn(&Machine, &mut World, R),
        failed: impl Fn(&Machine, &mut World),
    ) {
        let mut world = self.from;
        let answer = redis(self.machine, &mut world);
        reply(self.machine, &mut world, answer);
        self.push(told, Fate::Done, world);
        if self.from.left.faults > 0 && self.from.left.lost > 0 {
            let mut world = self.from;
            spend(&mut world);
            world.left.lost -= 1;
            failed(self.machine, &mut world);
            self.push(told, Fate::RequestLost, world);
            let mut world = self.from;
            spend(&mut world);
            world.left.lost -= 1;
            redis(self.machine, &mut world);
            failed(self.machine, &mut world);
            self.push(told, Fate::ReplyLost, world);
        }
    }
}

fn spend(world: &mut World) {
    world.left.faults -= 1;
    world.faults += 1;
}

/// States that differ in nothing that anybody could see are one.
fn tidy(world: &mut World) {
    if world.left.faults == 0 {
        // Nothing of what is left can happen any more.
        let left = &mut world.left;
        (left.crashes, left.lost, left.depositions, left.cuts) = (0, 0, 0, 0);
        (left.failovers, left.groups) = (0, 0);
        world.replica = None;
    }
    let kept = world.redis.listed | world.replica.map_or(0, |replica| replica.listed);
    // The mark is asked for only by who makes the group anew.
    let unmarked = world.left.groups == 0 && world.redis.group;
    if unmarked {
        world.redis.marked = false;
    }
    for daemon in &mut world.daemons {
        daemon.named &= kept;
        daemon.acknowledged &= !unmarked;
        for lane in &mut daemon.lanes {
            for hand in &mut lane.hands {
                hand.passed &= lane.up || hand.at != State::AtSource;
            }
        }
    }
    (0..DELIVERIES).for_each(|delivery| sort(world, delivery));
}

/// No step depends on the order of a queue's entries, so the order in which they stand here is always the same.
fn sort(world: &mut World, delivery: usize) {
    let key = |world: &World, at: usize| {
        let stored = world.redis.queues[delivery].entries[at];
        let hands = world.daemons.each_ref().map(|daemon| {
            let hand = daemon.lanes[delivery].hands[at];
            (hand.at as u8, hand.then as u8, hand.passed)
        });
        let replica = world.replica.map(|replica| {
            let stored = replica.queues[delivery].entries[at];
            (stored.entry as u8, stored.behind)
        });
        (stored.entry as u8, stored.behind, hands, replica)
    };
    let one = |redis: &Redis| {
        let entries = &redis.queues[delivery].entries[1..];
        entries.iter().all(|stored| stored.entry == Entry::Absent)
    };
    let few = one(&world.redis) && world.replica.as_ref().is_none_or(one);
    let held = |daemon: &Daemon| {
        daemon.lanes[delivery].hands[1..]
            .iter()
            .any(|hand| *hand != NO_HAND)
    };
    if few && !world.daemons.iter().any(held) {
        return;
    }
    for end in (1..ENTRIES).rev() {
        for at in 0..end {
            if key(world, at) < key(world, at + 1) {
                world.redis.queues[delivery].entries.swap(at, at + 1);
                if let Some(replica) = &mut world.replica {
                    replica.queues[delivery].entries.swap(at, at + 1);
                }
                for daemon in &mut world.daemons {
                    daemon.lanes[delivery].hands.swap(at, at + 1);
                }
            }
        }
    }
}

/// A nonce that stands nowhere.
pub fn new_nonce(world: &World) -> u8 {
    let mut seen = world.redis.listed | world.replica.map_or(0, |replica| replica.listed);
    let owners = world.redis.owners.into_iter();
    for owner in owners.chain(world.replica.map_or([0; UNITS], |replica| replica.owners)) {
        seen |= 1 << owner;
    }
    for daemon in &world.daemons {
        seen |= 1 << daemon.nonce | daemon.named;
    }
    (1..8)
        .find(|nonce| seen & (1 << nonce) == 0)
        .expect("more nonces than faults could ever use up")
}
