//! What is measured.

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as Redis takes them.
    Flood,
    /// So many a second.
    Steady(u64),
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
}

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
            name: "steady",
            says: "2,000 events a second",
            events: 60_000,
            pace: Pace::Steady(2_000),
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
    ]
}

impl Scenario {
    /// With few events, for a first look.
    pub fn quick(mut self) -> Scenario {
        self.events /= 10;
        self
    }

    /// The groups of webhooks that want the same event types.
    fn groups(&self) -> u64 {
        (self.webhooks / self.fanout).max(1)
    }

    /// What the webhook `number` wants.
    pub fn filter(&self, number: u64) -> String {
        format!("bench.g{}", number % self.groups())
    }

    /// The type of the event `number`.
    pub fn event_type(&self, number: u64) -> String {
        format!("bench.g{}", number % self.groups())
    }

    pub fn deliveries(&self) -> u64 {
        self.events * self.fanout
    }

    /// Requests that the bare client has under way, as many as Pombo may have for the webhooks together, up to what one
    /// receiver on one core has a use for.
    pub fn concurrency(&self) -> usize {
        usize::try_from(self.webhooks * 64).map_or(256, |all| all.min(256))
    }
}
