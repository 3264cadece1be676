//! The threads that lanes run on, each with a runtime of its own.
//!
//! A lane stays on one thread, and so do its connections: an answer wakes nobody on another core, and many answers are
//! found with one look. Everything else (reading, settling, beats, the API) has its own threads, which no flood of
//! deliveries keeps from them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::handle::Announcements;
use super::http_client::HttpClient;
use super::turns::Turns;
use super::usher::usher;

/// Lanes that run between two looks for answers and timers: one of them may have much to do.
const TASKS_BETWEEN_LOOKS: u32 = 16;

/// How many threads there are for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadCounts {
    /// For everything but lanes; at least one.
    pub common: usize,
    /// For lanes; 0 if they run among everything else.
    pub lanes: usize,
}

impl ThreadCounts {
    /// Shares out `workers` threads; 0 is one for each core.
    pub fn of(workers: usize) -> ThreadCounts {
        let all = match workers {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            workers => workers,
        };
        let lanes = all / 2;
        ThreadCounts {
            common: all - lanes,
            lanes,
        }
    }
}

/// See the module's own words. They end with it.
pub struct LaneThreads {
    threads: Vec<LaneThread>,
    _stop: DropGuard,
}

/// One of them.
#[derive(Clone)]
pub(super) struct LaneThread {
    /// Where its tasks are spawned.
    pub runtime: Handle,
    /// The client whose connections it drives.
    pub http: Arc<HttpClient>,
    /// Where its lanes are told of offers.
    pub announcements: Announcements,
    /// What its lanes may have in flight; `None` where lanes run among everything else.
    pub turns: Option<Arc<Turns>>,
}

impl LaneThread {
    fn new(runtime: Handle, http: Arc<HttpClient>, turns: Option<Arc<Turns>>) -> LaneThread {
        let (announcements, announced) = mpsc::unbounded_channel();
        runtime.spawn(usher(announced));
        if let Some(turns) = &turns {
            runtime.spawn(turns.clone().keep());
        }
        LaneThread {
            runtime,
            http,
            announcements,
            turns,
        }
    }
}

impl LaneThreads {
    /// Starts `count` threads, each with connections of its own and all with the bounds of `http`. Without any, lanes run
    /// on the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// The system has no thread or no file descriptor left.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn start(count: usize, http: &Arc<HttpClient>) -> std::io::Result<LaneThreads> {
        let stop = CancellationToken::new().drop_guard();
        let mut threads = Vec::new();
        for number in 0..count {
            let turns = Arc::new(Turns::default());
            let runtime = start(number, stop.token().clone(), turns.clone())?;
            let http = Arc::new(http.apart());
            threads.push(LaneThread::new(runtime, http, Some(turns)));
        }
        if threads.is_empty() {
            threads.push(LaneThread::new(Handle::current(), http.clone(), None));
        }
        Ok(LaneThreads {
            threads,
            _stop: stop,
        })
    }

    /// The thread of the lane of `uid`: always the same, so that it finds its connections again.
    pub(super) fn of(&self, uid: &str) -> &LaneThread {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        // The rest is below the number of threads, of which there is at least one.
        &self.threads[(hasher.finish() % self.threads.len() as u64) as usize]
    }
}

/// Starts a thread whose runtime runs until `stop`, and tells when it rests. The runtime is made and dropped there: it
/// must not be where others are.
fn start(number: usize, stop: CancellationToken, turns: Arc<Turns>) -> std::io::Result<Handle> {
    let (tell, told) = std::sync::mpsc::channel();
    let run = move || {
        let made = tokio::runtime::Builder::new_current_thread()
            .event_interval(TASKS_BETWEEN_LOOKS)
            .on_thread_park({
                let turns = turns.clone();
                move || turns.rests(Instant::now())
            })
            .on_thread_unpark(move || turns.goes_on(Instant::now()))
            .enable_all()
            .build();
        match made {
            Ok(runtime) => {
                let _ = tell.send(Ok(runtime.handle().clone()));
                runtime.block_on(stop.cancelled());
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    };
    std::thread::Builder::new()
        .name(format!("lanes-{number}"))
        .spawn(run)?;
    let ended = |_| std::io::Error::other("the thread ended at once");
    told.recv().map_err(ended)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_threads_is_shared_out_with_one_at_least_for_everything_but_lanes() {
        let share = |workers| {
            let counts = ThreadCounts::of(workers);
            (counts.common, counts.lanes)
        };
        assert_eq!(share(1), (1, 0));
        assert_eq!(share(2), (1, 1));
        assert_eq!(share(3), (2, 1));
        assert_eq!(share(8), (4, 4));
        let ThreadCounts { common, lanes } = ThreadCounts::of(0);
        assert!(common >= 1 && common - lanes <= 1);
    }
}
