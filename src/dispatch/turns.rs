//! Turns: what the lanes of a thread may have in flight together while the thread is busy with it.
//!
//! All that is taken could be started at once. But the more is in flight, the dearer is each delivery: its connection and
//! its request have left the processor's caches when its answer is looked at. So beyond a number lanes wait in line, and
//! start several each when others have landed. Receivers that take their time must not make others wait: while they think
//! the thread rests, and a thread that rests although lanes wait lets ever more be in flight. (It does so, too, where others
//! on the same machine have so much to do that receivers do not come to run: `scripts/bench fleet2` is such a case.)

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::handle::LaneHandle;

/// Attempts in flight that keep a thread busy, if their receivers answer at once. With twice as many each delivery costs a
/// tenth more (`scripts/bench hundred` tells).
const AT_LEAST: usize = 200;
/// How often it is asked whether the thread has time for more, while lanes wait.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A thread that rests for more than this part of the time has time for more, by `GROWTH_PART` of what it may have.
const RESTS_PART: u32 = 4;
const GROWTH_PART: usize = 4;
/// One that rests for less than this part is busy, and is to have less, by `DECAY_PART`.
const BUSY_PART: u32 = 16;
const DECAY_PART: usize = 8;
/// Lanes are called when this part is free, so that each starts several together; but no more than `AT_A_TIME`, however many
/// it has in its queue, so that others, who may have just one, soon have their turn.
const CALL_PART: usize = 4;
const AT_A_TIME: usize = 8;
/// A lane whose oldest delivery has waited as long as that of the first in line, but for so much, need not get in line: one
/// that goes on with the next where one has landed is cheaper than two that take turns.
const AS_OLD: Duration = Duration::from_millis(10);

/// See the module's own words.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    /// A line has formed.
    formed: Notify,
}

#[derive(Debug)]
struct State {
    in_flight: usize,
    most: usize,
    /// Granted to lanes that were called and have not come yet.
    promised: usize,
    line: VecDeque<Waiting>,
    /// Since when the thread rests, if it does, and for how long it did since the last look.
    rests_since: Option<Instant>,
    rested: Duration,
}

#[derive(Debug)]
struct Waiting {
    lane: Arc<LaneHandle>,
    /// Since when the oldest of what it could start has waited.
    since: Instant,
}

/// An attempt's part of what may be in flight; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Default for State {
    fn default() -> State {
        State {
            in_flight: 0,
            most: AT_LEAST,
            promised: 0,
            line: VecDeque::new(),
            rests_since: None,
            rested: Duration::ZERO,
        }
    }
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn out of those that the lane was `granted`, or of what is free, for a delivery that has waited `since` then, if
    /// nobody waits for longer.
    pub fn take(self: &Arc<Turns>, granted: &mut usize, since: Instant) -> Option<Turn> {
        let mut state = self.state();
        if *granted > 0 {
            *granted -= 1;
            state.promised = state.promised.saturating_sub(1);
        } else if state.free() == 0 || state.is_behind(since) {
            return None;
        }
        state.in_flight += 1;
        drop(state);
        Some(Turn(self.clone()))
    }

    /// A lane came without the use for all that it was `granted`.
    pub fn give_back(&self, granted: usize) {
        if granted > 0 {
            let mut state = self.state();
            state.promised = state.promised.saturating_sub(granted);
            state.call();
        }
    }

    /// A lane gets in line, to start `wanted` of which the oldest has waited `since` then. If it stands there already, it
    /// keeps its place.
    pub fn wait(&self, lane: &Arc<LaneHandle>, wanted: usize, since: Instant) {
        if !lane.gets_in_line(wanted) {
            return;
        }
        let mut state = self.state();
        if state.line.is_empty() {
            self.formed.notify_one();
        }
        let lane = lane.clone();
        state.line.push_back(Waiting { lane, since });
    }

    /// The thread has nothing left to do.
    pub fn rests(&self, now: Instant) {
        let mut state = self.state();
        state.rests_since = Some(now);
        // Whoever was called has come, or is no more, or is about to end and comes late: what is taken twice then is little.
        state.promised = 0;
        state.call();
    }

    /// It has something to do again.
    pub fn goes_on(&self, now: Instant) {
        let mut state = self.state();
        if let Some(since) = state.rests_since.take() {
            state.rested += now - since;
        }
    }

    /// Looks after the line, forever; on the thread whose lanes they are.
    pub async fn keep(self: Arc<Turns>) {
        loop {
            self.formed.notified().await;
            let mut looked = Instant::now();
            self.state().rested = Duration::ZERO;
            while !self.state().is_as_at_first() {
                tokio::time::sleep(LOOK_EVERY).await;
                let now = Instant::now();
                self.state().look(now - looked);
                looked = now;
            }
        }
    }
}

impl State {
    fn is_as_at_first(&self) -> bool {
        self.line.is_empty() && self.most == AT_LEAST
    }

    fn free(&self) -> usize {
        self.most.saturating_sub(self.in_flight + self.promised)
    }

    /// Whether somebody has waited for longer than `since` then.
    fn is_behind(&self, since: Instant) -> bool {
        let first = self.line.front();
        first.is_some_and(|first| first.since + AS_OLD < since)
    }

    /// Calls those who are first in line, for as many as are free.
    fn call(&mut self) {
        let mut free = self.free();
        while free > 0 {
            let Some(Waiting { lane, .. }) = self.line.pop_front() else {
                return;
            };
            if !lane.is_over() {
                let granted = lane.call(free.min(AT_A_TIME));
                free -= granted;
                self.promised += granted;
            }
        }
    }

    /// It is `time` since the last look: is the thread busy?
    fn look(&mut self, time: Duration) {
        let rested = std::mem::take(&mut self.rested);
        let less = (self.most - self.most / DECAY_PART).max(AT_LEAST);
        if self.line.is_empty() {
            // Nobody needs more than there is.
            self.most = less.max(self.in_flight.min(self.most));
        } else if rested > time / RESTS_PART {
            // What is in flight may be more than it should be by now, where receivers have become slow.
            let most = self.most.max(self.in_flight);
            self.most = most.saturating_add(most / GROWTH_PART);
        } else if rested < time / BUSY_PART {
            self.most = less;
        }
        self.call();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        if !state.line.is_empty() && state.free() >= state.most / CALL_PART {
            state.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn lane() -> Arc<LaneHandle> {
        let (announcements, _) = mpsc::unbounded_channel();
        Arc::new(LaneHandle::new(announcements, true))
    }

    /// Turns of which all but `free` are taken, which are given back when the list is dropped.
    fn taken_but(free: usize, now: Instant) -> (Arc<Turns>, Vec<Turn>) {
        let turns = Arc::new(Turns::default());
        let taken = std::iter::from_fn(|| turns.take(&mut 0, now)).take(AT_LEAST - free);
        let taken = taken.collect();
        (turns, taken)
    }

    #[test]
    fn beyond_a_number_lanes_wait_in_line_and_are_called_in_order_when_a_part_is_free() {
        let now = Instant::now();
        let (turns, mut taken) = taken_but(0, now);
        assert!(turns.take(&mut 0, now).is_none());
        let (first, second) = (lane(), lane());
        turns.wait(&first, 1, now);
        turns.wait(&first, 5, now);
        turns.wait(&second, 30, now);
        let others: Vec<_> = (0..AT_LEAST).map(|_| lane()).collect();
        others.iter().for_each(|lane| turns.wait(lane, 1, now));
        taken.truncate(AT_LEAST - AT_LEAST / CALL_PART + 1);
        assert_eq!((first.take_granted(), second.take_granted()), (0, 0));
        taken.pop();
        let mut granted = first.take_granted();
        assert_eq!((granted, second.take_granted()), (5, AT_A_TIME));
        let called = others.iter().filter(|lane| lane.take_granted() == 1);
        assert_eq!(called.count(), AT_LEAST / CALL_PART - 5 - AT_A_TIME);
        // What was promised to them nobody else can take.
        assert!(turns.take(&mut 0, now).is_none());
        let turn = turns.take(&mut granted, now);
        assert!(turn.is_some() && granted == 4);
        // Whoever has no use for it makes room for others.
        turns.give_back(granted);
        let called = others.iter().filter(|lane| lane.take_granted() == 1);
        assert_eq!(called.count(), 4);
    }

    #[test]
    fn a_lane_may_go_on_where_it_has_landed_unless_others_have_waited_for_longer() {
        let now = Instant::now();
        let (turns, mut taken) = taken_but(0, now);
        turns.wait(&lane(), 1, now);
        taken.pop();
        let later = now + AS_OLD + Duration::from_millis(1);
        assert!(turns.take(&mut 0, later).is_none());
        assert!(turns.take(&mut 0, now + AS_OLD).is_some());
    }

    #[test]
    fn what_was_promised_to_a_lane_that_is_no_more_is_free_when_the_thread_rests() {
        let now = Instant::now();
        let (turns, mut taken) = taken_but(0, now);
        let part = AT_LEAST / CALL_PART;
        let lanes: Vec<_> = (0..part).map(|_| lane()).collect();
        lanes.iter().for_each(|lane| turns.wait(lane, 1, now));
        taken.truncate(AT_LEAST - part);
        assert!(turns.take(&mut 0, now).is_none());
        let waiting = lane();
        turns.wait(&waiting, 7, now);
        turns.rests(now);
        assert_eq!(waiting.take_granted(), 7);
    }

    #[test]
    fn a_thread_that_rests_while_lanes_wait_may_have_more_and_a_busy_one_no_more_than_it_needs() {
        let now = Instant::now();
        let (turns, taken) = taken_but(0, now);
        let waiting: Vec<_> = (0..2 * AT_LEAST).map(|_| lane()).collect();
        waiting.iter().for_each(|lane| turns.wait(lane, 1, now));
        let granted = || {
            let granted = waiting.iter().map(|lane| lane.take_granted());
            granted.sum::<usize>()
        };
        let rest_for = |part| {
            turns.rests(now);
            turns.goes_on(now + LOOK_EVERY / part);
            turns.state().look(LOOK_EVERY);
        };
        // Neither busy nor idle.
        rest_for(RESTS_PART + 1);
        assert_eq!((granted(), turns.state().most), (0, AT_LEAST));
        rest_for(1);
        let grown = AT_LEAST / GROWTH_PART;
        assert_eq!(granted(), grown);
        assert_eq!(turns.state().most, AT_LEAST + grown);
        rest_for(BUSY_PART + 1);
        assert!((AT_LEAST..AT_LEAST + grown).contains(&turns.state().most));
        for _ in 0..100 {
            rest_for(BUSY_PART + 1);
        }
        assert_eq!(turns.state().most, AT_LEAST);
        // However much there is already, where receivers have become slow.
        turns.state().in_flight = 10 * AT_LEAST;
        rest_for(1);
        assert!(granted() > 0);
        turns.state().in_flight = AT_LEAST;
        // Nor does it keep what nobody waits for.
        turns.state().line.clear();
        for _ in 0..100 {
            rest_for(1);
        }
        assert!(turns.state().is_as_at_first());
        drop(taken);
    }

    #[test]
    fn a_lane_that_is_over_is_passed_over() {
        let now = Instant::now();
        let (turns, mut taken) = taken_but(0, now);
        let (over, waiting) = (lane(), lane());
        turns.wait(&over, 1, now);
        turns.wait(&waiting, 1, now);
        over.close();
        taken.pop();
        turns.rests(now);
        assert_eq!((over.take_granted(), waiting.take_granted()), (0, 1));
    }

    #[tokio::test]
    async fn lanes_that_wait_while_every_receiver_is_slow_are_called_soon() {
        let now = Instant::now();
        let (turns, _taken) = taken_but(0, now);
        tokio::spawn(turns.clone().keep());
        let waiting = lane();
        turns.wait(&waiting, 1, now);
        tokio::task::yield_now().await;
        turns.rests(now);
        // As the thread does when it has slept for all of that time.
        turns.goes_on(now + 2 * LOOK_EVERY);
        waiting.signalled().await;
        assert_eq!(waiting.take_granted(), 1);
    }
}
