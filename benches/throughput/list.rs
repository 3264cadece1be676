//! Every scenario.

use super::scenarios::{How, PLAIN, Pace, Scenario};

/// All of them, in the order that they run in.
pub fn all() -> Vec<Scenario> {
    let mut all = one_daemon();
    all.extend(special());
    all.extend(fleets());
    all
}

/// The scenario `name`.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn one_daemon() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "one",
            says: "one webhook",
            webhooks: 1,
            ..PLAIN
        },
        Scenario {
            name: "one-aof",
            says: "as one, with Redis' append-only file (synced each second)",
            webhooks: 1,
            append_only: true,
            in_quick: false,
            ..PLAIN
        },
        Scenario {
            name: "hundred",
            says: "100 webhooks, each event for one of them",
            ..PLAIN
        },
        Scenario {
            name: "hundred-aof",
            says: "as hundred, with Redis' append-only file (synced each second)",
            append_only: true,
            in_quick: false,
            ..PLAIN
        },
        Scenario {
            name: "fanout",
            says: "each event for 10 of 100 webhooks",
            fanout: 10,
            events: 20_000,
            ..PLAIN
        },
        Scenario {
            name: "ten-thousand",
            says: "one event for 10,000 webhooks: the time until the last has it",
            webhooks: 10_000,
            fanout: 10_000,
            events: 1,
            ..PLAIN
        },
        Scenario {
            name: "dead-neighbour",
            says: "as hundred, but the receiver of one never answers. Its measure is hundred, in turn: the others' rate in the \
                   flood, up to their last receipt; and, since latency in a flood only says how long the flood was, their p99 \
                   at an even pace of half of hundred's rate, right after it, while the dead one holds its connections and \
                   its queue",
            dead: true,
            base: Some("hundred"),
            ..PLAIN
        },
        Scenario {
            name: "steady",
            says: "2,000 events a second for 30 seconds; the bare client is given the same pace",
            events: 60_000,
            pace: Pace::Steady(2_000),
            ..PLAIN
        },
        Scenario {
            name: "tls",
            says: "as hundred, over HTTPS; the bare client, too",
            tls: true,
            ..PLAIN
        },
        Scenario {
            name: "payload",
            says: "as hundred, with bodies of 64 KiB",
            payload: 65_536,
            events: 20_000,
            ..PLAIN
        },
        Scenario {
            name: "api-beside",
            says: "as hundred, with 200 requests a second to the management API, half for a webhook and half for its latest \
                   deliveries. Its measure is hundred, in turn",
            api_requests: 200,
            base: Some("hundred"),
            ..PLAIN
        },
    ]
}

fn special() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "idle",
            says: "100,000 webhooks with nothing to do: memory, CPU over 30 seconds, and how long a start takes until the \
                   first delivery",
            webhooks: 100_000,
            events: 0,
            how: How::Idle,
            ..PLAIN
        },
        Scenario {
            name: "backlog",
            says: "1,000,000 deliveries wait for a receiver that hangs, until it answers; beside it 500 events a second for 99 \
                   others. The measure of its drain is the rate of one, in turn. Deliveries whose attempt had timed out when \
                   the receiver came back follow by their retry policy, and are not in the rate",
            events: 1_000_000,
            how: How::Backlog,
            base: Some("one"),
            ..PLAIN
        },
        Scenario {
            name: "restart",
            says: "kill -9 while 200,000 deliveries wait for 100 receivers that hang, which then answer. Those in flight at \
                   the kill follow after their attempt's deadline, by design, and are told apart",
            how: How::Restart,
            ..PLAIN
        },
    ]
}

fn fleets() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "fleet2",
            says: "as hundred, with two daemons on the one Redis",
            daemons: 2,
            in_quick: false,
            ..PLAIN
        },
        Scenario {
            name: "fleet4",
            says: "as hundred, with four daemons on the one Redis",
            daemons: 4,
            in_quick: false,
            ..PLAIN
        },
        Scenario {
            name: "fleet2-steady",
            says: "as steady, with two daemons",
            events: 60_000,
            pace: Pace::Steady(2_000),
            daemons: 2,
            in_quick: false,
            ..PLAIN
        },
        Scenario {
            name: "fleet2-trickle",
            says: "200 events a second, with two daemons: half of them go through their queue",
            events: 2_000,
            pace: Pace::Steady(200),
            daemons: 2,
            in_quick: false,
            ..PLAIN
        },
    ]
}
