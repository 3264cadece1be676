//! `pombo dev` as a whole: the real program, and what it leaves behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const EXIT_UNAVAILABLE: i32 = 69;
const EXIT_BUSY: i32 = 75;
/// How long a test waits for what must happen. Only a broken test ever waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

fn dev(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pombo"));
    command.current_dir(folder);
    command.args(["dev", "--port", "0"]).args(options);
    command
}

fn output(mut command: Command) -> Output {
    command.output().expect("the program runs")
}

/// A run that goes on until it is ended.
struct Running(Child);

impl Running {
    /// Starts one, and returns once it has shown a delivery.
    fn start(folder: &Path) -> Running {
        let mut command = dev(folder, &["--rate", "50"]);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut lines = BufReader::new(child.stdout.as_mut().expect("it is piped")).lines();
        let shown = lines.any(|line| line.is_ok_and(|line| line.contains("✓ delivered")));
        assert!(shown, "it ended without a delivery");
        Running(child)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        let pid = rustix::process::Pid::from_raw(pid).expect("it is not 0");
        rustix::process::kill_process(pid, signal).expect("it is there");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Redis servers that have their data in `folder`: it is the directory that they work in.
fn servers_in(folder: &Path) -> Vec<PathBuf> {
    let data = folder.join(".pombo").canonicalize().expect("the folder");
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    processes
        .map(|process| process.path())
        .filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data))
        .collect()
}

#[test]
fn a_run_shows_deliveries_retries_and_dead_letters_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(dev(folder.path(), &["--events", "44", "--rate", "100"]));
    let shown = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{shown}{errors}");

    let lines = |wanted: &[&str]| {
        let all = |line: &&str| wanted.iter().all(|part| line.contains(part));
        shown.lines().filter(all).count()
    };
    assert_eq!(lines(&["✓ delivered", "verified"]), 52, "{shown}");
    assert_eq!(lines(&["n8n", "↻ failed", "answered 503"]), 6, "{shown}");
    assert!(lines(&["n8n", "✓ delivered", " 3 "]) >= 2, "{shown}");
    let dead = ["legado", "✗ dead letter", "exhausted: connection refused"];
    assert_eq!(lines(&dead), 4, "{shown}");
    let summary = "44 events became 56 deliveries: 52 delivered, 4 dead letters, 0 under way";
    assert_eq!(lines(&[summary]), 1, "{shown}");
    assert_eq!(lines(&["WRONG"]), 0, "{shown}");
    let troubles = "6 failed attempts, 0 repeats, 0 wrong signatures";
    assert_eq!(lines(&[troubles]), 1, "{shown}");

    assert_eq!(servers_in(folder.path()), Vec::<PathBuf>::new());
    assert!(!folder.path().join(".pombo/redis.sock").exists());
}

#[test]
fn what_a_run_changes_of_the_users_settings_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str, settings: &str| {
        fs::write(folder.path().join(name), settings).unwrap();
        let options = ["--config", name, "--events", "2", "--rate", "100"];
        let output = output(dev(folder.path(), &options));
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{shown}");
        ["[[sources]]", "targets.allow", "targets.https_only"].map(|part| shown.contains(part))
    };
    let strict = "[targets]\nhttps_only = true\n";
    assert_eq!(told("strict.toml", strict), [true, true, true]);
    let fitting = "[targets]\nallow = [\"127.0.0.0/8\"]\n";
    assert_eq!(told("fitting.toml", fitting), [true, false, false]);
}

#[test]
fn a_second_run_goes_on_with_what_the_first_one_kept() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = output(dev(folder.path(), &["--events", "22", "--rate", "100"]));
        let shown = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{shown}");
        let summary = "28 deliveries: 26 delivered, 2 dead letters, 0 under way";
        assert!(shown.contains(summary), "{shown}");
    }
}

#[test]
fn a_signal_ends_all_of_it_and_a_folder_has_one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path());
    assert_eq!(servers_in(folder.path()).len(), 1);

    let second = output(dev(folder.path(), &[]));
    assert_eq!(second.status.code(), Some(EXIT_BUSY));
    let errors = String::from_utf8_lossy(&second.stderr);
    assert!(errors.contains("running in .pombo already"), "{errors}");

    running.signal(rustix::process::Signal::INT);
    let mut rest = String::new();
    let stdout = running.0.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(0), "{rest}");
    assert!(rest.contains("deliveries:"), "{rest}");
    assert_eq!(servers_in(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_run_that_is_killed_takes_its_redis_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path());
    let mut redis = UnixStream::connect(folder.path().join(".pombo/redis.sock")).unwrap();
    redis.set_read_timeout(Some(PATIENCE)).unwrap();
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    // The connection ends with the server.
    assert_eq!(redis.read_to_end(&mut Vec::new()).unwrap(), 0);

    let again = output(dev(folder.path(), &["--events", "2", "--rate", "100"]));
    assert_eq!(again.status.code(), Some(0), "{again:?}");
}

#[test]
fn a_redis_that_an_earlier_run_left_is_shut_down_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let first = output(dev(folder.path(), &["--events", "1"]));
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let data = folder.path().join(".pombo");
    let socket = data.join("redis.sock");
    let mut left = Command::new("redis-server")
        .args(["--port", "0", "--appendonly", "yes", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(&data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(left.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("ready to accept"))));

    let again = output(dev(folder.path(), &["--events", "1"]));
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(left.wait().unwrap().success());
}

#[test]
fn a_folder_with_a_long_path_gets_its_socket_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(120));
    fs::create_dir(&long).unwrap();
    let output = output(dev(&long, &["--events", "2", "--rate", "100"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let socket = fs::read_to_string(long.join(".pombo/socket")).unwrap();
    assert!(socket.contains("pombo-dev-"), "{socket}");
    assert!(!Path::new(&socket).parent().unwrap().exists());
}

#[test]
fn without_redis_server_it_says_how_to_install_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(dev(folder.path(), &["--redis-server", "no-such-redis"]));
    assert_eq!(output.status.code(), Some(EXIT_UNAVAILABLE));
    let errors = String::from_utf8_lossy(&output.stderr);
    for hint in [
        "apt-get install redis-server",
        "dnf install",
        "brew install",
    ] {
        assert!(errors.contains(hint), "{errors}");
    }
}
