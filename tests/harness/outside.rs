//! Programs that other people wrote, run as clients: each prints a line of JSON at a time, which a thread collects.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::heavy;

/// A running client.
pub(crate) struct Outside {
    child: Child,
    /// Closing it is the sign to finish, for the clients that want one.
    stdin: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<Value>>>,
    complaints: Arc<Mutex<String>>,
    is_browser: bool,
}

impl Outside {
    /// Starts a program of `tests/clients`. The first word says how: `node`, `python` or `bash`.
    pub(crate) fn start(runner: &str, script: &str, arguments: &[&str]) -> Self {
        Self::start_with(runner, script, arguments, &[])
    }

    /// The same with environment variables of its own.
    pub(crate) fn start_with(
        runner: &str,
        script: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let folder = folder();
        let installed = folder.join("node_modules").is_dir() && folder.join(".venv").is_dir();
        assert!(installed, "the clients are not installed: run tests/run once, which does it");
        let program =
            if runner == "python" { folder.join(".venv/bin/python") } else { PathBuf::from(runner) };
        let mut command = Command::new(program);
        command.arg(script).args(arguments).envs(environment.iter().copied()).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{runner}: {error}"));
        let (lines, complaints) = (Arc::default(), Arc::default());
        let (stdout, to) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
                let to: &Mutex<Vec<Value>> = &to;
                to.lock().unwrap().push(line);
            }
        });
        let (stderr, to) = (child.stderr.take().unwrap(), Arc::clone(&complaints));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let to: &Mutex<String> = &to;
                *to.lock().unwrap() += &(line + "\n");
            }
        });
        let is_browser = ["in_browser.mjs", "demo.mjs", "many_streams.mjs", "console.mjs"].contains(&script);
        Outside { stdin: child.stdin.take(), child, lines, complaints, is_browser }
    }

    /// What it has printed so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until what it has printed is enough.
    pub(crate) fn wait_for(&mut self, what: &str, limit: Duration, enough: impl Fn(&[Value]) -> bool) {
        heavy::eventually(what, limit, || {
            let is_enough = enough(&self.lines.lock().unwrap());
            let ended = self.child.try_wait().unwrap();
            assert!(is_enough || ended.is_none(), "the client ended with {ended:?} before this: {what}");
            is_enough
        });
    }

    /// Asks it to finish and waits for it.
    pub(crate) fn finish(&mut self) {
        drop(self.stdin.take());
        heavy::eventually("the client finishes", Duration::from_secs(30), || {
            self.child.try_wait().unwrap().is_some()
        });
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // The browser's processes are its own to end; the other clients have none and do not watch their standard input.
        for _ in 0..100 {
            if !self.is_browser || !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("--- what the client complained about:\n{}---", self.complaints.lock().unwrap());
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}
