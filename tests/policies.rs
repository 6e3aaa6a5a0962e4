//! Policies: how they are written and refused, which of several governs, what a dry run tells, and that the log is what
//! remembers them.

use std::thread;

use serde_json::{Value, json};

use crate::harness::history::{QUICK, put};
use crate::harness::{Broker, Reader, Request, escape};

const FIELDS: [&str; 4] = ["max_age", "max_events", "max_bytes", "compact"];

/// Checks that an answer is the policy of this pattern as it was given; what was not given is absent or null.
fn assert_echoes(answer: &Value, pattern: &str, given: &Value) {
    assert_eq!(answer["pattern"], pattern, "{answer}");
    for field in FIELDS {
        assert_eq!(answer[field], given[field], "{field} of {answer}");
    }
}

fn listed(broker: &Broker) -> Vec<Value> {
    let answer = broker.json("/v1/policies");
    answer["policies"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

fn policy_path(pattern: &str) -> String {
    format!("/v1/policies/{}", escape(pattern))
}

#[test]
fn a_policy_is_answered_and_listed_as_it_was_given() {
    let broker = Broker::start();
    assert_eq!(listed(&broker), [] as [Value; 0]);
    let given = [
        ("t.ms", json!({ "max_age": "1500ms" })),
        ("t.s", json!({ "max_age": "90s" })),
        ("t.m", json!({ "max_age": "5m" })),
        ("t.h", json!({ "max_age": "36h" })),
        ("t.d", json!({ "max_age": "7d" })),
        ("t.w", json!({ "max_age": "2w" })),
        ("t.plain", json!({ "max_age": 3_600, "max_bytes": 4_096 })),
        ("t.kib", json!({ "max_bytes": "64KiB" })),
        ("t.mib", json!({ "max_bytes": "200MiB" })),
        ("t.gib", json!({ "max_bytes": "1GiB", "max_events": 100_000 })),
        ("t.none", json!({ "max_events": 0 })),
        ("t.*", json!({ "compact": "key" })),
        ("**", json!({ "max_age": "7d", "max_events": 100_000, "max_bytes": "1GiB", "compact": "key" })),
        ("é.**", json!({})),
    ];
    for (pattern, policy) in &given {
        assert_echoes(&broker.put_policy(pattern, policy.to_string()), pattern, policy);
        assert_echoes(&broker.json(&policy_path(pattern)), pattern, policy);
    }
    let all = listed(&broker);
    assert_eq!(all.len(), given.len());
    for (pattern, policy) in &given {
        let found = all.iter().find(|listed| listed["pattern"] == *pattern);
        assert_echoes(found.unwrap_or_else(|| panic!("{pattern} is not listed")), pattern, policy);
    }
    // Setting it again is a new policy, not an addition to the old one.
    assert_echoes(&broker.put_policy("**", r#"{"max_events":5}"#), "**", &json!({ "max_events": 5 }));
    assert_eq!(listed(&broker).len(), given.len());
}

#[test]
fn a_policy_that_is_not_understood_is_refused_and_changes_nothing() {
    let broker = Broker::start();
    broker.put_policy("t", r#"{"max_events":7}"#);
    let head = broker.head();
    let bad = [
        r#"{"max_event":5}"#,
        r#"{"max_events":5,"colour":"red"}"#,
        r#"{"max_events":5,"max_events":6}"#,
        r#"{"max_events":-1}"#,
        r#"{"max_events":1.5}"#,
        r#"{"max_events":true}"#,
        r#"{"max_events":"10KiB"}"#,
        r#"{"max_events":18446744073709551616}"#,
        r#"{"max_age":"7 fortnights"}"#,
        r#"{"max_age":"7"#,
        r#"{"max_age":""}"#,
        r#"{"max_age":"d"}"#,
        r#"{"max_age":"-7d"}"#,
        r#"{"max_age":"1KiB"}"#,
        r#"{"max_age":{}}"#,
        r#"{"max_age":"99999999999999999999w"}"#,
        r#"{"max_bytes":"1h"}"#,
        r#"{"max_bytes":-5}"#,
        r#"{"max_bytes":[]}"#,
        r#"{"compact":"value"}"#,
        r#"{"compact":true}"#,
        r#"{"compact":""}"#,
        r#"[{"max_events":5}]"#,
        r#""max_events""#,
        "null",
        "5",
        "",
        "{",
        "max_events=5",
        "{}{}",
    ];
    for policy in bad {
        broker.send(&put("t", "", policy)).problem(400);
        broker.send(&put("t", "?dry_run=true", policy)).problem(400);
    }
    broker.send(&put("t", "", b"{\"compact\":\"\xff\"}")).problem(422);
    for query in ["?dry_run=perhaps", "?dryrun=true", "?dry_run=true&dry_run=true"] {
        broker.send(&put("t", query, "{}")).problem(400);
        broker.send(&Request::new("DELETE", &format!("/v1/policies/t{query}"))).problem(400);
    }
    broker.get("/v1/policies?pattern=t").problem(400);
    broker.get("/v1/policies/t?x=1").problem(400);
    assert_echoes(&broker.json("/v1/policies/t"), "t", &json!({ "max_events": 7 }));
    assert_eq!((listed(&broker).len(), broker.head()), (1, head));
}

#[test]
fn what_is_no_pattern_and_what_is_the_brokers_own_is_refused() {
    let broker = Broker::start();
    for pattern in ["a..b", ".a", "a.", "**.a", "a.**.b", "a b", "a\nb", &"x".repeat(513)] {
        broker.send(&put(pattern, "", "{}")).problem(400);
        broker.get(&policy_path(pattern)).problem(400);
    }
    for pattern in ["$broker.**", "$broker.policies", "$broker.*", "$x", "$x.**"] {
        broker.send(&put(pattern, "", r#"{"max_events":0}"#)).problem(400);
    }
    assert!(listed(&broker).is_empty());
}

#[test]
fn a_policy_that_is_not_there_is_not_found() {
    let broker = Broker::start();
    broker.put_policy("a.*", "{}");
    for pattern in ["a", "a.b", "*.*", "**"] {
        broker.get(&policy_path(pattern)).problem(404);
        broker.send(&Request::new("DELETE", &policy_path(pattern))).problem(404);
        broker.send(&Request::new("DELETE", &format!("{}?dry_run=true", policy_path(pattern)))).problem(404);
    }
    assert_eq!(listed(&broker).len(), 1);
    let response = broker.post("/v1/policies/a", "{}");
    response.problem(405);
    let allowed = response.header("allow").expect("Allow");
    for method in ["GET", "PUT", "DELETE"] {
        assert!(allowed.contains(method), "{allowed}");
    }
    assert_eq!(broker.send(&Request::new("OPTIONS", "/v1/policies/a")).status, 204);
}

/// Policies that differ in how many events they keep, so that the count tells who governed.
const RIVALS: [(&str, usize); 7] =
    [("**", 1), ("a.**", 2), ("a.*", 3), ("a.b", 4), ("*.b", 5), ("a.b.**", 6), ("*", 7)];

#[test]
fn the_most_specific_policy_governs() {
    let broker = Broker::quick();
    let topics = [
        ("a", "*", 7),
        ("q", "*", 7),
        ("a.b", "a.b", 4),
        ("a.x", "a.*", 3),
        ("z.b", "*.b", 5),
        ("z.y", "**", 1),
        ("a.b.c", "a.b.**", 6),
        ("a.b.c.d", "a.b.**", 6),
        ("a.x.y", "a.**", 2),
        ("a.x.c", "a.*.c", 9),
        ("z.b.c", "**", 1),
    ];
    for (topic, _, _) in topics {
        broker.publish_many(topic, 0..12);
    }
    for (pattern, events) in RIVALS.into_iter().chain([("a.*.c", 9)]) {
        broker.put_policy(pattern, json!({ "max_events": events }).to_string());
    }
    for (topic, pattern, events) in topics {
        broker.publish_many(topic, 12..24);
        broker.until_kept(topic, events);
        let governed_by = broker.topic(topic)["policy"].clone();
        assert_echoes(&governed_by, pattern, &json!({ "max_events": events }));
    }
    let all = broker.json("/v1/topics");
    for (topic, pattern, _) in topics {
        let of_topic = all["topics"].as_array().unwrap().iter().find(|told| told["topic"] == topic).unwrap();
        assert_eq!(of_topic["policy"]["pattern"], pattern, "{of_topic}");
    }
}

#[test]
fn a_policy_governs_wholly_and_takes_nothing_from_a_wider_one() {
    let broker = Broker::quick();
    broker.put_policy("a.free", "{}");
    broker.put_policy("a.old", r#"{"max_age":"1d"}"#);
    broker.put_policy("**", r#"{"max_events":3}"#);
    for topic in ["a.free", "a.old", "a.few"] {
        broker.publish_many(topic, 0..20);
    }
    broker.until_kept("a.few", 3);
    broker.passed();
    assert_eq!((broker.kept("a.free").len(), broker.kept("a.old").len()), (20, 20));
    assert_echoes(&broker.topic("a.free")["policy"], "a.free", &json!({}));
    // The broker's own events are what it knows: no wildcard reaches them.
    let own = broker.json("/v1/topics/%24broker.policies");
    assert_eq!((&own["policy"], &own["events"]), (&Value::Null, &json!(4)), "{own}");
}

#[test]
fn a_deleted_policy_governs_no_longer() {
    let broker = Broker::quick();
    broker.put_policy("t", r#"{"max_events":2}"#);
    broker.put_policy("*", r#"{"max_events":500}"#);
    broker.publish_many("t", 0..10);
    broker.until_kept("t", 2);
    assert_echoes(&broker.delete_policy("t"), "t", &json!({ "max_events": 2 }));
    broker.get("/v1/policies/t").problem(404);
    assert_echoes(&broker.topic("t")["policy"], "*", &json!({ "max_events": 500 }));
    broker.delete_policy("*");
    broker.publish_many("t", 0..10);
    broker.passed();
    assert_eq!(broker.kept("t").len(), 12);
    assert_eq!(broker.topic("t")["policy"], Value::Null);
}

#[test]
fn a_dry_run_tells_what_would_go_and_changes_nothing() {
    let broker = Broker::quick();
    broker.publish_many("t", 0..10);
    broker.publish_many("u", 0..10);
    for (key, data) in [("k", "1"), ("k", "2"), ("other", "3")] {
        broker.publish_state("s", key, data);
    }
    let head = broker.head();
    let dry = |pattern: &str, policy: &str| {
        let response = broker.send(&put(pattern, "?dry_run=true", policy));
        assert_eq!(response.status, 200, "{response}");
        response.json()
    };
    let would = |events: u64, bytes: u64| json!({ "dry_run": true, "events": events, "bytes": bytes });
    // Each event is a digit on a topic of one letter.
    assert_eq!(dry("t", r#"{"max_events":3}"#), would(7, 14));
    assert_eq!(dry("t", r#"{"max_bytes":6}"#), would(7, 14));
    assert_eq!(dry("t", r#"{"max_events":0}"#), would(10, 20));
    assert_eq!(dry("*", r#"{"max_events":4}"#), would(12, 24));
    assert_eq!(dry("t", r#"{"max_age":"1d"}"#), would(0, 0));
    assert_eq!(dry("t", "{}"), would(0, 0));
    assert_eq!(dry("s", r#"{"compact":"key"}"#), would(1, 3));
    assert_eq!(dry("absent.**", r#"{"max_events":0}"#), would(0, 0));
    broker.get("/v1/topics/%24broker.policies").problem(404);
    assert_eq!((listed(&broker).len(), broker.head()), (0, head));
    broker.passed();
    assert_eq!((broker.kept("t").len(), broker.kept("u").len(), broker.kept("s").len()), (10, 10, 3));

    // What deleting would do: the wider policy would govern then.
    broker.put_policy("t", "{}");
    broker.put_policy("*", r#"{"max_events":4}"#);
    broker.until_kept("u", 4);
    let response = broker.send(&Request::new("DELETE", "/v1/policies/t?dry_run=true"));
    assert_eq!((response.status, response.json()), (200, would(6, 12)), "{response}");
    broker.passed();
    assert_eq!(broker.kept("t").len(), 10);
    broker.delete_policy("t");
    broker.until_kept("t", 4);
}

#[test]
fn policies_are_events_that_an_administrator_reads() {
    let broker = Broker::start();
    let mut reader = Reader::open(&broker, "/v1/events?topic=%24broker.**");
    reader.until("$live");
    broker.put_policy("t.*", r#"{"max_events":5}"#);
    broker.put_policy("u", r#"{"max_age":"7d","compact":"key"}"#);
    broker.delete_policy("t.*");
    let live: Vec<(String, String)> = reader.collect(3).into_iter().map(|e| (e.kind, e.data)).collect();
    let read = broker.envelopes("topic=%24broker.policies");
    assert!(read.iter().map(|event| (event.kind.clone(), event.data.clone())).eq(live));
    assert_eq!(read.len(), 3);
    assert_eq!(
        read.iter().map(|event| event.key.as_deref().unwrap()).collect::<Vec<_>>(),
        ["t.*", "u", "t.*"]
    );
    for (event, given) in
        read.iter().zip([json!({ "max_events": 5 }), json!({ "max_age": "7d", "compact": "key" })])
    {
        assert_echoes(&serde_json::from_str(&event.data).unwrap(), event.key.as_deref().unwrap(), &given);
    }
    assert_eq!((read[2].kind.as_str(), read[2].data.as_str()), ("$delete", r#"{"key":"t.*"}"#));
    assert!(broker.envelopes("topic=**").is_empty(), "a wildcard does not match the broker's own topics");
    broker.post("/v1/topics/%24broker.policies/events", "{}").problem(400);
}

#[test]
fn policies_are_in_force_again_after_a_crash_and_after_a_stop() {
    let mut broker = Broker::quick();
    broker.put_policy("gone", r#"{"max_events":0}"#);
    broker.put_policy("t.*", r#"{"max_events":50}"#);
    broker.put_policy("t.*", r#"{"max_events":5}"#);
    broker.put_policy("u", r#"{"max_bytes":"1KiB"}"#);
    broker.delete_policy("gone");
    let before = listed(&broker);
    assert_eq!(before.len(), 2);
    for crash in [true, false] {
        if crash {
            broker.kill();
        } else {
            assert!(broker.terminate().success());
        }
        broker.restart();
        assert_eq!(listed(&broker), before);
        broker.publish_many("t.x", 0..30);
        broker.publish_many("gone", 0..3);
        broker.until_kept("t.x", 5);
    }
    assert_eq!(broker.kept("gone").len(), 6);
}

#[test]
fn of_changes_at_the_same_moment_the_last_one_in_the_log_holds() {
    let mut broker = Broker::with(&QUICK);
    for round in 0..5 {
        thread::scope(|scope| {
            for number in 0..8 {
                let broker = &broker;
                scope.spawn(move || {
                    let policy = json!({ "max_events": 1_000 + round * 100 + number });
                    broker.put_policy("t", policy.to_string());
                });
            }
        });
        let last = broker.envelopes("topic=%24broker.policies").pop().unwrap();
        let last: Value = serde_json::from_str(&last.data).unwrap();
        assert_eq!(broker.json("/v1/policies/t")["max_events"], last["max_events"]);
        broker.kill();
        broker.restart();
        assert_eq!(broker.json("/v1/policies/t")["max_events"], last["max_events"], "after a crash");
    }
}
