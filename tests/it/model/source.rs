//! The reader of the source, the stream itself, and what befalls Redis.

use pombo::delivery::{Change, State};

use super::daemon::holds;
use super::machine::{Machine, Rule, Steps, told};
use super::world::*;

/// Fans the event out.
fn hand_out(machine: &Machine, world: &mut World, who: usize) {
    for delivery in 0..machine.scenario.deliveries {
        let daemon = &mut world.daemons[who];
        daemon.parts[delivery] = Part {
            // Nobody wants it any more where the webhook was deleted.
            share: if world.deleted[delivery] {
                Share::Settled
            } else {
                Share::Open
            },
            ..NO_PART
        };
    }
    world.daemons[who].acknowledged = false;
}

pub fn steps(steps: &mut Steps, who: usize) {
    let (redis, me) = (steps.from.redis, steps.from.daemons[who]);
    if me.nonce == NOBODY || me.stale || me.units[SOURCE] == Tenure::Not {
        return;
    }
    let deliveries = steps.machine.scenario.deliveries;
    let held = holds(&me, deliveries);
    if me.units[SOURCE] == Tenure::Owned {
        read(steps, who, held);
    }
    let settled = me.parts[..deliveries]
        .iter()
        .all(|part| part.share == Share::Settled);
    if settled {
        steps.command(
            told(who, "XACK"),
            |_, world| {
                if world.redis.group && world.redis.event == Event::Pending {
                    world.redis.event = Event::Acknowledged;
                }
            },
            |_, world, ()| {
                world.daemons[who].parts = [NO_PART; DELIVERIES];
                world.daemons[who].acknowledged = true;
            },
            |_, _| {},
        );
    }
    let passed = if steps.machine.keeps(Rule::MarkStaysBelow) {
        me.acknowledged
    } else {
        me.acknowledged || held
    };
    let asked_for = steps.from.left.groups > 0 || !redis.group;
    if passed && !redis.marked && asked_for {
        steps.command(
            told(who, "moves the mark past the event"),
            |_, world| world.redis.marked = true,
            |_, _, ()| {},
            |_, _| {},
        );
    }
}

fn read(steps: &mut Steps, who: usize, held: bool) {
    let (redis, me) = (steps.from.redis, steps.from.daemons[who]);
    let again = |_: &Machine, world: &mut World| world.daemons[who].recovered = false;
    if !redis.group {
        steps.command(
            told(who, "makes the consumer group at the mark"),
            |_, world| {
                world.redis.group = true;
                if world.redis.event != Event::Unborn {
                    world.redis.event = if world.redis.marked {
                        Event::Acknowledged
                    } else {
                        Event::Unread
                    };
                }
            },
            |_, world, ()| world.daemons[who].recovered = false,
            again,
        );
        return;
    }
    let pending_is_read = steps.machine.keeps(Rule::PendingIsRead);
    if !me.recovered {
        steps.command(
            told(who, "Recover: reads what is pending"),
            |machine, world| {
                world.redis.event == Event::Pending && machine.keeps(Rule::PendingIsRead)
            },
            |machine, world, pending| {
                world.daemons[who].recovered = true;
                if pending && !held {
                    hand_out(machine, world, who);
                }
            },
            again,
        );
        return;
    }
    if redis.event == Event::Unread {
        steps.command(
            told(who, "reads the event"),
            |_, world| world.redis.event = Event::Pending,
            |machine, world, ()| {
                if !held {
                    hand_out(machine, world, who);
                }
            },
            again,
        );
    }
    if redis.event == Event::Pending
        && !held
        && pending_is_read
        && steps.machine.keeps(Rule::PendingIsReconciled)
    {
        steps.command(
            told(
                who,
                "RECONCILE: reads again what is pending and in nobody's hands",
            ),
            |_, _| {},
            |machine, world, ()| hand_out(machine, world, who),
            again,
        );
    }
}

/// What happens to Redis, and what its other users do.
pub fn environment(steps: &mut Steps) {
    let world = steps.from;
    let redis = &world.redis;
    let nobody = usize::from(NOBODYS);
    if redis.event == Event::Unborn {
        steps.local(
            told(nobody, "an event is added to the source"),
            |_, world| {
                world.redis.event = Event::Unread;
            },
        );
    }
    if redis.abandoned_read {
        if redis.event == Event::Unread && redis.group {
            steps.local(
                told(
                    nobody,
                    "Redis hands the event to a read whose reader is gone",
                ),
                |_, world| {
                    world.redis.event = Event::Pending;
                    world.redis.abandoned_read = false;
                },
            );
        }
        steps.local(
            told(nobody, "the read whose reader is gone ends").perhaps(),
            |_, world| world.redis.abandoned_read = false,
        );
    }
    if world.left.groups > 0 && redis.group {
        steps.fault(told(nobody, "the consumer group is deleted"), |_, world| {
            world.left.groups -= 1;
            world.redis.group = false;
            world.redis.abandoned_read = false;
            if world.redis.event != Event::Unborn {
                world.redis.event = Event::Unread;
            }
        });
    }
    if world.replica.is_none() && world.left.failovers > 0 && world.left.faults > 0 {
        steps.local(
            told(nobody, "the replica falls behind from here on").perhaps(),
            |_, world| {
                world.left.failovers -= 1;
                world.replica = Some(world.redis);
            },
        );
    }
    if let Some(replica) = world.replica {
        steps.fault(
            told(nobody, "the replica takes over as it is"),
            |machine, world| {
                world.redis = replica;
                world.replica = None;
                world.redis.abandoned_read = false;
                for daemon in &mut world.daemons {
                    daemon.recovered = false;
                    daemon.stale =
                        daemon.nonce != NOBODY && machine.keeps(Rule::ReplacedServerVoidsMemory);
                }
            },
        );
    }
    operator(steps);
}

fn operator(steps: &mut Steps) {
    let world = steps.from;
    for delivery in 0..steps.machine.scenario.deliveries {
        let nobody = usize::from(NOBODYS);
        let queue = &world.redis.queues[delivery];
        if world.left.replays > 0 && queue.dead > 0 {
            steps.local(
                told(nobody, "REPLAY").of(delivery).perhaps(),
                |machine, world| {
                    world.left.replays -= 1;
                    world.redis.queues[delivery].dead -= 1;
                    let at = machine.after(State::Dead, Change::Replayed);
                    assert_eq!(at, State::Queued);
                    super::lane::add(world, delivery, Entry::Waiting);
                    world.redis.queues[delivery].due = true;
                },
            );
        }
        if world.left.deletions > 0 && !world.deleted[delivery] {
            steps.local(
                told(nobody, "its webhook is deleted")
                    .of(delivery)
                    .perhaps(),
                |machine, world| {
                    world.left.deletions -= 1;
                    super::lane::delete(machine, world, delivery);
                },
            );
        }
    }
}
