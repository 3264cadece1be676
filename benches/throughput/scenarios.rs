//! What is measured.

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as Redis takes them.
    Flood,
    /// So many a second.
    Steady(u64),
}

/// What is done and looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Events are added, and delivered.
    Deliver,
    /// Nothing happens, to many webhooks.
    Idle,
    /// Deliveries wait for a receiver that does not answer, until it does.
    Backlog,
    /// The daemon is killed while deliveries wait, and started again.
    Restart,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub says: &'static str,
    pub webhooks: u64,
    /// Webhooks that want each event.
    pub fanout: u64,
    pub events: u64,
    pub payload: usize,
    pub daemons: usize,
    pub append_only: bool,
    /// Whether the receiver of the first webhook never answers.
    pub dead: bool,
    pub pace: Pace,
    pub how: How,
    /// Whether the receiver speaks TLS.
    pub tls: bool,
    /// Requests a second to the management API meanwhile.
    pub api_requests: u64,
}

/// The type of events that wait at the gate, where others do not.
pub const GATED: &str = "bench.gated";

const PLAIN: Scenario = Scenario {
    name: "",
    says: "",
    webhooks: 100,
    fanout: 1,
    events: 200_000,
    payload: 1_024,
    daemons: 1,
    append_only: false,
    dead: false,
    pace: Pace::Flood,
    how: How::Deliver,
    tls: false,
    api_requests: 0,
};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "one",
            says: "one webhook",
            webhooks: 1,
            ..PLAIN
        },
        Scenario {
            name: "hundred",
            says: "100 webhooks, each event for one of them",
            ..PLAIN
        },
        Scenario {
            name: "hundred-aof",
            says: "as hundred, with Redis' append-only file (written each second)",
            append_only: true,
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
            says: "one event for 10,000 webhooks",
            webhooks: 10_000,
            fanout: 10_000,
            events: 1,
            ..PLAIN
        },
        Scenario {
            name: "dead-neighbour",
            says: "as hundred, but the receiver of one never answers",
            dead: true,
            ..PLAIN
        },
        Scenario {
            name: "steady",
            says: "2,000 events a second",
            events: 60_000,
            pace: Pace::Steady(2_000),
            ..PLAIN
        },
        Scenario {
            name: "idle",
            says: "100,000 webhooks with nothing to do",
            webhooks: 100_000,
            events: 0,
            how: How::Idle,
            ..PLAIN
        },
        Scenario {
            name: "backlog",
            says: "1,000,000 deliveries wait for a receiver that hangs, until it answers; beside it 500 a second for others",
            events: 1_000_000,
            how: How::Backlog,
            ..PLAIN
        },
        Scenario {
            name: "restart",
            says: "kill -9 while 200,000 deliveries wait",
            how: How::Restart,
            ..PLAIN
        },
        Scenario {
            name: "tls",
            says: "as hundred, over HTTPS",
            tls: true,
            ..PLAIN
        },
        Scenario {
            name: "api-beside",
            says: "as hundred, with 200 requests a second to the management API",
            api_requests: 200,
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
            name: "fleet2",
            says: "as hundred, with two daemons on the one Redis",
            daemons: 2,
            ..PLAIN
        },
        Scenario {
            name: "fleet4",
            says: "as hundred, with four daemons on the one Redis",
            daemons: 4,
            ..PLAIN
        },
        Scenario {
            name: "fleet2-steady",
            says: "as steady, with two daemons",
            events: 60_000,
            pace: Pace::Steady(2_000),
            daemons: 2,
            ..PLAIN
        },
        Scenario {
            name: "fleet2-trickle",
            says: "200 events a second, with two daemons: half of them go through their queue",
            events: 2_000,
            pace: Pace::Steady(200),
            daemons: 2,
            ..PLAIN
        },
    ]
}

impl Scenario {
    /// With few events, for a first look.
    pub fn quick(mut self) -> Scenario {
        if self.events > 1 {
            self.events /= 10;
        }
        if self.how == How::Idle {
            self.webhooks /= 10;
        }
        self
    }

    /// The groups of webhooks that want the same event types.
    fn groups(&self) -> u64 {
        (self.webhooks / self.fanout).max(1)
    }

    /// What the webhook `number` wants.
    pub fn filter(&self, number: u64) -> String {
        match self.path(number) {
            "gate" if self.how == How::Backlog => GATED.to_owned(),
            _ => format!("bench.g{}", number % self.groups()),
        }
    }

    /// Where on the receiver the webhook `number` is called.
    pub fn path(&self, number: u64) -> &'static str {
        match self.how {
            How::Restart => "gate",
            How::Backlog if number == 0 => "gate",
            _ if self.dead && number == 0 => "dead",
            _ => "hook",
        }
    }

    /// The type of the event `number`.
    pub fn event_type(&self, number: u64) -> String {
        format!("bench.g{}", number % self.groups())
    }

    /// Deliveries of the events from `from` up to `to`, but for those to a receiver that never answers.
    pub fn deliveries_of(&self, from: u64, to: u64) -> u64 {
        let to_the_dead = |until: u64| until.div_ceil(self.groups());
        let dead = match self.dead {
            true => to_the_dead(to) - to_the_dead(from),
            false => 0,
        };
        (to - from) * self.fanout - dead
    }

    /// Requests that the bare client has under way, as many as Pombo may have for the webhooks together, up to what one
    /// receiver on one core has a use for.
    pub fn concurrency(&self) -> usize {
        usize::try_from(self.webhooks * 64).map_or(256, |all| all.min(256))
    }
}
