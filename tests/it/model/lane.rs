//! The life of a delivery in a daemon's hands as long as its home is the source: from the offer to its end, or into the
//! queue.

use pombo::delivery::{Change, State};

use super::daemon::end_era;
use super::machine::{Machine, Rule, Steps, told};
use super::queue::{lane, queued};
use super::world::*;

/// XADD to a queue.
pub fn add(world: &mut World, delivery: usize, entry: Entry) -> usize {
    let free = |at: &usize| {
        world.redis.queues[delivery].entries[*at].entry == Entry::Absent
            && world
                .daemons
                .iter()
                .all(|daemon| daemon.lanes[delivery].hands[*at].at == State::AtSource)
    };
    let at = (0..ENTRIES)
        .find(free)
        .expect("room in the queue: raise ENTRIES");
    let behind = false;
    world.redis.queues[delivery].entries[at] = Stored { entry, behind };
    for daemon in &mut world.daemons {
        daemon.lanes[delivery].hands[at].passed = false;
    }
    at
}

pub fn remove(world: &mut World, delivery: usize, at: usize) {
    world.redis.queues[delivery].entries[at] = Stored {
        entry: Entry::Absent,
        behind: false,
    };
}

/// The webhook is gone, with everything of it.
pub fn delete(machine: &Machine, world: &mut World, delivery: usize) {
    world.deleted[delivery] = true;
    let queue = &mut world.redis.queues[delivery];
    *queue = Queue {
        dead: queue.dead,
        ..EMPTY.queues[delivery]
    };
    for daemon in &mut world.daemons {
        let part = &mut daemon.parts[delivery];
        // One that has landed waits for the reply; what it comes to is discarded then.
        if part.share == Share::Open && part.at != State::StoringLanded {
            assert_eq!(
                machine.after(part.at, Change::WebhookDeleted),
                State::Discarded
            );
            settle(part);
        }
        for hand in &mut daemon.lanes[delivery].hands {
            if matches!(hand.at, State::Queued | State::QueuedInFlight) {
                machine.after(hand.at, Change::WebhookDeleted);
            }
        }
        daemon.lanes[delivery] = NO_LANE;
    }
}

fn settle(part: &mut Part) {
    *part = Part {
        share: Share::Settled,
        ..NO_PART
    };
}

/// Whether a script that asks for the owner goes on.
pub fn owns(machine: &Machine, world: &World, who: usize, delivery: usize) -> bool {
    let owner = world.redis.owners[machine.scenario.unit_of(delivery)];
    let mine = owner == world.daemons[who].nonce;
    if !mine && !machine.keeps(Rule::CreatingAsksForOwner) {
        machine.is_wrong("a daemon that does not own the shard created, scheduled or buried there");
        return true;
    }
    mine
}

pub fn steps(steps: &mut Steps, who: usize) {
    let me = steps.from.daemons[who];
    if me.nonce == NOBODY {
        return;
    }
    for delivery in 0..steps.machine.scenario.deliveries {
        if me.parts[delivery].share == Share::Open {
            taken(steps, who, delivery);
        }
        for at in 0..ENTRIES {
            if me.lanes[delivery].hands[at].at != State::AtSource {
                queued(steps, who, delivery, at);
            }
        }
        if !me.stale {
            lane(steps, who, delivery);
        }
    }
}

/// The ways that an attempt can end.
pub fn landings(steps: &Steps) -> Vec<(Then, &'static str)> {
    let mut ways = vec![(Then::Delivered, "the receiver answers 2xx")];
    if steps.from.left.failures > 0 {
        ways.push((Then::Retry, "the attempt fails, and is to be tried again"));
        ways.push((Then::GiveUp, "the last attempt fails"));
    }
    ways
}

pub fn land(world: &mut World, delivery: usize, then: Then) {
    match then {
        Then::Delivered => world.received[delivery] += 1,
        _ => world.left.failures -= 1,
    }
}

/// A taken delivery's attempt is over, with the source still its home.
fn judge_taken(machine: &Machine, part: &mut Part, then: Then) {
    if then == Then::Delivered {
        machine.after(part.at, Change::Succeeded);
        settle(part);
    } else {
        part.at = machine.after(part.at, Change::Failed);
        part.then = then;
    }
}

/// A queued delivery's attempt is over.
pub fn judge_queued(machine: &Machine, hand: &mut Hand, then: Then) {
    let by = if then == Then::Delivered {
        Change::Succeeded
    } else {
        Change::Failed
    };
    hand.at = machine.after(hand.at, by);
    hand.then = then;
}

fn taken(steps: &mut Steps, who: usize, delivery: usize) {
    let me = steps.from.daemons[who];
    let part = me.parts[delivery];
    let tenure = me.units[steps.machine.scenario.unit_of(delivery)];
    match part.at {
        State::AtSource if !me.stale => offer(steps, who, delivery, tenure),
        State::Taken => {
            if tenure == Tenure::Owned {
                steps.local(
                    told(who, "a POST goes out").of(delivery),
                    |machine, world| {
                        let part = &mut world.daemons[who].parts[delivery];
                        part.at = machine.after(part.at, Change::Started);
                    },
                );
            }
            let waits = told(
                who,
                "what was taken has waited too long, and is to be stored",
            );
            let waits = waits.of(delivery).fair_if(tenure == Tenure::Draining);
            steps.local(waits, |machine, world| {
                let part = &mut world.daemons[who].parts[delivery];
                part.at = machine.after(part.at, Change::Unstarted);
            });
        }
        State::TakenInFlight | State::StoringInFlight => {
            for (then, what) in landings(steps) {
                let fair = then == Then::Delivered;
                let what = told(who, what).of(delivery).fair_if(fair);
                steps.local(what, |machine, world| {
                    land(world, delivery, then);
                    let part = &mut world.daemons[who].parts[delivery];
                    if part.at == State::TakenInFlight {
                        judge_taken(machine, part, then);
                    } else {
                        part.at = machine.after(part.at, Change::Landed);
                        part.then = then;
                    }
                });
            }
            if part.at == State::TakenInFlight {
                let lingers = told(who, "the POST takes long, and is to be stored");
                steps.local(lingers.of(delivery).perhaps(), |machine, world| {
                    let part = &mut world.daemons[who].parts[delivery];
                    part.at = machine.after(part.at, Change::Lingered);
                });
            } else if !me.stale {
                store(steps, who, delivery);
            }
        }
        State::Storing | State::StoringLanded if !me.stale => store(steps, who, delivery),
        _ => {}
    }
}

fn offer(steps: &mut Steps, who: usize, delivery: usize, tenure: Tenure) {
    if tenure == Tenure::Owned {
        let taken = told(who, "the lane takes the offer").of(delivery);
        steps.local(taken, |machine, world| {
            let part = &mut world.daemons[who].parts[delivery];
            part.at = machine.after(part.at, Change::Offered);
        });
    }
    steps.command(
        told(who, "ENQUEUE").of(delivery),
        |machine, world| {
            if !world.deleted[delivery] {
                add(world, delivery, Entry::Waiting);
                world.redis.queues[delivery].due |= machine.keeps(Rule::QueuedIsListed);
            }
        },
        |machine, world, ()| {
            if !world.deleted[delivery] {
                world.redis.queues[delivery].due = true;
            }
            machine.after(State::AtSource, Change::Enqueued);
            settle(&mut world.daemons[who].parts[delivery]);
        },
        |machine, world| {
            machine.after(State::AtSource, Change::EnqueueFailed);
            let queue = &world.redis.queues[delivery];
            let waits = queue
                .entries
                .iter()
                .any(|stored| stored.entry == Entry::Waiting);
            // Entered by the first of two commands, it is settled, whatever becomes of the second.
            let entered = !machine.keeps(Rule::QueuedIsListed) && waits && !queue.due;
            if entered || !machine.keeps(Rule::SettledByTheReply) {
                settle(&mut world.daemons[who].parts[delivery]);
            }
        },
    );
    if steps.from.left.full > 0 {
        steps.local(
            told(who, "its queue is full: BURY").of(delivery).perhaps(),
            |machine, world| {
                world.left.full -= 1;
                machine.after(State::AtSource, Change::Overflowed);
                world.redis.queues[delivery].dead += 1;
                settle(&mut world.daemons[who].parts[delivery]);
            },
        );
    }
}

/// What STORE and BURY answer.
#[derive(Clone, Copy)]
enum Answer {
    Fenced,
    Stored(usize),
    Buried,
    /// Cleared with its webhook.
    Cleared,
}

fn store(steps: &mut Steps, who: usize, delivery: usize) {
    let part = steps.from.daemons[who].parts[delivery];
    let buries = part.at == State::Storing && part.then == Then::GiveUp;
    let what = if buries { "BURY" } else { "STORE" };
    steps.command(
        told(who, what).of(delivery),
        |machine, world| {
            if !owns(machine, world, who, delivery) {
                return Answer::Fenced;
            }
            if world.deleted[delivery] {
                return Answer::Cleared;
            }
            if buries {
                world.redis.queues[delivery].dead += 1;
                return Answer::Buried;
            }
            // What only waited is due as soon as the queue gets there; everything else has a schedule.
            let waited = part.at == State::Storing && part.then == Then::Nothing;
            let entry = if waited {
                Entry::Waiting
            } else {
                Entry::Scheduled
            };
            world.redis.queues[delivery].due = true;
            Answer::Stored(add(world, delivery, entry))
        },
        |machine, world, answer| match answer {
            Answer::Fenced => end_era(machine, world, who),
            Answer::Buried => {
                machine.after(part.at, Change::Buried);
                settle(&mut world.daemons[who].parts[delivery]);
            }
            Answer::Cleared => settle(&mut world.daemons[who].parts[delivery]),
            Answer::Stored(at) => {
                let stored = machine.after(part.at, Change::Stored);
                let daemon = &mut world.daemons[who];
                settle(&mut daemon.parts[delivery]);
                if stored == State::QueuedInFlight {
                    let hand = &mut daemon.lanes[delivery].hands[at];
                    hand.at = stored;
                    if part.at == State::StoringLanded {
                        judge_queued(machine, hand, part.then);
                    }
                }
            }
        },
        |machine, world| {
            let failed = &mut world.daemons[who].parts[delivery];
            if !machine.keeps(Rule::SettledByTheReply) {
                settle(failed);
            } else if !buries {
                failed.at = machine.after(part.at, Change::StoreFailed);
                failed.then = Then::Nothing;
                if part.at == State::StoringLanded {
                    judge_taken(machine, failed, part.then);
                }
            }
        },
    );
}
