//! What flows: the source streams, the event types, what each event says, and who subscribes to what.

use crate::dice::hash;

/// The source streams. An event's number decides which one it goes to.
pub const STREAMS: [&str; 2] = ["events:a", "events:b"];

/// The event types, and how many of a thousand events are of each.
const TYPES: [(&str, u64); 6] = [
    ("bulk.changed", 550),
    ("lead.created", 200),
    ("lead.lost", 100),
    ("deal.won", 100),
    ("order.paid", 40),
    ("rare.seen", 10),
];

/// What a subscriber is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// 200 at once.
    Healthy,
    /// 200 after 20 ms.
    Steady,
    /// 200 after 300 ms.
    Slow,
    /// Three attempts of ten end with 500, 503 or 429, with or without Retry-After.
    Flaky,
    /// Refuses connections for a while, more than once.
    Dead,
    /// Hangs, drips, closes within its answer, answers with a huge body, redirects; and sometimes takes it.
    Hostile,
    /// 500, always: its deliveries become dead letters.
    Refusing,
}

/// A subscriber with its one webhook.
#[derive(Debug)]
pub struct Subscriber {
    pub id: &'static str,
    pub behaviour: Behaviour,
    pub events: &'static [&'static str],
    pub fifo: bool,
    /// Tokens a second, and how many the bucket holds.
    pub rate: Option<(f64, u32)>,
    pub max_in_flight: Option<u32>,
    pub payload_only: bool,
    pub max_attempts: Option<u32>,
}

const PLAIN: Subscriber = Subscriber {
    id: "",
    behaviour: Behaviour::Healthy,
    events: &["*"],
    fifo: false,
    rate: None,
    max_in_flight: None,
    payload_only: false,
    max_attempts: None,
};

/// Everybody who subscribes. What a subscriber wants is less than what it can take, so that a run comes to its end.
pub const SUBSCRIBERS: [Subscriber; 13] = [
    Subscriber {
        id: "everything",
        ..PLAIN
    },
    Subscriber {
        id: "bare",
        events: &["lead.*", "deal.*"],
        payload_only: true,
        ..PLAIN
    },
    Subscriber {
        id: "ordered",
        events: &["lead.*"],
        fifo: true,
        ..PLAIN
    },
    Subscriber {
        id: "ordered-flaky",
        behaviour: Behaviour::Flaky,
        events: &["rare.*"],
        fifo: true,
        ..PLAIN
    },
    Subscriber {
        id: "ordered-slow",
        behaviour: Behaviour::Slow,
        events: &["rare.*"],
        fifo: true,
        ..PLAIN
    },
    Subscriber {
        id: "ordered-limited",
        events: &["order.*"],
        fifo: true,
        rate: Some((25.0, 4)),
        ..PLAIN
    },
    Subscriber {
        id: "limited",
        events: &["deal.*", "order.*"],
        rate: Some((50.0, 10)),
        max_in_flight: Some(4),
        ..PLAIN
    },
    Subscriber {
        id: "narrow",
        behaviour: Behaviour::Steady,
        events: &["lead.lost"],
        max_in_flight: Some(2),
        ..PLAIN
    },
    Subscriber {
        id: "slow",
        behaviour: Behaviour::Slow,
        events: &["deal.*", "order.*"],
        max_in_flight: Some(32),
        ..PLAIN
    },
    Subscriber {
        id: "flaky",
        behaviour: Behaviour::Flaky,
        events: &["lead.created"],
        ..PLAIN
    },
    Subscriber {
        id: "dead",
        behaviour: Behaviour::Dead,
        events: &["deal.won"],
        ..PLAIN
    },
    Subscriber {
        id: "hostile",
        behaviour: Behaviour::Hostile,
        events: &["order.*"],
        max_in_flight: Some(16),
        ..PLAIN
    },
    Subscriber {
        id: "refusing",
        behaviour: Behaviour::Refusing,
        events: &["order.paid"],
        max_attempts: Some(3),
        ..PLAIN
    },
];

impl Subscriber {
    pub fn wants(&self, event_type: &str) -> bool {
        self.events.iter().any(|filter| {
            filter
                .strip_suffix('*')
                .map_or(*filter == event_type, |start| event_type.starts_with(start))
        })
    }
}

/// What the events of a run are, by their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
}

impl Plan {
    pub fn stream_of(number: u32) -> usize {
        number as usize % STREAMS.len()
    }

    pub fn id(number: u32) -> String {
        format!("e{number}")
    }

    /// The number in an event's id.
    pub fn number(id: &str) -> Option<u32> {
        id.strip_prefix('e')?.parse().ok()
    }

    pub fn event_type(self, number: u32) -> &'static str {
        let mut share = hash(self.seed, &[1, number.into()]) % 1000;
        for (name, of_thousand) in TYPES {
            if share < of_thousand {
                return name;
            }
            share -= of_thousand;
        }
        TYPES[0].0
    }

    /// JSON that nobody would write the same way twice: blanks, escapes, a doubled key, a number with an exponent, and
    /// now and then much of it. Whoever reads and writes it anew changes its bytes.
    pub fn payload(self, number: u32) -> String {
        let word = hash(self.seed, &[2, number.into()]);
        let length = match word % 50 {
            0 => 8_000,
            1..10 => 900,
            _ => 40 + word % 200,
        };
        let mut filler = String::with_capacity(9_000);
        let mut at = 0;
        while (filler.len() as u64) < length {
            filler.push_str(&format!("{:x} \\u00e9 é ", hash(word, &[at])));
            at += 1;
        }
        format!(r#"{{ "n":{number} ,"x":1.50e+3, "x":[ ],"filler" : "{filler}"}}"#)
    }

    /// How many deliveries an event becomes.
    pub fn fan_out(self, number: u32) -> u64 {
        let event_type = self.event_type(number);
        let wanting = SUBSCRIBERS.iter().filter(|one| one.wants(event_type));
        wanting.count() as u64
    }
}
