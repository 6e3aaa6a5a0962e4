//! Copies of a log: an archive in an empty directory is as good as the original.

use std::fs;

use serde_json::{Value, json};

use crate::harness::archive::{EVERYTHING, events, facts, import, on, run, text_of, without_epoch};
use crate::harness::envelope::sequence;
use crate::harness::history::QUICK;
use crate::harness::{Broker, Reader, Request, data_file, escape, shapes};

/// A broker with events of every kind.
fn filled() -> Broker {
    let broker = Broker::start();
    broker.publish_batch(data_file("wikipedia-edits.ndjson"));
    let naughty: Vec<String> = serde_json::from_slice(&data_file("hostile/naughty-strings.json")).unwrap();
    let line = |text: &String| {
        json!({ "topic": "naughty", "key": "k", "origin": "o", "data": text }).to_string() + "\n"
    };
    broker.publish_batch(naughty.iter().filter(|text| !text.is_empty()).map(line).collect::<String>());
    for text in ["{\"n\": 1.0}", " {}", "[1,\r\n2]", "\0", "null", "\"a string\"", ""] {
        broker.publish("exact", text);
    }
    let tombstone = Request::new("DELETE", "/v1/topics/naughty/keys/k");
    assert_eq!(broker.send(&tombstone).status, 201);
    broker.put_policy("elsewhere.**", r#"{"max_age":"7d","max_events":5}"#);
    broker
}

#[test]
fn an_archive_in_an_empty_directory_is_an_exact_copy_under_a_new_epoch() {
    let mut broker = filled();
    let archive = broker.export();
    let original = broker.envelopes(EVERYTHING);
    assert!(original.len() > 800);
    assert_eq!(events(&archive), original);
    let copy = Broker::restored(&archive, &[]);
    assert_ne!(copy.epoch(), broker.epoch());
    assert_eq!(without_epoch(copy.envelopes(EVERYTHING)), without_epoch(original));
    assert_eq!(sequence(&copy.head()), sequence(&broker.head()));
    copy.check_counts();
    let next = copy.publish("exact", "next");
    assert!(sequence(&next) > sequence(&broker.head()));

    broker.terminate();
    let cold = text_of(&run(on(&broker.data(), &["export"]), b""));
    assert_eq!(events(&cold), events(&archive), "the directory's archive is the broker's");
}

#[test]
fn a_copy_of_a_copy_remembers_every_epoch() {
    let broker = Broker::start();
    let ids = broker.publish_many("t", 0..3);
    let copy = Broker::restored(&broker.export(), &[]);
    let later = copy.publish_many("t", 3..5);
    let last = Broker::restored(&copy.export(), &[]);
    let epochs = facts(&last.export())[0]["data"]["epochs"].clone();
    let names: Vec<&str> =
        epochs.as_array().unwrap().iter().map(|start| start["epoch"].as_str().unwrap()).collect();
    assert_eq!(names, [broker.epoch(), copy.epoch(), last.epoch()]);
    for (id, rest) in [(&ids[0], vec!["1", "2", "3", "4"]), (&ids[2], vec!["3", "4"]), (&later[0], vec!["4"])]
    {
        let (data, gap) = shapes::read(&last, "topic=t", Some(id.as_bytes()));
        assert_eq!((data, gap), (rest.into_iter().map(str::to_owned).collect(), Value::Null), "{id}");
    }
}

#[test]
fn old_ids_resume_without_a_gap_up_to_the_end_of_the_copy_and_later_ones_are_told() {
    let broker = Broker::start();
    let ids = broker.publish_many("t", 0..10);
    let archive = broker.export();
    let beyond = broker.publish("t", "only in the original");
    let copy = Broker::restored(&archive, &[]);
    copy.publish("t", "only in the copy");
    for (at, id) in ids.iter().enumerate() {
        let mut reader = Reader::resume(&copy, "/v1/topics/t/events", id);
        assert_eq!(reader.next().kind, "$open");
        let expected = (at + 1..10).map(|n| n.to_string()).chain(["only in the copy".to_owned()]);
        assert!(reader.collect(10 - at).into_iter().map(|event| event.data).eq(expected), "{id}");
    }
    let (data, gap) = shapes::read(&copy, "topic=t", Some(beyond.as_bytes()));
    let divergence = format!("{}-{}", sequence(&ids[9]), copy.epoch());
    assert_eq!(gap, json!({ "reason": "epoch", "requested": beyond, "resumed_after": divergence }));
    assert_eq!(data, ["only in the copy"]);
}

#[test]
fn what_was_removed_is_told_by_the_copy_as_by_the_original() {
    let broker = Broker::quick();
    let ids = broker.publish_many("trimmed", 0..10);
    let purged = broker.publish_many("purged", 0..3);
    let untouched = broker.publish_many("untouched", 0..3);
    broker.put_policy("trimmed", r#"{"max_events":2}"#);
    broker.until_kept("trimmed", 2);
    broker.purge("purged");
    let copy = Broker::restored(&broker.export(), &[]);
    for (topic, id) in [
        ("trimmed", &ids[3]),
        ("trimmed", &ids[7]),
        ("purged", &purged[1]),
        ("purged", &purged[2]),
        ("untouched", &untouched[0]),
        ("untouched", &ids[0]),
    ] {
        let read = |broker: &Broker| {
            let (data, gap) = shapes::read(broker, &format!("topic={topic}"), Some(id.as_bytes()));
            (data, gap["reason"].clone(), gap["resumed_after"].as_str().map(sequence))
        };
        assert_eq!(read(&copy), read(&broker), "{topic} {id}");
    }
    let numbers = |broker: &Broker, topic: &str| {
        let told = broker.topic(topic);
        (told["events"].clone(), told["bytes"].clone(), sequence(told["last_id"].as_str().unwrap()))
    };
    for topic in ["trimmed", "purged", "untouched"] {
        assert_eq!(numbers(&copy, topic), numbers(&broker, topic), "{topic}");
    }
    copy.get(&format!("/v1/events/{}", sequence(&ids[0]))).problem(410);
    copy.check_counts();
}

#[test]
fn compacted_history_is_no_gap_in_the_copy() {
    let broker = Broker::quick();
    let first = broker.publish_state("state", "k", "old");
    broker.publish_state("state", "k", "new");
    broker.publish_state("state", "other", "other");
    broker.put_policy("state", r#"{"compact":"key"}"#);
    broker.until_kept("state", 2);
    let copy = Broker::restored(&broker.export(), &QUICK);
    let (data, gap) = shapes::read(&copy, "topic=state", Some(first.as_bytes()));
    assert_eq!((data, gap), (vec!["new".to_owned(), "other".to_owned()], Value::Null));
    copy.publish_state("state", "k", "newest");
    copy.passed();
    assert_eq!(copy.data_of("state"), ["other", "newest"]);
}

/// Publishes with an idempotency key.
fn publish_once(broker: &Broker, key: &str, data: &str) -> (u16, Value) {
    let request = Request::new("POST", "/v1/topics/once/events").header("Idempotency-Key", key).body(data);
    let response = broker.send(&request);
    (response.status, response.json())
}

#[test]
fn idempotency_keys_hold_in_the_copy_also_of_events_that_are_gone() {
    let broker = Broker::start();
    let (status, kept) = publish_once(&broker, "kept", "x");
    assert_eq!(status, 201);
    publish_once(&broker, "gone", "y");
    broker.purge("once");
    let copy = Broker::restored(&broker.export(), &[]);
    for (key, data) in [("kept", "x"), ("gone", "y")] {
        let (status, again) = publish_once(&copy, key, data);
        assert_eq!((status, &again["duplicate"]), (200, &json!(true)), "{key}");
    }
    let (_, again) = publish_once(&copy, "kept", "x");
    for member in ["sequence", "time", "uuid"] {
        assert_eq!(again[member], kept[member], "{member}");
    }
    assert_eq!(publish_once(&copy, "kept", "z").0, 422);
    assert!(copy.data_of("once").is_empty());
}

#[test]
fn the_expected_id_of_a_topic_without_events_holds_in_the_copy() {
    let broker = Broker::start();
    let id = broker.publish("t", "x");
    broker.purge("t");
    let copy = Broker::restored(&broker.export(), &[]);
    let expecting = |id: &str| {
        copy.send(&Request::new("POST", "/v1/topics/t/events").header("Perennial-Expected-Id", id).body("y"))
    };
    assert_eq!(expecting("0").status, 412);
    assert_eq!(expecting(&id).status, 201);
}

#[test]
fn policies_are_in_force_in_the_copy() {
    let broker = Broker::start();
    broker.put_policy("t.*", r#"{"max_events":3}"#);
    let copy = Broker::restored(&broker.export(), &QUICK);
    assert_eq!(copy.json("/v1/policies"), broker.json("/v1/policies"));
    copy.publish_many("t.a", 0..20);
    copy.until_kept("t.a", 3);
    assert_eq!(copy.data_of("t.a"), ["17", "18", "19"]);
}

#[test]
fn an_archive_that_is_not_whole_is_refused_and_leaves_no_log_behind() {
    let broker = Broker::start();
    broker.publish_many("t", 0..50);
    let archive = broker.export();
    let lines: Vec<&str> = archive.lines().collect();
    let without = |left_out: usize| [&lines[..left_out], &lines[left_out + 1..]].concat().join("\n");
    let torn: [(String, &str); 5] = [
        (archive[..archive.len() / 2].to_owned(), "line"),
        (lines[..10].join("\n"), "cut off"),
        (without(lines.len() - 1), "cut off"),
        (without(20), "$end"),
        (archive.replacen("\"version\":1", "\"version\":9", 1), "version 9"),
    ];
    for (number, (archive, cause)) in torn.iter().enumerate() {
        let data = broker.place().join(format!("torn-{number}"));
        let output = import(&data, archive);
        crate::command_line::assert_fails(&output, &[1], cause);
        for command in ["export", "verify", "import"] {
            let output = run(on(&data, &[command]), archive.as_bytes());
            assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{cause}: {output:?}");
        }
    }
}

#[test]
fn an_export_of_no_log_is_refused_and_makes_none() {
    let mut broker = Broker::start();
    for command in ["export", "verify"] {
        let nowhere = broker.place().join("nowhere");
        let output = run(on(&nowhere, &[command]), b"");
        crate::command_line::assert_fails(&output, &[1], "no log");
        assert!(!nowhere.exists());
        let busy = run(on(&broker.data(), &[command]), b"");
        crate::command_line::assert_fails(&busy, &[1], &broker.pid().to_string());
    }
    let both = run(broker.command(&["export", "--data", "x", "--url", "http://127.0.0.1:1"]), b"");
    crate::command_line::assert_fails(&both, &[2], "cannot be used with");
    fs::write(broker.place().join("file"), "x").unwrap();
    broker.terminate();
    let dead = run(broker.command(&["export"]), b"");
    crate::command_line::assert_fails(&dead, &[1], &broker.port().to_string());
    assert!(dead.stdout.is_empty());
}

#[test]
fn the_export_resource_streams_an_archive_and_takes_no_parameters() {
    let broker = Broker::start();
    broker.publish("t", "x");
    let response = broker.get("/v1/export");
    assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(events(response.text()), broker.envelopes(EVERYTHING));
    let told = facts(response.text());
    assert_eq!(told[0]["type"], "$export");
    assert_eq!(told.last().unwrap()["type"], "$end");
    broker.get(&format!("/v1/export?topic={}", escape("t"))).problem(400);
}
