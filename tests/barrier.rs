//! The barrier, seen from the kernel: under strace no answer and no frame leaves before the store file was synced, a
//! barrier that fails ends the process, and one that is slow makes everybody wait.
//!
//! A power cut cannot be made in a test; the order of system calls can be read, and it is what a power cut judges.
//! `trace.rs` holds the reader of traces and its own tests, which show that it can fail.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::heavy;
use crate::harness::stream::{Publisher, Stream};
use crate::harness::{Broker, broker};
use crate::trace;

const CALLS: &str =
    "trace=openat,write,writev,sendto,sendmsg,pwrite64,pwritev,fdatasync,fsync,sync_file_range";

/// A broker under strace. With `-D` strace is the grandchild: the child is the broker itself, with its own exit status.
struct Traced {
    child: Child,
    port: u16,
    place: TempDir,
}

impl Traced {
    fn start(strace_arguments: &[&str]) -> Self {
        Self::start_with(|_| strace_arguments.iter().map(|argument| (*argument).to_owned()).collect())
    }

    /// Starts one with arguments of strace that may name files of the data directory.
    fn start_with(strace_arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let place = TempDir::new().unwrap();
        let data = place.path().join("data");
        let serve = broker::command();
        let mut command = Command::new("strace");
        // Long strings are shown whole, so that an event's text is found wherever it was written.
        command.args(["-D", "-f", "-q", "-ttt", "-y", "-s", "2000000", "-o"]).arg(place.path().join("trace"));
        command.args(["-e", CALLS]).args(strace_arguments(&data)).arg(serve.get_program());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        for (name, _) in serve.get_envs() {
            command.env_remove(name);
        }
        let log = fs::File::create(place.path().join("stderr")).unwrap();
        command.current_dir(place.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("strace (Debian package strace; tests/run installs it)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let log = || fs::read_to_string(place.path().join("stderr")).unwrap();
        let port = port.unwrap_or_else(|| panic!("no port in {line:?}; the log says: {}", log()));
        Traced { child, port, place }
    }

    fn publish(&self, data: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let mut publisher = Publisher::connect(self.port)?;
        publisher.post("/v1/topics/barrier/events", "", data.as_bytes())
    }

    fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("stderr")).unwrap()
    }

    /// Ends it and waits until strace has written its last line.
    fn trace(&mut self) -> String {
        self.end();
        let path = self.place.path().join("trace");
        let mut trace = String::new();
        heavy::eventually("strace writes the end", Duration::from_secs(20), || {
            trace = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            trace.contains("+++ killed by SIGKILL +++")
        });
        trace
    }

    fn end(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("--- what the broker under strace logged:\n{}---", self.log());
        }
    }
}

fn id_in(body: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap();
    answer["id"].as_str().unwrap().to_owned()
}

#[test]
fn no_answer_and_no_frame_leaves_before_the_store_is_synced() {
    let _turn = heavy::turn();
    let mut server = Traced::start(&[]);
    let mut stream = Stream::open(server.port, "/v1/events?topic=**", None).unwrap();
    let mut published = Vec::new();
    for number in 0..40 {
        // From a few bytes to several stored rows.
        let filler = "y".repeat(if number % 10 == 9 { 150_000 } else { number * 37 });
        let mark = format!("barrier-mark-{number:04}-end");
        let (status, body) = server.publish(&format!("{mark}{filler}")).unwrap();
        assert_eq!(status, 201);
        published.push((mark, id_in(&body)));
    }
    let mut frames = 0;
    while frames < published.len() && stream.next().unwrap() {
        frames += usize::from(!stream.block.is_broker());
    }
    let data = server.data();
    let trace = server.trace();
    let calls = trace::parse(&trace);
    for (mark, id) in &published {
        let verdict = trace::check(&calls, &data, mark, id);
        assert_eq!(verdict, Ok(trace::Left { answers: 1, frames: 1 }), "{mark} {id}");
    }
    println!("{} events in {} system calls", published.len(), calls.len());
    assert_eq!(trace::raw_range_syncs(&calls), 0, "sync_file_range alone is no barrier");
}

#[test]
fn many_publishers_at_once_are_answered_only_after_their_own_barrier() {
    let _turn = heavy::turn();
    let mut server = Traced::start(&[]);
    let mut stream = Stream::open(server.port, "/v1/events?topic=**", None).unwrap();
    let published: Vec<(String, String)> = thread::scope(|scope| {
        let publish = |publisher: usize| {
            let server = &server;
            move || -> Vec<(String, String)> {
                let marks = (0..10).map(|number| format!("barrier-mark-{publisher}-{number}-end"));
                marks.map(|mark| (mark.clone(), id_in(&server.publish(&mark).unwrap().1))).collect()
            }
        };
        let publishers: Vec<_> = (0..8).map(|publisher| scope.spawn(publish(publisher))).collect();
        publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect()
    });
    let mut frames = 0;
    while frames < published.len() && stream.next().unwrap() {
        frames += usize::from(!stream.block.is_broker());
    }
    let data = server.data();
    let trace = server.trace();
    let calls = trace::parse(&trace);
    for (mark, id) in &published {
        let verdict = trace::check(&calls, &data, mark, id);
        assert!(matches!(verdict, Ok(trace::Left { answers: 1, frames: 1 })), "{mark} {id}: {verdict:?}");
    }
}

#[test]
fn a_barrier_that_fails_ends_the_process_and_shows_nothing_of_its_event() {
    let _turn = heavy::turn();
    // strace counts for each thread: the one that syncs the store is told EIO from its twentieth call on.
    let store = store_file();
    let log = publish_until_a_sync_fails(|data| {
        let path = data.join(&store).to_str().unwrap().to_owned();
        vec!["-P".to_owned(), path, "-e".to_owned(), "inject=fdatasync,fsync:error=EIO:when=20+".to_owned()]
    });
    let says_so = ["barrier", "fdatasync", "fsync"].iter().any(|word| log.contains(word));
    assert!(says_so, "the log does not say what failed: {log}");
}

#[test]
fn a_sync_that_fails_on_any_file_ends_the_process_too() {
    let _turn = heavy::turn();
    // Starting takes fewer than forty calls of any one thread.
    let log = publish_until_a_sync_fails(|_| {
        vec!["-e".to_owned(), "inject=fdatasync,fsync:error=EIO:when=40+".to_owned()]
    });
    let says_so = ["Input/output error", "os error 5"].iter().any(|word| log.contains(word));
    assert!(says_so, "the log does not say what failed: {log}");
}

/// The file that holds the events, below the data directory: where the text of a published one is found.
fn store_file() -> PathBuf {
    let mut scout = Broker::start();
    scout.publish("barrier", "where-is-it-stored");
    scout.kill();
    let found = Command::new("grep").args(["-rlF", "where-is-it-stored"]).arg(scout.data()).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let first = found.lines().next().expect("a file that holds the event");
    Path::new(first).strip_prefix(scout.data()).unwrap().to_owned()
}

/// Publishes to a broker whose syncs fail after a while, checks what is promised of that moment and of the next start, and
/// returns what the broker logged.
fn publish_until_a_sync_fails(injection: impl FnOnce(&Path) -> Vec<String>) -> String {
    let mut server = Traced::start_with(injection);
    let mut stream = Stream::open(server.port, "/v1/events?topic=**", None).unwrap();
    let mut acknowledged = Vec::new();
    let mut in_flight = None;
    for number in 0..200 {
        let data = format!("failing-{number}");
        match server.publish(&data) {
            Ok((201, body)) => acknowledged.push((id_in(&body), data)),
            other => {
                in_flight = Some((data, other.ok().map(|(status, _)| status)));
                break;
            }
        }
    }
    let (in_flight, status) = in_flight.expect("the barrier never failed");
    assert!(!acknowledged.is_empty(), "the barrier failed before anything was published");
    let mut seen = Vec::new();
    // The stream ends, broken or not, since the process does.
    while let Ok(true) = stream.next() {
        if !stream.block.is_broker() {
            let data = String::from_utf8_lossy(&stream.block.data).into_owned();
            seen.push((stream.block.id_text().to_owned(), data));
        }
    }
    assert!(seen.iter().all(|(_, data)| *data != in_flight), "{in_flight} was shown without a barrier");
    let exit = broker::wait(&mut server.child);
    assert!(!exit.success(), "a failed barrier ended the process with {exit}");

    let calm = restart_calmly(&server.data());
    let log: Vec<(String, String)> = heavy::history(&calm, "topic=**")
        .iter()
        .map(|event| (event["id"].as_str().unwrap().to_owned(), event["data"].as_str().unwrap().to_owned()))
        .collect();
    for event in acknowledged.iter().chain(&seen) {
        assert!(log.contains(event), "{event:?} is gone");
    }
    // An answer of 503 says that nothing of the event will ever be visible; a connection that broke says nothing.
    if status.is_some() {
        assert!(log.iter().all(|(_, data)| *data != in_flight), "{in_flight} was refused with {status:?}");
    }
    calm.publish("barrier", "after the failure");
    server.log()
}

/// A broker without strace on a copy of the data, as it lies in the page cache.
fn restart_calmly(data: &Path) -> Broker {
    let mut calm = Broker::start();
    calm.kill();
    fs::remove_dir_all(calm.data()).unwrap();
    let copied = Command::new("cp").arg("-r").arg(data).arg(calm.data()).status().unwrap();
    assert!(copied.success());
    calm.restart();
    calm
}

#[test]
fn a_slow_barrier_holds_back_the_answer_and_the_frame() {
    let _turn = heavy::turn();
    const DELAY: Duration = Duration::from_millis(300);
    let server = Traced::start(&["-e", "inject=fdatasync,fsync:delay_enter=300000"]);
    let mut stream = Stream::open(server.port, "/v1/events?topic=**", None).unwrap();
    while stream.block.event != b"$live" {
        assert!(stream.next().unwrap(), "the stream ended");
    }
    for number in 0..3 {
        let data = format!("slow-{number}");
        let began = Instant::now();
        let frame = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while stream.next().unwrap() && stream.block.data != data.as_bytes() {}
                began.elapsed()
            });
            assert_eq!(server.publish(&data).unwrap().0, 201);
            let answer = began.elapsed();
            assert!(answer >= DELAY, "{data} was answered after {answer:?}, before its barrier");
            reader.join().unwrap()
        });
        assert!(frame >= DELAY, "{data} was shown after {frame:?}, before its barrier");
    }
}
