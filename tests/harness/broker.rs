//! The built binary, started on a free port in a directory of its own, and ended with the test.
//!
//! A broker that is restarted keeps its port and its data. When a test fails, what the broker logged is shown.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENCE, Request, Response, escape};

/// A running `perennial serve`.
pub(crate) struct Broker {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    place: TempDir,
}

impl Broker {
    /// Starts one with no settings of its own.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with further arguments of `serve`, such as `["--set", "heartbeat=300ms"]`.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::with_environment(arguments, &[])
    }

    /// Starts one with further arguments and environment variables.
    pub(crate) fn with_environment(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let place = TempDir::new().expect("a temporary directory");
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let environment: Vec<(String, String)> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (child, port) = launch(place.path(), 0, &arguments, &environment);
        Broker { child, port, arguments, environment, place }
    }

    /// Starts one on what is in `data` of a place, or returns how it ended and what it logged.
    pub(crate) fn try_in(place: TempDir) -> Result<Self, (ExitStatus, String)> {
        let (mut child, bound) = spawn(command(), place.path(), 0, &[], &[]);
        match bound {
            Ok(port) => Ok(Broker { child, port, arguments: Vec::new(), environment: Vec::new(), place }),
            Err(_) => {
                let status = wait(&mut child);
                Err((status, std::fs::read_to_string(place.path().join("stderr")).unwrap_or_default()))
            }
        }
    }

    /// The port that it bound.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// A directory that lives as long as the broker, for files that a test makes.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far, over all its restarts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("stderr")).unwrap_or_default()
    }

    /// Ends it as a crash would: SIGKILL, at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a broker that can be killed");
        self.child.wait().expect("a broker that ends");
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a broker that takes a signal");
    }

    /// Asks it to stop with SIGTERM and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until the process ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Starts it again on the same port and the same data, after it was killed or has stopped.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.try_wait().expect("a status").is_some(), "the broker is still running");
        let (child, port) = launch(self.place.path(), self.port, &self.arguments, &self.environment);
        assert_eq!(port, self.port, "the broker bound another port");
        self.child = child;
    }

    /// Starts it again under another program, such as strace, whose arguments come first. False if it ended before it
    /// listened, as one does that is killed on its way.
    pub(crate) fn restart_under(&mut self, wrapper: &[&str]) -> bool {
        assert!(self.child.try_wait().expect("a status").is_some(), "the broker is still running");
        let (program, arguments) = wrapper.split_first().expect("a program");
        let inner = command();
        let mut outer = Command::new(program);
        outer.args(arguments).arg(inner.get_program()).stdin(Stdio::null());
        for (name, _) in inner.get_envs() {
            outer.env_remove(name);
        }
        let (child, bound) = spawn(outer, self.place.path(), self.port, &self.arguments, &self.environment);
        self.child = child;
        match bound {
            Ok(port) => assert_eq!(port, self.port, "the broker bound another port"),
            Err(_) => drop(self.wait()),
        }
        bound.is_ok()
    }

    /// Whether the process is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_none()
    }

    /// Runs `perennial verify` on its data, while it is stopped; fails with what the command said.
    pub(crate) fn verify(&self) {
        let output = command().arg("verify").arg("--data").arg(self.data()).output().expect("the binary");
        assert!(output.status.success(), "verify: {output:?}");
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn send(&self, request: &Request) -> Response {
        request.send(self.port)
    }

    /// GET.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.send(&Request::new("GET", path))
    }

    /// GET that must succeed, as JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let response = self.send(&Request::new("GET", path).header("Accept", "application/json"));
        assert_eq!(response.status, 200, "GET {path}: {response}");
        response.json()
    }

    /// POST of text.
    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.send(&Request::new("POST", path).header("Content-Type", "text/plain").body(body))
    }

    /// Publishes one event, which must succeed, and returns its id.
    pub(crate) fn publish(&self, topic: &str, data: impl AsRef<[u8]>) -> String {
        let response = self.post(&format!("/v1/topics/{}/events", escape(topic)), data);
        assert_eq!(response.status, 201, "publish to {topic:?}: {response}");
        response.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Publishes a batch of NDJSON.
    pub(crate) fn post_batch(&self, lines: impl AsRef<[u8]>) -> Response {
        self.send(
            &Request::new("POST", "/v1/events").header("Content-Type", "application/x-ndjson").body(lines),
        )
    }

    /// Publishes a batch of NDJSON, which must succeed, and returns the ids.
    pub(crate) fn publish_batch(&self, lines: impl AsRef<[u8]>) -> Vec<String> {
        let response = self.post_batch(lines);
        assert_eq!(response.status, 201, "publish a batch: {response}");
        let answer = response.json();
        let events = answer["events"].as_array().expect("the batch's events");
        events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// The head, as `status` tells it.
    pub(crate) fn head(&self) -> String {
        self.json("/v1/status")["head"].as_str().expect("a head").to_owned()
    }

    /// The epoch, as `status` tells it.
    pub(crate) fn epoch(&self) -> String {
        self.json("/v1/status")["epoch"].as_str().expect("an epoch").to_owned()
    }

    /// A client command of the binary, aimed at this broker.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command.args(arguments).env("PERENNIAL_URL", self.url()).current_dir(self.place.path());
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        if thread::panicking() {
            eprintln!("--- what the broker on port {} logged:\n{}---", self.port, self.log());
        }
    }
}

/// The binary without any of the environment's settings.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PERENNIAL_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Waits for a process to end; kills it and fails when it does not.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a status") {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("a process that can be killed");
    panic!("the process did not end within {PATIENCE:?}");
}

fn launch(place: &Path, port: u16, arguments: &[String], environment: &[(String, String)]) -> (Child, u16) {
    let (mut child, bound) = spawn(command(), place, port, arguments, environment);
    let port = bound.unwrap_or_else(|line| {
        drop(child.kill());
        let log = std::fs::read_to_string(place.join("stderr")).unwrap_or_default();
        panic!("the broker did not say where it listens but {line:?}; it logged:\n{log}")
    });
    (child, port)
}

/// Starts a broker and reads the port that it bound, or what it said instead.
fn spawn(
    mut command: Command,
    place: &Path,
    port: u16,
    arguments: &[String],
    environment: &[(String, String)],
) -> (Child, Result<u16, Option<String>>) {
    let stderr: File =
        OpenOptions::new().create(true).append(true).open(place.join("stderr")).expect("a log file");
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"]).arg(place.join("data"));
    command.args(arguments).current_dir(place).stdout(Stdio::piped()).stderr(stderr);
    for (name, value) in environment {
        command.env(name, value);
    }
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    let stdout = child.stdout.take().expect("its standard output");
    let (send, lines) = mpsc::channel();
    // The rest of the output is read too, so that the broker never waits for a full pipe.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let line = lines.recv_timeout(PATIENCE).ok();
    let address = line.as_deref().and_then(|line| line.strip_prefix("perennial listening on "));
    let bound = address.and_then(|address| {
        address.strip_prefix("http://127.0.0.1:").or_else(|| address.strip_prefix("https://127.0.0.1:"))
    });
    let port = bound.and_then(|port| port.parse().ok());
    (child, port.ok_or(line))
}
