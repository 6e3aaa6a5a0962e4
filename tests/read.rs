//! Event streams: which blocks come in which order, and what a reader asked for.
//!
//! The strict reader of the harness checks the rules of every block of every stream by itself.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Broker, Connection, Reader, Request, SseEvent, escape};

fn data_of(events: &[SseEvent]) -> Vec<&str> {
    events.iter().map(|event| event.data.as_str()).collect()
}

fn kinds_of(events: &[SseEvent]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[test]
fn a_stream_opens_replays_says_that_it_is_live_and_goes_on() {
    let broker = Broker::start();
    let ids = [broker.publish("t", "one"), broker.publish("t", "two")];
    let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=earliest");
    let events = reader.until("$live");
    assert_eq!(kinds_of(&events), ["$open", "message", "message", "$live"]);
    let origin = format!("0-{}", broker.epoch());
    let open = events[0].json();
    assert_eq!((&open["from"], &open["head"]), (&json!(origin), &json!(ids[1])));
    assert!(open["connection"].as_str().is_some_and(|c| !c.is_empty()));
    assert_eq!((events[0].id.as_str(), events[0].retry), (origin.as_str(), Some(2000)));
    assert_eq!((&events[1].id, &events[2].id), (&ids[0], &ids[1]));
    assert_eq!((events[3].json(), &events[3].id), (json!({ "head": ids[1] }), &ids[1]));
    let third = broker.publish("t", "three");
    let event = reader.next();
    assert_eq!((event.kind.as_str(), event.data.as_str(), event.id), ("message", "three", third));
}

#[test]
fn an_empty_log_is_live_at_once() {
    let broker = Broker::start();
    let origin = format!("0-{}", broker.epoch());
    for from in ["earliest", "latest"] {
        let mut reader = Reader::open(&broker, &format!("/v1/topics/nobody.was.here/events?from={from}"));
        let events = [reader.expect("$open"), reader.expect("$live")];
        assert!(events.iter().all(|event| event.id == origin), "{events:?}");
    }
    let mut reader = Reader::open(&broker, "/v1/topics/t/events");
    reader.until("$live");
    broker.publish("t", "first");
    assert_eq!(reader.next().data, "first");
}

#[test]
fn headers_keep_proxies_from_holding_a_stream_back_and_come_at_once() {
    let broker = Broker::start();
    let reader = Reader::open(&broker, "/v1/topics/t/events?quiet=true");
    assert_eq!(reader.head.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(reader.head.header("x-accel-buffering"), Some("no"));
    assert!(reader.head.header("content-length").is_none());
}

#[test]
fn a_silent_stream_has_heartbeats_and_nothing_else() {
    let broker = Broker::with(&["--set", "heartbeat=200ms"]);
    let mut reader = Reader::open(&broker, "/v1/topics/t/events");
    reader.until("$live");
    assert_eq!(reader.try_next(Duration::from_millis(1_500)), None);
    assert!(reader.heartbeats >= 2, "{} heartbeats", reader.heartbeats);
    broker.publish("t", "still there");
    assert_eq!(reader.next().data, "still there");
}

#[test]
fn a_cursor_comes_with_the_heartbeat_when_it_has_passed_other_events() {
    let broker = Broker::with(&["--set", "heartbeat=200ms"]);
    let mut reader = Reader::open(&broker, "/v1/topics/t/events");
    reader.until("$live");
    for _ in 0..2 {
        broker.publish("other", "x");
        let head = broker.publish("other", "y");
        let mut cursor = reader.expect("$cursor");
        // The first may have come between the two.
        if cursor.id != head {
            cursor = reader.expect("$cursor");
        }
        assert_eq!((cursor.json(), &cursor.id), (json!({ "cursor": head }), &head));
        assert!(reader.heartbeats >= 1);
        let before = reader.heartbeats;
        assert_eq!(reader.try_next(Duration::from_millis(700)), None, "nothing new was passed");
        assert!(reader.heartbeats > before);
    }
    broker.publish("t", "matches");
    assert_eq!(reader.next().data, "matches");
    assert_eq!(reader.try_next(Duration::from_millis(500)), None, "the event itself carried the cursor");
}

#[test]
fn quiet_leaves_out_what_was_not_published() {
    let broker = Broker::with(&["--set", "heartbeat=200ms"]);
    broker.publish("t", "one");
    let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=earliest&quiet=true");
    let first = reader.next();
    assert_eq!((first.data.as_str(), first.retry), ("one", Some(2000)));
    broker.publish("other", "x");
    assert_eq!(reader.try_next(Duration::from_millis(600)), None);
    assert!(reader.heartbeats >= 1);
    broker.publish("t", "two");
    let second = reader.next();
    assert_eq!((second.data.as_str(), second.retry), ("two", None));
}

#[test]
fn types_and_origins_filter() {
    let broker = Broker::start();
    let send = |query: &str, data: &str| {
        assert_eq!(broker.post(&format!("/v1/topics/t/events?{query}"), data).status, 201);
    };
    send("", "plain");
    send("type=a", "a");
    send("type=b&origin=me", "b by me");
    send("type=a&origin=me", "a by me");
    send("origin=you", "by you");
    let cases: [(&str, &[&str]); 7] = [
        ("", &["plain", "a", "b by me", "a by me", "by you"]),
        ("&type=a", &["a", "a by me"]),
        ("&type=a&type=b", &["a", "b by me", "a by me"]),
        ("&type=message", &["plain", "by you"]),
        ("&exclude_origin=me", &["plain", "a", "by you"]),
        ("&exclude_origin=me&type=a", &["a"]),
        ("&type=absent", &[]),
    ];
    for (query, expected) in cases {
        let mut reader = Reader::open(&broker, &format!("/v1/topics/t/events?from=earliest{query}"));
        let events = reader.until("$live");
        assert_eq!(data_of(&events[1..events.len() - 1]), expected, "{query}");
        assert_eq!(events.last().unwrap().id, broker.head(), "$live stands at the head");
        let page = broker.json(&format!("/v1/topics/t/events?from=earliest{query}"));
        assert_eq!(page["events"].as_array().unwrap().len(), expected.len(), "{query}");
    }
}

#[test]
fn patterns_choose_topics_segment_by_segment() {
    let broker = Broker::start();
    let topics = ["a", "a.b", "a.b.c", "a.c", "b.c", "a.$x", "ab", "x.a.b"];
    for topic in topics {
        broker.publish(topic, topic);
    }
    let cases: [(&[&str], &[&str]); 11] = [
        (&["**"], &topics),
        (&["*"], &["a", "ab"]),
        (&["a.*"], &["a.b", "a.c", "a.$x"]),
        (&["a.**"], &["a.b", "a.b.c", "a.c", "a.$x"]),
        (&["*.c"], &["a.c", "b.c"]),
        (&["a.*.c"], &["a.b.c"]),
        (&["*.*"], &["a.b", "a.c", "b.c", "a.$x"]),
        (&["a"], &["a"]),
        (&["a*"], &[]),
        (&["a", "b.c"], &["a", "b.c"]),
        (&["a.b", "a.*", "**", "a.b"], &topics),
    ];
    for (patterns, expected) in cases {
        let query: Vec<String> = patterns.iter().map(|p| format!("topic={}", escape(p))).collect();
        let query = query.join("&");
        let mut reader = Reader::open(&broker, &format!("/v1/events?from=earliest&{query}"));
        let events = reader.until("$live");
        assert_eq!(data_of(&events[1..events.len() - 1]), expected, "{patterns:?}");
        let read: Vec<String> = broker.envelopes(&query).into_iter().map(|e| e.topic).collect();
        assert_eq!(read, expected, "{patterns:?}");
    }
}

#[test]
fn an_event_matched_twice_comes_once_live_too() {
    let broker = Broker::start();
    let mut reader = Reader::open(&broker, "/v1/events?topic=a.b&topic=a.*&topic=**&topic=a.b");
    reader.until("$live");
    broker.publish("a.b", "1");
    broker.publish("c", "2");
    assert_eq!(data_of(&reader.collect(2)), ["1", "2"]);
}

#[test]
fn wildcards_never_reach_the_brokers_own_topics() {
    let broker = Broker::start();
    broker.publish("t", "x");
    for pattern in ["*", "**", "*.*", "*.**"] {
        let read = broker.envelopes(&format!("topic={}", escape(pattern)));
        assert!(read.iter().all(|e| !e.topic.starts_with('$')), "{read:?}");
    }
    let mut reader = Reader::open(&broker, "/v1/events?topic=$broker.**&from=earliest");
    let events = reader.until("$live");
    assert!(!events.iter().any(|event| event.data == "x"));
}

#[test]
fn the_accept_header_chooses_the_shape() {
    let broker = Broker::start();
    let target = "/v1/topics/t/events?quiet=true";
    let kind_of = |request: Request| {
        let mut connection = Connection::open(broker.port());
        connection.send(&request.bytes(broker.port()));
        let head = connection.head(false);
        (head.status, head.header("content-type").unwrap_or_default().to_owned())
    };
    let accept = |value: &str| kind_of(Request::new("GET", target).header("Accept", value));
    for (status, kind) in [
        kind_of(Request::new("GET", target)),
        accept("*/*"),
        accept("text/event-stream"),
        accept("text/event-stream, */*;q=0.1"),
        accept("Text/Event-Stream"),
        accept("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"),
        accept("*"),
        accept("text/event-stream, foo"),
    ] {
        assert!(status == 200 && kind.starts_with("text/event-stream"), "{status} {kind}");
    }
    for wanted in ["application/json", "application/x-ndjson"] {
        let (status, kind) = accept(wanted);
        assert!(status == 200 && kind.starts_with(wanted), "{wanted}: {status} {kind}");
    }
    assert!(accept("application/json;;").1.starts_with("application/json"));
    for unsupported in ["text/html", "image/png", "application/xml", "foo"] {
        broker.send(&Request::new("GET", target).header("Accept", unsupported)).problem(406);
    }
}

#[test]
fn head_of_a_stream_ends_and_options_tells_what_is_allowed() {
    let broker = Broker::start();
    broker.publish("t", "x");
    for target in ["/v1/topics/t/events?from=earliest", "/v1/events?topic=**"] {
        let mut connection = Connection::open(broker.port());
        // Twice on one connection: nothing is left over of the first.
        for _ in 0..2 {
            let response = connection.exchange(&Request::new("HEAD", target));
            assert!(response.status == 200 && response.body.is_empty(), "{response}");
            assert!(response.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
        }
        assert_eq!(connection.exchange(&Request::new("HEAD", &format!("{target}&typo=1"))).status, 400);
        let options = connection.exchange(&Request::new("OPTIONS", target));
        assert_eq!(options.status, 204);
        let allow = options.header("allow").unwrap_or_default();
        assert!(["GET", "HEAD", "POST", "OPTIONS"].iter().all(|m| allow.contains(m)), "{allow}");
    }
}

#[test]
fn a_query_with_a_typing_error_never_reads_as_no_filter() {
    let broker = Broker::start();
    let stream = |target: &str| Request::new("GET", target).header("Accept", "text/event-stream");
    for query in [
        "form=earliest",
        "Type=x",
        "exclude-origin=x",
        "from=latest&from=latest",
        "from=x",
        "type=%FF",
        "envelope=true&envelope=true",
        "exclude_origin=a&exclude_origin=b",
        "quiet=perhaps",
        "envelope=yes%21",
        "limit=5",
        "until=5",
        "wait=5",
        "on_gap=x",
        "topic=a",
    ] {
        broker.send(&stream(&format!("/v1/topics/t/events?{query}"))).problem(400);
    }
    for query in [
        "",
        "topic=",
        "topic=a..b",
        "topic=**.a",
        "topic=a.**.b",
        "topic=a+b",
        "topic=%FF",
        "pattern=a",
        "topics=a",
    ] {
        broker.send(&stream(&format!("/v1/events?{query}"))).problem(400);
    }
    for pattern in ["*", "a.*", "a.**", "**", "a..b"] {
        broker.send(&stream(&format!("/v1/topics/{}/events", escape(pattern)))).problem(400);
    }
}

#[test]
fn one_connection_reads_up_to_64_patterns() {
    let broker = Broker::start();
    let query = |count: usize| (0..count).map(|n| format!("topic=t{n}.*")).collect::<Vec<_>>().join("&");
    let mut reader = Reader::open(&broker, &format!("/v1/events?{}", query(64)));
    reader.until("$live");
    broker.publish("t63.x", "last pattern");
    assert_eq!(reader.next().data, "last pattern");
    broker.get(&format!("/v1/events?{}", query(65))).problem(400);
}

#[test]
fn queries_are_forms_and_paths_are_not() {
    let broker = Broker::start();
    assert_eq!(broker.post("/v1/topics/a+b/events?type=c+d", "x").status, 201);
    assert_eq!(
        broker.json("/v1/topics/a+b/events?from=earliest&type=c+d")["events"].as_array().unwrap().len(),
        1
    );
    assert_eq!(
        broker.json("/v1/events?topic=a%2Bb&from=earliest&type=c%20d")["events"].as_array().unwrap().len(),
        1
    );
    assert_eq!(
        broker.json("/v1/topics/a%2Bb/events?from=earliest&type=c%2Bd")["events"].as_array().unwrap().len(),
        0
    );
}
