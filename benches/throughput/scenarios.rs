//! What a scenario is; `list.rs` has them all.

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Bytes of each event's payload.
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
    /// The scenario that is run in turn with it, and is its measure.
    pub base: Option<&'static str>,
    /// Whether `--quick` runs it without being asked.
    pub in_quick: bool,
}

/// The type of events that wait at the gate, where others do not.
pub const GATED: &str = "bench.gated";

/// What most scenarios have in common.
pub const PLAIN: Scenario = Scenario {
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
    base: None,
    in_quick: true,
};

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

    /// As many events as it takes until every webhook had a few, and there are as many connections as a flood uses: one
    /// that is over soon would tell little but how long it takes to connect.
    pub fn warm_up(&self) -> u64 {
        let some = match self.groups() {
            1 => 3,
            groups => groups * 10,
        };
        match self.pace {
            Pace::Flood => some.max(self.events / 10),
            Pace::Steady(_) => some,
        }
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

    /// Every type that its events have: the event `number` has the one at `number` modulo how many there are.
    pub fn event_types(&self) -> Vec<String> {
        let groups = 0..self.groups();
        groups.map(|group| format!("bench.g{group}")).collect()
    }

    /// Those of all webhooks but the first.
    pub fn other_event_types(&self) -> Vec<String> {
        self.event_types().split_off(1)
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
    /// receiver on one core has a use for: more than that make the bare client slower.
    pub fn concurrency(&self) -> usize {
        usize::try_from(self.webhooks * 64).map_or(256, |all| all.min(256))
    }
}
