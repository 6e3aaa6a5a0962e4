//! Where a reading begins: every `from`, which of several wins, and the gaps that are told, in all three shapes.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::envelope::sequence;
use crate::harness::{Broker, Reader, Request, SseEvent, escape, shapes};

/// A broker with six events, e0 to e5, in turn on topics a and b, each with a time of its own.
fn six() -> (Broker, Vec<String>) {
    let broker = Broker::start();
    let ids = (0..6)
        .map(|n| {
            thread::sleep(Duration::from_millis(3));
            broker.publish(["a", "b"][n % 2], format!("e{n}"))
        })
        .collect();
    (broker, ids)
}

const ALL: [&str; 6] = ["e0", "e1", "e2", "e3", "e4", "e5"];

fn published(events: &[SseEvent]) -> Vec<&str> {
    events.iter().filter(|e| !e.kind.starts_with('$')).map(|e| e.data.as_str()).collect()
}

/// Reads both topics with one query and header in all three shapes.
fn read(broker: &Broker, query: &str, header: Option<&[u8]>) -> (Vec<String>, Value) {
    shapes::read(broker, &format!("topic=*{query}"), header)
}

fn assert_reads(broker: &Broker, query: &str, header: Option<&str>, expected: &[&str]) {
    let (data, gap) = read(broker, query, header.map(str::as_bytes));
    assert_eq!(
        (data, gap),
        (expected.iter().map(|e| (*e).to_owned()).collect(), Value::Null),
        "{query} {header:?}"
    );
}

#[test]
fn every_from_begins_where_it_says() {
    let (broker, ids) = six();
    assert_reads(&broker, "", None, &[]);
    assert_reads(&broker, "&from=", None, &[]);
    assert_reads(&broker, "&from=latest", None, &[]);
    assert_reads(&broker, "&from=earliest", None, &ALL);
    for (n, id) in ids.iter().enumerate() {
        assert_reads(&broker, &format!("&from={id}"), None, &ALL[n..]);
        assert_reads(&broker, &format!("&from={}", sequence(id)), None, &ALL[n..]);
    }
    assert_reads(&broker, "&from=0", None, &ALL);
    assert_reads(&broker, &format!("&from=0-{}", broker.epoch()), None, &ALL);
}

#[test]
fn from_a_number_counts_what_matches() {
    let (broker, _) = six();
    for n in 1..=6 {
        assert_reads(&broker, &format!("&from=-{n}"), None, &ALL[6 - n..]);
    }
    assert_reads(&broker, "&from=-1000", None, &ALL);
    assert_eq!(broker.post("/v1/topics/a/events?type=x&origin=me", "x0").status, 201);
    broker.publish("other.b", "does not match");
    assert_reads(&broker, "&from=-2&type=message", None, &["e4", "e5"]);
    assert_reads(&broker, "&from=-2&exclude_origin=me", None, &["e4", "e5"]);
    assert_reads(&broker, "&from=-1&type=x", None, &["x0"]);
    assert_reads(&broker, "&from=-5&type=x", None, &["x0"]);
    let mut reader = Reader::open(&broker, "/v1/topics/b/events?from=-2");
    assert_eq!(published(&reader.until("$live")), ["e3", "e5"]);
    let mut reader = Reader::open(&broker, "/v1/topics/absent/events?from=-2");
    assert!(published(&reader.until("$live")).is_empty());
}

#[test]
fn from_a_time_begins_with_the_first_event_at_or_after_it() {
    let (broker, _) = six();
    let times: Vec<String> = broker.envelopes("topic=*").into_iter().map(|e| e.time).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    for (n, time) in times.iter().enumerate() {
        assert_reads(&broker, &format!("&from={}", escape(time)), None, &ALL[n..]);
        // Half a millisecond of zeros behind the last digit is later, by less than the distance of two events.
        let (whole, _) = time.split_once('Z').unwrap();
        assert_reads(&broker, &format!("&from={}", escape(&format!("{whole}5Z"))), None, &ALL[n + 1..]);
    }
    for (time, expected) in [
        ("1999-12-31T23:59:59Z", &ALL[..]),
        ("2999-01-01T00:00:00.000Z", &[]),
        ("1999-12-31T23:59:59+02:00", &ALL),
    ] {
        assert_reads(&broker, &format!("&from={}", escape(time)), None, expected);
    }
}

#[test]
fn where_a_stream_begins_is_fixed_and_named_in_open() {
    let (broker, ids) = six();
    let from = |query: &str| {
        Reader::open(&broker, &format!("/v1/events?topic=*&{query}")).expect("$open").json()["from"].clone()
    };
    assert_eq!(from("from=latest"), ids[5].as_str());
    let origin = format!("0-{}", broker.epoch());
    assert_eq!(from(&format!("last_event_id={}", ids[2])), ids[2].as_str());
    assert_eq!(from(&format!("last_event_id={origin}")), origin.as_str());
    for (query, first) in [("from=earliest", 0), (&format!("from={}", ids[3]), 3), ("from=-2", 4)] {
        let place = from(query);
        let place = sequence(place.as_str().unwrap());
        let before = if first == 0 { 0 } else { sequence(&ids[first - 1]) };
        assert!(place >= before && place < sequence(&ids[first]), "{query} begins at {place}");
    }
    assert_eq!(from("from=2999-01-01T00:00:00Z"), ids[5].as_str(), "a time to come is the head");
}

#[test]
fn any_other_from_is_refused() {
    let (broker, _) = six();
    let bad = [
        "newest",
        "Latest",
        "yesterday",
        "-",
        "--1",
        "-1x",
        "+5",
        "1.5",
        "01",
        "1-",
        "1-XYZ",
        "5-ABCDEF01",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-13-01T00:00:00Z",
        "18446744073709551616",
        "1 2",
        "earliest ",
        "first",
        "0x1",
    ];
    for bad in bad {
        for accept in ["text/event-stream", "application/json", "application/x-ndjson"] {
            let target = format!("/v1/topics/a/events?from={}", escape(bad));
            broker.send(&Request::new("GET", &target).header("Accept", accept)).problem(400);
        }
    }
}

#[test]
fn a_cursor_resumes_after_itself() {
    let (broker, ids) = six();
    for (n, id) in ids.iter().enumerate() {
        assert_reads(&broker, "", Some(id), &ALL[n + 1..]);
        let bare = sequence(id).to_string();
        assert_reads(&broker, "", Some(&bare), &ALL[n + 1..]);
        for name in ["last_event_id", "lastEventId", "lastEventID"] {
            assert_reads(&broker, &format!("&{name}={id}"), None, &ALL[n + 1..]);
        }
    }
    assert_reads(&broker, "", Some("0"), &ALL);
    assert_reads(&broker, "", Some(&format!("0-{}", broker.epoch())), &ALL);
}

#[test]
fn the_header_wins_over_the_query_and_the_query_over_from() {
    let (broker, ids) = six();
    assert_reads(&broker, &format!("&last_event_id={}&from=earliest", ids[0]), Some(&ids[3]), &ALL[4..]);
    assert_reads(&broker, &format!("&from=earliest&lastEventId={}", ids[3]), None, &ALL[4..]);
    assert_reads(&broker, "&from=earliest", Some(&ids[3]), &ALL[4..]);
    assert_reads(&broker, &format!("&last_event_id={}&from=latest", ids[1]), Some(""), &ALL[2..]);
    assert_reads(&broker, "&last_event_id=&from=-1", Some(""), &ALL[5..]);
    assert_reads(&broker, "&last_event_id=&from=", Some(""), &[]);
    assert_reads(&broker, &format!("&last_event_id=&lastEventId={}", ids[3]), None, &ALL[4..]);
    // A cursor that is stale is not passed over in favour of a weaker wish.
    let (_, gap) = read(&broker, "&from=latest", Some(b"nonsense"));
    assert_eq!(gap["reason"], "malformed");
}

fn assert_gap(broker: &Broker, query: &str, header: Option<&[u8]>, reason: &str, expected: &[&str]) -> Value {
    let (data, gap) = read(broker, query, header);
    assert_eq!(gap["reason"], reason, "{query} {header:?}");
    assert_eq!(gap.as_object().unwrap().len(), 3, "{gap}");
    assert!(gap["requested"].is_string(), "{gap}");
    assert_eq!(data, expected, "{query} {header:?}");
    gap
}

#[test]
fn what_is_no_id_is_a_gap_and_the_earliest_kept_event_comes_next() {
    let (broker, ids) = six();
    let long = "9".repeat(3_000);
    let malformed = [
        "x",
        "-",
        "-1",
        "+1",
        "01",
        "00",
        "1-",
        "1-7f3a9c1",
        "1-7f3a9c1e0",
        "1-7F3A9C1E",
        "18446744073709551616",
        "1.0",
        "one two",
        "a-b-c",
        "1-7f3a9c1e-",
        "null",
        "undefined",
        "{}",
        "\"",
        "184467-7f3a9c1e, 5",
        "1\t2",
        &long,
        "ftp://x?y=z&a",
    ];
    for text in malformed {
        let gap = assert_gap(&broker, "", Some(text.as_bytes()), "malformed", &ALL);
        assert_eq!(gap["requested"], text);
        assert!(sequence(gap["resumed_after"].as_str().unwrap()) < sequence(&ids[0]));
    }
    for text in ["x", "1 2", "é"] {
        let gap = assert_gap(&broker, &format!("&last_event_id={}", escape(text)), None, "malformed", &ALL);
        assert_eq!(gap["requested"], text);
    }
    // Bytes that are no text at all, and text that is not ASCII.
    for bytes in
        [b"\xff".as_slice(), b"1-\xe9", "1\u{e9}".as_bytes(), "\u{ff11}".as_bytes(), b"\xf0\x9f\x9a\x80"]
    {
        assert_gap(&broker, "", Some(bytes), "malformed", &ALL);
    }
}

#[test]
fn an_id_of_another_history_is_a_gap() {
    let (broker, _) = six();
    let other = if broker.epoch() == "7f3a9c1e" { "7f3a9c1f" } else { "7f3a9c1e" };
    for id in [
        format!("2-{other}"),
        format!("0-{other}"),
        format!("999999-{other}"),
        format!("18446744073709551615-{other}"),
    ] {
        let gap = assert_gap(&broker, "", Some(id.as_bytes()), "epoch", &ALL);
        assert_eq!(gap["requested"], id.as_str());
        assert_gap(&broker, &format!("&from={id}"), None, "epoch", &ALL);
    }
}

#[test]
fn an_id_beyond_the_head_is_a_gap() {
    let (broker, ids) = six();
    let beyond = sequence(&ids[5]) + 1;
    let epoch = broker.epoch();
    for id in [
        beyond.to_string(),
        format!("{beyond}-{epoch}"),
        format!("{}-{epoch}", beyond + 1_000_000),
        u64::MAX.to_string(),
    ] {
        let gap = assert_gap(&broker, "", Some(id.as_bytes()), "ahead", &ALL);
        assert_eq!(gap["requested"], id.as_str());
    }
    let empty = Broker::start();
    assert_gap(&empty, "", Some(b"1"), "ahead", &[]);
    assert_gap(&empty, &format!("&last_event_id=5-{}", empty.epoch()), None, "ahead", &[]);
}

#[test]
fn on_gap_latest_goes_on_from_the_head() {
    let (broker, ids) = six();
    for (id, reason) in [("x", "malformed"), ("1-00000000", "epoch"), ("99999", "ahead")] {
        let gap = assert_gap(&broker, "&on_gap=latest", Some(id.as_bytes()), reason, &[]);
        assert_eq!(gap["resumed_after"], ids[5].as_str());
    }
    // It changes nothing when there is no gap.
    assert_reads(&broker, "&on_gap=latest", Some(&ids[3]), &ALL[4..]);
}

#[test]
fn a_gap_comes_first_in_a_quiet_stream_too_and_the_stream_goes_on() {
    let (broker, _) = six();
    let mut reader = Reader::resume(&broker, "/v1/events?topic=*&quiet=true", "garbage");
    assert_eq!(reader.expect("$gap").json()["reason"], "malformed");
    let rest: Vec<String> = (0..6).map(|_| reader.next().data).collect();
    assert_eq!(rest, ALL);
    broker.publish("a", "live");
    assert_eq!(reader.next().data, "live");
}

#[test]
fn a_reader_that_reconnects_after_a_gap_has_no_second_one() {
    let (broker, _) = six();
    let mut reader = Reader::resume(&broker, "/v1/events?topic=*", "garbage");
    reader.expect("$gap");
    let id = reader.last_event_id().to_owned();
    drop(reader);
    assert_reads(&broker, "", Some(&id), &ALL);
}

#[test]
fn a_page_with_a_gap_is_answered_at_once() {
    let broker = Broker::start();
    let page = broker.json("/v1/topics/t/events?last_event_id=garbage&wait=60");
    assert_eq!(page["gap"]["reason"], "malformed");
    assert_eq!(page["next"], broker.head().as_str());
}
