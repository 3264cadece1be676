//! The processes that a run needs. All end with the benchmark, however it ends.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The files of the receiver's certificate, its key, and the authority that it is of.
pub const CERTIFICATE: &str = "receiver.pem";
pub const KEY: &str = "receiver.key";
pub const AUTHORITY: &str = "ca.pem";

/// A process that ends with its owner.
pub struct Owned(pub Child);

impl Owned {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Starts `program` so that the kernel kills it when this process ends, even by kill -9.
    pub fn start(
        program: &OsStr,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Owned {
        let mut command = Command::new(this_program());
        command
            .args([
                "--role",
                "tied",
                "--parent",
                &std::process::id().to_string(),
                "--",
            ])
            .arg(program)
            .args(arguments)
            // Only the bare client reads it.
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr);
        Owned(command.spawn().expect("a process"))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn this_program() -> OsString {
    std::env::current_exe().expect("this program").into()
}

/// Becomes `program`, which the kernel kills when `parent` ends: what is asked for here outlives an exec.
pub fn become_tied(parent: u32, program: &[String]) -> ExitCode {
    tie_to_parent(Signal::KILL);
    // It may have ended before that.
    if getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get()) != i32::try_from(parent).ok() {
        return ExitCode::FAILURE;
    }
    let Some((name, arguments)) = program.split_first() else {
        return ExitCode::from(2);
    };
    let error = Command::new(name).args(arguments).exec();
    eprintln!("{name} cannot be started: {error}");
    ExitCode::FAILURE
}

/// Has the kernel send `signal` to this process when its parent ends.
fn tie_to_parent(signal: Signal) {
    // It fails for no signal that there is.
    let _ = set_parent_process_death_signal(Some(signal));
}

/// cargo does not pass a signal on that it is ended by.
pub fn end_with_cargo() {
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    if name.trim() == "cargo" {
        tie_to_parent(Signal::TERM);
    }
}

/// A receiver: it reads every body, answers 204, and counts.
pub struct Receiver {
    pub process: Owned,
    pub port: u16,
    /// Where it tells what it has counted.
    pub counts_port: u16,
}

impl Receiver {
    /// Starts one, with the certificate in the folder `tls` if it is to speak TLS.
    pub fn start(tls: Option<&Path>) -> Receiver {
        let mut arguments: Vec<&OsStr> = vec!["--role".as_ref(), "receiver".as_ref()];
        if let Some(folder) = tls {
            arguments.extend([OsStr::new("--tls"), folder.as_os_str()]);
        }
        let program = this_program();
        let mut process = Owned::start(&program, arguments, Stdio::piped(), Stdio::inherit());
        let stdout = process.0.stdout.take().expect("its output");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("its ports");
        let mut ports = line.split_whitespace().map(|port| port.parse());
        let mut next = || ports.next().expect("two ports").expect("a port");
        Receiver {
            port: next(),
            counts_port: next(),
            process,
        }
    }
}

/// An authority, and a certificate of it for the receiver.
pub fn make_certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("a root certificate");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = certificate.signed_by(&key, &issuer).expect("a certificate");
    for (name, text) in [
        (AUTHORITY, issuer.pem()),
        (CERTIFICATE, certificate.pem()),
        (KEY, key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("a written file");
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
