//! Publishers at full rate, readers of every speed, all kinds of policies and crashes, all at once: every ledger is exact.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::heavy::{self, Numbers};
use crate::harness::ledger::Ledger;
use crate::harness::stream::{Publisher, Stream, sequence};
use crate::harness::{Broker, Connection, PATIENCE, Request};
use crate::overtaken::{Published, note, of_topics};

/// What all publishers were answered, and the end of them.
#[derive(Default)]
struct Load {
    published: Mutex<Published>,
    over: AtomicBool,
}

/// Publishes batches of one to twenty events to one topic until the end. Over a crash the batch in flight is not sent
/// again: what the broker says is the topic's last event tells whether it was taken.
fn publish_load(port: u16, topic: &str, load: &Load) {
    let mut numbers = Numbers::from_seed(topic.len() as u64);
    let mut connection: Option<Publisher> = None;
    let mut last = 0;
    while !load.over.load(Ordering::SeqCst) {
        let Some(publisher) = connection.as_mut() else {
            connection = Publisher::connect(port).ok();
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let count = 1 + numbers.below(20);
        let line = |n| json!({ "topic": topic, "data": "x".repeat(n as usize * 11) }).to_string() + "\n";
        match publisher.post_batch((0..count).map(line).collect::<String>().as_bytes()) {
            Ok((201, body)) => {
                let mut published = load.published.lock().unwrap();
                note(&body, &mut published);
                last = *published.iter().rfind(|(_, of)| *of == topic).unwrap().0;
            }
            Ok((503, _)) => {}
            Ok((status, body)) => panic!("status {status}: {}", String::from_utf8_lossy(&body)),
            Err(_) => {
                connection = None;
                let now = last_place(port, topic);
                // A batch lies on neighbouring places.
                if now > last {
                    let mut published = load.published.lock().unwrap();
                    published.extend((now + 1 - count..=now).map(|n| (n, topic.to_owned())));
                    last = now;
                }
            }
        }
    }
}

/// The sequence of a topic's newest event, asked until there is an answer; 0 if it never had one.
fn last_place(port: u16, topic: &str) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(mut connection) = Connection::try_open(port) {
            connection.send(&Request::page(&format!("/v1/topics/{topic}")).bytes(port));
            if let Ok(head) = connection.try_head(false)
                && head.status != 503
                && let Ok(Some(body)) = connection.piece(PATIENCE)
            {
                let told: Value = serde_json::from_slice(&body).unwrap();
                return told["last_id"].as_str().map_or(0, |id| sequence(id.as_bytes()));
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("nobody told of {topic} within {PATIENCE:?}");
}

/// The last event of every topic.
const END: &str = "the end";

/// Follows topics over all crashes until the end, and now and then leaves by itself. A slow one rests between events, until
/// nothing more is published.
fn follow(port: u16, query: &str, rest: Duration, over: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::new(0);
    let mut numbers = Numbers::from_seed(query.len() as u64);
    let deadline = Instant::now() + Duration::from_secs(150);
    // The epoch is not known before the first block; a bare number is a cursor too.
    let mut cursor = "0".to_owned();
    loop {
        assert!(Instant::now() < deadline, "{query} came only to {}", ledger.cursor());
        let Ok(mut stream) = Stream::open(port, &format!("/v1/events?{query}"), Some(&cursor)) else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        for _ in 0..1 + numbers.below(3_000) {
            match stream.next() {
                Ok(true) if ledger.take(&stream.block) => cursor = stream.block.id_text().to_owned(),
                _ => break,
            }
            if stream.block.data == END.as_bytes() {
                return ledger;
            }
            thread::sleep(if over.load(Ordering::SeqCst) { Duration::ZERO } else { rest });
        }
    }
}

#[test]
fn every_ledger_is_exact_under_load_while_everything_is_removed_and_the_broker_crashes() {
    let _turn = heavy::turn();
    let mut broker = Broker::with(&["--set", "retention_interval=10ms", "--set", "heartbeat=100ms"]);
    let port = broker.port();
    broker.put_policy("load.few", r#"{"max_events":20}"#);
    broker.put_policy("load.none", r#"{"max_events":0}"#);
    broker.put_policy("load.bytes", r#"{"max_bytes":"4KiB"}"#);
    broker.put_policy("load.young", r#"{"max_age":"50ms"}"#);
    let topics = ["load.few", "load.none", "load.bytes", "load.young", "load.all"];
    let readers = [
        ("topic=load.few", 0),
        ("topic=load.few", 3),
        ("topic=load.none", 0),
        ("topic=load.bytes&quiet=true", 2),
        ("topic=load.young&topic=load.none", 1),
        ("topic=load.*", 0),
        ("topic=**", 1),
    ];
    let load = Load::default();
    let ledgers: Vec<Ledger> = thread::scope(|scope| {
        let publishers: Vec<_> =
            topics.iter().map(|topic| scope.spawn(|| publish_load(port, topic, &load))).collect();
        let followers: Vec<_> = readers
            .iter()
            .map(|(query, rest)| {
                scope.spawn(|| follow(port, query, Duration::from_millis(*rest), &load.over))
            })
            .collect();
        for _ in 0..5 {
            let before = load.published.lock().unwrap().len();
            heavy::eventually("a round is published", Duration::from_secs(60), || {
                load.published.lock().unwrap().len() > before + 1_500
            });
            broker.kill();
            broker.restart();
        }
        load.over.store(true, Ordering::SeqCst);
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        // An event of every topic that stays until all have read it.
        for topic in topics {
            broker.put_policy(topic, "{}");
            let id = broker.publish(topic, END);
            load.published.lock().unwrap().insert(sequence(id.as_bytes()), topic.to_owned());
        }
        followers.into_iter().map(|follower| follower.join().unwrap()).collect()
    });
    let published = load.published.into_inner().unwrap();
    for (ledger, (query, rest)) in ledgers.iter().zip(&readers) {
        let of: Vec<&str> =
            topics.into_iter().filter(|topic| query.contains('*') || query.contains(topic)).collect();
        let exact = ledger.check(&of_topics(&published, &of));
        println!("{query}, resting {rest} ms: {exact:?}");
        assert!(exact.seen > 0);
    }
    broker.check_counts();
}
