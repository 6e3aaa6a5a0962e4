//! The gap `trimmed`: who is told that history is gone, when, and where the reading goes on. What happens to readers that
//! are under way when it goes is in `overtaken.rs`.

use serde_json::{Value, json};

use crate::harness::envelope::sequence;
use crate::harness::{Broker, Reader, escape, shapes};

/// Thirty events in turn on a, b and c, of which a keeps its newest four, and b and c all.
struct Trimmed {
    broker: Broker,
    /// All ids, in order: 0, 3, .. are of a.
    ids: Vec<String>,
}

/// The first event of a that is kept is the twenty-first: a lost 0, 3, .., 15.
const FIRST_KEPT: usize = 18;
const LAST_TRIMMED: usize = 15;

impl Trimmed {
    fn new() -> Self {
        let broker = Broker::quick();
        let line = |n: usize| format!("{{\"topic\":\"{}\",\"data\":\"e{n}\"}}", ["a", "b", "c"][n % 3]);
        let ids = broker.publish_batch((0..30).map(|n| line(n) + "\n").collect::<String>());
        broker.put_policy("a", r#"{"max_events":4}"#);
        broker.until_kept("a", 4);
        Trimmed { broker, ids }
    }

    /// Reads with a cursor and checks the data; returns the gap.
    fn read(&self, query: &str, cursor: &str, expected: &[usize]) -> Value {
        let (data, gap) = shapes::read(&self.broker, query, Some(cursor.as_bytes()));
        let expected: Vec<String> = expected.iter().map(|n| format!("e{n}")).collect();
        assert_eq!(data, expected, "{query} after {cursor}");
        gap
    }

    fn assert_no_gap(&self, query: &str, cursor: &str, expected: &[usize]) {
        let gap = self.read(query, cursor, expected);
        assert_eq!(gap, Value::Null, "{query} after {cursor}");
    }

    /// Checks that there is a gap which ends just before an event that is kept.
    fn assert_gap(&self, query: &str, cursor: &str, expected: &[usize]) {
        let gap = self.read(query, cursor, expected);
        self.check_gap(&gap, cursor, Some(&self.ids[expected[0]]));
    }

    /// Checks what a gap says; `next` is the oldest kept event that matches, if there is one.
    fn check_gap(&self, gap: &Value, requested: &str, next: Option<&String>) {
        assert_eq!((&gap["reason"], &gap["requested"]), (&json!("trimmed"), &json!(requested)), "{gap}");
        assert_eq!(gap.as_object().unwrap().len(), 3, "{gap}");
        let resumed_after = sequence(gap["resumed_after"].as_str().unwrap());
        match next {
            Some(next) => {
                let before = self.ids.iter().map(|id| sequence(id)).filter(|id| *id < sequence(next)).max();
                let right = before.unwrap_or(0)..sequence(next);
                assert!(right.contains(&resumed_after), "{resumed_after} is not just before {next}: {gap}");
            }
            None => assert_eq!(gap["resumed_after"], self.broker.head().as_str(), "{gap}"),
        }
    }

    fn restarts(mut self, check: impl Fn(&Self)) {
        check(&self);
        self.broker.kill();
        self.broker.restart();
        check(&self);
        assert!(self.broker.terminate().success());
        self.broker.restart();
        check(&self);
    }
}

/// Every third event from the first one kept on.
const KEPT_OF_A: [usize; 4] = [18, 21, 24, 27];

#[test]
fn a_cursor_exactly_at_the_boundary_is_no_gap_and_one_before_it_is_after_any_restart() {
    Trimmed::new().restarts(|trimmed| {
        let at = |n: usize| trimmed.ids[n].as_str();
        trimmed.assert_no_gap("topic=a", at(LAST_TRIMMED), &KEPT_OF_A);
        // Between the last one trimmed and the first one kept.
        trimmed.assert_no_gap("topic=a", at(FIRST_KEPT - 1), &KEPT_OF_A);
        trimmed.assert_no_gap("topic=a", at(FIRST_KEPT), &KEPT_OF_A[1..]);
        trimmed.assert_no_gap("topic=a", at(29), &[]);
        trimmed.assert_gap("topic=a", at(LAST_TRIMMED - 1), &KEPT_OF_A);
        trimmed.assert_gap("topic=a", at(0), &KEPT_OF_A);
        let bare = sequence(at(LAST_TRIMMED - 1)).to_string();
        trimmed.check_gap(&trimmed.read("topic=a", &bare, &KEPT_OF_A), &bare, Some(&trimmed.ids[FIRST_KEPT]));
    });
}

#[test]
fn the_place_before_the_first_event_is_before_what_was_trimmed() {
    let trimmed = Trimmed::new();
    for cursor in ["0".to_owned(), format!("0-{}", trimmed.broker.epoch())] {
        trimmed.assert_gap("topic=a", &cursor, &KEPT_OF_A);
    }
}

#[test]
fn a_cursor_in_the_query_and_an_event_to_begin_with_are_told_too() {
    Trimmed::new().restarts(|trimmed| {
        let expected = KEPT_OF_A.map(|n| format!("e{n}"));
        for n in [0, 3, LAST_TRIMMED - 1, LAST_TRIMMED] {
            let id = &trimmed.ids[n];
            let (data, gap) = shapes::read(&trimmed.broker, &format!("topic=a&from={id}"), None);
            assert_eq!(data, expected);
            trimmed.check_gap(&gap, id, Some(&trimmed.ids[FIRST_KEPT]));
        }
        let id = &trimmed.ids[FIRST_KEPT];
        assert_eq!(
            shapes::read(&trimmed.broker, &format!("topic=a&from={id}"), None),
            (expected.to_vec(), Value::Null),
            "the event that is asked for is kept, and nothing before it is asked for"
        );
        for name in ["last_event_id", "lastEventId", "lastEventID"] {
            let query = format!("topic=a&{name}={}", trimmed.ids[0]);
            let (data, gap) = shapes::read(&trimmed.broker, &query, None);
            assert_eq!(data, expected);
            trimmed.check_gap(&gap, &trimmed.ids[0], Some(&trimmed.ids[FIRST_KEPT]));
        }
    });
}

#[test]
fn who_asks_for_what_is_kept_is_told_of_nothing() {
    Trimmed::new().restarts(|trimmed| {
        let times: Vec<String> = trimmed.broker.envelopes("topic=*").into_iter().map(|e| e.time).collect();
        for from in ["earliest", "latest", "-1", "-3", "-1000", "1999-12-31T23:59:59Z", &times[0]] {
            for topics in ["topic=a", "topic=*", "topic=a&topic=b", "topic=absent"] {
                let query = format!("{topics}&from={}", escape(from));
                assert_eq!(shapes::read(&trimmed.broker, &query, None).1, Value::Null, "{query}");
            }
            // Whoever comes back with the id of `$open` at once has missed nothing either.
            let mut reader =
                Reader::open(&trimmed.broker, &format!("/v1/topics/a/events?from={}", escape(from)));
            let id = reader.expect("$open").id;
            let (_, gap) = shapes::read(&trimmed.broker, "topic=a", Some(id.as_bytes()));
            assert_eq!(gap, Value::Null, "{from}, back with {id}");
        }
    });
}

#[test]
fn a_topic_that_lost_nothing_has_no_gap() {
    Trimmed::new().restarts(|trimmed| {
        let of = |turn: usize| (0..30).filter(|n| n % 3 == turn).collect::<Vec<_>>();
        trimmed.assert_no_gap("topic=b", "0", &of(1));
        trimmed.assert_no_gap("topic=c", &trimmed.ids[4], &of(2)[1..]);
        let both: Vec<usize> = (0..30).filter(|n| n % 3 != 0).collect();
        trimmed.assert_no_gap("topic=b&topic=c", "0", &both);
        trimmed.assert_no_gap("topic=absent.**", "0", &[]);
    });
}

#[test]
fn with_several_topics_a_gap_skips_nothing_that_is_kept() {
    Trimmed::new().restarts(|trimmed| {
        let kept =
            |after: usize| (after + 1..30).filter(|n| n % 3 != 0 || *n >= FIRST_KEPT).collect::<Vec<_>>();
        for patterns in ["topic=*", "topic=**", "topic=a&topic=b&topic=c"] {
            let everything = [vec![1, 2], kept(2)].concat();
            trimmed.assert_gap(patterns, "0", &everything);
            for after in [0, 1, 7, LAST_TRIMMED - 1] {
                trimmed.assert_gap(patterns, &trimmed.ids[after], &kept(after));
            }
            trimmed.assert_no_gap(patterns, &trimmed.ids[LAST_TRIMMED], &kept(LAST_TRIMMED));
        }
    });
}

#[test]
fn a_gap_is_judged_by_topic_and_not_by_type_or_origin() {
    let broker = Broker::quick();
    let publish = |query: &str, data: &str| {
        let response = broker.post(&format!("/v1/topics/t/events?{query}"), data);
        assert_eq!(response.status, 201, "{response}");
        response.json()["id"].as_str().unwrap().to_owned()
    };
    let first = publish("type=rare", "first");
    publish("type=common&origin=me", "trimmed");
    publish("type=common&origin=me", "trimmed too");
    publish("type=rare", "kept");
    broker.put_policy("t", r#"{"max_events":1}"#);
    broker.until_kept("t", 1);
    for query in ["type=rare", "exclude_origin=me", "type=rare&exclude_origin=me"] {
        let (data, gap) = shapes::read(&broker, &format!("topic=t&{query}"), Some(first.as_bytes()));
        assert_eq!((data, &gap["reason"]), (vec!["kept".to_owned()], &json!("trimmed")), "{query}");
    }
    let (data, gap) = shapes::read(&broker, "topic=t&type=common", Some(first.as_bytes()));
    assert_eq!((data.len(), &gap["reason"]), (0, &json!("trimmed")));
    // The oldest kept event of the topic is not of this type, and yet the gap ends before it.
    assert!(sequence(gap["resumed_after"].as_str().unwrap()) < sequence(&broker.kept("t")[0]));
}

#[test]
fn a_topic_that_is_empty_now_resumes_at_the_head() {
    let mut trimmed = Trimmed::new();
    trimmed.broker.put_policy("a", r#"{"max_events":0}"#);
    trimmed.broker.until_kept("a", 0);
    for _ in 0..2 {
        let gap = trimmed.read("topic=a", &trimmed.ids[20], &[]);
        trimmed.check_gap(&gap, &trimmed.ids[20], None);
        trimmed.assert_no_gap("topic=a", &trimmed.ids[27], &[]);
        trimmed.broker.kill();
        trimmed.broker.restart();
    }
    trimmed.broker.put_policy("a", "{}");
    let next = trimmed.broker.publish("a", "next");
    let (data, gap) = shapes::read(&trimmed.broker, "topic=a", Some(trimmed.ids[20].as_bytes()));
    assert_eq!(data, ["next"]);
    trimmed.ids.push(next.clone());
    trimmed.check_gap(&gap, &trimmed.ids[20], Some(&next));
}

#[test]
fn a_quiet_stream_tells_it_too_and_goes_on() {
    let trimmed = Trimmed::new();
    let mut reader =
        Reader::resume(&trimmed.broker, "/v1/topics/a/events?quiet=true&envelope=true", &trimmed.ids[1]);
    let gap = reader.expect("$gap");
    trimmed.check_gap(&gap.json(), &trimmed.ids[1], Some(&trimmed.ids[FIRST_KEPT]));
    assert_eq!(gap.id, gap.json()["resumed_after"].as_str().unwrap());
    let came: Vec<Value> = (0..4).map(|_| reader.next().json()["data"].clone()).collect();
    assert_eq!(came, KEPT_OF_A.map(|n| json!(format!("e{n}"))));
    trimmed.broker.publish("a", "live");
    assert_eq!(reader.next().json()["data"], "live");
}

#[test]
fn a_reader_that_comes_back_after_a_gap_is_not_told_again() {
    let trimmed = Trimmed::new();
    for target in ["/v1/topics/a/events", "/v1/topics/a/events?quiet=true"] {
        let mut reader = Reader::resume(&trimmed.broker, target, &trimmed.ids[1]);
        let gap = reader.expect("$gap");
        drop(reader);
        trimmed.assert_no_gap("topic=a", &gap.id, &KEPT_OF_A);
    }
}

#[test]
fn a_long_poll_with_a_gap_is_answered_at_once_and_the_next_one_goes_on() {
    let trimmed = Trimmed::new();
    trimmed.broker.put_policy("a", r#"{"max_events":0}"#);
    trimmed.broker.until_kept("a", 0);
    // Nothing is published, so an answer can only come of itself.
    let page = trimmed.broker.json(&format!("/v1/topics/a/events?last_event_id={}&wait=60", trimmed.ids[5]));
    trimmed.check_gap(&page["gap"], &trimmed.ids[5], None);
    assert_eq!((&page["events"], &page["next"]), (&json!([]), &page["gap"]["resumed_after"]));
    let next = page["next"].as_str().unwrap();
    let page = trimmed.broker.json(&format!("/v1/topics/a/events?last_event_id={next}"));
    assert_eq!((&page["events"], &page["gap"]), (&json!([]), &Value::Null));
}

#[test]
fn pages_tell_of_what_was_trimmed_between_them() {
    let broker = Broker::quick();
    let ids = broker.publish_many("t", 0..20);
    let page = broker.json("/v1/topics/t/events?from=earliest&limit=5");
    assert_eq!((&page["gap"], &page["next"]), (&Value::Null, &json!(ids[4])));
    broker.put_policy("t", r#"{"max_events":10}"#);
    broker.until_kept("t", 10);
    let target = format!("/v1/topics/t/events?last_event_id={}&limit=5", ids[4]);
    let page = broker.json(&target);
    let came: Vec<&str> =
        page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(came, ids[10..15]);
    assert_eq!((&page["gap"]["reason"], &page["gap"]["requested"]), (&json!("trimmed"), &json!(ids[4])));
    let next = page["next"].as_str().unwrap();
    let page = broker.json(&format!("/v1/topics/t/events?last_event_id={next}&limit=5"));
    assert_eq!((page["events"].as_array().unwrap().len(), &page["gap"]), (5, &Value::Null));
}

#[test]
fn an_unknown_id_is_told_as_what_it_is_and_the_reading_begins_at_what_is_kept() {
    let trimmed = Trimmed::new();
    for (id, reason) in [("nonsense", "malformed"), ("3-00000000", "epoch"), ("999999999", "ahead")] {
        let (data, gap) = shapes::read(&trimmed.broker, "topic=a", Some(id.as_bytes()));
        assert_eq!((data, &gap["reason"]), (KEPT_OF_A.map(|n| format!("e{n}")).to_vec(), &json!(reason)));
    }
}

#[test]
fn a_single_event_that_was_trimmed_is_gone_and_not_unknown() {
    Trimmed::new().restarts(|trimmed| {
        for (n, id) in trimmed.ids.iter().enumerate() {
            let response = trimmed.broker.get(&format!("/v1/events/{id}"));
            let expected = if n % 3 == 0 && n < FIRST_KEPT { 410 } else { 200 };
            assert_eq!(response.status, expected, "{n}: {response}");
        }
        let beyond = sequence(&trimmed.broker.head()) + 1;
        trimmed.broker.get(&format!("/v1/events/{beyond}")).problem(404);
    });
}
