//! Readers that are under way when history is removed: over all its connections each gets every event once, in order, or
//! is told of a gap in its place.
//!
//! A slow reader is one whose socket is not read while the history is removed. Kernel buffers hold a few MiB, so what
//! waits for it here is larger; what it gets before the gap is what they held.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::heavy;
use crate::harness::ledger::Ledger;
use crate::harness::stream::{Publisher, Stream, sequence};
use crate::harness::{Broker, Connection, PATIENCE, Request};

const KIB: usize = 1_024;
const EVENTS: usize = 4_000;

pub(crate) type Published = BTreeMap<u64, String>;

/// Publishes about 64 MiB in turn to some topics.
fn publish_much(broker: &Broker, topics: &[&str], published: &mut Published) {
    let mut publisher = Publisher::connect(broker.port()).unwrap();
    let data = "z".repeat(16 * KIB);
    for batch in 0..EVENTS / 100 {
        let topic = |n: usize| topics[(batch * 100 + n) % topics.len()];
        let line = |n: usize| format!("{{\"topic\":\"{}\",\"data\":\"{n}{data}\"}}\n", topic(n));
        let (status, body) = publisher.post_batch((0..100).map(line).collect::<String>().as_bytes()).unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        note(&body, published);
    }
}

/// Notes the events of a batch's answer.
pub(crate) fn note(body: &[u8], published: &mut Published) {
    let answer: Value = serde_json::from_slice(body).unwrap();
    for event in answer["events"].as_array().unwrap() {
        published.insert(event["sequence"].as_u64().unwrap(), event["topic"].as_str().unwrap().to_owned());
    }
}

/// Only the events of these topics.
pub(crate) fn of_topics(published: &Published, topics: &[&str]) -> Published {
    published
        .iter()
        .filter(|(_, topic)| topics.contains(&topic.as_str()))
        .map(|(n, t)| (*n, t.clone()))
        .collect()
}

/// Reads blocks until the first of a type, that one too.
fn read_until(stream: &mut Stream, ledger: &mut Ledger, kind: &[u8]) {
    loop {
        assert!(stream.next().unwrap(), "the stream ended at {}", ledger.cursor());
        assert!(ledger.take(&stream.block), "the stream closed at {}", ledger.cursor());
        if stream.block.event == kind {
            return;
        }
    }
}

fn read_events(stream: &mut Stream, ledger: &mut Ledger, count: usize) {
    let until = ledger.seen() + count;
    while ledger.seen() < until {
        assert!(stream.next().unwrap(), "the stream ended at {}", ledger.cursor());
        assert!(ledger.take(&stream.block), "the stream closed at {}", ledger.cursor());
    }
}

#[test]
fn a_slow_stream_is_told_of_the_gap_in_its_place() {
    let _turn = heavy::turn();
    let broker = Broker::quick();
    let mut published = Published::new();
    publish_much(&broker, &["t"], &mut published);
    let mut ledger = Ledger::new(0);
    let mut stream = Stream::open(broker.port(), "/v1/topics/t/events?from=earliest", None).unwrap();
    read_events(&mut stream, &mut ledger, 10);
    broker.put_policy("t", r#"{"max_events":50}"#);
    broker.until_kept("t", 50);
    read_until(&mut stream, &mut ledger, b"$live");
    let exact = ledger.check(&published);
    assert_eq!((exact.gaps, exact.seen + exact.missing), (1, EVENTS), "{exact:?}");
    assert!(exact.seen < EVENTS / 2, "it was not overtaken: {exact:?}");
    // It is live like any other.
    let next = broker.publish("t", "next");
    read_events(&mut stream, &mut ledger, 1);
    assert_eq!(ledger.cursor(), sequence(next.as_bytes()));
}

#[test]
fn a_slow_stream_of_several_topics_misses_only_what_was_removed() {
    let _turn = heavy::turn();
    let broker = Broker::quick();
    let mut published = Published::new();
    publish_much(&broker, &["a", "b", "c"], &mut published);
    let open = |topics: &str, quiet: bool| {
        let target = format!("/v1/events?{topics}&from=earliest&quiet={quiet}");
        Stream::open(broker.port(), &target, None).unwrap()
    };
    let mut readers = [
        (open("topic=*", false), vec!["a", "b", "c"]),
        (open("topic=a&topic=b", false), vec!["a", "b"]),
        (open("topic=b&topic=c", false), vec!["b", "c"]),
        (open("topic=**", true), vec!["a", "b", "c"]),
    ];
    let mut ledgers: Vec<Ledger> = readers.iter().map(|_| Ledger::new(0)).collect();
    for ((stream, _), ledger) in readers.iter_mut().zip(&mut ledgers) {
        read_events(stream, ledger, 10);
    }
    broker.put_policy("a", r#"{"max_events":100}"#);
    broker.until_kept("a", 100);
    broker.publish("a", "the end of a");
    for ((stream, topics), ledger) in readers.iter_mut().zip(&mut ledgers) {
        let of = of_topics(&published, topics);
        let last = *of.last_key_value().unwrap().0;
        while ledger.cursor() < last {
            assert!(stream.next().unwrap() && ledger.take(&stream.block));
        }
        let exact = ledger.check(&of);
        assert_eq!(exact.gaps > 0, topics.contains(&"a"), "{topics:?} {exact:?}");
        assert_eq!(exact.missing > 0, topics.contains(&"a"), "{topics:?} {exact:?}");
        // What b and c lost would be silent to a wrong ledger: nothing.
        let kept = of_topics(&of, &["b", "c"]).len();
        assert!(exact.seen >= kept, "{topics:?} {exact:?}");
    }
}

#[test]
fn ndjson_has_the_gap_as_a_line_in_its_place() {
    let _turn = heavy::turn();
    let broker = Broker::quick();
    let mut published = Published::new();
    publish_much(&broker, &["t"], &mut published);
    let mut connection = Connection::open(broker.port());
    let request =
        Request::new("GET", "/v1/topics/t/events?from=earliest").header("Accept", "application/x-ndjson");
    connection.send(&request.bytes(broker.port()));
    assert_eq!(connection.head(false).status, 200);
    broker.put_policy("t", r#"{"max_events":50}"#);
    broker.until_kept("t", 50);
    let mut text = Vec::new();
    while let Some(piece) = connection.piece(PATIENCE).expect("the rest of the lines") {
        text.extend(piece);
    }
    let mut ledger = Ledger::new(0);
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().for_each(|line| ledger.take_line(line));
    let exact = ledger.check(&published);
    assert_eq!((exact.gaps, exact.seen + exact.missing), (1, EVENTS), "{exact:?}");
    assert_eq!(ledger.cursor(), *published.last_key_value().unwrap().0);
}

#[test]
fn a_page_ends_before_a_gap_and_the_next_page_tells_of_it() {
    let _turn = heavy::turn();
    let broker = Broker::quick();
    let mut published = Published::new();
    publish_much(&broker, &["t"], &mut published);
    let mut connection = Connection::open(broker.port());
    connection.send(&Request::page("/v1/topics/t/events?from=earliest&limit=10000").bytes(broker.port()));
    assert_eq!(connection.head(false).status, 200);
    broker.put_policy("t", r#"{"max_events":50}"#);
    broker.until_kept("t", 50);
    let mut body = Vec::new();
    while let Some(piece) = connection.piece(PATIENCE).expect("the rest of the page") {
        body.extend(piece);
    }
    let mut ledger = Ledger::new(0);
    let mut page: Value = serde_json::from_slice(&body).unwrap();
    let mut pages = 1;
    loop {
        if !page["gap"].is_null() {
            ledger.gap(&page["gap"], page["gap"]["resumed_after"].as_str().unwrap());
        }
        for event in page["events"].as_array().unwrap() {
            ledger.take_line(&event.to_string());
        }
        let next = page["next"].as_str().unwrap().to_owned();
        assert!(sequence(next.as_bytes()) >= ledger.cursor(), "{next}");
        if page["events"].as_array().unwrap().is_empty() && page["gap"].is_null() {
            break;
        }
        pages += 1;
        page = broker.json(&format!("/v1/topics/t/events?last_event_id={next}&limit=10000"));
    }
    let exact = ledger.check(&published);
    assert_eq!((exact.gaps, exact.seen + exact.missing), (1, EVENTS), "{exact:?}");
    assert!(pages >= 3, "the first page went over the gap");
}

#[test]
fn a_slow_stream_is_overtaken_more_than_once_and_by_purges_too() {
    let _turn = heavy::turn();
    let broker = Broker::quick();
    let mut published = Published::new();
    publish_much(&broker, &["t", "u"], &mut published);
    let mut ledger = Ledger::new(0);
    let mut stream = Stream::open(broker.port(), "/v1/events?topic=*&from=earliest", None).unwrap();
    for round in 0..3 {
        // So much that the broker goes on, whatever the kernel and its pages hold.
        read_events(&mut stream, &mut ledger, 100);
        match round {
            0 => drop(broker.put_policy("t", r#"{"max_events":1000}"#)),
            1 => drop(broker.purge("t")),
            _ => drop(broker.put_policy("u", r#"{"max_bytes":"8MiB"}"#)),
        }
        broker.passed();
        publish_much(&broker, &["t", "u"], &mut published);
    }
    read_until(&mut stream, &mut ledger, b"$live");
    let exact = ledger.check(&published);
    assert!(exact.gaps >= 2 && exact.missing > EVENTS / 4, "{exact:?}");
}

#[test]
fn a_slow_reader_that_was_cut_by_a_crash_resumes_over_the_gap() {
    let _turn = heavy::turn();
    let mut broker = Broker::quick();
    let mut published = Published::new();
    publish_much(&broker, &["t"], &mut published);
    let mut ledger = Ledger::new(0);
    let mut stream = Stream::open(broker.port(), "/v1/topics/t/events?from=earliest", None).unwrap();
    read_events(&mut stream, &mut ledger, 10);
    broker.put_policy("t", r#"{"max_events":50}"#);
    broker.kill();
    drop(stream);
    broker.restart();
    let cursor = format!("{}-{}", ledger.cursor(), broker.epoch());
    let mut stream = Stream::open(broker.port(), "/v1/topics/t/events", Some(&cursor)).unwrap();
    read_events(&mut stream, &mut ledger, 10);
    broker.until_kept("t", 50);
    read_until(&mut stream, &mut ledger, b"$live");
    let exact = ledger.check(&published);
    assert_eq!(exact.seen + exact.missing, EVENTS, "{exact:?}");
    assert!(exact.gaps >= 1 && exact.missing > 0, "{exact:?}");
}
