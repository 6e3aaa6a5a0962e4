//! Publishing twice without publishing twice, across lost answers, restarts and crashes; and the expected id.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Broker, Connection, PATIENCE, Request, Response};

fn keyed(topic: &str, query: &str, key: &str, data: &str) -> Request {
    Request::new("POST", &format!("/v1/topics/{topic}/events?{query}"))
        .header("Idempotency-Key", key)
        .body(data)
}

fn expecting(topic: &str, id: &str) -> Request {
    Request::new("POST", &format!("/v1/topics/{topic}/events")).header("Perennial-Expected-Id", id).body("x")
}

/// Checks that an answer is the first one again, but for `duplicate`.
fn assert_duplicate(response: &Response, first: &Value) {
    assert_eq!(response.status, 200, "{response}");
    let mut expected = first.clone();
    expected["duplicate"] = json!(true);
    assert_eq!(response.json(), expected);
}

#[test]
fn the_same_key_with_the_same_content_is_answered_as_the_first_time() {
    let broker = Broker::start();
    let request = keyed("t", "type=a&key=b&origin=c", "once", "data");
    let first = broker.send(&request);
    assert_eq!(first.status, 201);
    broker.publish("t", "between");
    for _ in 0..3 {
        assert_duplicate(&broker.send(&request), &first.json());
    }
    assert_eq!(broker.data_of("t"), ["data", "between"]);
}

#[test]
fn the_same_key_with_other_content_is_refused() {
    let broker = Broker::start();
    assert_eq!(broker.send(&keyed("t", "type=a&key=b&origin=c", "once", "data")).status, 201);
    for query in [
        "type=A&key=b&origin=c",
        "type=a&key=B&origin=c",
        "type=a&key=b&origin=C",
        "key=b&origin=c",
        "type=a&key=b",
        "",
    ] {
        broker.send(&keyed("t", query, "once", "data")).problem(422);
    }
    broker.send(&keyed("t", "type=a&key=b&origin=c", "once", "data ")).problem(422);
    // What stands in one field may not pass for the same text in another.
    broker.send(&keyed("t", "type=ab&origin=c", "once", "data")).problem(422);
    assert_eq!(broker.data_of("t"), ["data"]);
}

#[test]
fn a_type_that_is_left_out_is_the_same_content_as_message() {
    let broker = Broker::start();
    let first = broker.send(&keyed("t", "", "once", "data")).json();
    assert_duplicate(&broker.send(&keyed("t", "type=message", "once", "data")), &first);
}

#[test]
fn a_key_belongs_to_its_topic() {
    let broker = Broker::start();
    assert_eq!(broker.send(&keyed("t", "", "once", "data")).status, 201);
    assert_eq!(broker.send(&keyed("u", "", "once", "other")).status, 201);
    assert_eq!(broker.envelopes("topic=**").len(), 2);
}

#[test]
fn keys_outlive_restarts_and_crashes() {
    let mut broker = Broker::start();
    let firsts: Vec<Value> =
        (0..5).map(|n| broker.send(&keyed("t", "", &format!("k{n}"), "data")).json()).collect();
    for crash in [true, false, true] {
        if crash {
            broker.kill();
        } else {
            assert!(broker.terminate().success());
        }
        broker.restart();
        for (n, first) in firsts.iter().enumerate() {
            assert_duplicate(&broker.send(&keyed("t", "", &format!("k{n}"), "data")), first);
            broker.send(&keyed("t", "", &format!("k{n}"), "other")).problem(422);
        }
    }
    assert_eq!(broker.data_of("t").len(), 5);
}

#[test]
fn a_retry_after_a_crash_publishes_once() {
    let mut broker = Broker::start();
    for n in 0..8 {
        let request = keyed("t", "", &format!("k{n}"), &format!("data {n}"));
        let mut connection = Connection::open(broker.port());
        connection.send(&request.bytes(broker.port()));
        // The crash may come before, during or after the commit.
        thread::sleep(Duration::from_micros(400 * n));
        broker.kill();
        broker.restart();
        let answer = broker.send(&request);
        assert!(matches!(answer.status, 200 | 201), "{answer}");
    }
    let expected: Vec<String> = (0..8).map(|n| format!("data {n}")).collect();
    assert_eq!(broker.data_of("t"), expected);
}

#[test]
fn concurrent_duplicates_wait_for_the_first() {
    let broker = Broker::start();
    let answers: Vec<Response> = thread::scope(|scope| {
        let send = || broker.send(&keyed("t", "", "once", "data"));
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let firsts: Vec<&Response> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(firsts.len(), 1, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    for duplicate in answers.iter().filter(|answer| answer.status != 201) {
        assert_duplicate(duplicate, &firsts[0].json());
    }
    assert_eq!(broker.data_of("t"), ["data"]);
}

#[test]
fn names_of_keys_have_limits() {
    let broker = Broker::start();
    assert_eq!(broker.send(&keyed("t", "", &"k".repeat(512), "x")).status, 201);
    broker.send(&keyed("t", "", &"k".repeat(513), "x")).problem(400);
    assert_eq!(broker.data_of("t").len(), 1);
}

fn line(topic: &str, key: &str, data: &str) -> String {
    json!({ "topic": topic, "idempotency_key": key, "data": data }).to_string() + "\n"
}

#[test]
fn a_batch_sent_again_is_answered_with_its_first_answers() {
    let broker = Broker::start();
    let batch = line("t", "1", "one") + &line("u", "1", "two") + &line("t", "2", "three");
    let first = broker.post_batch(&batch).json();
    let again = broker.post_batch(&batch);
    assert_eq!(again.status, 200, "{again}");
    for (event, before) in
        again.json()["events"].as_array().unwrap().iter().zip(first["events"].as_array().unwrap())
    {
        let mut expected = before.clone();
        expected["duplicate"] = json!(true);
        assert_eq!(*event, expected);
    }
    assert_eq!(broker.envelopes("topic=**").len(), 3);
    let mixed = broker.post_batch(line("t", "2", "three") + &line("t", "3", "four"));
    assert_eq!(mixed.status, 201, "{mixed}");
    let flags: Vec<Value> =
        mixed.json()["events"].as_array().unwrap().iter().map(|e| e["duplicate"].clone()).collect();
    assert_eq!(flags, [json!(true), json!(false)]);
    assert_eq!(broker.data_of("t"), ["one", "three", "four"]);
}

#[test]
fn of_two_equal_keys_in_one_batch_the_second_is_the_duplicate() {
    let broker = Broker::start();
    let response = broker.post_batch(line("t", "1", "one") + &line("t", "2", "two") + &line("t", "1", "one"));
    assert_eq!(response.status, 201, "{response}");
    let answer = response.json();
    let events = &answer["events"];
    assert_eq!((&events[0]["id"], &events[2]["duplicate"]), (&events[2]["id"], &json!(true)));
    assert_eq!(events[0]["duplicate"], false);
    assert_eq!(broker.data_of("t"), ["one", "two"]);
    broker.post_batch(line("t", "9", "one") + &line("t", "9", "other")).problem(422);
    assert_eq!(broker.data_of("t"), ["one", "two"]);
}

#[test]
fn a_key_used_for_other_content_refuses_a_whole_batch() {
    let broker = Broker::start();
    assert_eq!(broker.send(&keyed("t", "", "1", "one")).status, 201);
    let response =
        broker.post_batch(line("t", "8", "new") + &line("t", "1", "other") + &line("t", "9", "new"));
    assert_eq!(response.problem(422)["line"], 2);
    assert_eq!(broker.data_of("t"), ["one"]);
}

#[test]
fn a_key_is_forgotten_after_the_window() {
    let broker = Broker::with(&["--set", "idempotency_window=300ms"]);
    assert_eq!(broker.send(&keyed("t", "", "k", "one")).status, 201);
    let deadline = Instant::now() + PATIENCE;
    while broker.send(&keyed("t", "", "k", "two")).status == 422 {
        assert!(Instant::now() < deadline, "the key is still known");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(broker.data_of("t"), ["one", "two"]);
}

#[test]
fn the_expected_id_must_be_the_topics_newest_event() {
    let broker = Broker::start();
    let refused = |id: &str| broker.send(&expecting("t", id)).problem(412)["last_id"].clone();
    broker.publish("other", "x");
    assert_eq!(refused("1"), "0");
    assert_eq!(refused(&broker.head()), "0");
    let first = broker.send(&expecting("t", "0"));
    assert_eq!(first.status, 201, "{first}");
    let first = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(refused("0"), first.as_str());
    broker.publish("other", "the newest of the log, not of the topic");
    assert_eq!(refused(&broker.head()), first.as_str());
    let (sequence, _) = first.split_once('-').unwrap();
    assert_eq!(refused(&format!("{sequence}-00000000")), first.as_str(), "an id of another epoch");
    assert_eq!(broker.send(&expecting("t", &first)).status, 201);
    let second = refused(&first);
    let bare = second.as_str().unwrap().split_once('-').unwrap().0.to_owned();
    assert_eq!(broker.send(&expecting("t", &bare)).status, 201, "a bare sequence");
    assert_eq!(broker.data_of("t").len(), 3);
}

#[test]
fn the_place_before_the_first_event_may_name_its_epoch() {
    let broker = Broker::start();
    assert_eq!(broker.send(&expecting("t", &format!("0-{}", broker.epoch()))).status, 201);
}

#[test]
fn a_tombstone_is_a_topics_newest_event_too() {
    let broker = Broker::start();
    let id = broker.publish("t", "x");
    let tombstone = broker.send(&Request::new("DELETE", "/v1/topics/t/keys/k")).json()["id"].clone();
    assert_eq!(broker.send(&expecting("t", &id)).problem(412)["last_id"], tombstone);
    assert_eq!(broker.send(&expecting("t", tombstone.as_str().unwrap())).status, 201);
}

#[test]
fn a_malformed_expected_id_is_refused() {
    let broker = Broker::start();
    for bad in ["x", "01", "-1", "+1", "1-", "1-xyz", "0-ABCDEF01", "18446744073709551616", "1 2", "latest"] {
        broker.send(&expecting("t", bad)).problem(400);
    }
    assert!(broker.data_of("t").is_empty());
}

#[test]
fn a_retry_of_a_conditional_publish_that_had_succeeded_is_answered_200() {
    let mut broker = Broker::start();
    let id = broker.publish("t", "x");
    let request = expecting("t", &id).header("Idempotency-Key", "once");
    let first = broker.send(&request);
    assert_eq!(first.status, 201);
    assert_duplicate(&broker.send(&request), &first.json());
    broker.kill();
    broker.restart();
    assert_duplicate(&broker.send(&request), &first.json());
    // A key that was refused is not taken.
    let late = expecting("t", &id).header("Idempotency-Key", "late");
    broker.send(&late).problem(412);
    assert_eq!(broker.send(&keyed("t", "", "late", "x")).status, 201);
}

#[test]
fn of_concurrent_publishers_with_one_expected_id_one_wins() {
    let broker = Broker::start();
    for round in 0..5 {
        let expected = if round == 0 { "0".to_owned() } else { broker.head() };
        let won = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| broker.send(&expecting("t", &expected)).status)).collect();
            let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert!(statuses.iter().all(|status| matches!(status, 201 | 412)), "{statuses:?}");
            statuses.iter().filter(|status| **status == 201).count()
        });
        assert_eq!(won, 1);
    }
    assert_eq!(broker.data_of("t").len(), 5);
}
