//! Which faults happen when: all of it follows from the seed.

use std::fmt;

use crate::dice::Dice;
use crate::options::{Options, Topology};
use crate::plan::{Behaviour, STREAMS, SUBSCRIBERS};

/// Before the first fault and after the last one it is quiet for so long.
const QUIET_MS: u64 = 1_200;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    Kill,
    Pause,
    Restart,
    Join,
    RedisKill,
    Cut,
    Hold,
    Delay,
    MidReply,
    Group,
    Scripts,
    Memory,
    ClientPause,
    Clock,
    Failover,
    Reshard,
}

impl Kind {
    pub const ALL: [Kind; 16] = [
        Kind::Kill,
        Kind::Pause,
        Kind::Restart,
        Kind::Join,
        Kind::RedisKill,
        Kind::Cut,
        Kind::Hold,
        Kind::Delay,
        Kind::MidReply,
        Kind::Group,
        Kind::Scripts,
        Kind::Memory,
        Kind::ClientPause,
        Kind::Clock,
        Kind::Failover,
        Kind::Reshard,
    ];

    /// Those that can happen to a Redis of this shape.
    pub fn all(topology: Topology) -> Vec<Kind> {
        let has = |kind: &Kind| match kind {
            Kind::Failover => topology != Topology::Single,
            Kind::Reshard => topology == Topology::Cluster,
            // The server that is killed comes back as itself; with replicas that is what a failover is about. What a
            // proxy cuts is the one connection string of a single server.
            Kind::RedisKill | Kind::Cut | Kind::Hold | Kind::Delay | Kind::MidReply => {
                topology == Topology::Single
            }
            _ => true,
        };
        Kind::ALL.into_iter().filter(has).collect()
    }

    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// In plain words, for the table.
    pub fn describe(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Kill => ("kill", "kill -9 of a daemon, restarted"),
            Kind::Pause => ("pause", "SIGSTOP of a daemon for 0.5 to 8 s"),
            Kind::Restart => ("restart", "SIGTERM of a daemon, restarted"),
            Kind::Join => ("join", "one more daemon joins and leaves"),
            Kind::RedisKill => ("redis-kill", "kill -9 of Redis, restarted"),
            Kind::Cut => ("cut", "a daemon's connections to Redis cut and refused"),
            Kind::Hold => ("hold", "a daemon's packets to and from Redis vanish"),
            Kind::Delay => ("delay", "a daemon's replies from Redis delayed"),
            Kind::MidReply => ("mid-reply", "a daemon's connections cut within a reply"),
            Kind::Group => ("group", "consumer group destroyed"),
            Kind::Scripts => ("scripts", "SCRIPT FLUSH"),
            Kind::Memory => ("memory", "maxmemory below what is used"),
            Kind::ClientPause => ("client-pause", "CLIENT PAUSE"),
            Kind::Clock => ("clock", "a daemon's wall clock jumps, and jumps back"),
            Kind::Failover => ("failover", "a master fails, a replica follows"),
            Kind::Reshard => ("reshard", "slots move to another node"),
        }
    }

    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How often it is drawn, against the others. A killed daemon is what happens most.
    fn weight(self) -> u64 {
        match self {
            Kind::Kill => 12,
            Kind::Pause | Kind::RedisKill | Kind::Failover => 4,
            Kind::Restart | Kind::Cut | Kind::Hold | Kind::MidReply | Kind::Reshard => 3,
            _ => 2,
        }
    }

    /// Whether it is done to one daemon.
    fn of_daemon(self) -> bool {
        use Kind::{Clock, Cut, Delay, Hold, Kill, MidReply, Pause, Restart};
        matches!(
            self,
            Kill | Pause | Restart | Cut | Hold | Delay | MidReply | Clock
        )
    }

    /// From when to when it lasts, ms.
    fn span(self) -> (u64, u64) {
        match self {
            // From a restart at once to one long after the lease of three seconds has run out.
            Kind::Kill => (30, 4_500),
            Kind::Pause => (500, 8_000),
            Kind::Restart => (50, 800),
            Kind::Join => (3_000, 9_000),
            Kind::RedisKill => (30, 2_500),
            Kind::Cut | Kind::Hold => (200, 5_000),
            Kind::Delay => (1_000, 5_000),
            // Until the bytes have passed.
            Kind::MidReply => (300, 3_000),
            Kind::Group | Kind::Scripts | Kind::Failover | Kind::Reshard => (10, 20),
            Kind::Memory => (500, 3_000),
            Kind::ClientPause => (300, 2_500),
            Kind::Clock => (2_000, 6_000),
        }
    }
}

/// One thing that is done. Daemons are counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Kill(usize),
    Start(usize),
    Pause(usize),
    Resume(usize),
    Terminate(usize),
    KillRedis,
    StartRedis,
    Cut(usize),
    Hold(usize),
    /// Each reply, by so many ms.
    Delay(usize, u64),
    /// After so many more bytes of replies.
    MidReply(usize, u64),
    Mend(usize),
    DestroyGroup(usize),
    FlushScripts,
    LimitMemory,
    FreeMemory,
    /// For so many ms.
    PauseClients(u64),
    /// By so many seconds from the true time.
    SetClock(usize, i64),
    /// Which master, and how, is in the number.
    Failover(u64),
    Reshard(u64),
    /// The subscriber refuses connections.
    Refuse(usize),
    Accept(usize),
    /// What is pending is acknowledged, and what waits for this subscriber removed: a loss that the checks must find.
    Sabotage(usize),
    /// Nothing but the end of a fault that needs no mending.
    Nothing,
}

/// When it is done, and to which fault it belongs: the first step of a fault begins it, the last ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    pub at_ms: u64,
    pub action: Action,
    pub fault: Option<usize>,
}

/// All that happens in a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub faults: Vec<Kind>,
    pub steps: Vec<Step>,
}

struct Slots {
    daemons: Vec<u64>,
    extra: u64,
    redis: u64,
}

impl Schedule {
    pub fn draw(seed: u64, options: &Options) -> Schedule {
        let mut dice = Dice::new(seed);
        let end = options.seconds * 1_000 - QUIET_MS;
        let mut schedule = Schedule {
            faults: Vec::new(),
            steps: Vec::new(),
        };
        schedule.refusals(&mut dice, end, options.sabotage);
        let bag: Vec<Kind> = options
            .faults
            .iter()
            .flat_map(|kind| std::iter::repeat_n(*kind, kind.weight() as usize))
            .collect();
        let mut free = Slots {
            daemons: vec![0; options.daemons],
            extra: 0,
            redis: 0,
        };
        let mut at = QUIET_MS + dice.below(400);
        while at + 100 < end {
            if let Some(kind) = dice.pick(&bag) {
                schedule.fault(*kind, at, end, options.daemons, &mut free, &mut dice);
            }
            // Mostly one after the other, at times two at once.
            at += match dice.below(4) {
                0 => dice.between(10, 120),
                _ => dice.between(300, 1_800),
            };
        }
        schedule.steps.sort_by_key(|step| step.at_ms);
        schedule
    }

    /// The dead subscriber is away twice, and back before the end.
    fn refusals(&mut self, dice: &mut Dice, end: u64, sabotage: bool) {
        for (index, one) in SUBSCRIBERS.iter().enumerate() {
            if one.behaviour != Behaviour::Dead {
                continue;
            }
            for half in 0..2 {
                let from = end * half / 2 + dice.below(end / 8);
                let to = end * half / 2 + dice.between(end / 4, end / 2);
                self.push(from, Action::Refuse(index), None);
                self.push(to, Action::Accept(index), None);
                if sabotage {
                    self.push(to - 1, Action::Sabotage(index), None);
                }
            }
        }
    }

    fn push(&mut self, at_ms: u64, action: Action, fault: Option<usize>) {
        self.steps.push(Step {
            at_ms,
            action,
            fault,
        });
    }

    fn fault(
        &mut self,
        kind: Kind,
        at: u64,
        end: u64,
        daemons: usize,
        free: &mut Slots,
        dice: &mut Dice,
    ) {
        let (shortest, longest) = kind.span();
        // Half of them are short: what ends while the daemons still recover from it is what goes wrong.
        let longest = match dice.below(2) {
            0 => shortest + (longest - shortest) / 4,
            _ => longest,
        };
        let until = (at + dice.between(shortest, longest + 1)).min(end);
        let daemon = dice.below(daemons as u64) as usize;
        let slot = match kind {
            Kind::Join => &mut free.extra,
            kind if kind.of_daemon() => &mut free.daemons[daemon],
            _ => &mut free.redis,
        };
        if *slot > at {
            return;
        }
        *slot = until + 20;
        let fault = Some(self.faults.len());
        let (begin, finish) = match kind {
            Kind::Kill => (Action::Kill(daemon), Action::Start(daemon)),
            Kind::Pause => (Action::Pause(daemon), Action::Resume(daemon)),
            Kind::Restart => (Action::Terminate(daemon), Action::Start(daemon)),
            Kind::Join => (Action::Start(daemons), Action::Terminate(daemons)),
            Kind::RedisKill => (Action::KillRedis, Action::StartRedis),
            Kind::Cut => (Action::Cut(daemon), Action::Mend(daemon)),
            Kind::Hold => (Action::Hold(daemon), Action::Mend(daemon)),
            Kind::Delay => {
                let delay = dice.between(20, 700);
                (Action::Delay(daemon, delay), Action::Mend(daemon))
            }
            Kind::MidReply => {
                let bytes = dice.below(20_000);
                (Action::MidReply(daemon, bytes), Action::Mend(daemon))
            }
            Kind::Group => {
                let stream = dice.below(STREAMS.len() as u64) as usize;
                (Action::DestroyGroup(stream), Action::Nothing)
            }
            Kind::Scripts => (Action::FlushScripts, Action::Nothing),
            Kind::Memory => (Action::LimitMemory, Action::FreeMemory),
            Kind::ClientPause => (Action::PauseClients(until - at), Action::Nothing),
            Kind::Clock => {
                // What is scheduled by a clock that is ahead waits until the others are there, too.
                let seconds = dice.between(3, 16) as i64;
                let signed = if dice.below(2) == 0 {
                    seconds
                } else {
                    -seconds
                };
                (
                    Action::SetClock(daemon, signed),
                    Action::SetClock(daemon, 0),
                )
            }
            Kind::Failover => (Action::Failover(dice.next()), Action::Nothing),
            Kind::Reshard => (Action::Reshard(dice.next()), Action::Nothing),
        };
        self.faults.push(kind);
        self.push(at, begin, fault);
        self.push(until, finish, fault);
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            if step.action != Action::Nothing {
                writeln!(f, "  {:>6} ms  {}", step.at_ms, step.action)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Kill(daemon) => write!(f, "kill -9 d{daemon}"),
            Action::Start(daemon) => write!(f, "start d{daemon}"),
            Action::Pause(daemon) => write!(f, "SIGSTOP d{daemon}"),
            Action::Resume(daemon) => write!(f, "SIGCONT d{daemon}"),
            Action::Terminate(daemon) => write!(f, "SIGTERM d{daemon}"),
            Action::KillRedis => write!(f, "kill -9 redis-server"),
            Action::StartRedis => write!(f, "start redis-server"),
            Action::Cut(daemon) => write!(f, "cut d{daemon} from Redis"),
            Action::Hold(daemon) => write!(f, "no packet passes between d{daemon} and Redis"),
            Action::Delay(daemon, ms) => write!(f, "d{daemon} waits {ms} ms more for each reply"),
            Action::MidReply(daemon, bytes) => {
                write!(f, "cut d{daemon} in {bytes} bytes of replies")
            }
            Action::Mend(daemon) => write!(f, "mend the network of d{daemon}"),
            Action::DestroyGroup(stream) => write!(f, "destroy the group of {}", STREAMS[*stream]),
            Action::FlushScripts => write!(f, "SCRIPT FLUSH"),
            Action::LimitMemory => write!(f, "maxmemory below what is used"),
            Action::FreeMemory => write!(f, "maxmemory 0"),
            Action::PauseClients(ms) => write!(f, "CLIENT PAUSE {ms}"),
            Action::SetClock(daemon, 0) => write!(f, "the clock of d{daemon} is right again"),
            Action::SetClock(daemon, seconds) => {
                write!(f, "the clock of d{daemon} jumps by {seconds} s")
            }
            Action::Failover(_) => write!(f, "failover"),
            Action::Reshard(_) => write!(f, "reshard"),
            Action::Refuse(subscriber) => {
                write!(f, "{} refuses connections", SUBSCRIBERS[*subscriber].id)
            }
            Action::Accept(subscriber) => write!(f, "{} is back", SUBSCRIBERS[*subscriber].id),
            Action::Sabotage(_) => write!(f, "lose what is pending or waits"),
            Action::Nothing => write!(f, "nothing"),
        }
    }
}
