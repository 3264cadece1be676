//! A cluster of six: three masters, each with a replica.

use std::time::Duration;

use redis::{Cmd, FromRedisValue};

use super::redis::{Login, Options, Redis, free_port};
use super::wait::until;

/// Masters at the beginning; as many replicas.
const MASTERS: usize = 3;
/// After so long without an answer (ms) a node is taken for dead: short, so that failovers are, and long enough for a
/// machine on which much else runs.
const NODE_TIMEOUT: u64 = 2_000;
const SLOTS: usize = 16_384;
/// How often a replica is asked to take over: longer than the five seconds after which it gives up.
const ASK_AGAIN: Duration = Duration::from_secs(6);

/// A cluster. It is killed when it is dropped.
pub struct Cluster {
    /// The masters of the beginning, then their replicas, then what was added.
    pub nodes: Vec<Redis>,
    /// Their ids in the cluster.
    ids: Vec<String>,
    options: Options,
}

impl Cluster {
    /// Without persistence.
    pub async fn start() -> Cluster {
        Self::start_with(Options::default()).await
    }

    /// All nodes with these options.
    pub async fn start_with(options: Options) -> Cluster {
        let mut cluster = Cluster {
            nodes: Vec::new(),
            ids: Vec::new(),
            options,
        };
        for _ in 0..2 * MASTERS {
            cluster.start_node().await;
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            let epoch = index + 1;
            node.run::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {epoch}"))
                .await;
        }
        for (index, node) in cluster.nodes[..MASTERS].iter().enumerate() {
            let (first, next) = (index * SLOTS / MASTERS, (index + 1) * SLOTS / MASTERS);
            let last = next - 1;
            node.run::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"))
                .await;
        }
        for index in 1..cluster.nodes.len() {
            cluster.meet(index).await;
        }
        cluster.known_to_all().await;
        for index in MASTERS..2 * MASTERS {
            let master = &cluster.ids[index - MASTERS];
            let replicate = format!("CLUSTER REPLICATE {master}");
            cluster.nodes[index].run::<()>(&replicate).await;
        }
        cluster.well().await;
        cluster
    }

    /// Starts a node that knows no other. Returns its place.
    async fn start_node(&mut self) -> usize {
        let mut options = self.options.clone();
        options.tcp = true;
        let own = [
            "--cluster-enabled yes",
            "--cluster-config-file nodes.conf",
            "--cluster-require-full-coverage yes",
            "--repl-diskless-sync-delay 0",
        ];
        let timeout = format!("--cluster-node-timeout {NODE_TIMEOUT}");
        let bus = format!("--cluster-port {}", free_port());
        for words in own.iter().copied().chain([timeout.as_str(), bus.as_str()]) {
            options
                .arguments
                .extend(words.split(' ').map(str::to_owned));
        }
        let node = Redis::start_with(options).await;
        self.ids.push(node.run("CLUSTER MYID").await);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    async fn meet(&self, index: usize) {
        let node = &self.nodes[index];
        let bus: Vec<String> = node.run("CONFIG GET cluster-port").await;
        let (port, bus) = (node.port(), &bus[1]);
        let meet = format!("CLUSTER MEET 127.0.0.1 {port} {bus}");
        self.nodes[0].run::<()>(&meet).await;
    }

    async fn known_to_all(&self) {
        let all = self.nodes.len();
        until(
            "nodes that know each other",
            async || {
                let mut known = Vec::new();
                for node in &self.nodes {
                    let nodes: String = node.run("CLUSTER NODES").await;
                    let whole =
                        |line: &&str| !line.contains("handshake") && line.contains("connected");
                    known.push(nodes.lines().filter(whole).count());
                }
                known
            },
            |known| known.iter().all(|known| *known == all),
        )
        .await;
    }

    /// Adds a master without slots. Returns its place.
    ///
    /// Waits until that master calls the cluster well, too: for two seconds after its start a master does not, and takes no
    /// keys.
    pub async fn add_master(&mut self) -> usize {
        let index = self.start_node().await;
        self.meet(index).await;
        self.known_to_all().await;
        self.well().await;
        index
    }

    /// Waits until all nodes that run call the cluster well, and every replica of theirs is in step.
    pub async fn well(&self) {
        until(
            "a cluster that is well",
            async || {
                let mut seen = Vec::new();
                for node in self.nodes.iter().filter(|node| node.is_running()) {
                    let state = text(node, "CLUSTER INFO").await;
                    let replication = text(node, "INFO replication").await;
                    let fine = state.contains("cluster_state:ok")
                        && state.contains("cluster_slots_ok:16384")
                        && !replication.contains("master_link_status:down");
                    seen.push((node.port(), fine));
                }
                seen
            },
            |seen| seen.iter().all(|(_, fine)| *fine),
        )
        .await;
    }

    /// The settings that lead there: two of the nodes, of which one is a replica.
    pub fn settings(&self) -> String {
        let (master, replica) = (self.nodes[0].tcp_url(), self.nodes[MASTERS + 1].port());
        let trusted = self.options.tls.as_ref().map_or(String::new(), |files| {
            format!("\nca_file = {:?}", files.authority)
        });
        format!(
            "[redis]\nurl = {master:?}\ntopology = \"cluster\"\nnodes = [\"127.0.0.1:{replica}\"]{trusted}"
        )
    }

    /// The slot of a key.
    pub async fn slot(&self, key: &str) -> u16 {
        let node = self.nodes.iter().find(|node| node.is_running());
        let mut command = redis::cmd("CLUSTER");
        command.arg("KEYSLOT").arg(key);
        node.expect("a node that runs").query(&command).await
    }

    /// The place of the master that has a slot, by its own account.
    pub async fn master_of(&self, slot: u16) -> usize {
        let found = until(
            "a master of the slot",
            async || {
                for (index, node) in self.nodes.iter().enumerate() {
                    if node.is_running() && self.has(index, slot).await {
                        return Some(index);
                    }
                }
                None
            },
            Option::is_some,
        )
        .await;
        found.expect("there is one")
    }

    async fn has(&self, index: usize, slot: u16) -> bool {
        let nodes = text(&self.nodes[index], "CLUSTER NODES").await;
        let Some(line) = nodes.lines().find(|line| line.contains("myself")) else {
            return false;
        };
        line.contains("master")
            && line.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                match (first.parse::<u16>(), last.parse::<u16>()) {
                    (Ok(first), Ok(last)) => (first..=last).contains(&slot),
                    _ => false,
                }
            })
    }

    /// The place of the master that has a key.
    pub async fn master_of_key(&self, key: &str) -> usize {
        self.master_of(self.slot(key).await).await
    }

    /// Runs a command where its key is; tries again while that changes.
    pub async fn query<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> T {
        let reply = until(
            "an answer of the cluster",
            async || {
                let node = &self.nodes[self.master_of_key(key).await];
                node.try_query::<redis::Value>(command).await
            },
            Result::is_ok,
        )
        .await;
        redis::from_redis_value(reply.expect("it is fine")).expect("a reply of this type")
    }

    /// Adds events `<prefix><first>`, … to the stream `events`, each with `{"n":<number>}`.
    pub async fn events_from(&self, prefix: &str, first: usize, event_type: &str, count: usize) {
        for n in first..first + count {
            let mut add = redis::cmd("XADD");
            add.arg("events").arg("*");
            add.arg("id").arg(format!("{prefix}{n}"));
            add.arg("type").arg(event_type);
            add.arg("payload").arg(format!(r#"{{"n":{n}}}"#));
            self.query::<String>("events", &add).await;
        }
    }

    /// Waits until every entry of a stream has been read and acknowledged.
    pub async fn settled(&self, stream: &str) {
        let master = self.master_of_key(stream).await;
        self.nodes[master].settled(stream).await;
    }

    /// Begins to move a slot: from now on what is missing at its old master is asked for at the new one.
    pub async fn begin_move(&self, slot: u16, to: usize) {
        let from = self.master_of(slot).await;
        let (source, target) = (&self.ids[from], &self.ids[to]);
        let importing = format!("CLUSTER SETSLOT {slot} IMPORTING {source}");
        self.nodes[to].run::<()>(&importing).await;
        let migrating = format!("CLUSTER SETSLOT {slot} MIGRATING {target}");
        self.nodes[from].run::<()>(&migrating).await;
    }

    /// Moves a key of a slot that is on its way.
    pub async fn move_key(&self, key: &str, to: usize) {
        let from = self.master_of_key(key).await;
        let port = self.nodes[to].port();
        let mut command = redis::cmd("MIGRATE");
        command
            .arg("127.0.0.1")
            .arg(port)
            .arg(key)
            .arg(0)
            .arg(5_000);
        match self.options.login {
            None => &mut command,
            Some(Login {
                username: None,
                password,
            }) => command.arg("AUTH").arg(password),
            Some(Login {
                username: Some(name),
                password,
            }) => command.arg("AUTH2").arg(name).arg(password),
        };
        self.nodes[from].query::<String>(&command).await;
    }

    /// Moves what is left in a slot that is on its way, and ends its move.
    pub async fn end_move(&self, slot: u16, to: usize) {
        let from = self.master_of(slot).await;
        loop {
            let keys: Vec<String> = self.nodes[from]
                .run(&format!("CLUSTER GETKEYSINSLOT {slot} 100"))
                .await;
            if keys.is_empty() {
                break;
            }
            for key in keys {
                self.move_key(&key, to).await;
            }
        }
        let assign = format!("CLUSTER SETSLOT {slot} NODE {}", self.ids[to]);
        for index in [to, from] {
            self.nodes[index].run::<()>(&assign).await;
        }
    }

    /// Moves a slot with all that is in it, the way `redis-cli --cluster reshard` does.
    pub async fn reshard(&self, slot: u16, to: usize) {
        if self.master_of(slot).await != to {
            self.begin_move(slot, to).await;
            self.end_move(slot, to).await;
        }
    }

    /// kill -9 of a node; waits until the cluster is well without it.
    pub async fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
        self.well().await;
    }

    /// Has a replica take its master's place, while all are well. It gives up after a few seconds if its master or the others
    /// were too busy to agree: then it is asked again.
    pub async fn fail_over_to(&self, replica: usize) {
        let node = &self.nodes[replica];
        let asking = async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            loop {
                again.tick().await;
                let _ = text(node, "CLUSTER FAILOVER").await;
            }
        };
        let done = until(
            "a replica that is the master",
            async || text(node, "INFO replication").await,
            |info| info.contains("role:master"),
        );
        tokio::select! {
            () = asking => unreachable!("it asks until it is done"),
            _ = done => {}
        }
        self.well().await;
    }

    /// The place of a master's replica at the beginning.
    pub fn replica_of(&self, master: usize) -> usize {
        master + MASTERS
    }
}

/// What a node says; nothing while it does not answer.
async fn text(node: &Redis, words: &str) -> String {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    words.for_each(|word| {
        command.arg(word);
    });
    node.try_query(&command).await.unwrap_or_default()
}
