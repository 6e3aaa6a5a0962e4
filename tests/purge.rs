//! Purging a topic: all that is in it goes before the answer, and never comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::envelope::sequence;
use crate::harness::{Broker, Reader, Request, escape, shapes};

fn delete(broker: &Broker, topic: &str, query: &str) -> crate::harness::Response {
    broker.send(&Request::new("DELETE", &format!("/v1/topics/{}{query}", escape(topic))))
}

#[test]
fn a_purge_removes_every_event_of_its_topic_before_its_answer() {
    let mut broker = Broker::start();
    let ids = broker.publish_many("a.é", 0..5_000);
    let others = broker.publish_many("a.b", 0..10);
    let answer = broker.purge("a.é");
    for _ in 0..2 {
        assert_eq!((broker.kept("a.é"), broker.kept("a.b")), (vec![], others.clone()));
        let told = broker.topic("a.é");
        assert_eq!(
            (&told["events"], &told["bytes"], &told["first_id"], &told["last_id"]),
            (&json!(0), &json!(0), &Value::Null, &json!(ids[4_999])),
            "an empty topic is still listed, with its last id"
        );
        for member in ["topic", "events", "bytes", "first_id", "last_id"] {
            assert_eq!(answer[member], told[member], "{member} of the answer {answer}");
        }
        broker.get(&format!("/v1/events/{}", ids[0])).problem(410);
        broker.get(&format!("/v1/events/{}", ids[4_999])).problem(410);
        broker.check_counts();
        broker.kill();
        broker.restart();
    }
    let next = broker.publish("a.é", "next");
    assert!(sequence(&next) > sequence(&ids[4_999]));
    assert_eq!(broker.kept("a.é"), [next]);
}

#[test]
fn readers_behind_a_purge_are_told() {
    let mut broker = Broker::start();
    let ids = broker.publish_many("t", 0..10);
    let mut live = Reader::open(&broker, "/v1/topics/t/events?from=earliest");
    live.until("$live");
    broker.purge("t");
    let next = broker.publish("t", "next");
    assert_eq!(live.collect(1)[0].id, next, "who has seen all of it has missed nothing");
    for _ in 0..2 {
        let (data, gap) = shapes::read(&broker, "topic=t", Some(ids[4].as_bytes()));
        assert_eq!(data, ["next"]);
        assert_eq!((&gap["reason"], &gap["requested"]), (&json!("trimmed"), &json!(ids[4])));
        let resumed_after = sequence(gap["resumed_after"].as_str().unwrap());
        assert!((sequence(&ids[9])..sequence(&next)).contains(&resumed_after), "{gap}");
        let (data, gap) = shapes::read(&broker, "topic=t", Some(ids[9].as_bytes()));
        assert_eq!((data, gap), (vec!["next".to_owned()], Value::Null));
        broker.kill();
        broker.restart();
    }
}

#[test]
fn a_topic_that_never_was_is_not_found_and_the_brokers_own_are_refused() {
    let broker = Broker::start();
    broker.publish("t", "x");
    broker.put_policy("t", "{}");
    for query in ["", "?dry_run=true"] {
        delete(&broker, "absent", query).problem(404);
        for topic in ["$broker.policies", "$broker.purges", "$x", "*", "t.**", "a..b"] {
            delete(&broker, topic, query).problem(400);
        }
    }
    for query in ["?dry_run=perhaps", "?dryrun=true", "?force=true"] {
        delete(&broker, "t", query).problem(400);
    }
    assert_eq!(broker.kept("t").len(), 1);
    // A pattern names no topic, and what is purged twice is not an error.
    broker.purge("t");
    assert_eq!(broker.purge("t")["events"], 0);
}

#[test]
fn a_dry_run_of_a_purge_tells_what_would_go_and_changes_nothing() {
    let broker = Broker::start();
    broker.publish_many("t", 0..10);
    let head = broker.head();
    let response = delete(&broker, "t", "?dry_run=true");
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "dry_run": true, "events": 10, "bytes": 20 })),
        "{response}"
    );
    assert_eq!((broker.kept("t").len(), broker.head()), (10, head));
    assert_eq!(delete(&broker, "t", "?dry_run=false").status, 200);
    assert_eq!(broker.kept("t").len(), 0);
}

#[test]
fn keys_and_expected_ids_are_judged_as_before_a_purge() {
    let mut broker = Broker::start();
    let publish = |broker: &Broker, header: (&str, &str), data: &str| {
        let request = Request::new("POST", "/v1/topics/t/events").header(header.0, header.1).body(data);
        broker.send(&request)
    };
    let first = publish(&broker, ("Idempotency-Key", "k"), "once").json();
    broker.purge("t");
    for _ in 0..2 {
        let again = publish(&broker, ("Idempotency-Key", "k"), "once");
        assert_eq!(again.status, 200, "{again}");
        assert_eq!(
            (&again.json()["id"], &again.json()["uuid"], &again.json()["time"]),
            (&first["id"], &first["uuid"], &first["time"])
        );
        publish(&broker, ("Idempotency-Key", "k"), "other").problem(422);
        let refused = publish(&broker, ("Perennial-Expected-Id", "0"), "x").problem(412);
        assert_eq!(refused["last_id"], first["id"]);
        broker.kill();
        broker.restart();
    }
    let expected = first["id"].as_str().unwrap();
    assert_eq!(publish(&broker, ("Perennial-Expected-Id", expected), "x").status, 201);
    assert_eq!(broker.data_of("t"), ["x"], "a duplicate is not published again");
}

#[test]
fn a_purge_is_an_event_that_an_administrator_reads() {
    let broker = Broker::start();
    broker.publish_many("t", 0..7);
    let mut reader = Reader::open(&broker, "/v1/events?topic=%24broker.**&envelope=true");
    reader.until("$live");
    broker.purge("t");
    let event = reader.next().json();
    assert!(event["topic"].as_str().unwrap().starts_with("$broker."), "{event}");
    assert_eq!((&event["data"]["topic"], &event["data"]["events"]), (&json!("t"), &json!(7)), "{event}");
    let own = broker.envelopes("topic=%24broker.**");
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].id, event["id"].as_str().unwrap());
}

#[test]
fn what_is_published_during_a_purge_stays_or_goes_wholly_in_order() {
    let broker = Broker::start();
    broker.publish_many("t", 0..10_000);
    let count = AtomicUsize::new(0);
    let (answered_before, ids) = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut ids = Vec::new();
            for n in 0..300 {
                ids.push(broker.publish("t", format!("during {n}")));
                count.fetch_add(1, Ordering::SeqCst);
            }
            ids
        });
        while count.load(Ordering::SeqCst) < 50 {
            thread::yield_now();
        }
        let before = count.load(Ordering::SeqCst);
        broker.purge("t");
        (before, publisher.join().unwrap())
    });
    let after = broker.publish("t", "after");
    let kept = broker.kept("t");
    // What was answered before the purge was asked for is gone; what is left is the newest, without a hole.
    let left = &kept[..kept.len() - 1];
    assert_eq!(kept.last(), Some(&after));
    assert!(left.len() <= 300 - answered_before, "{} are left", left.len());
    assert_eq!(left, &ids[300 - left.len()..]);
    broker.check_counts();
}

#[test]
fn an_event_published_after_the_answer_is_never_taken_by_the_purge() {
    let mut broker = Broker::start();
    for round in 0..10 {
        broker.publish_many("t", 0..500);
        broker.purge("t");
        let id = broker.publish("t", format!("{round}"));
        if round % 3 == 2 {
            broker.kill();
            broker.restart();
        }
        assert_eq!(broker.kept("t"), [id]);
    }
}

#[test]
fn a_topic_is_purged_by_delete_and_by_nothing_else() {
    let broker = Broker::start();
    broker.publish("t", "x");
    let response = broker.post("/v1/topics/t", "");
    response.problem(405);
    let allowed = response.header("allow").unwrap();
    assert!(allowed.contains("DELETE") && allowed.contains("GET"), "{allowed}");
    let foreign =
        broker.send(&Request::new("DELETE", "/v1/topics/t").header("Origin", "https://elsewhere.example"));
    foreign.problem(403);
    assert_eq!(broker.kept("t").len(), 1);
}
