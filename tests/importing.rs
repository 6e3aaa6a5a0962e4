//! Appending to a log that has events: archives and lines, into a directory or by address.

use serde_json::json;

use crate::command_line::assert_fails;
use crate::harness::archive::{events, import, on, run, text_of};
use crate::harness::{Broker, Request, data_file};

fn said(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Topic, type, key, origin and data of all events that anybody may publish.
fn contents(broker: &Broker) -> Vec<[String; 5]> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let content = |event: crate::harness::Envelope| {
        [event.topic, event.kind, text(event.key), text(event.origin), event.data]
    };
    broker.envelopes("topic=**").into_iter().map(content).collect()
}

/// A broker with real events, a tombstone and a policy.
fn source() -> Broker {
    let broker = Broker::start();
    broker.publish_batch(data_file("github-events.ndjson"));
    let line = json!({ "topic": "a", "key": "k/ö", "origin": "o", "data": { "n": 1 } }).to_string();
    broker.publish_batch(line);
    assert_eq!(broker.send(&Request::new("DELETE", "/v1/topics/a/keys/k%2F%C3%B6")).status, 201);
    broker.publish("a", "after the tombstone");
    broker.put_policy("x", r#"{"max_events":1}"#);
    broker
}

#[test]
fn an_archive_is_appended_to_a_running_broker_with_new_ids_and_only_once() {
    let source = source();
    let archive = source.export();
    let broker = Broker::start();
    broker.publish("before", "x");
    let all = contents(&source);
    for (new, duplicates) in [(all.len(), 0), (0, all.len())] {
        let told = said(&run(broker.command(&["import"]), archive.as_bytes()));
        assert!(told.contains(&format!("appended {new} events")), "{told}");
        assert_eq!(told.contains(&format!("{duplicates} were there already")), duplicates > 0, "{told}");
        assert!(told.contains("1 of the broker's own were left out"), "{told}");
        assert_eq!(contents(&broker)[1..], all);
    }
    assert_eq!(broker.json("/v1/policies"), json!({ "policies": [] }));
}

#[test]
fn an_archive_is_appended_to_a_directory_that_has_events() {
    let source = source();
    let archive = source.export();
    let mut broker = Broker::start();
    let first = broker.publish("before", "x");
    broker.terminate();
    for _ in 0..2 {
        assert!(said(&import(&broker.data(), &archive)).contains("with new ids"));
    }
    broker.restart();
    assert_eq!(contents(&broker)[1..], contents(&source));
    assert!(broker.envelopes("topic=before")[0].id == first, "what was there keeps its id");
}

#[test]
fn a_reading_can_be_imported_like_an_archive() {
    let source = source();
    let request =
        Request::new("GET", "/v1/events?topic=**&from=earliest").header("Accept", "application/x-ndjson");
    let reading = source.send(&request).text().to_owned();
    let broker = Broker::start();
    said(&run(broker.command(&["import", "-"]), reading.as_bytes()));
    said(&run(broker.command(&["import", "-"]), reading.as_bytes()));
    assert_eq!(contents(&broker), contents(&source));
}

#[test]
fn lines_of_events_go_into_an_empty_directory_a_full_one_and_a_broker() {
    let text = String::from_utf8(data_file("wikipedia-edits.ndjson")).unwrap();
    let broker = Broker::start();
    let file = broker.place().join("edits.ndjson");
    std::fs::write(&file, &text).unwrap();
    said(&run(broker.command(&["import", file.to_str().unwrap()]), b""));
    let directory = broker.place().join("imported");
    for rounds in 1..=2 {
        said(&run(on(&directory, &["import", file.to_str().unwrap()]), b""));
        let archive = text_of(&run(on(&directory, &["export"]), b""));
        let data: Vec<String> = events(&archive).into_iter().map(|event| event.data).collect();
        let published: Vec<String> =
            broker.envelopes("topic=**").into_iter().map(|event| event.data).collect();
        let expected: Vec<String> = (0..rounds).flat_map(|_| published.clone()).collect();
        assert_eq!(data, expected, "lines without a key of their own are new each time");
    }
}

#[test]
fn a_line_that_cannot_be_taken_is_named_and_what_stood_before_it_is_there() {
    let broker = Broker::start();
    let directory = broker.place().join("imported");
    let text = "{\"topic\":\"t\",\"data\":1}\n\n{\"topic\":\"t\",\"data\":2}\n{\"topic\":\"t\"}\n{\"topic\":\"t\",\"data\":3}\n";
    for (output, cause) in [
        (run(broker.command(&["import"]), text.as_bytes()), "line 4"),
        (import(&directory, text), "line 4"),
        (run(broker.command(&["import"]), b"\xff\n"), "UTF-8"),
        (run(broker.command(&["import"]), b""), "empty"),
        (run(broker.command(&["import", "/no/such/file"]), b""), "/no/such/file"),
        (run(broker.command(&["import"]), b"{\"topic\":\"$broker.x\",\"type\":\"$y\",\"dat\":1}"), "dat"),
    ] {
        assert_fails(&output, &[1], cause);
    }
    assert_eq!(broker.data_of("t"), ["1", "2"]);
    let there: Vec<String> = events(&text_of(&run(on(&directory, &["export"]), b"")))
        .into_iter()
        .map(|event| event.data)
        .collect();
    assert_eq!(there, ["1", "2"]);
}

#[test]
fn what_the_broker_refuses_is_told_in_its_words() {
    let broker = Broker::with(&["--set", "max_data=10"]);
    let text = format!("{{\"topic\":\"t\",\"data\":\"{}\"}}\n", "x".repeat(11));
    assert_fails(&run(broker.command(&["import"]), text.as_bytes()), &[1], "max_data");
    assert!(broker.data_of("t").is_empty());
}
