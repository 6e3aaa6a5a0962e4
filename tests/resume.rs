//! Promise 3: over all its reconnects a reader receives every matching event once, in order, wherever it was cut.

use std::thread;

use crate::harness::envelope::sequence;
use crate::harness::sse::{Item, Parser};
use crate::harness::{Broker, Reader, SseEvent, data_file};

/// The ids of published events.
fn ids_of(events: &[SseEvent]) -> Vec<String> {
    events.iter().filter(|event| !event.kind.starts_with('$')).map(|event| event.id.clone()).collect()
}

/// What a browser made of the bytes up to a cut: the ids of the events it got, and the id it would come back with.
fn understood(bytes: &[u8]) -> (Vec<String>, String) {
    let mut parser = Parser::strict();
    let items = parser.feed(bytes);
    let events: Vec<SseEvent> = items
        .into_iter()
        .filter_map(|item| match item {
            Item::Event(event) => Some(event),
            Item::Comment(_) => None,
        })
        .collect();
    (ids_of(&events), parser.last_event_id().to_owned())
}

/// Everything that a reader gets who comes back with this id, up to the head; it may not be told of a gap.
fn rest(broker: &Broker, target: &str, id: &str) -> Vec<String> {
    let mut reader = Reader::resume(broker, target, id);
    let events = reader.until("$live");
    assert!(events.iter().all(|event| event.kind != "$gap"), "{events:?}");
    ids_of(&events)
}

fn some_events(broker: &Broker) {
    let texts = ["one", "two\nlines", "", "{\"four\":4}", "é\r\n\u{1F680}", "six", "id: 1\n\n", "eight"];
    for (n, text) in texts.iter().enumerate() {
        let topic = ["a", "b.c", "other"][n % 3];
        let query = ["", "?type=x", "?type=y&origin=me"][n % 3];
        assert_eq!(broker.post(&format!("/v1/topics/{topic}/events{query}"), text).status, 201);
    }
}

const TARGET: &str = "/v1/events?topic=a&topic=b.*&exclude_origin=me";

/// The number of bytes of a whole replay, which differs by the length of what names the connection.
fn length_of_replay(broker: &Broker, target: &str) -> (usize, Vec<String>) {
    let mut reader = Reader::open(broker, &format!("{target}&from=earliest"));
    let events = reader.until("$live");
    (events.iter().map(|event| event.raw.len()).sum(), ids_of(&events))
}

#[test]
fn a_stream_cut_at_any_byte_resumes_exactly() {
    let broker = Broker::start();
    some_events(&broker);
    let (length, all) = length_of_replay(&broker, TARGET);
    assert_eq!(all.len(), 6);
    let origin = format!("0-{}", broker.epoch());
    for cut in 0..=length {
        let bytes = Reader::cut_after(&broker, TARGET, Some(&origin), cut);
        let (mut got, mut id) = understood(&bytes);
        if id.is_empty() {
            // Cut before its first block, it comes back with what it had.
            id.clone_from(&origin);
        }
        got.extend(rest(&broker, TARGET, &id));
        assert_eq!(got, all, "cut after {cut} bytes: {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_client_that_takes_ids_early_is_exact_but_for_one_byte() {
    let broker = Broker::start();
    some_events(&broker);
    let (length, all) = length_of_replay(&broker, TARGET);
    let origin = format!("0-{}", broker.epoch());
    let bytes = Reader::cut_after(&broker, TARGET, Some(&origin), length);
    let mut chances = 0;
    for cut in 0..bytes.len() {
        let mut parser = Parser::strict();
        parser.feed(&bytes[..cut]);
        if parser.eager_id() != parser.last_event_id() {
            assert!(
                bytes[..cut].ends_with(b"\n") && bytes[cut] == b'\n',
                "an id stands before the end of its block"
            );
            chances += 1;
        }
    }
    assert!(chances <= all.len() + 2, "{chances} bytes are left to chance");
}

#[test]
fn a_reader_that_resumes_after_every_single_event_gets_each_once() {
    let broker = Broker::start();
    broker.publish_batch(data_file("wikipedia-edits.ndjson"));
    for target in ["/v1/events?topic=wiki.*", "/v1/events?topic=wiki.en&topic=wiki.vi&type=edit"] {
        let (_, all) = length_of_replay(&broker, target);
        let mut got: Vec<String> = Vec::new();
        let mut id = "0".to_owned();
        while got.len() < all.len() {
            let mut reader = Reader::resume(&broker, target, &id);
            reader.expect("$open");
            let event = reader.next();
            id.clone_from(&event.id);
            got.push(event.id);
        }
        assert_eq!(got, all, "{target}");
        assert!(rest(&broker, target, &id).is_empty());
    }
}

/// Pseudo-random numbers that are the same in every run.
fn numbers() -> impl Iterator<Item = usize> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    })
}

#[test]
fn real_events_arrive_once_over_cuts_at_random_bytes_crashes_and_restarts() {
    let mut broker = Broker::start();
    let text = String::from_utf8(data_file("wikipedia-edits.ndjson")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut batches = lines.chunks(3);
    let mut published: Vec<String> = broker.publish_batch(batches.next().unwrap().join("\n"));
    let target = "/v1/events?topic=wiki.**";
    let (mut got, mut id) = (Vec::new(), "0".to_owned());
    for (turn, number) in numbers().enumerate() {
        if turn % 40 == 39 {
            broker.kill();
            broker.restart();
        }
        if turn % 40 == 19 {
            assert!(broker.terminate().success());
            broker.restart();
        }
        let Some(batch) = batches.next() else { break };
        published.extend(broker.publish_batch(batch.join("\n")));
        let missing: usize = published.len() - got.len();
        // Never more than is certainly there, so that no read waits for what is not published.
        let bytes = Reader::cut_after(&broker, target, Some(&id), number % (missing * 400 + 150));
        let (ids, last) = understood(&bytes);
        got.extend(ids);
        if !last.is_empty() {
            id = last;
        }
    }
    got.extend(rest(&broker, target, &id));
    assert_eq!(got, published);
}

#[test]
fn a_reader_resumes_exactly_after_a_crash_with_nothing_published_since() {
    let mut broker = Broker::start();
    some_events(&broker);
    let (_, all) = length_of_replay(&broker, TARGET);
    let head = broker.head();
    for crash in [true, false, true] {
        if crash {
            broker.kill();
        } else {
            assert!(broker.terminate().success());
        }
        broker.restart();
        assert_eq!(broker.head(), head, "starting and stopping does not move the head");
        for (n, id) in all.iter().enumerate() {
            assert_eq!(rest(&broker, TARGET, id), all[n + 1..]);
        }
        assert!(rest(&broker, TARGET, &head).is_empty());
    }
    let next = broker.publish("a", "after the crash");
    assert!(sequence(&next) > sequence(&head), "no sequence is used twice");
    assert_eq!(rest(&broker, TARGET, &head), [next]);
}

#[test]
fn a_reader_that_has_only_seen_open_misses_nothing() {
    let mut broker = Broker::start();
    broker.publish("a", "before");
    let mut reader = Reader::open(&broker, TARGET);
    let open = reader.expect("$open");
    drop(reader);
    broker.publish("other", "x");
    let missed = [broker.publish("a", "missed"), broker.publish("b.c", "too")];
    assert_eq!(rest(&broker, TARGET, &open.id), missed);
    broker.kill();
    broker.restart();
    assert_eq!(rest(&broker, TARGET, &open.id), missed);
}

#[test]
fn a_reader_of_an_empty_log_misses_nothing() {
    let mut broker = Broker::start();
    let mut reader = Reader::open(&broker, TARGET);
    reader.until("$live");
    let id = reader.last_event_id().to_owned();
    broker.kill();
    drop(reader);
    broker.restart();
    let first = broker.publish("a", "the first event of all");
    assert_eq!(rest(&broker, TARGET, &id), [first]);
}

#[test]
fn a_reader_that_has_only_seen_a_cursor_misses_nothing() {
    let mut broker = Broker::with(&["--set", "heartbeat=200ms"]);
    let mut reader = Reader::open(&broker, "/v1/events?topic=a");
    reader.until("$live");
    let passed = broker.publish("other", "x");
    assert_eq!(reader.expect("$cursor").id, passed);
    broker.kill();
    drop(reader);
    broker.restart();
    let missed = broker.publish("a", "missed");
    let mut reader = Reader::resume(&broker, "/v1/events?topic=a", &passed);
    assert_eq!(reader.expect("$open").id, passed);
    assert_eq!(ids_of(&reader.until("$live")), [missed]);
}

#[test]
fn a_reader_that_comes_and_goes_while_events_flow_gets_each_once() {
    let broker = Broker::start();
    let (published, got) = thread::scope(|scope| {
        let publisher =
            scope.spawn(|| (0..300).map(|n| broker.publish("a", format!("{n}"))).collect::<Vec<_>>());
        let (mut got, mut id) = (Vec::new(), "0".to_owned());
        for number in numbers() {
            let mut reader = Reader::resume(&broker, "/v1/events?topic=a", &id);
            for event in reader.collect((number % 9 + 1).min(300 - got.len())) {
                id.clone_from(&event.id);
                got.push(event.id);
            }
            if got.len() == 300 {
                break;
            }
        }
        (publisher.join().unwrap(), got)
    });
    assert_eq!(got, published);
}

#[test]
fn many_readers_see_one_order() {
    let broker = Broker::start();
    let orders: Vec<Vec<String>> = thread::scope(|scope| {
        let mut readers: Vec<Reader> = (0..8).map(|_| Reader::open(&broker, "/v1/events?topic=**")).collect();
        for reader in &mut readers {
            reader.until("$live");
        }
        for publisher in 0..4 {
            let broker = &broker;
            scope.spawn(move || {
                (0..25).for_each(|n| drop(broker.publish(&format!("p{publisher}"), format!("{n}"))))
            });
        }
        let threads: Vec<_> =
            readers.into_iter().map(|mut reader| scope.spawn(move || ids_of(&reader.collect(100)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let expected: Vec<String> = broker.envelopes("topic=**").into_iter().map(|e| e.id).collect();
    assert!(orders.iter().all(|order| *order == expected));
}
