//! A proxy before Redis that counts commands, and cuts, delays or refuses where the test wants it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream, tcp, unix};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::redis::Redis;
use super::wait::PATIENCE;

/// How long the reply of a command is waited for before the cut that is to swallow it. A blocking read is cut while it
/// blocks: what it is handed later goes to nobody.
const REPLY: Duration = Duration::from_millis(50);

/// Bytes that are read at a time.
const PART: usize = 64 * 1024;

/// On which side of a command the connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server never sees it.
    Before,
    /// The server carries it out, and its reply is lost.
    After,
}

/// A proxy on a port of its own. It and all its connections end when it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: PathBuf,
    plan: Mutex<Plan>,
    /// Rises with each cut: all connections of before end.
    cuts: watch::Sender<u64>,
    /// Nothing passes, in either direction, and nobody is told.
    held: watch::Sender<bool>,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Plan {
    commands: u64,
    cut_at: Option<(u64, Side)>,
    /// What became of the plan: the command that was cut.
    cut: Option<String>,
    stay_down: bool,
    down: bool,
    delay: Duration,
    reply_bytes: u64,
    cut_at_reply_byte: Option<u64>,
}

enum Verdict {
    Forward,
    CutBefore,
    CutAfter,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self) {
        // The sender lives in `self`: the wait cannot fail.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    fn judge(&self) -> Verdict {
        let mut plan = self.plan();
        plan.commands += 1;
        match plan.cut_at {
            Some((at, side)) if at == plan.commands => match side {
                Side::Before => Verdict::CutBefore,
                Side::After => Verdict::CutAfter,
            },
            _ => Verdict::Forward,
        }
    }

    fn cut(&self, command: &[u8]) {
        {
            let mut plan = self.plan();
            plan.cut_at = None;
            plan.cut = Some(words(command));
            plan.down = plan.stay_down;
        }
        self.cuts.send_modify(|count| *count += 1);
    }

    /// How much of a reply may pass before the planned cut within it, if it is planned there.
    fn passes(&self, bytes: usize) -> Option<usize> {
        let mut plan = self.plan();
        let before = plan.reply_bytes;
        plan.reply_bytes += bytes as u64;
        let at = plan.cut_at_reply_byte.filter(|at| *at < plan.reply_bytes)?;
        plan.cut_at_reply_byte = None;
        Some(at.saturating_sub(before) as usize)
    }
}

impl Proxy {
    pub async fn start(redis: &Redis) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let url = redis.url();
        let target = url.strip_prefix("unix://").expect("the URL of a socket");
        let shared = Arc::new(Shared {
            target: PathBuf::from(target),
            plan: Mutex::default(),
            cuts: watch::Sender::new(0),
            held: watch::Sender::new(false),
            ended: CancellationToken::new(),
        });
        tokio::spawn({
            let shared = shared.clone();
            async move {
                let ended = shared.ended.clone();
                ended.run_until_cancelled(accept(listener, shared)).await;
            }
        });
        Proxy { port, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Commands so far.
    pub fn commands(&self) -> u64 {
        self.shared.plan().commands
    }

    /// Cuts all connections at the `n`th command from the start of the proxy, once. With `stay_down` nobody gets
    /// through afterwards until [`Proxy::mend`].
    pub fn cut_at(&self, n: u64, side: Side, stay_down: bool) {
        let mut plan = self.shared.plan();
        plan.cut_at = Some((n, side));
        plan.stay_down = stay_down;
        plan.cut = None;
    }

    /// The command at which it cut, once it has.
    pub fn cut(&self) -> Option<String> {
        self.shared.plan().cut.clone()
    }

    /// Cuts all connections when so many more bytes of replies have passed: in the middle of a reply, that is.
    pub fn cut_within_replies(&self, bytes: u64) {
        let mut plan = self.shared.plan();
        plan.cut_at_reply_byte = Some(plan.reply_bytes + bytes);
        plan.stay_down = false;
        plan.cut = None;
    }

    /// Waits until the planned cut has happened.
    pub async fn wait_for_cut(&self) -> String {
        let mut cuts = self.shared.cuts.subscribe();
        let waiting = async {
            loop {
                cuts.borrow_and_update();
                if let Some(command) = self.cut() {
                    return command;
                }
                // The sender lives in `self`: the wait cannot fail.
                let _ = cuts.changed().await;
            }
        };
        let Ok(command) = tokio::time::timeout(PATIENCE, waiting).await else {
            panic!("no cut after {} commands", self.commands());
        };
        command
    }

    /// Holds every reply back for so long.
    pub fn delay(&self, delay: Duration) {
        self.shared.plan().delay = delay;
    }

    /// Cuts all connections now, wherever they are, and lets nobody through until [`Proxy::mend`].
    pub fn cut_off(&self) {
        self.shared.plan().down = true;
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// Holds every byte back, in both directions, until [`Proxy::mend`]: a network that loses packets and tells nobody.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets everybody through, and forgets what was planned.
    pub fn mend(&self) {
        self.shared.held.send_replace(false);
        let mut plan = self.shared.plan();
        plan.down = false;
        plan.cut_at = None;
        plan.cut_at_reply_byte = None;
        plan.delay = Duration::ZERO;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.cancel();
        self.shared.cuts.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.plan().down {
            continue;
        }
        let Ok(server) = UnixStream::connect(&shared.target).await else {
            continue;
        };
        let _ = client.set_nodelay(true);
        let mut cuts = shared.cuts.subscribe();
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = cuts.changed() => {}
                () = relay(client, server, &shared) => {}
            }
        });
    }
}

/// What the two directions of one connection tell each other.
#[derive(Default)]
struct Connection {
    asked: AtomicU64,
    answered: AtomicU64,
    news: Notify,
    /// Replies are swallowed from this one on.
    mute_from: Mutex<Option<u64>>,
}

async fn relay(client: TcpStream, server: UnixStream, shared: &Shared) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let connection = Connection::default();
    tokio::select! {
        () = requests(from_client, to_server, shared, &connection) => {}
        () = replies(from_server, to_client, shared, &connection) => {}
    }
}

async fn requests(
    mut from: tcp::OwnedReadHalf,
    mut to: unix::OwnedWriteHalf,
    shared: &Shared,
    connection: &Connection,
) {
    let (mut buffer, mut out) = (BytesMut::new(), BytesMut::new());
    while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        shared.pass().await;
        while let Some(length) = message(&buffer) {
            let command = buffer.split_to(length);
            match shared.judge() {
                Verdict::Forward => {
                    connection.asked.fetch_add(1, Ordering::SeqCst);
                    out.extend_from_slice(&command);
                }
                Verdict::CutBefore => {
                    let _ = to.write_all(&out).await;
                    settle(connection).await;
                    return shared.cut(&command);
                }
                Verdict::CutAfter => {
                    let number = connection.asked.fetch_add(1, Ordering::SeqCst);
                    *connection
                        .mute_from
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = Some(number);
                    out.extend_from_slice(&command);
                    let _ = to.write_all(&out).await;
                    settle(connection).await;
                    return shared.cut(&command);
                }
            }
        }
        if to.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}

/// Waits until all that was asked is answered, or for a moment.
async fn settle(connection: &Connection) {
    let answered = async {
        loop {
            let news = connection.news.notified();
            if connection.answered.load(Ordering::SeqCst) >= connection.asked.load(Ordering::SeqCst)
            {
                return;
            }
            news.await;
        }
    };
    let _ = tokio::time::timeout(REPLY, answered).await;
}

/// Each part of the replies takes the delay from when it came, however many are on their way: a long line, not a narrow one.
async fn replies(
    mut from: unix::OwnedReadHalf,
    to: tcp::OwnedWriteHalf,
    shared: &Shared,
    connection: &Connection,
) {
    let (line, end) = mpsc::unbounded_channel();
    let reading = async move {
        let mut part = BytesMut::with_capacity(PART);
        while from.read_buf(&mut part).await.is_ok_and(|read| read > 0) {
            let due = Instant::now() + shared.plan().delay;
            if line.send((due, part.split())).is_err() {
                return;
            }
            part.reserve(PART);
        }
    };
    tokio::select! {
        () = hand_over(end, to, shared, connection) => {}
        // What is still on its way arrives.
        () = async { reading.await; std::future::pending().await } => {}
    }
}

async fn hand_over(
    mut line: mpsc::UnboundedReceiver<(Instant, BytesMut)>,
    mut to: tcp::OwnedWriteHalf,
    shared: &Shared,
    connection: &Connection,
) {
    let mut buffer = BytesMut::new();
    while let Some((due, part)) = line.recv().await {
        tokio::time::sleep_until(due).await;
        shared.pass().await;
        buffer.extend_from_slice(&part);
        let mut out = BytesMut::new();
        while let Some(length) = message(&buffer) {
            let number = connection.answered.load(Ordering::SeqCst);
            let mute = *connection
                .mute_from
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if mute.is_none_or(|from| number < from) {
                out.extend_from_slice(&buffer[..length]);
            }
            buffer.advance(length);
            connection.answered.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(part) = shared.passes(out.len()) {
            let _ = to.write_all(&out[..part.min(out.len())]).await;
            return shared.cut(b"*1\r\n$18\r\n(within a reply)\r\n");
        }
        if to.write_all(&out).await.is_err() {
            return;
        }
        connection.news.notify_waiters();
    }
}

/// The length of the first message (RESP2, either direction), once it is there whole.
fn message(buffer: &[u8]) -> Option<usize> {
    let (mut at, mut missing) = (0, 1u64);
    while missing > 0 {
        let line = buffer[at..].windows(2).position(|two| two == b"\r\n")?;
        let head = &buffer[at..at + line];
        at += line + 2;
        missing -= 1;
        let number = || std::str::from_utf8(&head[1..]).ok()?.parse::<i64>().ok();
        match head.first() {
            Some(b'$') => match u64::try_from(number()?) {
                Ok(bytes) => at += bytes as usize + 2,
                Err(_) => continue,
            },
            Some(b'*') => missing += u64::try_from(number()?).unwrap_or(0),
            _ => {}
        }
        if at > buffer.len() {
            return None;
        }
    }
    Some(at)
}

/// A command's first words, for the test's output.
fn words(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(command);
    let parts: Vec<&str> = text
        .split("\r\n")
        .skip(1)
        .filter(|part| !part.starts_with('$') && !part.is_empty())
        .take(4)
        .collect();
    parts.join(" ").chars().take(80).collect()
}
