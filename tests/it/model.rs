//! The delivery state machine, explored: two daemons, one Redis, and everything that can go wrong between them.
//!
//! The model steps its deliveries by the very table that stands in `pombo::delivery`, and its daemons by the commands
//! that the page of the state machine names. Every order of steps is gone through, with crashes between any two
//! commands, lost requests and replies, daemons that were deposed and do not know it, hand-overs, a lost group, and a
//! failover that loses what was acknowledged last. In no state may a delivery be nowhere, and from every state the
//! world must come to rest with all of it done. That these properties can fail is shown by leaving out one rule at a
//! time.
//!
//! One thing goes wrong in a run, at any point of it; `POMBO_MODEL_FAULTS=2` lets two come together, which
//! takes some twenty times as long and several GiB.

mod daemon;
mod explore;
mod lane;
mod machine;
mod queue;
mod source;
mod world;

use std::collections::HashSet;

use pombo::delivery::{Change, State, TRANSITIONS};
use tokio::time::Instant;

use self::explore::{CounterExample, explore};
use self::machine::{Machine, Rule, Scenario};
use self::world::Left;

/// The most states of one exploration: more would not fit into memory.
const BOUND: usize = 20_000_000;

/// Daemon A owns all.
const ALL_OF_A: Option<[u8; 3]> = Some([0, 0, 0]);
/// Daemon A reads the source, daemon B has the webhooks.
const A_READS: Option<[u8; 3]> = Some([0, 1, 1]);
/// Each daemon has a webhook.
const SHARED: Option<[u8; 3]> = Some([0, 0, 1]);

const NOTHING: Left = Left {
    faults: 0,
    crashes: 0,
    lost: 0,
    depositions: 0,
    cuts: 0,
    failovers: 0,
    groups: 0,
    moves: 0,
    failures: 0,
    full: 0,
    replays: 0,
    deletions: 0,
};

/// Anything but a failover, so many things in all.
fn faults(faults: u8) -> Left {
    Left {
        faults,
        crashes: faults,
        lost: faults,
        depositions: faults,
        cuts: faults,
        groups: 1,
        ..NOTHING
    }
}

const ONE: Scenario = Scenario {
    name: "one delivery, all of daemon A",
    deliveries: 1,
    one_shard: true,
    owners: ALL_OF_A,
    born: true,
    left: NOTHING,
    without: None,
};

const TWO: Scenario = Scenario {
    name: "two deliveries",
    deliveries: 2,
    one_shard: false,
    owners: SHARED,
    ..ONE
};

/// How many faults come together in one run.
fn most_faults() -> u8 {
    let given = std::env::var("POMBO_MODEL_FAULTS").ok();
    given.map_or(1, |text| {
        text.parse().expect("POMBO_MODEL_FAULTS is a number")
    })
}

fn must_hold(scenario: Scenario) -> HashSet<(State, Change)> {
    let (machine, began) = (Machine::new(scenario), Instant::now());
    let found = explore(&machine, BOUND).unwrap_or_else(|found| {
        let CounterExample { what, trace } = *found;
        panic!("{}: {what}\n{trace}", scenario.name)
    });
    assert!(found.whole, "more than {BOUND} states: {}", scenario.name);
    println!(
        "{:>8} states, {:>9} steps, one delivery received {} times at most, {:4.1} s: {}",
        found.states,
        found.steps,
        found.most_received,
        began.elapsed().as_secs_f64(),
        scenario.name
    );
    machine.used()
}

#[test]
fn one_delivery_is_not_lost_and_comes_to_rest_and_takes_every_transition_there_is() {
    let most = most_faults();
    let mut used = must_hold(Scenario {
        name: "one delivery, daemon A owns all, one attempt fails",
        left: Left {
            failures: 1,
            ..faults(most)
        },
        ..ONE
    });
    used.extend(must_hold(Scenario {
        name: "one delivery, a full queue, a replay, a deletion",
        left: Left {
            faults: most,
            lost: most,
            full: 1,
            replays: 1,
            deletions: 1,
            failures: 1,
            ..NOTHING
        },
        ..ONE
    }));
    let unused: Vec<_> = TRANSITIONS
        .iter()
        .filter(|(from, by, _)| !used.contains(&(*from, *by)))
        .collect();
    assert!(unused.is_empty(), "never taken: {unused:?}");
}

#[test]
fn what_moves_between_daemons_is_not_lost_and_comes_to_rest() {
    let most = most_faults();
    must_hold(Scenario {
        name: "one delivery, A reads and B delivers, one hand-over",
        owners: A_READS,
        born: false,
        left: Left {
            moves: 1,
            ..faults(most)
        },
        ..ONE
    });
    must_hold(Scenario {
        name: "one delivery, both daemons join",
        owners: None,
        left: faults(most),
        ..ONE
    });
    must_hold(Scenario {
        name: "one delivery, three hand-overs, two attempts fail, nothing goes wrong",
        born: false,
        left: Left {
            moves: 3,
            failures: 2,
            ..NOTHING
        },
        ..ONE
    });
}

#[test]
fn a_failover_that_forgets_what_was_acknowledged_loses_nothing() {
    must_hold(Scenario {
        name: "one delivery, a failover, an attempt fails",
        left: Left {
            failovers: 1,
            faults: most_faults(),
            crashes: 1,
            failures: 1,
            ..NOTHING
        },
        ..ONE
    });
}

#[test]
fn two_deliveries_of_one_event_are_acknowledged_when_both_are_settled() {
    must_hold(Scenario {
        name: "two deliveries in two shards of two daemons",
        left: Left {
            depositions: 0,
            groups: 0,
            ..faults(most_faults())
        },
        ..TWO
    });
    must_hold(Scenario {
        name: "two deliveries in one shard, A reads and B delivers, one hand-over",
        one_shard: true,
        owners: A_READS,
        left: Left {
            moves: 1,
            ..NOTHING
        },
        ..TWO
    });
}

/// A rule that is left out, the scenario that shows what it is for, and what goes wrong then.
fn broken() -> Vec<(Rule, Scenario, &'static str)> {
    let lost = Left {
        faults: 1,
        lost: 1,
        ..NOTHING
    };
    let killed = Left {
        faults: 1,
        crashes: 1,
        ..NOTHING
    };
    let deposed = Left {
        faults: 1,
        depositions: 1,
        ..NOTHING
    };
    let moved = Left {
        moves: 1,
        ..NOTHING
    };
    let one = |left| Scenario { left, ..ONE };
    vec![
        (
            Rule::RetryIsASchedule,
            one(Left {
                failures: 1,
                ..killed
            }),
            "nowhere",
        ),
        (
            Rule::ReplacedServerVoidsMemory,
            one(Left {
                faults: 1,
                failovers: 1,
                ..NOTHING
            }),
            "nowhere",
        ),
        (Rule::CreatingAsksForOwner, one(deposed), "does not own"),
        (
            Rule::BuryingAsksForHome,
            one(Left {
                failures: 1,
                ..deposed
            }),
            "no home",
        ),
        (Rule::SettledByTheReply, one(lost), "nowhere"),
        (
            Rule::DroppedShareBreaks,
            one(Left {
                faults: 1,
                cuts: 1,
                moves: 1,
                ..NOTHING
            }),
            "nowhere",
        ),
        (Rule::PendingIsRead, one(killed), "nothing happens any more"),
        (
            Rule::PendingIsReconciled,
            Scenario {
                born: false,
                ..one(moved)
            },
            "nothing happens any more",
        ),
        (Rule::DrainedBeforeReleased, one(moved), "more often"),
        (Rule::ReleasedBeforeClaimed, one(NOTHING), "living daemon"),
        (
            Rule::OwnerReadBeforeMembers,
            Scenario {
                owners: None,
                ..one(NOTHING)
            },
            "living daemon",
        ),
        (
            Rule::OwnClaimIsKnown,
            Scenario {
                owners: None,
                ..one(lost)
            },
            "nothing happens any more",
        ),
        (Rule::QueuedIsListed, one(lost), "nothing happens any more"),
        (
            Rule::ParkReadsWhatIsStored,
            Scenario {
                owners: A_READS,
                ..one(lost)
            },
            "nothing happens any more",
        ),
        (
            Rule::ParkLooksForGaps,
            one(Left {
                faults: 2,
                lost: 1,
                crashes: 1,
                failures: 1,
                ..NOTHING
            }),
            "in circles",
        ),
        (
            Rule::MarkStaysBelow,
            one(Left {
                faults: 1,
                groups: 1,
                ..NOTHING
            }),
            "nowhere",
        ),
    ]
}

#[test]
fn each_rule_is_needed_a_machine_without_it_goes_wrong() {
    let mut missing = Vec::new();
    for (rule, scenario, expected) in broken() {
        let machine = Machine::new(Scenario {
            without: Some(rule),
            ..scenario
        });
        match explore(&machine, BOUND) {
            Ok(found) => missing.push(format!(
                "{rule:?}: {} states, and all are fine",
                found.states
            )),
            Err(found) => {
                println!("without {rule:?}: {}\n{}", found.what, found.trace);
                if !found.what.contains(expected) {
                    missing.push(format!("{rule:?}: not {expected:?} but {:?}", found.what));
                }
            }
        }
        // And with it, as many states of the same scenario are fine.
        if let Err(found) = explore(&Machine::new(scenario), 5_000) {
            panic!("{rule:?} is kept: {}\n{}", found.what, found.trace);
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
