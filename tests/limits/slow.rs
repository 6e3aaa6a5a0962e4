//! Clients that send or take slowly, and how much may be under way: what is let go, and that slow streams are not.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Broker, Connection, PATIENCE, Reader, Request, heavy};

use super::times_limited;

const TARGET: &str = "/v1/topics/t/events";

/// The head of a publish that announces a body, for the fast path or too hard for it.
fn head(length: usize, more: &str) -> Vec<u8> {
    format!("POST {TARGET} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {length}\r\n\r\n")
        .into_bytes()
}

#[test]
fn a_body_that_drips_in_has_its_time_and_is_told_so() {
    let broker = Broker::with(&["--set", "body_timeout=2s"]);
    let mut connection = Connection::open(broker.port());
    connection.send(&head(10_000, "TE: trailers\r\n"));
    let mut dripping = connection.socket().try_clone().expect("a socket");
    let begun = Instant::now();
    let drip = thread::spawn(move || {
        while dripping.write_all(b"x").is_ok() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let refused = connection.response(false).problem(408);
    assert_eq!(refused["code"], "incomplete-body");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("body_timeout")), "{refused}");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    drop(connection);
    drip.join().expect("a thread");
    assert_eq!(times_limited(&broker, "body_timeout"), 1);
    assert!(broker.data_of("t").is_empty());
}

#[test]
fn an_answer_that_nobody_takes_is_let_go_and_a_stream_is_not() {
    let broker = Broker::with(&["--set", "answer_timeout=1s", "--set", "heartbeat=200ms"]);
    let line = format!("{{\"topic\":\"t\",\"data\":\"{}\"}}\n", "x".repeat(100_000));
    for _ in 0..3 {
        broker.publish_batch(line.repeat(100));
    }
    let ask = |accept: &str| {
        let mut connection = Connection::open(broker.port());
        let request = Request::new("GET", &format!("{TARGET}?from=earliest")).header("Accept", accept);
        connection.send(&request.bytes(broker.port()));
        connection
    };
    let (mut stream, answer) = (ask("text/event-stream"), ask("application/x-ndjson"));
    heavy::eventually("the answer is let go", PATIENCE, || times_limited(&broker, "answer_timeout") == 1);
    let mut all = Vec::new();
    // It ends before its end, by a reset or without the last chunk.
    let _ = answer.socket().read_to_end(&mut all);
    assert!(!all.ends_with(b"0\r\n\r\n") && all.len() < 30_000_000, "{} bytes", all.len());
    // The stream was not read for as long, and goes on.
    assert_eq!(stream.head(false).status, 200);
    let mut got = 0;
    while got < 30_000_000 {
        got += stream.piece(PATIENCE).expect("a stream that goes on").expect("a stream without an end").len();
    }
}

#[test]
fn bodies_that_are_received_take_so_much_together_and_others_are_told_to_come_back() {
    let broker = Broker::with(&["--set", "max_bodies_in_flight=512KiB"]);
    let lines = "{\"topic\":\"t\",\"data\":\"x\"}\n".repeat(30_000);
    let never = broker.post_batch(lines).problem(413);
    let detail = never["detail"].as_str().unwrap();
    assert!(detail.contains("max_bodies_in_flight"), "nobody waits for what never comes: {detail}");
    let most = 200 * 1_024;
    for more in ["", "TE: trailers\r\n"] {
        let mut half: Vec<Connection> = (0..2).map(|_| Connection::open(broker.port())).collect();
        for connection in &mut half {
            connection.send(&[head(most + 1, more), vec![b'x'; most]].concat());
        }
        let large = Request::new("POST", TARGET).body(vec![b'y'; most]);
        heavy::eventually("there is no room for a third", PATIENCE, || {
            let refused = broker.send(&large.clone().header("TE", "trailers"));
            if refused.status != 503 {
                return false;
            }
            assert_eq!(refused.problem(503)["code"], "overloaded");
            refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok())
        });
        broker.publish("small", "x");
        for connection in &mut half {
            connection.send(b"x");
            assert_eq!(connection.response(false).status, 201, "what was being received is taken");
        }
        assert_eq!(broker.send(&large).status, 201, "there is room again");
    }
    assert!(times_limited(&broker, "max_bodies_in_flight") >= 2);
}

#[test]
fn a_stream_lives_as_long_as_it_may_and_goes_on_exactly() {
    let broker = Broker::with(&["--set", "lifetime=1s"]);
    let readers: Vec<Reader> = (0..8).map(|_| Reader::open(&broker, TARGET)).collect();
    let id = broker.publish("t", "before");
    for mut reader in readers {
        let events = reader.rest();
        let closing = events.last().expect("an end");
        assert_eq!((closing.kind.as_str(), &closing.json()["reason"]), ("$closing", &"lifetime".into()));
        assert!((500..=5_000).contains(&closing.retry.expect("a time to come back")));
        assert_eq!(closing.id, id);
    }
    // Published once all have ended: they do not end together.
    let next = broker.publish("t", "after");
    let mut again = Reader::resume(&broker, TARGET, &id);
    assert_eq!(again.expect("$open").id, id);
    let rest = again.rest();
    assert!(rest.iter().any(|event| event.id == next), "{rest:?}");
}

#[test]
fn a_stream_that_is_busy_all_the_time_ends_too() {
    let broker = Broker::with(&["--set", "lifetime=1s"]);
    let mut reader = Reader::open(&broker, TARGET);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut connection = Connection::open(broker.port());
            let request = Request::new("POST", TARGET).body("x");
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(3) {
                assert_eq!(connection.exchange(&request).status, 201);
            }
        });
        assert_eq!(reader.rest().last().expect("an end").json()["reason"], "lifetime");
        publishing.join().expect("a thread");
    });
}

#[test]
fn replays_that_wait_for_each_other_are_whole_and_have_their_heartbeats() {
    let broker = Broker::with(&["--set", "max_replays=1", "--set", "heartbeat=100ms"]);
    let line = format!("{{\"topic\":\"t\",\"data\":\"{}\"}}\n", "x".repeat(1_000));
    for _ in 0..20 {
        broker.publish_batch(line.repeat(1_000));
    }
    let target = format!("{TARGET}?from=earliest");
    // Some that never read hold no place.
    let stalled: Vec<Connection> = (0..5)
        .map(|_| {
            let mut connection = Connection::open(broker.port());
            let request = Request::new("GET", &target).header("Accept", "text/event-stream");
            connection.send(&request.bytes(broker.port()));
            connection
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut reader = Reader::open(&broker, &target);
                let events = reader.until("$live");
                let published = events.iter().filter(|event| !event.kind.starts_with('$'));
                assert_eq!(published.count(), 20_000);
            });
        }
        let mut latest = Reader::open(&broker, "/v1/topics/u/events");
        latest.until("$live");
        let id = broker.publish("u", "now");
        assert_eq!(latest.next().id, id, "who follows the head waits for nobody");
    });
    drop(stalled);
}
