//! Retention: which events go, that they are gone from every reading, and that what is told of the rest is right.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::envelope::sequence;
use crate::harness::heavy;
use crate::harness::history::{WITHIN, weight};
use crate::harness::{Broker, Reader, Request, escape, shapes};

/// Publishes in turn to several topics and returns the ids of each.
fn publish_in_turn(broker: &Broker, topics: &[&str], rounds: usize) -> Vec<Vec<String>> {
    let lines = (0..rounds).flat_map(|round| {
        topics
            .iter()
            .map(move |topic| json!({ "topic": topic, "data": format!("{round}") }).to_string() + "\n")
    });
    let ids = broker.publish_batch(lines.collect::<String>());
    (0..topics.len()).map(|n| ids.iter().skip(n).step_by(topics.len()).cloned().collect()).collect()
}

#[test]
fn max_events_keeps_the_newest_of_each_topic() {
    let broker = Broker::quick();
    broker.put_policy("t.*", r#"{"max_events":3}"#);
    let ids = publish_in_turn(&broker, &["t.a", "t.b", "other"], 10);
    for (topic, ids) in ["t.a", "t.b"].iter().zip(&ids) {
        broker.until_kept(topic, 3);
        assert_eq!(broker.kept(topic), ids[7..]);
    }
    broker.publish("t.a", "one more");
    broker.until_kept("t.a", 3);
    assert_eq!(broker.kept("t.b"), ids[1][7..], "each topic is counted by itself");
    broker.passed();
    assert_eq!(broker.kept("other"), ids[2]);
    broker.check_counts();
}

#[test]
fn a_topic_with_fewer_events_than_its_policy_keeps_them_all() {
    let broker = Broker::quick();
    broker.put_policy("**", r#"{"max_events":10,"max_bytes":"1MiB","max_age":"1d"}"#);
    let ids = broker.publish_many("t", 0..10);
    broker.passed();
    assert_eq!(broker.kept("t"), ids);
}

#[test]
fn max_events_of_zero_keeps_none() {
    let broker = Broker::quick();
    broker.put_policy("t", r#"{"max_events":0}"#);
    let ids = broker.publish_many("t", 0..20);
    broker.until_kept("t", 0);
    let told = broker.topic("t");
    assert_eq!((&told["first_id"], &told["bytes"]), (&Value::Null, &json!(0)), "{told}");
    assert_eq!(told["last_id"], ids[19].as_str(), "the last id outlives the events");
    let status = broker.json("/v1/status");
    assert!(sequence(status["head"].as_str().unwrap()) >= sequence(&ids[19]));
    broker.check_counts();
}

#[test]
fn max_bytes_counts_data_topic_type_and_key() {
    let broker = Broker::quick();
    let lines = (0..40).map(|n| {
        let mut event = json!({ "topic": "t.é", "data": "x".repeat(n * 7 % 31) });
        if n % 2 == 0 {
            event["type"] = "a type".into();
        }
        if n % 3 == 0 {
            event["key"] = format!("key {n}").into();
        }
        // Not counted.
        event["origin"] = "somebody".into();
        event.to_string() + "\n"
    });
    broker.publish_batch(lines.collect::<String>());
    let all = broker.envelopes("topic=t.**");
    let weights: Vec<usize> = all.iter().map(weight).collect();
    assert_eq!(broker.topic("t.é")["bytes"], weights.iter().sum::<usize>());
    for from in [10, 25, 39] {
        let bytes: usize = weights[from..].iter().sum();
        // One byte less than the next older event would need.
        let bytes = bytes + weights[from - 1] - 1;
        broker.put_policy("t.*", json!({ "max_bytes": bytes }).to_string());
        broker.until_kept("t.é", 40 - from);
        assert!(broker.envelopes("topic=t.**").iter().eq(&all[from..]), "the newest stay, from {from} on");
        broker.check_counts();
    }
    broker.put_policy("t.*", json!({ "max_bytes": weights[39] }).to_string());
    broker.passed();
    assert_eq!(broker.kept("t.é").len(), 1, "an event that just fits stays");
}

#[test]
fn max_age_removes_what_is_older_and_nothing_else() {
    let broker = Broker::quick();
    broker.put_policy("young.*", r#"{"max_age":"1h"}"#);
    let ids = publish_in_turn(&broker, &["young.a", "young.b", "old"], 10);
    broker.put_policy("old", r#"{"max_age":"700ms"}"#);
    broker.until_kept("old", 0);
    broker.passed();
    assert_eq!((broker.kept("young.a"), broker.kept("young.b")), (ids[0].clone(), ids[1].clone()));
    // What comes later is removed when its own time has come, without a further event.
    broker.publish("old", "later");
    broker.until_kept("old", 0);
    broker.check_counts();
}

#[test]
fn every_bound_of_a_policy_holds() {
    let broker = Broker::quick();
    // Each event weighs three bytes; the bound of each topic that is the narrowest decides.
    for (topic, policy, kept) in [
        ("a", json!({ "max_events": 5, "max_bytes": 999, "max_age": "1d" }), 5),
        ("b", json!({ "max_events": 50, "max_bytes": 20, "max_age": "1d" }), 6),
        ("c", json!({ "max_events": 50, "max_bytes": 999, "max_age": "1ms" }), 0),
    ] {
        broker.put_policy(topic, policy.to_string());
        broker.publish_many(topic, 10..30);
        broker.until_kept(topic, kept);
    }
    broker.check_counts();
}

#[test]
fn a_policy_is_carried_out_on_what_was_there_before_it() {
    let mut broker = Broker::quick();
    let ids = publish_in_turn(&broker, &["t", "u"], 2_000);
    broker.kill();
    broker.restart();
    broker.put_policy("t", r#"{"max_events":100}"#);
    broker.until_kept("t", 100);
    assert_eq!(broker.kept("t"), ids[0][1_900..]);
    assert_eq!(broker.kept("u"), ids[1]);
}

#[test]
fn what_was_removed_is_gone_from_every_reading() {
    let mut broker = Broker::quick();
    broker.put_policy("t", r#"{"max_events":4}"#);
    let ids = publish_in_turn(&broker, &["t", "u"], 10);
    broker.until_kept("t", 4);
    for round in 0..3 {
        for (n, id) in ids[0].iter().enumerate() {
            let response = broker.get(&format!("/v1/events/{id}"));
            if n < 6 {
                response.problem(410);
            } else {
                assert_eq!(response.status, 200, "{response}");
            }
        }
        let kept = ["6", "7", "8", "9"];
        for query in ["from=earliest", "from=-100", "from=1999-12-31T23:59:59Z"] {
            let (data, gap) = shapes::read(&broker, &format!("topic=t&{query}"), None);
            assert_eq!((data.as_slice(), &gap), (&kept.map(str::to_owned)[..], &Value::Null), "{query}");
        }
        let (data, _) = shapes::read(&broker, "topic=t&from=-2", None);
        assert_eq!(data, kept[2..]);
        let (data, _) = shapes::read(&broker, "topic=*&from=-5", None);
        assert_eq!(data, ["7", "8", "8", "9", "9"]);
        match round {
            0 => broker.kill(),
            _ => drop(broker.terminate()),
        }
        broker.restart();
    }
}

#[test]
fn what_is_told_is_right_after_a_trim_a_crash_and_a_stop() {
    let mut broker = Broker::quick();
    broker.put_policy("t.*", r#"{"max_events":30}"#);
    broker.put_policy("t.bytes", r#"{"max_bytes":500}"#);
    broker.put_policy("t.keyed", r#"{"compact":"key","max_events":8}"#);
    for round in 0..4 {
        publish_in_turn(&broker, &["t.a", "t.bytes", "t.c", "free"], 100);
        for n in 0..40 {
            broker.publish_state("t.keyed", &format!("k{}", n % 7), &n.to_string());
        }
        broker.until_kept("t.a", 30);
        broker.until_kept("t.keyed", 7);
        broker.passed();
        broker.check_counts();
        let before = broker.json("/v1/topics");
        match round % 2 {
            0 => broker.kill(),
            _ => assert!(broker.terminate().success()),
        }
        broker.restart();
        assert_eq!(broker.json("/v1/topics"), before);
        broker.check_counts();
    }
}

#[test]
fn a_log_without_events_goes_on_where_it_was() {
    let mut broker = Broker::quick();
    broker.put_policy("**", r#"{"max_events":0}"#);
    let ids = broker.publish_many("t", 0..50);
    broker.until_kept("t", 0);
    broker.kill();
    broker.restart();
    assert!(sequence(&broker.head()) >= sequence(&ids[49]));
    let (data, gap) = shapes::read(&broker, "topic=t&from=earliest", None);
    assert_eq!((data.len(), gap), (0, Value::Null));
    broker.put_policy("**", "{}");
    let next = broker.publish("t", "next");
    assert!(sequence(&next) > sequence(&ids[49]), "no id is used twice");
    assert_eq!(broker.kept("t"), [next]);
}

#[test]
fn keys_and_expected_ids_outlive_the_events() {
    let mut broker = Broker::quick();
    broker.put_policy("t", r#"{"max_events":0}"#);
    let publish = |broker: &Broker, headers: &[(&str, &str)], data: &str| {
        let request = Request::new("POST", "/v1/topics/t/events").body(data);
        broker.send(&headers.iter().fold(request, |request, (name, value)| request.header(name, value)))
    };
    let first = publish(&broker, &[("Idempotency-Key", "k")], "once").json();
    broker.until_kept("t", 0);
    for _ in 0..2 {
        let again = publish(&broker, &[("Idempotency-Key", "k")], "once");
        assert_eq!((again.status, &again.json()["id"]), (200, &first["id"]), "{again}");
        assert_eq!(again.json()["duplicate"], true);
        publish(&broker, &[("Idempotency-Key", "k")], "other").problem(422);
        let refused = publish(&broker, &[("Perennial-Expected-Id", "0")], "x").problem(412);
        assert_eq!(refused["last_id"], first["id"]);
        broker.kill();
        broker.restart();
    }
    let expected = first["id"].as_str().unwrap();
    assert_eq!(publish(&broker, &[("Perennial-Expected-Id", expected)], "x").status, 201);
}

#[test]
fn a_large_backlog_goes_in_steps_while_others_publish_and_read() {
    let broker = Broker::quick();
    for batch in 0..10 {
        broker.publish_many("t", batch * 3_000..(batch + 1) * 3_000);
    }
    let mut reader = Reader::open(&broker, "/v1/events?topic=u");
    reader.until("$live");
    broker.put_policy("t", r#"{"max_events":10}"#);
    // Each is answered and read while the policy is carried out, whenever that is.
    for n in 0..200 {
        broker.publish("u", format!("{n}"));
        assert_eq!(reader.collect(1)[0].data, n.to_string());
    }
    broker.until_kept("t", 10);
    broker.check_counts();
}

#[test]
fn the_status_tells_of_the_disk_and_of_what_is_kept() {
    let broker = Broker::quick();
    let mut numbers = heavy::Numbers::from_seed(7);
    // No two texts are alike, so that nothing is saved by compressing them.
    let mut text = || (0..250).map(|_| format!("{:016x}", numbers.below(u64::MAX))).collect::<String>();
    let lines = (0..500).map(|_| json!({ "topic": "t", "data": text() }).to_string() + "\n");
    broker.publish_batch(lines.collect::<String>());
    // The disk is looked at now and then, and the engine writes behind.
    heavy::eventually("the status tells of two megabytes on disk", WITHIN, || {
        broker.json("/v1/status")["bytes_on_disk"].as_u64() > Some(2_000_000)
    });
    broker.put_policy("t", r#"{"max_events":1}"#);
    broker.until_kept("t", 1);
    let status = broker.json("/v1/status");
    assert!(status["bytes"].as_u64() < Some(10_000), "{status}");
    assert!(status["oldest"].as_str().is_some_and(|oldest| oldest == broker.kept("t")[0]), "{status}");
}

/// The data of an hour ago cannot be made here, so the window is short and the events wait in it.
#[test]
fn each_event_goes_in_its_own_time() {
    let broker = Broker::quick();
    broker.put_policy("t", r#"{"max_age":"2s"}"#);
    let early = broker.publish("t", "early");
    std::thread::sleep(Duration::from_millis(1_500));
    let late = broker.publish("t", "late");
    let until_gone = |id: &str| {
        let target = format!("/v1/events/{}", escape(id));
        heavy::eventually("it is gone", WITHIN, || broker.get(&target).status == 410);
    };
    until_gone(&early);
    until_gone(&late);
    broker.check_counts();
}
