//! The life of a delivery whose home is an entry of the queue, and the lane that reads it.

use pombo::delivery::{Change, State};

use super::daemon::end_era;
use super::lane::{add, judge_queued, land, landings, owns, remove};
use super::machine::{Rule, Steps, told};
use super::world::*;

pub fn queued(steps: &mut Steps, who: usize, delivery: usize, at: usize) {
    let me = steps.from.daemons[who];
    let hand = me.lanes[delivery].hands[at];
    let tenure = me.units[steps.machine.scenario.unit_of(delivery)];
    let of = |what| told(who, what).of(delivery).entry(at);
    let let_go = move |world: &mut World| {
        let hand = &mut world.daemons[who].lanes[delivery].hands[at];
        (hand.at, hand.then) = (State::AtSource, Then::Nothing);
    };
    match (hand.at, hand.then) {
        (State::Queued, Then::Nothing) if tenure == Tenure::Owned => {
            steps.local(of("a POST goes out"), |machine, world| {
                let hand = &mut world.daemons[who].lanes[delivery].hands[at];
                hand.at = machine.after(hand.at, Change::Started);
            });
        }
        (State::Queued, Then::Nothing) => {
            steps.local(of("is left in the queue for the next owner"), |_, world| {
                let_go(world);
                world.daemons[who].lanes[delivery].hands[at].passed = false;
            });
        }
        (State::QueuedInFlight, _) => {
            for (then, what) in landings(steps) {
                let fair = then == Then::Delivered;
                steps.local(of(what).fair_if(fair), |machine, world| {
                    land(world, delivery, then);
                    judge_queued(
                        machine,
                        &mut world.daemons[who].lanes[delivery].hands[at],
                        then,
                    );
                });
            }
        }
        _ if me.stale => {}
        (State::Queued, Then::Retry) => schedule(steps, who, delivery, at),
        (State::Queued, Then::AddAgain) => steps.command(
            of("XADD of the copy"),
            |_, world| add(world, delivery, Entry::Scheduled),
            |_, world, _| let_go(world),
            |_, _| {},
        ),
        (State::Queued, Then::GiveUp) => bury(steps, who, delivery, at),
        (State::Delivered, _) => {
            steps.command(
                of("XDEL"),
                |_, world| remove(world, delivery, at),
                |_, world, ()| let_go(world),
                |_, _| {},
            );
            let entry = &steps.from.redis.queues[delivery].entries[at];
            if entry.entry == Entry::Scheduled && steps.from.left.lost > 0 {
                steps.fault(
                    of("XDEL is cut off after the schedule is removed"),
                    |_, world| {
                        world.left.lost -= 1;
                        world.redis.queues[delivery].entries[at].entry = Entry::Waiting;
                    },
                );
            }
        }
        _ => {}
    }
}

fn schedule(steps: &mut Steps, who: usize, delivery: usize, at: usize) {
    steps.command(
        told(who, "SCHEDULE").of(delivery).entry(at),
        |machine, world| {
            let owned = owns(machine, world, who, delivery);
            let queue = &mut world.redis.queues[delivery];
            if owned && queue.entries[at].entry != Entry::Absent {
                if machine.keeps(Rule::RetryIsASchedule) {
                    queue.entries[at].entry = Entry::Scheduled;
                } else {
                    remove(world, delivery, at);
                }
                world.redis.queues[delivery].due = true;
            }
            owned
        },
        |machine, world, owned| {
            if !owned {
                return end_era(machine, world, who);
            }
            let hand = &mut world.daemons[who].lanes[delivery].hands[at];
            if machine.keeps(Rule::RetryIsASchedule) {
                (hand.at, hand.then) = (State::AtSource, Then::Nothing);
            } else {
                hand.then = Then::AddAgain;
            }
        },
        |_, _| {},
    );
}

fn bury(steps: &mut Steps, who: usize, delivery: usize, at: usize) {
    steps.command(
        told(who, "DEAD").of(delivery).entry(at),
        |machine, world| {
            let owned = owns(machine, world, who, delivery);
            let there = world.redis.queues[delivery].entries[at].entry != Entry::Absent;
            if !there && owned && !machine.keeps(Rule::BuryingAsksForHome) {
                machine.is_wrong("a dead letter was made of a delivery that had no home any more");
            }
            if there && owned {
                remove(world, delivery, at);
                world.redis.queues[delivery].dead += 1;
            }
            owned
        },
        |machine, world, owned| {
            if !owned {
                return end_era(machine, world, who);
            }
            let hand = &mut world.daemons[who].lanes[delivery].hands[at];
            machine.after(hand.at, Change::Buried);
            (hand.at, hand.then) = (State::AtSource, Then::Nothing);
        },
        |_, _| {},
    );
}

/// Waking, reading and parking.
pub fn lane(steps: &mut Steps, who: usize, delivery: usize) {
    let me = steps.from.daemons[who];
    let queue = steps.from.redis.queues[delivery];
    let lane = me.lanes[delivery];
    let tenure = me.units[steps.machine.scenario.unit_of(delivery)];
    let of = |what| told(who, what).of(delivery);
    if !lane.up {
        if queue.due && tenure == Tenure::Owned {
            steps.local(
                of("a lane begins, where the last one left its cursor"),
                |_, world| {
                    let lane = &mut world.daemons[who].lanes[delivery];
                    lane.up = true;
                    for (hand, stored) in lane.hands.iter_mut().zip(queue.entries) {
                        hand.passed |= stored.behind;
                    }
                },
            );
        }
        return;
    }
    let readable = |at: &usize| {
        lane.hands[*at].at == State::AtSource
            && match queue.entries[*at].entry {
                Entry::Absent => false,
                Entry::Waiting => !lane.hands[*at].passed,
                Entry::Scheduled => true,
            }
    };
    if tenure == Tenure::Owned && !lane.saw_nothing {
        for at in (0..ENTRIES).filter(readable) {
            steps.local(of("reads the queue").entry(at), |_, world| {
                let hand = &mut world.daemons[who].lanes[delivery].hands[at];
                hand.at = State::Queued;
                hand.passed |= queue.entries[at].entry == Entry::Waiting;
            });
        }
    }
    let idle = lane.hands.iter().all(|hand| hand.at == State::AtSource);
    let unread = (0..ENTRIES)
        .filter(readable)
        .any(|at| queue.entries[at].entry == Entry::Waiting);
    if idle && (tenure == Tenure::Draining || !unread || lane.saw_nothing) {
        park(steps, who, delivery);
    }
}

fn park(steps: &mut Steps, who: usize, delivery: usize) {
    let lane = steps.from.daemons[who].lanes[delivery];
    let blind = !steps.machine.keeps(Rule::ParkReadsWhatIsStored);
    if blind && !lane.saw_nothing {
        let entries = steps.from.redis.queues[delivery].entries;
        if entries.iter().all(|stored| stored.entry == Entry::Absent) {
            steps.local(told(who, "sees an empty queue").of(delivery), |_, world| {
                world.daemons[who].lanes[delivery].saw_nothing = true;
            });
        }
        return;
    }
    steps.command(
        told(who, "PARK").of(delivery),
        |machine, world| {
            if world.redis.owners[machine.scenario.unit_of(delivery)] != world.daemons[who].nonce {
                return false;
            }
            let queue = &mut world.redis.queues[delivery];
            let there = |stored: &Stored| stored.entry != Entry::Absent;
            if blind || !queue.entries.iter().any(there) {
                queue.due = false;
            } else {
                queue.due = true;
                for (stored, hand) in queue.entries.iter_mut().zip(lane.hands) {
                    stored.behind = there(stored) && hand.passed;
                }
                let waiting = |behind| {
                    queue
                        .entries
                        .iter()
                        .any(|stored| stored.entry == Entry::Waiting && stored.behind == behind)
                };
                if !waiting(false) && waiting(true) && machine.keeps(Rule::ParkLooksForGaps) {
                    // Read from the start again.
                    queue
                        .entries
                        .iter_mut()
                        .for_each(|stored| stored.behind = false);
                }
            }
            true
        },
        |machine, world, owned| {
            if !owned {
                return end_era(machine, world, who);
            }
            world.daemons[who].lanes[delivery] = NO_LANE;
        },
        |_, _| {},
    );
}
