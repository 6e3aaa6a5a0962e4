//! Compaction by key: of every key the newest event stays, and nobody who reads the states of keys misses one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::heavy::{self, Numbers};
use crate::harness::history::QUICK;
use crate::harness::stream::{Publisher, Stream};
use crate::harness::{Broker, Envelope, Reader, Request, escape, shapes};

const COMPACT: &str = r#"{"compact":"key"}"#;

/// Publishes states of a few keys, every tenth event without one; returns all of them.
fn publish_states(broker: &Broker, topic: &str, count: usize) -> Vec<Envelope> {
    let line = |n: usize| {
        let mut event = json!({ "topic": topic, "data": format!("state {n}") });
        if !n.is_multiple_of(10) {
            event["key"] = format!("k{}", n * n % 37).into();
        }
        event.to_string() + "\n"
    };
    broker.publish_batch((0..count).map(line).collect::<String>());
    broker.envelopes(&format!("topic={}", escape(topic)))
}

/// What must be left of a topic: the newest event of every key, and all that have none.
fn compacted(all: &[Envelope]) -> Vec<Envelope> {
    let newest: BTreeMap<&str, &str> =
        all.iter().filter_map(|event| Some((event.key.as_deref()?, event.id.as_str()))).collect();
    let stays = |event: &&Envelope| event.key.as_deref().is_none_or(|key| newest[key] == event.id);
    all.iter().filter(stays).cloned().collect()
}

#[test]
fn the_newest_event_of_every_key_stays_as_it_was_and_events_without_a_key_are_not_touched() {
    let mut broker = Broker::quick();
    let all = publish_states(&broker, "t", 400);
    let other = publish_states(&broker, "other", 400);
    let expected = compacted(&all);
    assert!(expected.len() < 100 && expected.iter().any(|event| event.key.is_none()));
    broker.put_policy("t", COMPACT);
    broker.until_kept("t", expected.len());
    for crash in [true, false] {
        assert_eq!(broker.envelopes("topic=t"), expected, "ids, times, uuids and data are as they were");
        assert_eq!(broker.envelopes("topic=other"), other);
        assert_eq!(broker.topic("t")["first_id"], expected[0].id.as_str());
        broker.check_counts();
        if crash {
            broker.kill();
        } else {
            assert!(broker.terminate().success());
        }
        broker.restart();
    }
    let superseded = all.iter().find(|event| !expected.contains(event)).unwrap();
    broker.get(&format!("/v1/events/{}", superseded.id)).problem(410);
}

#[test]
fn superseded_events_are_no_gap() {
    let mut broker = Broker::quick();
    let all = publish_states(&broker, "t", 300);
    let expected = compacted(&all);
    broker.put_policy("t", COMPACT);
    broker.until_kept("t", expected.len());
    for _ in 0..2 {
        for cursor in ["0", &all[0].id, &all[57].id, &all[100].id, &all[298].id] {
            let (data, gap) = shapes::read(&broker, "topic=t&type=message", Some(cursor.as_bytes()));
            assert_eq!(gap, Value::Null, "after {cursor}");
            let place = crate::harness::envelope::sequence(&format!(
                "{}-00000000",
                cursor.split('-').next().unwrap()
            ));
            let after = expected.iter().filter(|event| event.sequence() > place);
            assert!(after.map(|event| &event.data).eq(&data), "after {cursor}");
        }
        let (data, gap) = shapes::read(&broker, &format!("topic=t&from={}", all[11].id), None);
        assert_eq!(gap, Value::Null, "an event to begin with that was superseded");
        assert!(!data.is_empty());
        broker.kill();
        broker.restart();
    }
}

#[test]
fn an_event_is_superseded_only_within_its_own_topic() {
    let broker = Broker::quick();
    broker.put_policy("t.*", COMPACT);
    for topic in ["t.a", "t.b", "u"] {
        for data in ["old", "new"] {
            broker.publish_state(topic, "key", data);
        }
    }
    broker.until_kept("t.a", 1);
    broker.until_kept("t.b", 1);
    broker.passed();
    assert_eq!(
        (broker.data_of("t.a"), broker.data_of("t.b")),
        (vec!["new".to_owned()], vec!["new".to_owned()])
    );
    assert_eq!(broker.data_of("u"), ["old", "new"]);
}

#[test]
fn a_tombstone_is_the_newest_of_its_key_and_stays() {
    let mut broker = Broker::quick();
    broker.put_policy("t", COMPACT);
    broker.publish_state("t", "a", "1");
    broker.publish_state("t", "b", "2");
    let deleted = broker.send(&Request::new("DELETE", "/v1/topics/t/keys/a"));
    assert_eq!(deleted.status, 201, "{deleted}");
    broker.until_kept("t", 2);
    for _ in 0..2 {
        broker.passed();
        let (data, gap) = shapes::read(&broker, "topic=t", Some(b"0"));
        assert_eq!((data, gap), (vec!["2".to_owned(), r#"{"key":"a"}"#.to_owned()], Value::Null));
        broker.kill();
        broker.restart();
    }
    // A newer state supersedes the tombstone, like any other event of the key.
    broker.publish_state("t", "a", "3");
    broker.until_kept("t", 2);
    assert_eq!(broker.data_of("t"), ["2", "3"]);
}

#[test]
fn a_tombstone_goes_after_its_time_and_who_knew_the_key_is_told() {
    let mut broker = Broker::with(&[&QUICK[..], &["--set", "tombstone_retention=1s"]].concat());
    broker.put_policy("t", COMPACT);
    let states = [broker.publish_state("t", "a", "1"), broker.publish_state("t", "b", "2")];
    let deleted = broker.send(&Request::new("DELETE", "/v1/topics/t/keys/a"));
    assert_eq!(deleted.status, 201, "{deleted}");
    let tombstone = deleted.json()["id"].as_str().unwrap().to_owned();
    broker.publish_state("t", "c", "3");
    broker.until_kept("t", 2);
    for _ in 0..2 {
        assert_eq!(
            shapes::read(&broker, "topic=t&from=earliest", None),
            (vec!["2".to_owned(), "3".to_owned()], Value::Null)
        );
        // Whoever saw the key and not its end would keep it for ever.
        let (_, gap) = shapes::read(&broker, "topic=t", Some(states[0].as_bytes()));
        assert_eq!(gap["reason"], "trimmed");
        let (data, gap) = shapes::read(&broker, "topic=t", Some(tombstone.as_bytes()));
        assert_eq!((data, gap), (vec!["3".to_owned()], Value::Null));
        broker.check_counts();
        broker.kill();
        broker.restart();
    }
}

#[test]
fn bounds_and_compaction_hold_together() {
    let broker = Broker::quick();
    let all = publish_states(&broker, "t", 200);
    broker.put_policy("t", r#"{"compact":"key","max_events":10}"#);
    broker.until_kept("t", 10);
    let expected = compacted(&all);
    assert_eq!(broker.envelopes("topic=t"), expected[expected.len() - 10..]);
    broker.check_counts();
}

#[test]
fn compaction_goes_on_as_new_states_come() {
    let broker = Broker::quick();
    broker.put_policy("t", COMPACT);
    let mut reader = Reader::open(&broker, "/v1/topics/t/events");
    reader.until("$live");
    for round in 0..5 {
        for key in 0..20 {
            broker.publish_state("t", &format!("k{key}"), &format!("{round}"));
        }
        // A reader that keeps up sees every state, and is told of no gap.
        assert!(reader.collect(20).iter().all(|event| event.data == round.to_string()));
        broker.until_kept("t", 20);
    }
    assert!(broker.data_of("t").iter().all(|data| data == "4"));
    broker.check_counts();
}

/// Publishes states of two hundred keys, numbered upwards, until told to stop or the broker is gone. Returns the newest
/// number of every key that was acknowledged.
fn publish_until(port: u16, over: &AtomicBool, batches: &AtomicUsize, first: u64) -> BTreeMap<String, u64> {
    let mut newest = BTreeMap::new();
    let mut numbers = Numbers::from_seed(first);
    let mut publisher = Publisher::connect(port).unwrap();
    for batch in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let states: Vec<(String, u64)> =
            (0..50).map(|n| (format!("k{}", numbers.below(200)), first + batch * 50 + n)).collect();
        let line = |(key, number): &(String, u64)| {
            json!({ "topic": "states", "key": key, "data": number.to_string() }).to_string() + "\n"
        };
        match publisher.post_batch(states.iter().map(line).collect::<String>().as_bytes()) {
            Ok((201, _)) => {
                newest.extend(states);
                batches.fetch_add(1, Ordering::SeqCst);
            }
            Ok((status, body)) => panic!("status {status}: {}", String::from_utf8_lossy(&body)),
            Err(_) => break,
        }
    }
    newest
}

/// Reads the states from the earliest up to the head, and checks that numbers only grow and no gap is told of.
fn states_up_to_the_head(port: u16) -> BTreeMap<String, u64> {
    let mut states = BTreeMap::new();
    let mut stream =
        Stream::open(port, "/v1/topics/states/events?from=earliest&envelope=true", None).unwrap();
    let mut before = 0;
    loop {
        assert!(stream.next().unwrap(), "the stream ended");
        match stream.block.event.as_slice() {
            b"$live" => return states,
            b"$open" => {}
            kind if kind.starts_with(b"$") => panic!("{}", String::from_utf8_lossy(kind)),
            _ => {
                let event: Value = serde_json::from_slice(&stream.block.data).unwrap();
                let number = event["data"].as_u64().unwrap();
                assert!(number > before, "{number} came after {before}");
                before = number;
                states.insert(event["key"].as_str().unwrap().to_owned(), number);
            }
        }
    }
}

#[test]
fn a_reader_from_the_earliest_gets_the_latest_states_while_compaction_runs_and_crashes_happen() {
    let _turn = heavy::turn();
    let mut broker = Broker::with(&["--set", "retention_interval=10ms"]);
    broker.put_policy("states", COMPACT);
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..4u64 {
        let (over, batches) = (AtomicBool::new(false), AtomicUsize::new(0));
        let port = broker.port();
        thread::scope(|scope| {
            let publisher = scope.spawn(|| publish_until(port, &over, &batches, 1 + round * 10_000_000));
            let mut readings = 0;
            while readings < 10 || (batches.load(Ordering::SeqCst) < 100 && !publisher.is_finished()) {
                readings += 1;
                // What was acknowledged before the reading is there, or something newer.
                let states = states_up_to_the_head(port);
                for (key, number) in &newest {
                    assert!(
                        states.get(key).is_some_and(|state| state >= number),
                        "{key} of {number}: {states:?}"
                    );
                }
            }
            if round % 2 == 0 {
                broker.kill();
            }
            over.store(true, Ordering::SeqCst);
            newest.extend(publisher.join().unwrap());
        });
        if round % 2 == 1 {
            assert!(broker.terminate().success());
        }
        broker.restart();
    }
    let keys: BTreeSet<&String> = newest.keys().collect();
    assert_eq!(keys.len(), 200, "every key was used");
    broker.until_kept("states", keys.len());
    let read = broker.envelopes("topic=states");
    for event in &read {
        let (key, number) = (event.key.as_deref().unwrap(), event.data.parse::<u64>().unwrap());
        // A batch that was in flight at a crash may be newer than what was acknowledged.
        assert!(number >= newest[key], "{key} went back to {number}");
    }
    broker.check_counts();
}
