//! Crashes between the steps of a trim, a compaction, a purge, and a migration.
//!
//! The broker runs under strace, which kills it at the nth write to its files or at the nth barrier of a thread, while all
//! kinds of removals are under way. Whatever was told or seen to be gone before the crash is gone after it; what is counted
//! is what is read; and a reader's ledger goes on exactly. One store goes through all the crashes, so each recovery has to do
//! with what the ones before it left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::heavy;
use crate::harness::history::put;
use crate::harness::ledger::Ledger;
use crate::harness::stream::{Publisher, Stream, sequence};
use crate::harness::{Broker, Connection, PATIENCE, Request};
use crate::upgrade;

const TOPICS: [&str; 4] = ["trimmed", "compacted", "purged", "both"];
/// Longest that one round may wait for its crash.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// What is known of the log from outside, over all the crashes.
#[derive(Default)]
struct Known {
    /// Every event that was acknowledged or found, by sequence.
    published: BTreeMap<u64, String>,
    /// What was seen or told to be gone.
    gone: BTreeSet<u64>,
    next: usize,
}

/// The broker does not answer any more, as it should be sooner or later.
struct Crashed;

/// Sends a request to a broker that may crash meanwhile.
fn ask(port: u16, request: &Request) -> Result<(u16, Vec<u8>), Crashed> {
    let mut connection = Connection::try_open(port).map_err(|_| Crashed)?;
    connection.send(&request.bytes(port));
    let head = connection.try_head(false).map_err(|_| Crashed)?;
    let mut body = Vec::new();
    while let Some(piece) = connection.piece(PATIENCE).map_err(|_| Crashed)? {
        body.extend(piece);
    }
    Ok((head.status, body))
}

impl Known {
    /// Publishes a few events to every topic, with keys that come again.
    fn publish(&mut self, port: u16) -> Result<(), Crashed> {
        let mut lines = String::new();
        for n in self.next..self.next + 40 {
            let event = json!({ "topic": TOPICS[n % 4], "key": format!("k{}", n * n % 29), "data": format!("{n} {}", "x".repeat(n % 700)) });
            lines += &(event.to_string() + "\n");
        }
        self.next += 40;
        let mut publisher = Publisher::connect(port).map_err(|_| Crashed)?;
        let (status, body) = publisher.post_batch(lines.as_bytes()).map_err(|_| Crashed)?;
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).unwrap();
        for event in answer["events"].as_array().unwrap() {
            let topic = event["topic"].as_str().unwrap().to_owned();
            self.published.insert(event["sequence"].as_u64().unwrap(), topic);
        }
        Ok(())
    }

    /// Reads what is kept of a topic, and notes what is not. What came back, or was never published, fails.
    fn read(&mut self, port: u16, topic: &str) -> Result<(), Crashed> {
        let request = Request::new("GET", &format!("/v1/topics/{topic}/events?from=earliest"));
        let (status, body) = ask(port, &request.header("Accept", "application/x-ndjson"))?;
        assert_eq!(status, 200);
        let mut kept = BTreeSet::new();
        for line in String::from_utf8(body).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            if event["type"] != "$gap" {
                kept.insert(sequence(event["id"].as_str().unwrap().as_bytes()));
            }
        }
        let back: Vec<&u64> = kept.intersection(&self.gone).collect();
        assert!(back.is_empty(), "{topic}: {back:?} came back");
        // A batch whose answer a crash took is there after it, whole.
        self.published.extend(kept.iter().map(|place| (*place, topic.to_owned())));
        let absent = self.published.iter().filter(|(place, of)| *of == topic && !kept.contains(place));
        self.gone.extend(absent.map(|(place, _)| *place));
        Ok(())
    }

    /// Purges a topic: all of it that was published before is gone once it is answered.
    fn purge(&mut self, port: u16, topic: &str) -> Result<(), Crashed> {
        let (status, body) = ask(port, &Request::new("DELETE", &format!("/v1/topics/{topic}")))?;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let of_topic = self.published.iter().filter(|(_, of)| *of == topic);
        self.gone.extend(of_topic.map(|(place, _)| *place));
        Ok(())
    }

    /// Works until the broker crashes: events, policies that become narrower and wider, purges, and looks at what is left.
    fn work(&mut self, port: u16) -> Result<(), Crashed> {
        let deadline = Instant::now() + ROUND_MAX;
        for round in 0.. {
            assert!(Instant::now() < deadline, "no crash within {ROUND_MAX:?}");
            self.round(port, round)?;
        }
        Ok(())
    }

    /// One round of that work.
    fn round(&mut self, port: u16, round: usize) -> Result<(), Crashed> {
        for _ in 0..5 {
            self.publish(port)?;
        }
        let few = [30, 5, 60, 0][round % 4];
        for (pattern, policy) in [
            ("trimmed", json!({ "max_events": few })),
            ("compacted", json!({ "compact": "key" })),
            ("both", json!({ "compact": "key", "max_events": few })),
        ] {
            let (status, _) = ask(port, &put(pattern, "", policy.to_string()))?;
            assert_eq!(status, 200);
        }
        self.purge(port, "purged")?;
        TOPICS.iter().try_for_each(|topic| self.read(port, topic))
    }
}

/// Reads on to the head and checks the ledger so far. What compaction takes is silent, so only topics without it are read.
fn read_on(broker: &Broker, ledger: &mut Ledger, known: &Known) {
    let cursor = format!("{}-{}", ledger.cursor(), broker.epoch());
    let target = "/v1/events?topic=trimmed&topic=purged";
    let mut stream = Stream::open(broker.port(), target, Some(&cursor)).unwrap();
    while stream.block.event != b"$live" {
        assert!(stream.next().unwrap() && ledger.take(&stream.block));
    }
    let followed =
        known.published.iter().filter(|(_, topic)| ["trimmed", "purged"].contains(&topic.as_str()));
    ledger.check(&followed.map(|(place, topic)| (*place, topic.clone())).collect());
}

/// Starts a broker that crashes at the nth of these calls; whether it came to answer before.
fn restart_to_crash(broker: &mut Broker, calls: &str, moment: usize) -> bool {
    let trace = format!("trace={calls}");
    let injection = format!("inject={calls}:signal=SIGKILL:when={moment}");
    broker.restart_under(&["strace", "-D", "-f", "-q", "-o", "/dev/null", "-e", &trace, "-e", &injection])
}

/// Goes through crashes at the nth of these calls, for every n that is given.
fn crash_at(calls: &str, moments: impl Iterator<Item = usize>) {
    let _turn = heavy::turn();
    let mut broker = Broker::with(&["--set", "retention_interval=10ms"]);
    let mut known = Known::default();
    let mut ledger = Ledger::new(0);
    let (mut rounds, mut late) = (0, 0);
    broker.kill();
    for moment in moments {
        rounds += 1;
        if restart_to_crash(&mut broker, calls, moment) {
            late += 1;
            assert!(known.work(broker.port()).is_err());
            heavy::eventually("the crash is complete", PATIENCE, || !broker.is_running());
        }
        broker.verify();
        broker.restart();
        for topic in TOPICS {
            assert!(known.read(broker.port(), topic).is_ok());
        }
        read_on(&broker, &mut ledger, &known);
        broker.passed();
        broker.check_counts();
        assert!(broker.terminate().success());
        broker.verify();
    }
    println!(
        "{rounds} crashes, {late} of them while it worked; {} events, {} gone",
        known.published.len(),
        known.gone.len()
    );
    assert!(late > rounds / 2, "only {late} of {rounds} crashes came while anything was removed");
    assert!(known.gone.len() > known.published.len() / 2, "hardly anything was removed");
}

#[test]
fn what_was_removed_never_comes_back_wherever_a_write_is_cut() {
    // Each call is counted for itself in each thread; a question mark passes over what the machine does not have.
    crash_at("pwrite64,ftruncate,?rename,renameat,?renameat2,?unlink,unlinkat", (2..60).step_by(3));
}

#[test]
fn what_was_removed_never_comes_back_wherever_a_barrier_is_cut() {
    crash_at("fdatasync,fsync", (2..80).step_by(3));
}

/// The index is made anew at a start that does not find its checkpoint, as at the first one after the format changed. What was
/// removed is in no event, so nothing of it may get lost on the way.
#[test]
fn an_index_that_is_made_anew_is_whole_wherever_that_is_cut() {
    let _turn = heavy::turn();
    let mut broker = Broker::with(&["--set", "retention_interval=10ms"]);
    let mut known = Known::default();
    // So much that the new index is written down several times on the way.
    for n in 0..30 {
        let event =
            json!({ "topic": "large", "data": format!("{n} {}", "x".repeat(60_000)) }).to_string() + "\n";
        assert_eq!(broker.post_batch(event.repeat(20)).status, 201);
    }
    let keyed = |n: usize| {
        let request =
            Request::new("POST", "/v1/topics/purged/events").header("Idempotency-Key", format!("key-{n}"));
        request.body(format!("{n}"))
    };
    let answer = |broker: &Broker, n: usize| broker.send(&keyed(n)).json();
    let sequences: Vec<Value> = (0..200).map(|n| answer(&broker, n)["sequence"].clone()).collect();
    for round in 0..4 {
        assert!(known.round(broker.port(), round).is_ok());
    }
    // What the last policies take may take longer than to ask; it must be gone before it is counted.
    broker.passed();
    let counts = broker.json("/v1/topics")["topics"].clone();
    assert!(broker.terminate().success());
    let mut early = 0;
    for moment in 1..28 {
        let db = upgrade::engine(&broker.data());
        db.remove([0, 2]).unwrap();
        db.flush().unwrap();
        drop(db);
        if restart_to_crash(&mut broker, "fdatasync,fsync", moment) {
            broker.kill();
        } else {
            early += 1;
        }
        broker.restart();
        for topic in TOPICS {
            assert!(known.read(broker.port(), topic).is_ok());
        }
        assert_eq!(broker.json("/v1/topics")["topics"], counts, "after a crash at barrier {moment}");
        for n in (0..200).step_by(13) {
            let again = answer(&broker, n);
            assert_eq!((&again["duplicate"], &again["sequence"]), (&json!(true), &sequences[n]));
        }
        assert!(broker.terminate().success());
        broker.verify();
    }
    assert!(early > 15, "only {early} crashes came before the index was made");
}

/// A store of an older format, with the rows that lie in `migrations/fixtures`.
fn old_store(data: &Path, version: u32) {
    let dump =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../migrations/fixtures/v{version:04}.dump"));
    let unhex = |digits: &str| -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(digit).collect()
    };
    let config = sled::Config::new().path(data.join("sled")).segment_size(16 << 20).flush_every_ms(None);
    let db = config.open().unwrap();
    for line in fs::read_to_string(dump).unwrap().lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        db.insert(unhex(key), unhex(value)).unwrap();
    }
    db.flush().unwrap();
}

#[test]
fn a_store_of_an_older_format_is_whole_wherever_its_migration_is_cut() {
    let _turn = heavy::turn();
    let mut broker = Broker::start();
    let (mut rounds, mut early) = (0, 0);
    assert!(broker.terminate().success());
    for (version, moment) in [1, 2].into_iter().flat_map(|version| (1..24).map(move |n| (version, n))) {
        fs::remove_dir_all(broker.data()).unwrap();
        fs::create_dir(broker.data()).unwrap();
        old_store(&broker.data(), version);
        rounds += 1;
        match restart_to_crash(&mut broker, "fdatasync,fsync", moment) {
            true => broker.kill(),
            false => early += 1,
        }
        broker.restart();
        let read = broker.json("/v1/events?topic=**&from=earliest");
        let field = |name: &str| -> Vec<&Value> {
            read["events"].as_array().unwrap().iter().map(|event| &event[name]).collect()
        };
        let what = format!("version {version}, cut at barrier {moment}: {read}");
        assert_eq!(field("topic"), ["stocks.ibm", "é.日本", "b", "b", "b"], "{what}");
        let data = field("data");
        assert_eq!(
            (data[1], data[2], data[4]),
            (&json!("\u{1F680}\r\n"), &json!(""), &json!("after the checkpoint")),
            "{what}"
        );
        broker.check_counts();
        assert!(broker.terminate().success());
        broker.verify();
    }
    println!("{rounds} migrations, {early} of them cut before anything was answered");
    assert!(early > rounds / 2, "only {early} of {rounds} were cut on the way");
}
