//! `perennial subscribe`: what it prints, and that it goes on exactly where it was, however it was ended.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::command_line::{assert_fails, run};
use crate::harness::{Broker, Envelope, PATIENCE};

/// A `subscribe` whose lines are read as they come.
struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let mut command = broker.command(&["subscribe"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        Subscriber { child, lines }
    }

    fn lines(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.lines.recv_timeout(PATIENCE).expect("a line")).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(crate) fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (send, lines) = channel();
    thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    lines
}

#[test]
fn subscribe_prints_data_from_where_it_was_told() {
    let broker = Broker::start();
    let ids: Vec<String> = (0..4).map(|n| broker.publish(["a", "b.c"][n % 2], format!("e{n}"))).collect();
    broker.publish("other", "x");
    let time = broker.envelopes("topic=**")[2].time.clone();
    let all = ["e0", "e1", "e2", "e3"];
    for (from, first) in [("earliest", 0), ("-1", 3), ("-3", 1), (ids[2].as_str(), 2), (time.as_str(), 2)] {
        let subscriber = Subscriber::start(&broker, &["a", "b.*", "--from", from]);
        assert_eq!(subscriber.lines(4 - first), all[first..], "from {from}");
    }
    let subscriber = Subscriber::start(&broker, &["b.*", "--envelope", "--from", "earliest"]);
    let envelopes: Vec<Envelope> = subscriber.lines(2).iter().map(|line| Envelope::parse(line)).collect();
    assert_eq!((envelopes[0].data.as_str(), &envelopes[1].id), ("e1", &ids[3]));
    broker.publish("b.d", "live");
    assert_eq!(Envelope::parse(&subscriber.lines(1)[0]).data, "live");
    assert_fails(&run(broker.command(&["subscribe", "a", "--from", "whenever"]), ""), &[1, 2], "from");
}

#[test]
fn subscribe_begins_with_what_happens_next_unless_it_was_told_otherwise() {
    let broker = Broker::start();
    broker.publish("t", "before");
    let subscriber = Subscriber::start(&broker, &["t"]);
    let deadline = Instant::now() + PATIENCE;
    while broker.json("/v1/status")["connections"] == 0 {
        assert!(Instant::now() < deadline, "the subscriber does not connect");
        thread::sleep(Duration::from_millis(5));
    }
    broker.publish("t", "after");
    assert_eq!(subscriber.lines(1), ["after"]);
}

#[test]
fn subscribe_with_a_cursor_file_prints_data_as_it_is() {
    let broker = Broker::start();
    let texts = ["two\nlines", "", " é\u{1F680}\t ", "a\r\nb\rc", "\n"];
    for text in texts {
        broker.publish("t", text);
    }
    broker.publish("t", "end");
    let (output, cursor) = (broker.place().join("output"), broker.place().join("cursor"));
    let arguments = ["t", "--from", "earliest", "--cursor", cursor.to_str().unwrap()];
    let mut child = subscribe_into(&broker, &output, &arguments);
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read(&output).is_ok_and(|bytes| bytes.ends_with(b"end\n")) {
        assert!(Instant::now() < deadline, "{:?}", std::fs::read_to_string(&output));
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let expected: String = texts.iter().chain(&["end"]).map(|text| format!("{text}\n")).collect();
    assert_eq!(std::fs::read_to_string(&output).unwrap(), expected);
}

#[test]
fn subscribe_ends_quietly_when_nobody_reads_what_it_prints() {
    let broker = Broker::start();
    let mut command = broker.command(&["subscribe", "t", "--from", "earliest"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    broker.publish_batch("{\"topic\":\"t\",\"data\":1}\n".repeat(1_000));
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the subscriber goes on without anybody");
        thread::sleep(Duration::from_millis(5));
    }
    let said = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&said.stderr).contains("panicked"), "{said:?}");
}

#[test]
fn subscribe_goes_on_over_a_crash_of_the_broker() {
    let mut broker = Broker::with(&["--set", "retry=100ms"]);
    broker.publish("t", "0");
    let subscriber = Subscriber::start(&broker, &["t", "--from", "earliest"]);
    for n in 1..4 {
        assert_eq!(subscriber.lines(1), [(n - 1).to_string()]);
        broker.kill();
        broker.restart();
        broker.publish("t", n.to_string());
    }
    assert_eq!(subscriber.lines(1), ["3"]);
}

fn subscribe_into(broker: &Broker, output: &Path, arguments: &[&str]) -> Child {
    let file: File = OpenOptions::new().create(true).append(true).open(output).unwrap();
    broker.command(&["subscribe"]).args(arguments).stdout(file).spawn().unwrap()
}

/// Kills a subscriber with a cursor file again and again while events flow; its output must be exact.
fn assert_exact_over_kills(envelope: bool) {
    let broker = Broker::start();
    let (output, cursor) = (broker.place().join("output"), broker.place().join("cursor"));
    let count = 1_500;
    let data = |n: usize| format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(n % 300));
    let read = || std::fs::read_to_string(&output).unwrap_or_default();
    let mut arguments = vec!["t", "--from", "earliest", "--cursor", cursor.to_str().unwrap()];
    if envelope {
        arguments.push("--envelope");
    }
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for first in (0..count).step_by(5) {
                let line = |n| format!("{{\"topic\":\"t\",\"data\":{}}}\n", data(n));
                broker.publish_batch((first..first + 5).map(line).collect::<String>());
                thread::sleep(Duration::from_millis(2));
            }
        });
        let deadline = Instant::now() + 3 * PATIENCE;
        for turn in 0_u64.. {
            let mut child = subscribe_into(&broker, &output, &arguments);
            // The kill comes at another moment each time: before the connection, in the replay, in the live part.
            thread::sleep(Duration::from_millis(15 + turn * 7 % 60));
            if publisher.is_finished() {
                while read().lines().count() < count && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(10));
                }
            }
            let done = publisher.is_finished() && read().lines().count() >= count;
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(Instant::now() < deadline, "only {} lines came", read().lines().count());
            if done {
                break;
            }
        }
    });
    let text = read();
    let mut got: Vec<String> = text.lines().map(str::to_owned).collect();
    if envelope {
        got = got.iter().map(|line| Envelope::parse(line).data).collect();
    }
    let expected: Vec<String> = (0..count).map(data).collect();
    let differs = got.iter().zip(&expected).position(|(got, expected)| got != expected);
    assert!(differs.is_none(), "line {differs:?} differs: {:?}", differs.map(|n| (&got[n], &expected[n])));
    assert_eq!(got.len(), expected.len());
}

#[test]
fn subscribe_with_a_cursor_file_is_exact_however_often_it_is_killed() {
    assert_exact_over_kills(false);
}

#[test]
fn subscribe_with_a_cursor_file_and_envelopes_is_exact_however_often_it_is_killed() {
    assert_exact_over_kills(true);
}

#[test]
fn a_cursor_file_wins_over_from() {
    let broker = Broker::start();
    for n in 0..3 {
        broker.publish("t", format!("e{n}"));
    }
    let cursor = broker.place().join("cursor");
    let arguments = ["t", "--from", "earliest", "--cursor", cursor.to_str().unwrap()];
    let first = Subscriber::start(&broker, &arguments);
    assert_eq!(first.lines(3), ["e0", "e1", "e2"]);
    // The file is written after the lines; the next run would print them again if it had not been.
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&cursor).is_ok_and(|text| text.contains(broker.head().as_str())) {
        assert!(Instant::now() < deadline, "the cursor is {:?}", std::fs::read_to_string(&cursor));
        thread::sleep(Duration::from_millis(5));
    }
    drop(first);
    let next = broker.publish("t", "e3");
    let second = Subscriber::start(&broker, &arguments);
    assert_eq!(second.lines(1), ["e3"]);
    assert!(!next.is_empty());
}
