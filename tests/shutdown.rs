//! The end of a broker that is asked to stop: every stream is told, nothing is lost, and the port is free.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Broker, Connection, Reader, Request, heavy};

#[test]
fn every_stream_is_told_and_ends_properly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Broker::start();
        let id = broker.publish("t", "x");
        let targets = ["/v1/topics/t/events", "/v1/topics/t/events?from=earliest", "/v1/events?topic=absent"];
        let mut readers: Vec<Reader> = (0..12).map(|n| Reader::open(&broker, targets[n % 3])).collect();
        for reader in &mut readers {
            reader.until("$live");
        }
        let begun = Instant::now();
        broker.signal(signal);
        let mut waits = BTreeSet::new();
        for mut reader in readers {
            let events = reader.rest();
            assert_eq!(events.len(), 1, "{events:?}");
            assert_eq!(
                (events[0].kind.as_str(), &events[0].json()["reason"]),
                ("$closing", &"shutdown".into())
            );
            assert_eq!(events[0].id, id, "the cursor is kept");
            let retry = events[0].retry.expect("a time to come back");
            assert!((500..=5_000).contains(&retry), "{retry}");
            waits.insert(retry);
        }
        assert!(waits.len() > 2, "clients would all come back at once: {waits:?}");
        assert_eq!(broker.wait().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(10));
        broker.restart();
    }
}

/// Ten thousand clients that come back in the same moment would be one more load than they were before.
#[test]
fn many_streams_are_ended_at_a_pace_and_asked_to_come_back_at_different_times() {
    let _turn = heavy::turn();
    let mut broker = Broker::with(&["--set", "drain=2s"]);
    let mut readers: Vec<Reader> = (0..400).map(|_| Reader::open(&broker, "/v1/topics/t/events")).collect();
    readers.iter_mut().for_each(|reader| drop(reader.until("$live")));
    let begun = Instant::now();
    broker.signal(Signal::TERM);
    let ends: Vec<(Duration, u64)> = thread::scope(|scope| {
        let ending: Vec<_> = readers
            .iter_mut()
            .map(|reader| {
                scope.spawn(move || {
                    let events = reader.rest();
                    let told = events.last().expect("the end");
                    assert_eq!(
                        (told.kind.as_str(), &told.json()["reason"]),
                        ("$closing", &"shutdown".into())
                    );
                    (begun.elapsed(), told.retry.expect("a time to come back"))
                })
            })
            .collect();
        ending.into_iter().map(|end| end.join().expect("a reader")).collect()
    });
    assert_eq!(broker.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let (first, last) =
        (ends.iter().map(|end| end.0).min().unwrap(), ends.iter().map(|end| end.0).max().unwrap());
    assert!(last - first >= Duration::from_secs(1), "they were ended from {first:?} to {last:?}");
    let retries: BTreeSet<u64> = ends.iter().map(|end| end.1).collect();
    assert!(ends.iter().all(|(_, retry)| (500..=5_000).contains(retry)), "{retries:?}");
    // 400 of 4,501 values: nine tenths of them are new ones, and no second of the five is left out.
    assert!(retries.len() > 300, "only {} different ones", retries.len());
    for second in 0..5 {
        assert!(retries.iter().any(|retry| retry / 1_000 == second), "none comes back in second {second}");
    }
}

#[test]
fn a_stream_that_goes_on_while_the_broker_stops_is_still_told_what_happens() {
    let mut broker = Broker::with(&["--set", "drain=3s"]);
    let mut readers: Vec<Reader> = (0..300).map(|_| Reader::open(&broker, "/v1/topics/t/events")).collect();
    readers.iter_mut().for_each(|reader| drop(reader.until("$live")));
    let mut publishing = Connection::open(broker.port());
    let publish = Request::new("POST", "/v1/topics/t/events").body("x");
    let mut ids = vec![publishing.exchange(&publish).json()["id"].as_str().expect("an id").to_owned()];
    broker.signal(Signal::TERM);
    // Whatever is still answered is in every stream that has not ended before.
    publishing.send(&publish.bytes(broker.port()));
    if publishing.try_head(false).is_ok_and(|head| head.status == 201) {
        ids.push(String::new());
    }
    for mut reader in readers {
        let events = reader.rest();
        let got = events.iter().filter(|event| event.kind == "message").count();
        assert!(events.last().is_some_and(|event| event.kind == "$closing"), "{events:?}");
        assert!((1..=ids.len()).contains(&got) && events[0].id == ids[0], "{events:?}");
    }
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn a_quiet_stream_is_told_too() {
    let mut broker = Broker::start();
    let mut reader = Reader::open(&broker, "/v1/topics/t/events?quiet=true");
    broker.publish("t", "x");
    reader.collect(1);
    broker.signal(Signal::TERM);
    let events = reader.rest();
    assert!(events.len() == 1 && events[0].kind == "$closing", "{events:?}");
    assert!(broker.wait().success());
}

#[test]
fn a_broker_without_readers_stops_at_once() {
    let mut broker = Broker::start();
    broker.publish("t", "x");
    // A connection that is open and says nothing is no reason to wait.
    let silent = Connection::open(broker.port());
    let mut half = Connection::open(broker.port());
    half.send(b"POST /v1/topics/t/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
    let begun = Instant::now();
    assert_eq!(broker.terminate().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop((silent, half));
    broker.restart();
    assert_eq!(broker.data_of("t"), ["x"]);
}

#[test]
fn a_reader_goes_on_exactly_after_a_shutdown() {
    let mut broker = Broker::start();
    let mut expected = Vec::new();
    let mut got = Vec::new();
    let mut reader = Reader::open(&broker, "/v1/topics/t/events");
    reader.until("$live");
    for round in 0..3 {
        for n in 0..5 {
            expected.push(broker.publish("t", format!("{round}.{n}")));
        }
        broker.signal(Signal::TERM);
        let mut events = reader.rest();
        assert_eq!(events.pop().expect("the end of the stream").kind, "$closing");
        got.extend(events.into_iter().filter(|event| !event.kind.starts_with('$')).map(|event| event.id));
        assert!(broker.wait().success());
        broker.restart();
        let id = reader.last_event_id().to_owned();
        expected.push(broker.publish("t", "while it was away"));
        reader = Reader::resume(&broker, "/v1/topics/t/events", &id);
        assert_eq!(reader.expect("$open").id, id);
    }
    got.extend(
        reader.until("$live").into_iter().filter(|event| !event.kind.starts_with('$')).map(|event| event.id),
    );
    assert_eq!(got, expected);
}

#[test]
fn a_reader_that_does_not_read_does_not_hold_the_broker_up() {
    let mut broker = Broker::start();
    let line = format!("{{\"topic\":\"t\",\"data\":\"{}\"}}\n", "x".repeat(100_000));
    broker.publish_batch(line.repeat(100));
    let request =
        Request::new("GET", "/v1/topics/t/events?from=earliest").header("Accept", "text/event-stream");
    let mut stalled: Vec<Connection> = (0..3).map(|_| Connection::open(broker.port())).collect();
    for connection in &mut stalled {
        connection.send(&request.bytes(broker.port()));
        connection.head(false);
    }
    let begun = Instant::now();
    assert_eq!(broker.terminate().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(stalled);
    broker.restart();
    assert_eq!(broker.data_of("t").len(), 100);
}

#[test]
fn a_long_poll_does_not_hold_the_broker_up() {
    let mut broker = Broker::start();
    let mut waiting = Connection::open(broker.port());
    waiting.send(&Request::page("/v1/topics/t/events?wait=60").bytes(broker.port()));
    waiting.socket().set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    assert!(waiting.socket().peek(&mut [0]).is_err());
    let begun = Instant::now();
    broker.signal(Signal::TERM);
    if let Ok(head) = waiting.try_head(false) {
        assert!(matches!(head.status, 200 | 503), "{head:?}");
    }
    assert_eq!(broker.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_same_port_can_be_bound_again_after_a_crash_with_open_streams() {
    let mut broker = Broker::start();
    broker.publish("t", "x");
    for _ in 0..3 {
        let mut readers: Vec<Reader> =
            (0..5).map(|_| Reader::open(&broker, "/v1/topics/t/events?from=earliest")).collect();
        for reader in &mut readers {
            reader.until("$live");
        }
        broker.kill();
        broker.restart();
    }
    assert_eq!(broker.data_of("t"), ["x"]);
}
