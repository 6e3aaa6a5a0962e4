//! `$broker.stats`: statistics for who follows that topic by its name, and a head that stands still for everybody else.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::history::WITHIN;
use crate::harness::{Broker, Reader, Request, heavy};

const STATS: &str = "/v1/topics/$broker.stats/events?envelope=true";
const OFTEN: [&str; 2] = ["--set", "stats_interval=50ms"];

/// The next statistics that a reader is told.
fn next(reader: &mut Reader) -> Value {
    reader.expect("stats").json()["data"].clone()
}

fn rate(stats: &Value, name: &str) -> f64 {
    stats[name].as_f64().unwrap_or_else(|| panic!("{name} in {stats}"))
}

#[test]
fn nobody_who_does_not_name_the_topic_moves_the_head() {
    let broker = Broker::with(&OFTEN);
    broker.publish("a", "x");
    let head = broker.head();
    let mut readers: Vec<Reader> = ["topic=$broker.**", "topic=$broker.*&topic=**", "topic=$broker.policies"]
        .map(|query| Reader::open(&broker, &format!("/v1/events?{query}")))
        .into();
    readers.iter_mut().for_each(|reader| drop(reader.until("$live")));
    let page = broker.send(&Request::page("/v1/topics/$broker.stats/events?from=earliest"));
    assert_eq!(page.json()["events"].as_array().map(Vec::len), Some(0), "{page}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(broker.head(), head);
    assert_eq!(broker.get("/v1/topics/$broker.stats").status, 404);
}

#[test]
fn who_names_the_topic_is_told_at_once_what_the_status_says_and_it_ends_with_the_stream() {
    let broker = Broker::with(&OFTEN);
    broker.publish_many("a", 0..50);
    let mut reader = Reader::open(&broker, STATS);
    reader.until("$live");
    let stats = next(&mut reader);
    let status = broker.json("/v1/status");
    assert_eq!(stats["streams"], 1);
    assert!(stats["events"].as_u64() >= Some(50) && stats["events"].as_u64() <= status["events"].as_u64());
    assert!(stats["bytes"].as_u64().unwrap() > 50 && rate(&stats, "bytes_on_disk") > 0.0, "{stats}");
    drop(reader);
    heavy::eventually("the stream is gone", WITHIN, || broker.json("/v1/status")["connections"] == 0);
    // One may be on its way while the stream goes.
    let settled = || {
        let before = broker.head();
        std::thread::sleep(Duration::from_millis(300));
        broker.head() == before
    };
    heavy::eventually("the head stands still again", WITHIN, settled);
}

#[test]
fn what_is_published_and_delivered_is_in_the_rates_once() {
    const EVENTS: usize = 400;
    let broker = Broker::with(&OFTEN);
    let mut watcher = Reader::open(&broker, STATS);
    let mut reader = Reader::open(&broker, "/v1/topics/a/events");
    for stream in [&mut watcher, &mut reader] {
        stream.until("$live");
    }
    next(&mut watcher);
    broker.publish_many("a", 0..EVENTS);
    for _ in 0..EVENTS {
        reader.expect("message");
    }
    let (mut published, mut delivered) = (0.0, 0.0);
    let begun = Instant::now();
    // Each event of the statistics themselves is delivered to the one who watches.
    while (published < EVENTS as f64 || delivered < EVENTS as f64) && begun.elapsed() < WITHIN {
        let stats = next(&mut watcher);
        published += (rate(&stats, "events_per_second") * rate(&stats, "seconds")).round();
        delivered += (rate(&stats, "deliveries_per_second") * rate(&stats, "seconds")).round() - 1.0;
    }
    assert_eq!(published, EVENTS as f64);
    assert!(
        (delivered - EVENTS as f64).abs() < EVENTS as f64 / 4.0,
        "{delivered} of {EVENTS} were delivered"
    );
}

#[test]
fn a_page_that_waits_for_statistics_gets_them() {
    let broker = Broker::with(&OFTEN);
    let page = broker.send(&Request::page("/v1/topics/$broker.stats/events?wait=60"));
    assert_eq!(page.json()["events"][0]["type"], "stats", "{page}");
}

#[test]
fn with_an_interval_of_zero_nothing_is_told() {
    let broker = Broker::with(&["--set", "stats_interval=0"]);
    let mut reader = Reader::open(&broker, STATS);
    reader.until("$live");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(broker.get("/v1/topics/$broker.stats").status, 404);
}
