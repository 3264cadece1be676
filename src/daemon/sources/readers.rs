//! The readers that run, each by the stream that it reads.

use std::collections::HashMap;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::source::{Reader, StreamState};

/// A reader that runs.
pub(super) struct Running {
    /// The configured source that the stream belongs to, by its place.
    pub source: usize,
    pub stream: String,
    pub state: watch::Receiver<StreamState>,
    stop: CancellationToken,
    task: AbortHandle,
    /// While the stream goes to another daemon: until when its reader may finish.
    leaves_by: Option<Instant>,
}

impl Running {
    /// Whether the stream goes to another daemon.
    pub fn is_leaving(&self) -> bool {
        self.leaves_by.is_some()
    }
}

/// All readers of a daemon, by the name under which the owner of their stream stands.
#[derive(Default)]
pub(super) struct Readers {
    tasks: JoinSet<()>,
    running: HashMap<String, Running>,
}

impl Readers {
    pub fn start(
        &mut self,
        key: String,
        source: usize,
        stream: String,
        state: watch::Receiver<StreamState>,
        stop: CancellationToken,
        reader: Reader,
    ) {
        let task = self.tasks.spawn(reader.run());
        self.running.insert(
            key,
            Running {
                source,
                stream,
                state,
                stop,
                task,
                leaves_by: None,
            },
        );
    }

    pub fn runs(&self, key: &str) -> bool {
        self.running.contains_key(key)
    }

    pub fn all(&self) -> impl Iterator<Item = &Running> {
        self.running.values()
    }

    /// The names of those whose streams are of the configured source at this place.
    pub fn of(&self, source: usize) -> Vec<String> {
        let of_it = self.running.iter();
        of_it
            .filter(|(_, running)| running.source == source)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Lets a reader finish what it has read, until `deadline`. What is not finished then is still pending, and found by
    /// the next owner.
    pub fn let_go(&mut self, key: &str, deadline: Instant) {
        if let Some(running) = self.running.get_mut(key)
            && running.leaves_by.is_none()
        {
            running.leaves_by = Some(deadline);
            running.stop.cancel();
        }
    }

    /// Ends the readers that had their time.
    pub fn cut(&self) {
        let now = Instant::now();
        for running in self.running.values() {
            if running.leaves_by.is_some_and(|deadline| now >= deadline) {
                running.task.abort();
            }
        }
    }

    /// The next reader that ends; `None` when there is none. The name of its stream, and whether it goes to another
    /// daemon; otherwise it panicked, or the era is over.
    pub async fn ended(&mut self) -> Option<(String, bool)> {
        let id: Id = match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        let key = self
            .running
            .iter()
            .find(|(_, running)| running.task.id() == id)
            .map(|(key, _)| key.clone())?;
        let running = self.running.remove(&key)?;
        Some((key, running.leaves_by.is_some()))
    }
}
