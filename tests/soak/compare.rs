//! How much publishing feels of retention and compaction: single events are published all the time under a steady load, in
//! turns with policies that remove most of it and with policies that remove nothing, so that whatever else changes in the
//! machine concerns both alike.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Broker;
use crate::harness::stream::Publisher;
use crate::load::locked;
use crate::samples::quantile;

/// One turn. The first part of it is not counted: the other turn's work may still go on.
const TURN: Duration = Duration::from_secs(10);
const UNCOUNTED: Duration = Duration::from_secs(2);
/// The load beside the single events.
const BATCHES_PER_SECOND: u32 = 20;
const BATCH_EVENTS: u64 = 100;

const BUSY: [(&str, &str); 3] = [
    ("compare.single", r#"{"max_events":1000}"#),
    ("compare.many", r#"{"max_bytes":"2MiB"}"#),
    ("compare.states", r#"{"compact":"key"}"#),
];

/// Whose times are counted now.
const NOBODY: u64 = 0;
const WITHOUT: u64 = 1;
const WITH: u64 = 2;

/// Measures for so long and returns what it found as text.
pub(crate) fn compare(length: Duration) -> String {
    let broker = Broker::with(&["--set", "retention_interval=100ms"]);
    let port = broker.port();
    let (over, turn) = (AtomicBool::new(false), AtomicU64::new(NOBODY));
    let times: [Mutex<Vec<u32>>; 3] = Default::default();
    let removed = thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = Publisher::connect(port).expect("a connection");
            while !over.load(Ordering::SeqCst) {
                let began = Instant::now();
                let (status, _) = publisher
                    .post("/v1/topics/compare.single/events", "", b"{\"price\":182.3}")
                    .expect("an answer");
                assert_eq!(status, 201);
                let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
                locked(&times[turn.load(Ordering::SeqCst) as usize]).push(micros);
            }
        });
        scope.spawn(|| load(port, &over));
        let removed = turns(&broker, length, &turn);
        over.store(true, Ordering::SeqCst);
        removed
    });
    let [_, without, with] = times.map(|times| times.into_inner().unwrap_or_default());
    assert!(!without.is_empty() && !with.is_empty(), "too short to measure");
    report(without, with, removed)
}

/// Publishes batches at a steady rate.
fn load(port: u16, over: &AtomicBool) {
    let mut publisher = Publisher::connect(port).expect("a connection");
    let mut due = Instant::now();
    let mut number = 0;
    while !over.load(Ordering::SeqCst) {
        let line = |n: u64| {
            let data = "x".repeat(500);
            match n % 2 {
                0 => format!("{{\"topic\":\"compare.many\",\"data\":\"{n}{data}\"}}\n"),
                _ => format!(
                    "{{\"topic\":\"compare.states\",\"key\":\"k{}\",\"data\":\"{n}{data}\"}}\n",
                    n % 997
                ),
            }
        };
        let lines: String = (number..number + BATCH_EVENTS).map(line).collect();
        assert_eq!(publisher.post_batch(lines.as_bytes()).expect("an answer").0, 201);
        number += BATCH_EVENTS;
        due += Duration::from_secs(1) / BATCHES_PER_SECOND;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Takes turns, and returns how many events were removed while their times were counted.
fn turns(broker: &Broker, length: Duration, turn: &AtomicU64) -> u64 {
    let began = Instant::now();
    let mut removed = 0;
    for number in 0.. {
        if began.elapsed() >= length && number >= 4 {
            break;
        }
        let is_busy = number % 2 == 1;
        for (topic, policy) in BUSY {
            broker.put_policy(topic, if is_busy { policy } else { "{}" });
        }
        turn.store(NOBODY, Ordering::SeqCst);
        thread::sleep(UNCOUNTED);
        let before = gone(broker);
        turn.store(if is_busy { WITH } else { WITHOUT }, Ordering::SeqCst);
        thread::sleep(TURN - UNCOUNTED);
        turn.store(NOBODY, Ordering::SeqCst);
        let now = gone(broker);
        if is_busy {
            removed += now - before;
        } else {
            assert_eq!(now, before, "something was removed in a turn without policies");
        }
    }
    assert!(removed > 0, "nothing was removed in the turns with policies");
    removed
}

/// How many events are gone, as places of the log that no event has any more.
fn gone(broker: &Broker) -> u64 {
    let status = broker.json("/v1/status");
    let head = crate::harness::stream::sequence(status["head"].as_str().expect("a head").as_bytes());
    head - status["events"].as_u64().expect("events")
}

fn report(mut without: Vec<u32>, mut with: Vec<u32>, removed: u64) -> String {
    let mut text = format!(
        "publish of one event, in milliseconds ({} without and {} with retention and compaction, which removed {removed} events)\n",
        without.len(),
        with.len()
    );
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
        let (off, on) = (quantile(&mut without, share), quantile(&mut with, share));
        text += &format!("{name:>6}  {off:8.3}  {on:8.3}  ratio {:.2}\n", on / off);
    }
    text
}
