//! The readings that end: JSON pages, long polling, NDJSON, and one event by its id.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::envelope::sequence;
use crate::harness::{Broker, Connection, Envelope, Request, data_file};

fn data_of(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|e| e["data"].as_str().expect("text")).collect()
}

/// Follows `next` until a page is empty.
fn all_pages(broker: &Broker, target: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut page = broker.json(&format!("{target}&from=earliest"));
    loop {
        let next = page["next"].as_str().unwrap().to_owned();
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            assert_eq!(next, broker.head(), "an empty page was read to the head");
            return ids;
        }
        ids.extend(events.iter().map(|e| e["id"].as_str().unwrap().to_owned()));
        assert!(sequence(&next) >= sequence(ids.last().unwrap()), "next lies before the last event");
        page = broker.json(&format!("{target}&last_event_id={next}"));
    }
}

#[test]
fn a_page_has_events_and_where_to_go_on() {
    let broker = Broker::start();
    let ids = [broker.publish("t", "text"), broker.publish("t", "{\"n\":1}")];
    let response = broker.send(&Request::page("/v1/topics/t/events?from=earliest"));
    assert!(response.header("content-type").is_some_and(|t| t.starts_with("application/json")));
    let page = response.json();
    let members: Vec<&String> = page.as_object().unwrap().keys().collect();
    assert_eq!(members, ["events", "gap", "head", "next"]);
    assert_eq!((&page["next"], &page["head"], &page["gap"]), (&json!(ids[1]), &json!(ids[1]), &Value::Null));
    assert_eq!(page["events"][1]["data"], json!({ "n": 1 }));
    Envelope::parse(&serde_json::to_string(&page["events"][0]).unwrap());
}

#[test]
fn an_empty_page_says_up_to_where_the_log_was_read() {
    let broker = Broker::start();
    let origin = format!("0-{}", broker.epoch());
    let page = broker.json("/v1/topics/t/events");
    assert_eq!(page, json!({ "events": [], "next": origin, "head": origin, "gap": null }));
    let head = broker.publish("other", "x");
    for query in ["from=earliest", "from=latest", ""] {
        let page = broker.json(&format!("/v1/topics/t/events?{query}"));
        assert_eq!(page, json!({ "events": [], "next": head, "head": head, "gap": null }), "{query}");
    }
}

#[test]
fn pages_follow_one_another_to_the_head() {
    let broker = Broker::start();
    broker.publish_batch(data_file("wikipedia-edits.ndjson"));
    let all: Vec<String> = broker.envelopes("topic=**").into_iter().map(|e| e.id).collect();
    assert_eq!(
        broker.json("/v1/events?topic=**&from=earliest")["events"].as_array().unwrap().len(),
        100,
        "default limit"
    );
    for limit in [1, 7, 100, 299, 300, 301, 10_000] {
        assert_eq!(all_pages(&broker, &format!("/v1/events?topic=**&limit={limit}")), all, "limit {limit}");
    }
    for query in ["topic=wiki.en", "topic=wiki.vi&topic=wiki.ca", "topic=**&type=new", "topic=absent"] {
        let expected: Vec<String> = broker.envelopes(query).into_iter().map(|e| e.id).collect();
        assert_eq!(all_pages(&broker, &format!("/v1/events?{query}&limit=3")), expected, "{query}");
    }
}

#[test]
fn the_limit_of_a_page_has_limits() {
    let broker = Broker::start();
    for bad in ["0", "10001", "-1", "1.5", "x", "1e3", "%2B1"] {
        broker.send(&Request::page(&format!("/v1/topics/t/events?limit={bad}"))).problem(400);
    }
    broker.send(&Request::page("/v1/topics/t/events?limit=1&limit=1")).problem(400);
    for bad in ["61", "-1", "x", "1s"] {
        broker.send(&Request::page(&format!("/v1/topics/t/events?wait={bad}"))).problem(400);
    }
}

#[test]
fn until_an_id_includes_it_and_until_a_time_does_not() {
    let broker = Broker::start();
    for n in 0..5 {
        broker.publish("t", format!("e{n}"));
        // Each event gets a time of its own.
        thread::sleep(Duration::from_millis(3));
    }
    let read = broker.envelopes("topic=t");
    let (sequence, _) = read[2].id.split_once('-').unwrap();
    let cases = [
        (read[2].id.clone(), 3),
        (sequence.to_owned(), 3),
        (read[2].time.clone(), 2),
        (read[4].id.clone(), 5),
        (format!("0-{}", broker.epoch()), 0),
        ("1999-01-01T00:00:00Z".to_owned(), 0),
        ("2999-01-01T00:00:00Z".to_owned(), 5),
    ];
    for (until, count) in cases {
        let page = broker.json(&format!("/v1/topics/t/events?from=earliest&until={until}"));
        assert_eq!(data_of(&page), ["e0", "e1", "e2", "e3", "e4"][..count], "until {until}");
        assert_eq!(broker.envelopes(&format!("topic=t&until={until}")).len(), count, "until {until}");
    }
    for bad in ["x", "01", "-3", "latest", "1-XYZ"] {
        broker.send(&Request::page(&format!("/v1/topics/t/events?until={bad}"))).problem(400);
    }
}

#[test]
fn long_polling_holds_an_empty_page_until_an_event_matches() {
    let broker = Broker::start();
    let cursor = broker.publish("t", "before");
    let target = format!("/v1/topics/t/events?last_event_id={cursor}&wait=20&type=a");
    let mut waiting = Connection::open(broker.port());
    waiting.send(&Request::page(&target).bytes(broker.port()));
    // Neither another topic nor another type answers it.
    broker.publish("other", "x");
    broker.publish("t", "another type");
    waiting.socket().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(waiting.socket().peek(&mut [0]).is_err(), "it was answered by what does not match");
    let matching = broker.post("/v1/topics/t/events?type=a", "match").json();
    let page = waiting.response(false).json();
    assert_eq!(data_of(&page), ["match"]);
    assert_eq!(page["next"], matching["id"]);
    assert_eq!(page["events"][0]["id"], matching["id"]);
}

#[test]
fn long_polling_from_latest_sees_what_comes_next() {
    let broker = Broker::start();
    broker.publish("t", "before");
    let mut waiting = Connection::open(broker.port());
    waiting.send(&Request::page("/v1/topics/t/events?wait=20").bytes(broker.port()));
    waiting.socket().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(waiting.socket().peek(&mut [0]).is_err());
    broker.publish("t", "after");
    assert_eq!(data_of(&waiting.response(false).json()), ["after"]);
}

#[test]
fn a_wait_ends_with_an_empty_page_and_is_not_needed_when_there_are_events() {
    let broker = Broker::start();
    let begun = Instant::now();
    let page = broker.json("/v1/topics/t/events?wait=1");
    assert!(data_of(&page).is_empty() && begun.elapsed() >= Duration::from_millis(900));
    broker.publish("t", "x");
    let begun = Instant::now();
    assert_eq!(data_of(&broker.json("/v1/topics/t/events?from=earliest&wait=60")), ["x"]);
    assert!(data_of(&broker.json("/v1/topics/t/events?wait=0")).is_empty());
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_chain_of_long_polls_sees_every_event_once() {
    let broker = Broker::start();
    let mut cursor = broker.head();
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..60 {
                broker.publish(["t", "other"][n % 2], format!("{n}"));
            }
        });
        let mut seen = Vec::new();
        while seen.len() < 30 {
            let page = broker.json(&format!("/v1/topics/t/events?last_event_id={cursor}&wait=10&limit=4"));
            seen.extend(page["events"].as_array().unwrap().iter().map(|e| e["data"].to_string()));
            cursor = page["next"].as_str().unwrap().to_owned();
        }
        seen
    });
    let expected: Vec<String> = (0..60).step_by(2).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn ndjson_ends_at_the_head_as_it_was() {
    let broker = Broker::start();
    broker.publish_batch("{\"topic\":\"t\",\"data\":1}\n".repeat(2_000));
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for n in 0..200 {
                broker.publish("t", format!("{n}"));
            }
        });
        while !publisher.is_finished() {
            let before = sequence(&broker.head());
            let read = broker.envelopes("topic=t");
            let after = sequence(&broker.head());
            let last = read.last().unwrap().sequence();
            assert!(read.len() >= 2_000 && read.is_sorted_by(|a, b| a.sequence() < b.sequence()));
            assert!((before..=after).contains(&last), "{last} is not in {before}..={after}");
        }
    });
    assert_eq!(broker.envelopes("topic=t").len(), 2_200);
}

#[test]
fn ndjson_has_limits_only_when_asked() {
    let broker = Broker::start();
    broker.publish_batch("{\"topic\":\"t\",\"data\":1}\n".repeat(500));
    assert_eq!(broker.envelopes("topic=t").len(), 500);
    assert_eq!(broker.envelopes("topic=t&limit=7").len(), 7);
    assert!(broker.ndjson("/v1/topics/t/events").is_empty(), "latest is the default in every shape");
    let request = Request::new("GET", "/v1/topics/t/events?from=earliest&limit=2")
        .header("Accept", "application/x-ndjson");
    let mut connection = Connection::open(broker.port());
    for _ in 0..2 {
        assert_eq!(connection.exchange(&request).lines().len(), 2);
    }
}

#[test]
fn one_event_is_read_by_its_id() {
    let broker = Broker::start();
    let id = broker.publish("t", "{\"a\" : 1}");
    broker.publish("t", "next");
    let (digits, epoch) = id.split_once('-').unwrap();
    for path in [id.as_str(), digits] {
        let response = broker.get(&format!("/v1/events/{path}"));
        assert_eq!(response.status, 200, "{response}");
        let envelope = Envelope::parse(response.text().trim_end());
        assert_eq!((envelope.id.as_str(), envelope.data.as_str()), (id.as_str(), "{\"a\" : 1}"));
    }
    let other_epoch = if epoch == "00000000" { "00000001" } else { "00000000" };
    for absent in
        [format!("999-{epoch}"), "999".to_owned(), format!("{digits}-{other_epoch}"), u64::MAX.to_string()]
    {
        broker.get(&format!("/v1/events/{absent}")).problem(404);
    }
    for malformed in ["x", "01", "1-", "-1", "1-ABCDEF01", "1-0000000", "18446744073709551616", "%FF", "1%20"]
    {
        broker.get(&format!("/v1/events/{malformed}")).problem(400);
    }
    broker.get(&format!("/v1/events/{id}?typo=1")).problem(400);
}
