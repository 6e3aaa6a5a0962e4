//! kill -9 under load, again and again, against a ledger that the test keeps by itself.
//!
//! What holds at the end: everything acknowledged is in the log under the id that was answered; every event with an
//! idempotency key is there once, however often it was sent; what any reader has ever seen is there unchanged, so nothing
//! visible was lost and no id was used twice; and over all its reconnects every reader saw exactly the log, in order.
//! A killed process proves nothing about power: `barrier.rs` looks at that.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::heavy::{self, Numbers};
use crate::harness::stream::{Publisher, Stream, sequence};
use crate::harness::{Broker, escape};

const ROUNDS: usize = 20;
/// Acknowledged events that a round waits for before its kill, so that no round is idle.
const ROUND_EVENTS_MIN: u64 = 150;
/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(120);
/// The last event of all, which every reader's query matches.
const END: &str = "the end";

/// What the publishers were told, shared by all of them.
#[derive(Default)]
struct Ledger {
    /// The id answered for each text of data.
    acknowledged: Mutex<HashMap<String, String>>,
    count: AtomicU64,
    retries: AtomicU64,
    over: AtomicBool,
}

impl Ledger {
    fn take(&self, data: String, answer: &Value) {
        let id = answer["id"].as_str().expect("an id").to_owned();
        let before = self.acknowledged.lock().unwrap().insert(data.clone(), id);
        assert_eq!(before, None, "{data} was acknowledged twice to one publisher");
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Events that carry more than one page of the store now and then.
fn text(publisher: usize, number: usize) -> String {
    let filler = "x".repeat(if number.is_multiple_of(50) { 20_000 } else { number % 300 });
    format!("{publisher}-{number}-{filler}")
}

/// Posts until an answer comes: over a broken connection the same request is sent again.
fn insist(
    port: u16,
    connection: &mut Option<Publisher>,
    ledger: &Ledger,
    post: impl Fn(&mut Publisher) -> std::io::Result<(u16, Vec<u8>)>,
) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < deadline, "no answer within {LIMIT:?}");
        if connection.is_none() {
            *connection = Publisher::connect(port).ok();
        }
        match connection.as_mut().map(&post) {
            Some(Ok((200 | 201, body))) => return serde_json::from_slice(&body).unwrap(),
            Some(Ok((503, _))) => thread::sleep(Duration::from_millis(5)),
            Some(Ok((status, body))) => panic!("status {status}: {}", String::from_utf8_lossy(&body)),
            Some(Err(_)) | None => {
                *connection = None;
                ledger.retries.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn publish_singly(port: u16, publisher: usize, ledger: &Ledger) {
    let mut connection = None;
    for number in 0.. {
        if ledger.over.load(Ordering::SeqCst) {
            return;
        }
        let data = text(publisher, number);
        let target = format!("/v1/topics/load.p{publisher}/events?type=single");
        let headers = format!("Idempotency-Key: {publisher}-{number}\r\n");
        let answer = insist(port, &mut connection, ledger, |to| to.post(&target, &headers, data.as_bytes()));
        ledger.take(data, &answer);
    }
}

fn publish_batches(port: u16, publisher: usize, ledger: &Ledger) {
    let mut connection = None;
    for batch in 0.. {
        if ledger.over.load(Ordering::SeqCst) {
            return;
        }
        let numbers: Vec<usize> = (batch * 20..(batch + 1) * 20).collect();
        let lines: String = numbers.iter().map(|number| line_of(publisher, *number)).collect();
        let answer = insist(port, &mut connection, ledger, |to| to.post_batch(lines.as_bytes()));
        let events = answer["events"].as_array().unwrap();
        assert_eq!(events.len(), numbers.len());
        let places: Vec<u64> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
        assert!(places.windows(2).all(|pair| pair[0] + 1 == pair[1]), "not neighbours: {places:?}");
        for (number, event) in numbers.iter().zip(events) {
            ledger.take(text(publisher, *number), event);
        }
    }
}

fn line_of(publisher: usize, number: usize) -> String {
    let data = text(publisher, number);
    format!(
        "{{\"topic\":\"load.p{publisher}\",\"type\":\"batch\",\"data\":\"{data}\",\"idempotency_key\":\"{number}\"}}\n"
    )
}

/// Without a key nothing may be sent again: an event whose answer was lost is there once or not at all.
fn publish_without_keys(port: u16, publisher: usize, ledger: &Ledger) {
    let mut connection = None;
    for number in 0.. {
        if ledger.over.load(Ordering::SeqCst) {
            return;
        }
        if connection.is_none() {
            connection = Publisher::connect(port).ok();
        }
        let Some(to) = &mut connection else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let data = text(publisher, number);
        let target = format!("/v1/topics/load.p{publisher}/events?type=bare");
        match to.post(&target, "", data.as_bytes()) {
            Ok((201, body)) => ledger.take(data, &serde_json::from_slice(&body).unwrap()),
            Ok((503, _)) => {}
            Ok((status, body)) => panic!("status {status}: {}", String::from_utf8_lossy(&body)),
            Err(_) => connection = None,
        }
    }
}

/// One reader over all its reconnects.
struct Seen {
    /// Id and data of every event, in the order in which they came.
    events: Vec<(String, String)>,
    connections: usize,
}

/// Reads a query from its beginning until the end event has come, and comes back after every cut.
fn follow(port: u16, query: &str) -> Seen {
    let mut seen = Seen { events: Vec::new(), connections: 0 };
    let mut cursor = "0".to_owned();
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let target = format!("/v1/events?{query}");
        let Ok(mut stream) = Stream::open(port, &target, Some(&cursor)) else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        seen.connections += 1;
        while let Ok(true) = stream.next() {
            let block = &stream.block;
            assert!(block.event != b"$gap", "a gap: {}", String::from_utf8_lossy(&block.data));
            if !block.id.is_empty() {
                cursor = block.id_text().to_owned();
            }
            if !block.is_broker() {
                let data = String::from_utf8(block.data.clone()).unwrap();
                seen.events.push((cursor.clone(), data));
            }
            if block.data == END.as_bytes() {
                return seen;
            }
        }
    }
    panic!("a reader of {query} came only to {cursor} within {LIMIT:?}");
}

/// Kills and restarts under load, then lets the publishers finish.
fn rounds(server: &mut Broker, ledger: &Ledger) {
    let mut numbers = Numbers::from_seed(0x51);
    for round in 0..ROUNDS {
        let before = ledger.count.load(Ordering::SeqCst);
        heavy::eventually(&format!("round {round} publishes"), Duration::from_secs(30), || {
            ledger.count.load(Ordering::SeqCst) >= before + ROUND_EVENTS_MIN
        });
        thread::sleep(Duration::from_millis(numbers.below(120)));
        server.kill();
        server.restart();
    }
    ledger.over.store(true, Ordering::SeqCst);
}

#[test]
fn twenty_crashes_under_load_lose_nothing_and_use_no_id_twice() {
    let _turn = heavy::turn();
    let mut server = Broker::start();
    let port = server.port();
    let ledger = Ledger::default();
    let queries = ["topic=**", "topic=load.p2", "topic=load.*&type=single&type=bare"];
    let seen: Vec<Seen> = thread::scope(|scope| {
        let readers = queries.map(|query| scope.spawn(move || follow(port, query)));
        let publishers = [
            scope.spawn(|| publish_singly(port, 0, &ledger)),
            scope.spawn(|| publish_singly(port, 1, &ledger)),
            scope.spawn(|| publish_batches(port, 2, &ledger)),
            scope.spawn(|| publish_batches(port, 3, &ledger)),
            scope.spawn(|| publish_without_keys(port, 4, &ledger)),
        ];
        rounds(&mut server, &ledger);
        for publisher in publishers {
            publisher.join().unwrap();
        }
        let response = server.post("/v1/topics/load.p2/events?type=single", END);
        assert_eq!(response.status, 201, "{response}");
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert!(ledger.retries.load(Ordering::SeqCst) > 0, "no publisher ever noticed a crash");

    let mut log = log_of(&server, "topic=**");
    assert_eq!(log.pop().map(|(_, data)| data).as_deref(), Some(END));
    compare_with_ledger(&log, &ledger);
    for (query, seen) in queries.iter().zip(&seen) {
        assert!(seen.connections > ROUNDS / 2, "{query}: only {} connections", seen.connections);
        let log = log_of(&server, query);
        assert!(!log.is_empty(), "{query} matches nothing");
        assert_eq!(seen.events.len(), log.len(), "{query}: a reader's count differs from the log's");
        let differs = seen.events.iter().zip(&log).find(|(seen, log)| seen != log);
        assert_eq!(differs, None, "{query}: a reader saw (left) what the log does not say (right)");
    }
    println!("{} events over {ROUNDS} crashes, {} retries", log.len(), ledger.retries.load(Ordering::SeqCst));
    assert!(server.terminate().success());
    server.restart();
    let mut again = log_of(&server, "topic=**");
    again.pop();
    assert!(again == log, "a clean stop and a start changed the log");
}

/// Id and data of every event that matches.
fn log_of(server: &Broker, query: &str) -> Vec<(String, String)> {
    let events = heavy::history(server, query);
    events.iter().map(|event| (own(&event["id"]), own(&event["data"]))).collect()
}

fn own(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

fn compare_with_ledger(log: &[(String, String)], ledger: &Ledger) {
    let places: Vec<u64> = log.iter().map(|(id, _)| sequence(id.as_bytes())).collect();
    assert!(places.is_sorted_by(|left, right| left < right), "the log's order is not strict");
    let by_data: HashMap<&str, &str> = log.iter().map(|(id, data)| (&**data, &**id)).collect();
    assert_eq!(by_data.len(), log.len(), "an event is in the log twice");
    let acknowledged = ledger.acknowledged.lock().unwrap();
    assert!(acknowledged.len() as u64 >= ROUND_EVENTS_MIN * ROUNDS as u64);
    for (data, id) in acknowledged.iter() {
        let shown = &data[..data.len().min(40)];
        assert_eq!(by_data.get(&**data), Some(&&**id), "{shown} was acknowledged as {id}");
    }
    // Beside what was acknowledged there may be events whose answer a crash swallowed, and only from publisher 4: the
    // others asked again until they had an answer.
    for (id, data) in log.iter().filter(|(_, data)| !acknowledged.contains_key(data)) {
        let shown = &data[..data.len().min(40)];
        assert!(data.starts_with("4-"), "{id} {shown} was never acknowledged");
    }
    each_publisher_in_order(log);
}

/// A publisher that waits for each answer finds its events in the order in which it sent them.
fn each_publisher_in_order(log: &[(String, String)]) {
    let mut newest: HashMap<&str, usize> = HashMap::new();
    for (id, data) in log {
        let mut parts = data.split('-');
        let (publisher, number) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
        let before = newest.insert(publisher, number);
        assert!(before.is_none_or(|before| before < number), "{id}: {publisher}-{number} after {before:?}");
        let (publisher, number) = (publisher.parse().unwrap(), number);
        assert!(*data == text(publisher, number), "{id}: the text of {publisher}-{number} has changed");
    }
    assert_eq!(newest.len(), 5, "{newest:?}");
}

#[test]
fn a_client_that_reads_while_the_broker_crashes_never_sees_an_event_that_is_gone_later() {
    let _turn = heavy::turn();
    let mut server = Broker::start();
    let target = format!("/v1/topics/{}/events", escape("crash.once"));
    let mut seen = Vec::new();
    for round in 0..5 {
        let target = target.as_str();
        let mut stream = Stream::open(server.port(), "/v1/events?topic=crash.**", None).unwrap();
        let mut publisher = Publisher::connect(server.port()).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..10_000 {
                    let data = format!("{round}-{number}");
                    if publisher.post(target, "", data.as_bytes()).is_err() {
                        break;
                    }
                }
            });
            let until = seen.len() + 100;
            while seen.len() < until && stream.next().unwrap() {
                if !stream.block.is_broker() {
                    seen.push((stream.block.id_text().to_owned(), stream.block.data.clone()));
                }
            }
            // The last event was seen this very moment.
            server.kill();
        });
        server.restart();
        let log = log_of(&server, "topic=crash.**");
        for (id, data) in &seen {
            let data = String::from_utf8_lossy(data);
            let kept = log.iter().find(|(kept, _)| kept == id);
            assert_eq!(kept.map(|(_, data)| data.as_str()), Some(&*data), "{id} was seen before the crash");
        }
    }
    assert!(seen.len() >= 500);
}
