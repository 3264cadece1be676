//! Goes through every state that the world can come to, breadth first, and looks whether any is wrong.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use super::machine::{Machine, Next, Steps};
use super::world::*;
use super::{daemon, lane, source};

/// Marks an empty place of the index, a state without a parent, and one without a fair step.
const NONE: u32 = u32::MAX;

/// What an exploration found.
#[derive(Debug, Default)]
pub struct Explored {
    pub states: usize,
    /// Whether these are all there are.
    pub whole: bool,
    pub steps: usize,
    /// The most often that the receiver got one delivery.
    pub most_received: u8,
}

/// How the world comes to a state that must not be.
#[derive(Debug)]
pub struct CounterExample {
    pub what: String,
    pub trace: String,
}

struct Explorer<'a> {
    machine: &'a Machine,
    worlds: Vec<World>,
    parents: Vec<(u32, Option<Step>)>,
    /// Where each state goes when nothing more goes wrong.
    fair: Vec<u32>,
    index: Vec<u32>,
}

/// Explores the states from the beginning of the machine's scenario, `bound` of them at most.
pub fn explore(machine: &Machine, bound: usize) -> Result<Explored, Box<CounterExample>> {
    let mut explorer = Explorer {
        machine,
        worlds: Vec::new(),
        parents: Vec::new(),
        fair: Vec::new(),
        index: vec![NONE; 1 << 16],
    };
    explorer.enter(machine.scenario.begin(), NONE, None);
    let mut found = Explored::default();
    let mut at = 0;
    while at < explorer.worlds.len() {
        if at == bound {
            found.states = bound;
            return Ok(found);
        }
        let next = successors(machine, explorer.worlds[at]);
        found.steps += next.len();
        let parent = u32::try_from(at).expect("a bounded number of states");
        let mut fair = NONE;
        for Next { step, world, wrong } in next {
            let wrong = wrong.or_else(|| is_wrong(machine, &world));
            let number = explorer.enter(world, parent, Some(step));
            if let Some(what) = wrong {
                return Err(explorer.counter_example(what, &explorer.way_to(parent, Some(step))));
            }
            if step.fair && fair == NONE {
                fair = number;
            }
        }
        explorer.fair.push(fair);
        at += 1;
    }
    explorer.comes_to_rest()?;
    (found.states, found.whole) = (explorer.worlds.len(), true);
    let received = explorer.worlds.iter().flat_map(|world| world.received);
    found.most_received = received.max().unwrap_or(0);
    Ok(found)
}

/// All that can follow.
fn successors(machine: &Machine, world: World) -> Vec<Next> {
    let mut steps = Steps {
        machine,
        from: world,
        next: Vec::with_capacity(32),
    };
    if is_over(machine, &world) {
        return steps.next;
    }
    source::environment(&mut steps);
    for who in 0..DAEMONS {
        daemon::steps(&mut steps, who);
        source::steps(&mut steps, who);
        lane::steps(&mut steps, who);
    }
    steps.next
}

/// The properties that hold in every state.
fn is_wrong(machine: &Machine, world: &World) -> Option<&'static str> {
    let redis = &world.redis;
    let acknowledged = redis.event == Event::Acknowledged || !redis.group && redis.marked;
    for delivery in 0..machine.scenario.deliveries {
        let queue = &redis.queues[delivery];
        let settled = world.received[delivery] > 0
            || queue.dead > 0
            || queue
                .entries
                .iter()
                .any(|stored| stored.entry != Entry::Absent);
        if acknowledged && !settled && !world.deleted[delivery] {
            return Some("a delivery is nowhere: its event is acknowledged, and no queue holds it");
        }
        // Each fault can leave one copy more behind, and one daemon more that believes it is to deliver them. A replay
        // makes one on purpose.
        let (copies, daemons) = (1 + world.faults, 1 + world.faults);
        if world.received[delivery] > copies * daemons + machine.scenario.left.replays {
            return Some("the receiver got a delivery more often than faults can explain");
        }
    }
    None
}

/// Where nothing more happens: all is delivered or dead, and nothing is left behind.
fn is_done(machine: &Machine, world: &World) -> bool {
    let redis = &world.redis;
    redis.event == Event::Acknowledged
        && (0..machine.scenario.deliveries).all(|delivery| {
            let queue = &redis.queues[delivery];
            let ended = world.received[delivery] > 0 || queue.dead > 0 || world.deleted[delivery];
            let empty = queue
                .entries
                .iter()
                .all(|stored| stored.entry == Entry::Absent);
            ended && empty && !queue.due
        })
}

/// Done for good: nobody holds anything of it any more, and nobody can bring it back.
fn is_over(machine: &Machine, world: &World) -> bool {
    let forgotten = world.daemons.iter().all(|daemon| {
        daemon.parts.iter().all(|part| part.share == Share::None)
            && daemon.lanes.iter().all(|lane| *lane == NO_LANE)
    });
    let for_good = world.replica.is_none() && world.left.groups == 0 && world.left.replays == 0;
    forgotten && for_good && is_done(machine, world)
}

impl Explorer<'_> {
    /// The number of a state, which is a new one or known.
    fn enter(&mut self, world: World, parent: u32, step: Option<Step>) -> u32 {
        if self.worlds.len() * 2 >= self.index.len() {
            self.index = vec![NONE; self.index.len() * 4];
            for number in 0..self.worlds.len() {
                let mut place = self.place_of(&self.worlds[number]);
                while self.index[place] != NONE {
                    place = (place + 1) & (self.index.len() - 1);
                }
                self.index[place] = u32::try_from(number).expect("bounded");
            }
        }
        let mut place = self.place_of(&world);
        loop {
            let found = self.index[place];
            if found == NONE {
                let number = u32::try_from(self.worlds.len()).expect("bounded");
                self.index[place] = number;
                self.worlds.push(world);
                self.parents.push((parent, step));
                return number;
            }
            if self.worlds[found as usize] == world {
                return found;
            }
            place = (place + 1) & (self.index.len() - 1);
        }
    }

    fn place_of(&self, world: &World) -> usize {
        let mut hasher = Quick(0);
        world.hash(&mut hasher);
        let hash = hasher.finish();
        usize::try_from(hash >> 20).expect("64 bits") & (self.index.len() - 1)
    }

    /// From every state, if nothing more goes wrong, the world comes to rest with all done.
    fn comes_to_rest(&self) -> Result<(), Box<CounterExample>> {
        // What is known of a state: nothing, that it is on the way that is being followed, or that it ends well.
        let mut known = vec![0u8; self.worlds.len()];
        for start in 0..self.worlds.len() {
            let mut way = Vec::new();
            let mut at = start;
            let what = loop {
                match known[at] {
                    2 => break None,
                    1 => break Some("it goes round in circles, and is never done"),
                    _ => {}
                }
                known[at] = 1;
                way.push(at);
                match self.fair[at] {
                    NONE if is_done(self.machine, &self.worlds[at]) => break None,
                    NONE => break Some("nothing happens any more, and not all is done"),
                    next => at = next as usize,
                }
            };
            if let Some(what) = what {
                let mut steps = self.way_to(u32::try_from(start).expect("bounded"), None);
                for pair in way.windows(2) {
                    steps.extend(self.step_between(pair[0], pair[1]));
                }
                return Err(self.counter_example(what, &steps));
            }
            way.into_iter().for_each(|at| known[at] = 2);
        }
        Ok(())
    }

    fn step_between(&self, from: usize, to: usize) -> Option<Step> {
        successors(self.machine, self.worlds[from])
            .into_iter()
            .find(|next| next.step.fair && next.world == self.worlds[to])
            .map(|next| next.step)
    }

    fn way_to(&self, mut at: u32, last: Option<Step>) -> Vec<Step> {
        let mut steps: Vec<Step> = last.into_iter().collect();
        while let (parent, Some(step)) = self.parents[at as usize] {
            steps.push(step);
            at = parent;
        }
        steps.reverse();
        steps
    }

    fn counter_example(&self, what: &str, steps: &[Step]) -> Box<CounterExample> {
        let mut trace = String::new();
        for (number, step) in (1..).zip(steps) {
            let _ = writeln!(trace, "{number:3}  {step}");
        }
        Box::new(CounterExample {
            what: what.to_owned(),
            trace,
        })
    }
}

/// A hash that is good enough for small numbers, and quick where nothing is optimised.
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
