//! Archives as text, and brokers that begin from one.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

use super::broker::command;
use super::{Broker, Envelope};

/// Every topic, the broker's own too.
pub(crate) const EVERYTHING: &str = "topic=**&topic=$broker.**";

impl Broker {
    /// What `perennial export` prints of the running broker.
    pub(crate) fn export(&self) -> String {
        text_of(&run(self.command(&["export"]), b""))
    }

    /// A broker of its own whose directory came from this archive.
    pub(crate) fn restored(archive: &str, arguments: &[&str]) -> Self {
        let mut broker = Broker::with(arguments);
        broker.terminate();
        fs::remove_dir_all(broker.data()).expect("a directory that can be removed");
        let output = import(&broker.data(), archive);
        assert!(output.status.success(), "{output:?}");
        broker.restart();
        broker
    }
}

/// `perennial import --data`, from standard input.
pub(crate) fn import(data: &Path, archive: &str) -> Output {
    run(on(data, &["import"]), archive.as_bytes())
}

/// A command of the binary on a data directory.
pub(crate) fn on(data: &Path, arguments: &[&str]) -> Command {
    let mut command = command();
    command.args(arguments).arg("--data").arg(data);
    command
}

/// Runs a command with this on its standard input.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary");
    let mut stdin = child.stdin.take().expect("its standard input");
    // Written beside, since a command may print more than a pipe holds before it has read all.
    thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("its output")
    })
}

/// What a command printed, which must have succeeded.
pub(crate) fn text_of(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The lines of an archive that are no events, as JSON.
pub(crate) fn facts(archive: &str) -> Vec<Value> {
    let lines = archive.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line.get("topic").is_none()).collect()
}

/// The events of an archive.
pub(crate) fn events(archive: &str) -> Vec<Envelope> {
    archive
        .lines()
        .filter(|line| line.contains("\"topic\":") && !line.starts_with("{\"type\":\"$"))
        .map(Envelope::parse)
        .collect()
}

/// Events without the epoch in their ids: what an exact copy has in common with its original.
pub(crate) fn without_epoch(events: Vec<Envelope>) -> Vec<Envelope> {
    let strip = |event: Envelope| Envelope { id: format!("{}-00000000", event.sequence()), ..event };
    events.into_iter().map(strip).collect()
}
