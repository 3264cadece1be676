//! Does what the schedule says, and remembers when each fault really began and ended.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::daemons::Daemon;
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::plan::STREAMS;
use crate::schedule::{Action, Kind, Schedule, Step};
use crate::topology::Topology;

/// When a fault was there.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kind: Kind,
    pub from_ms: u64,
    pub to_ms: u64,
}

/// All that can be broken.
pub struct World {
    pub topology: Topology,
    pub daemons: Vec<Daemon>,
    pub fleet: Fleet,
    pub ledger: Arc<Ledger>,
    /// The keys of the subscribers' queues.
    pub queues: Vec<String>,
    pub windows: Vec<Option<Window>>,
    pub kills: u64,
    pub verbose: bool,
}

impl World {
    /// Follows the schedule, which begins at `begin_ms` of the run, to its end.
    pub async fn follow(&mut self, schedule: &Schedule, begin_ms: u64) {
        self.windows = vec![None; schedule.faults.len()];
        for step in &schedule.steps {
            let at = self.ledger.begun() + Duration::from_millis(begin_ms + step.at_ms);
            tokio::time::sleep_until(at).await;
            self.carry_out(schedule, step).await;
        }
    }

    async fn carry_out(&mut self, schedule: &Schedule, step: &Step) {
        let now_ms = self.ledger.now_ms();
        if let Some(fault) = step.fault {
            self.windows[fault].get_or_insert(Window {
                kind: schedule.faults[fault],
                from_ms: now_ms,
                to_ms: now_ms,
            });
        }
        if self.verbose {
            eprintln!("  {:>6} ms  {}", self.ledger.now_ms(), step.action);
        }
        if let Err(error) = self.act(step.action).await {
            self.ledger
                .wrong(|| format!("the suite could not {}: {error}", step.action));
        }
        self.daemons.iter_mut().for_each(Daemon::sample);
        if let Some(window) = step.fault.and_then(|fault| self.windows[fault].as_mut()) {
            window.to_ms = self.ledger.now_ms();
        }
    }

    async fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Kill(daemon) => self.kills += u64::from(self.daemons[daemon].kill().await),
            Action::Start(daemon) => self.daemons[daemon].start().await,
            Action::Pause(daemon) => self.daemons[daemon].signal(Signal::STOP),
            Action::Resume(daemon) => self.daemons[daemon].signal(Signal::CONT),
            Action::Terminate(daemon) => self.daemons[daemon].terminate(),
            Action::KillRedis => {
                self.topology.kill();
                self.kills += 1;
            }
            Action::StartRedis => self.topology.restart().await,
            Action::Cut(daemon) => self.network(daemon, |proxy| proxy.cut_off()),
            Action::Hold(daemon) => self.network(daemon, |proxy| proxy.hold()),
            Action::Delay(daemon, ms) => {
                self.network(daemon, |proxy| proxy.delay(Duration::from_millis(ms)));
            }
            Action::MidReply(daemon, bytes) => {
                self.network(daemon, |proxy| proxy.cut_within_replies(bytes));
            }
            Action::Mend(daemon) => self.network(daemon, |proxy| proxy.mend()),
            Action::DestroyGroup(stream) => {
                let words = ["XGROUP", "DESTROY", STREAMS[stream], "pombo"];
                let done = self.topology.address().run::<redis::Value>(&words).await;
                return done.map(drop).or_else(bearable);
            }
            Action::FlushScripts => return self.command(&["SCRIPT", "FLUSH"]).await,
            Action::LimitMemory => return self.limit_memory().await,
            Action::FreeMemory => return self.command(&["CONFIG", "SET", "maxmemory", "0"]).await,
            Action::PauseClients(ms) => {
                return self
                    .command(&["CLIENT", "PAUSE", &ms.to_string(), "ALL"])
                    .await;
            }
            Action::SetClock(daemon, seconds) => self.daemons[daemon].set_clock(seconds),
            Action::Failover(seed) => self.kills += self.topology.fail_over(seed).await,
            Action::Reshard(seed) => self.topology.reshard(seed).await,
            Action::Refuse(subscriber) => self.fleet.refuse(subscriber),
            Action::Accept(subscriber) => {
                return self
                    .fleet
                    .accept(subscriber)
                    .map_err(|error| error.to_string());
            }
            Action::Sabotage(subscriber) => return self.sabotage(subscriber).await,
            Action::Nothing => {}
        }
        Ok(())
    }

    fn network(&self, daemon: usize, change: impl Fn(&crate::support::proxy::Proxy)) {
        if let Some(proxy) = self.daemons[daemon].proxy() {
            change(proxy);
        }
    }

    /// On every server. One that is down, by another fault, cannot be asked for anything: then there is nothing to break.
    async fn command(&self, words: &[&str]) -> Result<(), String> {
        match self
            .topology
            .address()
            .run_everywhere::<redis::Value>(words)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => bearable(error),
        }
    }

    async fn sabotage(&self, subscriber: usize) -> Result<(), String> {
        let lose = r"
            for _, stream in ipairs(ARGV) do
                for _, entry in ipairs(redis.call('XPENDING', stream, 'pombo', '-', '+', 20)) do
                    redis.call('XACK', stream, 'pombo', entry[1])
                end
            end
            return redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)";
        let queue = &self.queues[subscriber];
        self.command(&["EVAL", lose, "1", queue, STREAMS[0], STREAMS[1]])
            .await
    }

    async fn limit_memory(&self) -> Result<(), String> {
        let info = self
            .topology
            .address()
            .run_everywhere::<String>(&["INFO", "memory"])
            .await;
        let Ok(info) = info else { return Ok(()) };
        let used = info
            .lines()
            .find_map(|line| {
                line.strip_prefix("used_memory:")?
                    .trim()
                    .parse::<u64>()
                    .ok()
            })
            .ok_or("INFO memory tells no number")?;
        let limit = (used - used / 20).to_string();
        self.command(&["CONFIG", "SET", "maxmemory", &limit]).await
    }

    /// Mends everything that may be broken, and waits for those that were told to stop.
    pub async fn heal(&mut self) -> Result<(), String> {
        let extra = self.daemons.len() - 1;
        for daemon in 0..self.daemons.len() {
            self.network(daemon, |proxy| proxy.mend());
            self.daemons[daemon].set_clock(0);
            self.daemons[daemon].signal(Signal::CONT);
        }
        for (index, one) in crate::plan::SUBSCRIBERS.iter().enumerate() {
            self.fleet
                .accept(index)
                .map_err(|error| format!("{} could not come back: {error}", one.id))?;
        }
        self.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        for daemon in &mut self.daemons[..extra] {
            daemon.start().await;
        }
        self.daemons[extra].left().await;
        Ok(())
    }
}

fn bearable(error: redis::RedisError) -> Result<(), String> {
    if error.is_io_error() || error.is_timeout() {
        return Ok(());
    }
    Err(error.to_string())
}
