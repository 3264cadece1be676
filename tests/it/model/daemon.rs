//! A daemon among the others: joining, beating, deposing, claiming, handing over; and what befalls it.

use pombo::delivery::{Change, State};

use super::machine::{Machine, Rule, Steps, new_nonce, told};
use super::world::*;

/// Everything in memory is void: the era is over.
pub fn end_era(machine: &Machine, world: &mut World, who: usize) {
    let old = world.daemons[who];
    for part in &old.parts {
        if part.share == Share::Open && part.at != State::AtSource {
            let voided = machine.after(part.at, Change::Voided);
            assert_eq!(voided, State::AtSource);
        }
    }
    abandon_read(world, who);
    world.daemons[who] = Daemon {
        named: old.named,
        ..DOWN
    };
}

/// The server does not know that nobody waits for a read any more.
fn abandon_read(world: &mut World, who: usize) {
    let daemon = &world.daemons[who];
    let waits = daemon.units[SOURCE] == Tenure::Owned && daemon.recovered && !daemon.stale;
    let nothing_new = matches!(world.redis.event, Event::Unborn | Event::Unread);
    if waits && nothing_new && world.redis.group {
        world.redis.abandoned_read = true;
    }
}

/// Whether nothing of the shard is in the daemon's memory.
fn is_drained(machine: &Machine, daemon: &Daemon, unit: usize) -> bool {
    let scenario = &machine.scenario;
    (0..scenario.deliveries)
        .filter(|delivery| scenario.unit_of(*delivery) == unit)
        .all(|delivery| {
            let lane = &daemon.lanes[delivery];
            daemon.parts[delivery].at == State::AtSource
                && !lane.up
                && lane.hands.iter().all(|hand| hand.at == State::AtSource)
        })
}

pub fn steps(steps: &mut Steps, who: usize) {
    let world = steps.from;
    let (me, other) = (world.daemons[who], world.daemons[1 - who]);
    if me.nonce == NOBODY {
        join(steps, who);
        return;
    }
    if steps.from.left.crashes > 0 {
        steps.fault(told(who, "is killed"), |machine, world| {
            world.left.crashes -= 1;
            end_era(machine, world, who);
            world.daemons[who].crashed = true;
        });
    }
    if me.stale {
        steps.local(
            told(who, "finds that Redis was replaced, and voids its memory"),
            |machine, world| end_era(machine, world, who),
        );
        return;
    }
    if !world.redis.lists(me.nonce) {
        steps.local(
            told(who, "BEAT: it was deposed, and voids its memory"),
            |machine, world| end_era(machine, world, who),
        );
    } else if other.nonce != NOBODY && world.left.depositions > 0 && !other.stale {
        // A watcher whose clock ran ahead, or a daemon that was paused and goes on.
        let victim = other.nonce;
        if world.redis.lists(victim) {
            steps.fault(
                told(who, "DEPOSE of the other daemon, which lives"),
                |_, world| {
                    world.left.depositions -= 1;
                    world.redis.listed &= !(1 << victim);
                },
            );
        }
    }
    let dead = world.redis.listed & !(1 << me.nonce) & !(1 << other.nonce) & !1;
    if dead != 0 {
        steps.local(told(who, "DEPOSE of who no longer beats"), |_, world| {
            world.redis.listed &= !dead;
        });
    }
    claims(steps, who);
    hand_overs(steps, who);
}

fn join(steps: &mut Steps, who: usize) {
    let world = &steps.from;
    let (me, other) = (world.daemons[who], world.daemons[1 - who]);
    // Whoever is killed stays away, as far as fairness goes, as long as the other lives.
    let fair = !me.crashed || other.nonce == NOBODY && (other.crashed || who == 0);
    let nonce = new_nonce(world);
    steps.command(
        told(
            who,
            "joins under a new nonce, and deposes whoever bore its name",
        )
        .fair_if(fair),
        |_, world| {
            world.redis.listed |= 1 << nonce;
            world.redis.listed &= !world.daemons[who].named;
        },
        |_, world, ()| {
            let named = (1 << nonce) | world.daemons[who].named;
            world.daemons[who] = Daemon {
                nonce,
                named,
                ..DOWN
            };
        },
        |_, world| world.daemons[who].named |= 1 << nonce,
    );
}

fn claims(steps: &mut Steps, who: usize) {
    let me = steps.from.daemons[who];
    let machine = steps.machine;
    let mut members = steps.from.redis.listed;
    if !machine.keeps(Rule::OwnerReadBeforeMembers) {
        if me.members != members {
            steps.local(told(who, "reads the list of members"), |_, world| {
                world.daemons[who].members = world.redis.listed;
            });
        }
        members = me.members;
        if members == 0 {
            return;
        }
    }
    for unit in 0..machine.scenario.units() {
        if me.units[unit] != Tenure::Not {
            continue;
        }
        let owner = steps.from.redis.owners[unit];
        let free = match owner {
            NOBODY => true,
            own if own == me.nonce => machine.keeps(Rule::OwnClaimIsKnown),
            other if machine.keeps(Rule::ReleasedBeforeClaimed) => members & (1 << other) == 0,
            _ => true,
        };
        if !free {
            continue;
        }
        let what = [
            "CLAIM of the source",
            "CLAIM of shard 1",
            "CLAIM of shard 2",
        ][unit];
        steps.command(
            told(who, what),
            |machine, world| {
                let owner = world.redis.owners[unit];
                if owner != NOBODY && owner != me.nonce && world.redis.lists(owner) {
                    machine.is_wrong("what a living daemon owns was claimed by another one");
                }
                world.redis.owners[unit] = me.nonce;
            },
            |_, world, ()| {
                let daemon = &mut world.daemons[who];
                daemon.units[unit] = Tenure::Owned;
                if unit == SOURCE {
                    (daemon.recovered, daemon.acknowledged) = (false, false);
                    daemon.parts = [NO_PART; DELIVERIES];
                }
            },
            |_, _| {},
        );
    }
}

fn hand_overs(steps: &mut Steps, who: usize) {
    let me = steps.from.daemons[who];
    let machine = steps.machine;
    for unit in 0..machine.scenario.units() {
        let (begins, releases) = [
            ("stops reading the source", "releases the source"),
            ("begins to hand over shard 1", "releases shard 1"),
            ("begins to hand over shard 2", "releases shard 2"),
        ][unit];
        match me.units[unit] {
            Tenure::Not => {}
            Tenure::Owned => {
                let other = &steps.from.daemons[1 - who];
                if steps.from.left.moves > 0 && other.nonce != NOBODY {
                    steps.local(told(who, begins).perhaps(), |_, world| {
                        world.left.moves -= 1;
                        if unit == SOURCE {
                            abandon_read(world, who);
                            world.daemons[who].recovered = false;
                        }
                        world.daemons[who].units[unit] = Tenure::Draining;
                    });
                }
            }
            Tenure::Draining => {
                let done = if unit == SOURCE {
                    // What is broken stays pending for whoever reads next.
                    !holds(&me, machine.scenario.deliveries)
                } else {
                    is_drained(machine, &me, unit)
                };
                if done || !machine.keeps(Rule::DrainedBeforeReleased) {
                    steps.command(
                        told(who, releases),
                        |_, world| {
                            if world.redis.owners[unit] == me.nonce {
                                world.redis.owners[unit] = NOBODY;
                            }
                        },
                        |_, world, ()| {
                            let daemon = &mut world.daemons[who];
                            daemon.units[unit] = Tenure::Not;
                            if unit == SOURCE {
                                daemon.parts = [NO_PART; DELIVERIES];
                                daemon.acknowledged = false;
                            }
                        },
                        |_, _| {},
                    );
                }
                if unit != SOURCE && !done && steps.from.left.cuts > 0 {
                    steps.fault(
                        told(who, "has waited long enough, and cuts its lanes off"),
                        |machine, world| cut(machine, world, who, unit),
                    );
                }
            }
        }
    }
}

/// Ends the lanes of a shard with whatever they hold.
fn cut(machine: &Machine, world: &mut World, who: usize, unit: usize) {
    world.left.cuts -= 1;
    let daemon = &mut world.daemons[who];
    for delivery in 0..machine.scenario.deliveries {
        if machine.scenario.unit_of(delivery) != unit {
            continue;
        }
        daemon.lanes[delivery] = NO_LANE;
        let part = &mut daemon.parts[delivery];
        if part.at != State::AtSource {
            machine.after(part.at, Change::Voided);
            *part = NO_PART;
            part.share = if machine.keeps(Rule::DroppedShareBreaks) {
                Share::Broken
            } else {
                Share::Settled
            };
        }
    }
}

/// Whether the table of the reader's session holds the event: it is being worked on, or its acknowledgement is on the way.
pub fn holds(daemon: &Daemon, deliveries: usize) -> bool {
    let shares = || daemon.parts[..deliveries].iter().map(|part| part.share);
    shares().any(|share| share == Share::Open) || shares().all(|share| share == Share::Settled)
}
