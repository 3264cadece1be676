//! A Redis server of one's own: a child process behind a unix socket, which ends with whoever started it.
//!
//! It runs in a process group of its own, so that Ctrl-C reaches it only through Pombo, once the daemon has stored what
//! it must. A watchdog, a shell that waits for the end of a pipe, ends it should Pombo be killed; and what even
//! that left behind is found by its socket and shut down by the next run.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use url::Url;

use super::folder::{Folder, FolderError};
use crate::clock::Clock;
use crate::exit::Exit;
use crate::settings::Secret;

/// The path of a unix socket has 104 to 108 bytes, its end included.
const LONGEST_SOCKET: usize = 100;
/// How long the server may take to start, reading its data included, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a server that is starting is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Where the path of the socket is written down.
const SOCKET_NOTE: &str = "socket";
/// What folders for sockets are called whose paths would be too long otherwise.
const SHORT_FOLDER: &str = "pombo-dev-";
/// Waits until Pombo's end of the pipe is closed, and then ends the server.
const WATCHDOG: &str = r#"read -r _; kill "$1""#;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The program is not installed.
    #[error(
        "`pombo dev` starts a Redis of its own, and there is no {} on this machine. Install it:\n  \
         Debian, Ubuntu   sudo apt-get install redis-server\n  \
         Fedora           sudo dnf install redis\n  \
         macOS            brew install redis\n\
         or name it with --redis-server PATH",
        .0.display()
    )]
    Missing(PathBuf),
    /// The program cannot be run.
    #[error("cannot run {}: {error}", program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// The system's own words.
        error: io::Error,
    },
    /// It ended by itself.
    #[error("redis-server ended. The end of its log ({}):\n{tail}", log.display())]
    Ended {
        /// Its log.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// It does not answer.
    #[error("redis-server does not answer; its log is {}", .0.display())]
    Silent(PathBuf),
    /// An earlier one does not end.
    #[error("a redis-server of an earlier run still serves {} and does not end", .0.display())]
    Stale(PathBuf),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl RedisError {
    /// The process's exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            RedisError::Folder(error) => error.exit(),
            _ => Exit::Unavailable,
        }
    }
}

/// Where a server will listen.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// A folder made for the socket alone.
    short_folder: Option<PathBuf>,
}

impl Socket {
    /// Shuts down what an earlier run may have left, and chooses a path: in the folder, or where that is too long for a
    /// socket in a folder for temporary files.
    ///
    /// # Errors
    ///
    /// An earlier server does not end; a folder cannot be made.
    pub async fn choose(folder: &Folder, clock: &Clock) -> Result<Socket, RedisError> {
        if let Ok(earlier) = std::fs::read_to_string(folder.file(SOCKET_NOTE)) {
            end_earlier(Path::new(&earlier)).await?;
        }
        let mut socket = Socket {
            path: folder.file("redis.sock"),
            short_folder: None,
        };
        if socket.path.as_os_str().len() > LONGEST_SOCKET {
            let name = format!("{SHORT_FOLDER}{}", hex::encode(clock.random_bytes::<8>()));
            let mut short = std::env::temp_dir().join(name);
            if short.as_os_str().len() + "/redis.sock".len() > LONGEST_SOCKET {
                short = Path::new("/tmp").join(short.file_name().unwrap_or_default());
            }
            // Fails if it is there already: nobody else's folder is used.
            DirBuilder::new()
                .mode(0o700)
                .create(&short)
                .map_err(|error| FolderError::Unusable {
                    path: short.clone(),
                    error,
                })?;
            socket.path = short.join("redis.sock");
            socket.short_folder = Some(short);
        }
        folder.write(SOCKET_NOTE, &socket.path.to_string_lossy())?;
        Ok(socket)
    }

    /// The setting `redis.url` for it.
    pub fn url(&self) -> Secret {
        // The path is absolute, so that there is always a URL for it.
        let path = Url::from_file_path(&self.path).map(|url| url.path().to_owned());
        Secret::new(format!("unix://{}", path.unwrap_or_default()))
    }

    fn remove(&self) {
        // The server has removed it already, most of the time.
        let _ = std::fs::remove_file(&self.path);
        if let Some(folder) = &self.short_folder {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

async fn end_earlier(path: &Path) -> Result<(), RedisError> {
    if let Ok(mut stream) = UnixStream::connect(path).await {
        let mut rest = Vec::new();
        let ending = async {
            stream.write_all(b"SHUTDOWN\r\n").await?;
            stream.read_to_end(&mut rest).await
        };
        // Its end closes the connection, in whatever way.
        if timeout(PATIENCE, ending).await.is_err() {
            return Err(RedisError::Stale(path.to_owned()));
        }
    }
    let short_folder = path
        .parent()
        .filter(|folder| {
            folder
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(SHORT_FOLDER))
        })
        .map(Path::to_owned);
    Socket {
        path: path.to_owned(),
        short_folder,
    }
    .remove();
    Ok(())
}

/// The server. Dropped, it is killed; [`PrivateRedis::stop`] lets it end in order.
#[derive(Debug)]
pub struct PrivateRedis {
    // The watchdog goes first, so that it never looks for a process that is no more.
    watchdog: Child,
    server: Child,
    socket: Socket,
    log: PathBuf,
}

impl PrivateRedis {
    /// Starts `program` with its data in `folder`, and waits until it answers.
    ///
    /// # Errors
    ///
    /// See [`RedisError`].
    pub async fn start(
        program: &Path,
        folder: &Folder,
        socket: Socket,
    ) -> Result<PrivateRedis, RedisError> {
        let log = folder.file("redis.log");
        let unusable = |program: &Path| {
            let program = program.to_owned();
            move |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => RedisError::Missing(program),
                _ => RedisError::Unusable { program, error },
            }
        };
        let mut command = Command::new(program);
        command.args(["--port", "0", "--daemonize", "no", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
        command.args(["--maxmemory-policy", "noeviction"]);
        command.args(["--unixsocketperm", "700", "--unixsocket"]);
        command.arg(&socket.path);
        command.arg("--dir").arg(folder.path());
        command.arg("--pidfile").arg(folder.file("redis.pid"));
        command.arg("--logfile").arg(&log);
        let server = own_group(&mut command)
            .stdin(Stdio::null())
            .spawn()
            .map_err(unusable(program))?;
        let shell = Path::new("/bin/sh");
        let mut command = Command::new(shell);
        command.args(["-c", WATCHDOG, "pombo-dev-watchdog"]);
        // A child that has not been waited for has an id.
        command.arg(server.id().unwrap_or_default().to_string());
        let watchdog = own_group(&mut command)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(unusable(shell))?;
        let mut redis = PrivateRedis {
            watchdog,
            server,
            socket,
            log,
        };
        redis.wait_until_it_answers().await?;
        Ok(redis)
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), RedisError> {
        let path = self.socket.path.clone();
        let answered = timeout(PATIENCE, async {
            while !answers(&path).await {
                sleep(ASK_EVERY).await;
            }
        });
        tokio::select! {
            ended = ended(&mut self.server, &self.log) => Err(ended),
            answered = answered => answered.map_err(|_| RedisError::Silent(self.log.clone())),
        }
    }

    /// Returns if the server ends by itself. Cancel-safe.
    pub async fn ended(&mut self) -> RedisError {
        ended(&mut self.server, &self.log).await
    }

    /// Ends the server, so that its data are on disk.
    pub async fn stop(mut self) {
        // Whether the watchdog could be killed changes nothing: its pipe ends with this process at the latest.
        let _ = self.watchdog.kill().await;
        let pid = self
            .server
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let told = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        if !told || timeout(PATIENCE, self.server.wait()).await.is_err() {
            let _ = self.server.kill().await;
        }
        self.socket.remove();
    }
}

fn own_group(command: &mut Command) -> &mut Command {
    command
        .process_group(0)
        .kill_on_drop(true)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

async fn ended(server: &mut Child, log: &Path) -> RedisError {
    let _ = server.wait().await;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    RedisError::Ended {
        log: log.to_owned(),
        tail: lines.into_iter().rev().collect::<Vec<_>>().join("\n"),
    }
}

/// Whether a server answers at `path` and has read its data.
async fn answers(path: &Path) -> bool {
    let asking = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(answer == *b"+PONG\r\n")
    };
    matches!(timeout(Duration::from_secs(1), asking).await, Ok(Ok(true)))
}
