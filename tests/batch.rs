//! Many events in: their exact text, their order, and all of them or none.

use std::collections::BTreeMap;
use std::thread;

use serde_json::json;
use serde_json::value::RawValue;

use crate::harness::envelope::{is_embedded, sequence};
use crate::harness::{Broker, Request, Response, data_file};

fn json_batch(broker: &Broker, body: impl AsRef<[u8]>) -> Response {
    broker.send(&Request::new("POST", "/v1/events").header("Content-Type", "application/json").body(body))
}

/// JSON as it might be sent, and the text that it publishes.
const VALUES: [(&str, &str); 19] = [
    (r#"{"a" : 1.0,"b":[ ]}"#, r#"{"a" : 1.0,"b":[ ]}"#),
    (r#"{"twice":1,"twice":2}"#, r#"{"twice":1,"twice":2}"#),
    ("1.10", "1.10"),
    ("-0", "-0"),
    ("1E+02", "1E+02"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("1e999", "1e999"),
    ("true", "true"),
    ("false", "false"),
    ("null", "null"),
    ("[1,2 , 3]", "[1,2 , 3]"),
    (r#"["\u0041\/"]"#, r#"["\u0041\/"]"#),
    (r#"{"\udc00" : "\ud83d"}"#, r#"{"\udc00" : "\ud83d"}"#),
    (r#""text""#, "text"),
    (r#""""#, ""),
    (r#""\u0041\n\r\u0000\ud83d\ude80\/""#, "A\n\r\0\u{1F680}/"),
    (r#""{\"json\":1}""#, "{\"json\":1}"),
    (r#"" null ""#, " null "),
    (r#""\u2028""#, "\u{2028}"),
];

#[test]
fn json_is_kept_as_the_exact_text_that_was_sent() {
    let broker = Broker::start();
    let lines: String = VALUES.iter().map(|(v, _)| format!("{{\"topic\":\"t\",\"data\": {v} }}\n")).collect();
    broker.publish_batch(lines);
    let members: Vec<String> =
        VALUES.iter().map(|(v, _)| format!("{{\"data\":{v}, \"topic\" :\"t\"}}")).collect();
    assert_eq!(json_batch(&broker, format!("[{}]", members.join(" , "))).status, 201);
    let read = broker.envelopes("topic=t");
    assert_eq!(read.len(), 2 * VALUES.len());
    for (envelope, (sent, text)) in read.iter().zip(VALUES.iter().chain(&VALUES)) {
        assert_eq!(envelope.data, *text, "{sent}");
        assert_eq!(!envelope.raw_data.starts_with('"'), is_embedded(text), "{sent} as {}", envelope.raw_data);
    }
}

#[test]
fn json_over_several_lines_keeps_its_line_ends() {
    let broker = Broker::start();
    let data = "{\n  \"a\": [\r\n1]\n}";
    assert_eq!(json_batch(&broker, format!(" {{\"topic\":\"t\",\n\"data\":\n{data}\n}} \n")).status, 201);
    assert_eq!(broker.data_of("t"), [data]);
}

#[test]
fn a_batch_is_answered_event_by_event() {
    let broker = Broker::start();
    let lines = "{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"b\",\"data\":2,\"type\":\"x\",\"key\":\"k\",\"origin\":\"o\"}";
    let response = broker.post_batch(lines);
    assert_eq!(response.status, 201, "{response}");
    let answer = response.json();
    assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
    let events = answer["events"].as_array().unwrap();
    assert_eq!((events[0]["topic"].as_str(), events[1]["topic"].as_str()), (Some("a"), Some("b")));
    assert!(events.iter().all(|e| e["duplicate"] == false && e["uuid"].is_string() && e["time"].is_string()));
    assert_eq!(
        (&answer["head"], broker.head().as_str()),
        (&events[1]["id"], events[1]["id"].as_str().unwrap())
    );
    let read = broker.envelopes("topic=b").remove(0);
    assert_eq!((read.kind, read.key, read.origin), ("x".into(), Some("k".into()), Some("o".into())));
    assert_eq!((json!(read.id), json!(read.time), json!(read.uuid)), {
        let event = &events[1];
        (event["id"].clone(), event["time"].clone(), event["uuid"].clone())
    });
}

#[test]
fn one_object_alone_is_a_batch_too() {
    let broker = Broker::start();
    let response = json_batch(&broker, r#"{"topic":"t","data":"x"}"#);
    assert_eq!(response.status, 201, "{response}");
    assert_eq!(response.json()["events"].as_array().unwrap().len(), 1);
}

#[test]
fn blank_lines_are_skipped_and_the_last_line_needs_no_end() {
    let broker = Broker::start();
    let ids = broker.publish_batch("\n{\"topic\":\"t\",\"data\":1}\r\n\r\n  \n{\"topic\":\"t\",\"data\":2}");
    assert_eq!((ids.len(), broker.data_of("t")), (2, vec!["1".to_owned(), "2".to_owned()]));
}

#[test]
fn the_content_type_decides() {
    let broker = Broker::start();
    let send = |kind: &str| {
        let request = Request::new("POST", "/v1/events").header("Content-Type", kind);
        broker.send(&request.body("{\"topic\":\"t\",\"data\":1}"))
    };
    for kind in
        ["application/json", "application/x-ndjson", "application/json; charset=utf-8", "Application/JSON"]
    {
        assert_eq!(send(kind).status, 201, "{kind}");
    }
    for kind in
        ["text/plain", "application/xml", "application/octet-stream", "application/x-www-form-urlencoded"]
    {
        send(kind).problem(415);
    }
    assert_eq!(broker.data_of("t").len(), 4);
}

#[test]
fn positions_of_a_batch_are_neighbours_while_others_publish() {
    let broker = Broker::start();
    thread::scope(|scope| {
        for publisher in 0..4 {
            let broker = &broker;
            scope.spawn(move || {
                for n in 0..10 {
                    let line = |m| format!("{{\"topic\":\"p{publisher}\",\"data\":\"{n}.{m}\"}}\n");
                    let ids = broker.publish_batch((0..20).map(line).collect::<String>());
                    let places: Vec<u64> = ids.iter().map(|id| sequence(id)).collect();
                    assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1), "{places:?}");
                }
            });
        }
    });
    let read = broker.envelopes("topic=**");
    assert!(read.len() == 800 && read.is_sorted_by(|a, b| a.sequence() < b.sequence() && a.time <= b.time));
    for run in read.chunks(20) {
        let (n, _) = run[0].data.split_once('.').unwrap();
        let expected: Vec<String> = (0..20).map(|m| format!("{n}.{m}")).collect();
        assert!(run.iter().map(|e| &e.data).eq(&expected) && run.iter().all(|e| e.topic == run[0].topic));
    }
}

/// Lines that spoil a batch, and the field that is named, if any is.
const BAD_LINES: [(&str, u16, &str); 30] = [
    ("{\"topic\":\"t\"}", 400, "data"),
    ("{\"data\":1}", 400, "topic"),
    ("{}", 400, ""),
    ("[]", 400, ""),
    ("1", 400, ""),
    ("null", 400, ""),
    ("\"text\"", 400, ""),
    ("{\"topic\":\"t\",\"data\":1", 400, ""),
    ("{\"topic\":\"t\",\"data\":1}}", 400, ""),
    ("{\"topic\":\"t\",\"data\":1} {\"topic\":\"t\",\"data\":1}", 400, ""),
    ("{\"topic\":\"t\",\"data\":01}", 400, ""),
    ("{\"topic\":\"t\",\"data\":{\"a\":}}", 400, ""),
    ("{'topic':'t','data':1}", 400, ""),
    ("{\"topic\":\"t\",\"data\":NaN}", 400, ""),
    ("{\"topic\":\"t\",\"data\":1,\"id\":\"5\"}", 400, "id"),
    ("{\"topic\":\"t\",\"data\":1,\"Key\":\"5\"}", 400, "Key"),
    ("{\"topic\":\"t\",\"data\":1,\"data\":1}", 400, "data"),
    ("{\"topic\":\"t\",\"topic\":\"t\",\"data\":1}", 400, "topic"),
    ("{\"topic\":null,\"data\":1}", 400, "topic"),
    ("{\"topic\":5,\"data\":1}", 400, "topic"),
    ("{\"topic\":\"t\",\"data\":1,\"type\":5}", 400, "type"),
    ("{\"topic\":\"t\",\"data\":1,\"key\":[\"k\"]}", 400, "key"),
    ("{\"topic\":\"t.*\",\"data\":1}", 400, "topic"),
    ("{\"topic\":\"$broker.x\",\"data\":1}", 400, "topic"),
    ("{\"topic\":\"t\",\"data\":1,\"type\":\"a\\nb\"}", 400, "type"),
    ("{\"topic\":\"t\",\"data\":1,\"type\":\"$live\"}", 400, "type"),
    ("{\"topic\":\"t\",\"data\":1,\"key\":\"\"}", 400, "key"),
    ("{\"topic\":\"t\",\"data\":1,\"origin\":\"a\\u0000\"}", 400, "origin"),
    ("{\"topic\":\"t\",\"data\":1,\"idempotency_key\":\"\"}", 400, "idempotency_key"),
    ("{\"topic\":\"t\",\"data\":\"\\ud800\"}", 422, "data"),
];

#[test]
fn one_bad_line_refuses_the_whole_batch_and_is_named() {
    let broker = Broker::start();
    let good = "{\"topic\":\"t\",\"data\":\"good\"}\n";
    for (line, status, field) in BAD_LINES {
        let response = broker.post_batch(format!("{good}{good}{line}\n{good}"));
        assert_eq!(response.status, status, "{line}: {response}");
        let problem = response.problem(status);
        assert_eq!(problem["line"], 3, "{line}: {problem}");
        if !field.is_empty() {
            assert_eq!(problem["field"], field, "{line}: {problem}");
        }
        let as_array = json_batch(&broker, format!("[{}, {line}]", good.trim()));
        assert_eq!(as_array.status, status, "in an array {line}: {as_array}");
    }
    assert!(broker.data_of("**").is_empty());
}

#[test]
fn a_lone_surrogate_or_a_byte_that_is_no_text_is_422() {
    let broker = Broker::start();
    for member in ["data", "key", "origin", "type"] {
        for bad in ["\\ud800", "a\\udfffb", "\\ude80\\ud83d", "\\ud800\\u0041"] {
            let data = if member == "data" { "" } else { ",\"data\":1" };
            broker.post_batch(format!("{{\"topic\":\"t\",\"{member}\":\"{bad}\"{data}}}")).problem(422);
        }
    }
    broker.post_batch(b"{\"topic\":\"t\",\"data\":\"\xff\"}").problem(422);
    broker.post_batch(b"{\"topic\":\"t\",\"data\":1}\n\xc3\x28\n").problem(422);
    assert!(broker.data_of("**").is_empty());
}

#[test]
fn an_empty_batch_is_refused() {
    let broker = Broker::start();
    for body in ["", "\n", "\r\n \n"] {
        broker.post_batch(body).problem(400);
    }
    for body in ["", " ", "[]", " [ ] "] {
        json_batch(&broker, body).problem(400);
    }
}

#[test]
fn null_fields_are_absent_ones() {
    let broker = Broker::start();
    let line = "{\"topic\":\"t\",\"data\":null,\"type\":null,\"key\":null,\"origin\":null,\"idempotency_key\":null}\n";
    broker.publish_batch(line.repeat(2));
    for event in broker.envelopes("topic=t") {
        let shown = (event.data.as_str(), event.kind.as_str(), event.key, event.origin);
        assert_eq!(shown, ("null", "message", None, None));
    }
    assert_eq!(broker.data_of("t").len(), 2);
}

#[test]
fn what_counts_for_one_event_only_is_refused_with_a_batch() {
    let broker = Broker::start();
    let request = Request::new("POST", "/v1/events").header("Content-Type", "application/x-ndjson");
    let request = request.body("{\"topic\":\"t\",\"data\":1}");
    broker.send(&request.clone().header("Idempotency-Key", "k")).problem(400);
    broker.send(&request.clone().header("Perennial-Expected-Id", "0")).problem(400);
    let with_query = Request::new("POST", "/v1/events?type=x").header("Content-Type", "application/x-ndjson");
    broker.send(&with_query.body("{\"topic\":\"t\",\"data\":1}")).problem(400);
    assert!(broker.data_of("t").is_empty());
}

#[test]
fn a_batch_is_taken_up_to_its_limits() {
    let broker = Broker::start();
    let line = "{\"topic\":\"t\",\"data\":1}\n";
    assert_eq!(broker.publish_batch(line.repeat(10_000)).len(), 10_000);
    broker.post_batch(line.repeat(10_001)).problem(413);
    let large = format!("{{\"topic\":\"u\",\"data\":\"{}\"}}\n", "x".repeat(256 * 1024));
    assert_eq!(broker.post_batch(&large).status, 201);
    let too_large = format!("{{\"topic\":\"u\",\"data\":\"{}\"}}\n", "x".repeat(256 * 1024 + 1));
    broker.post_batch(format!("{line}{too_large}")).problem(413);
    broker.post_batch(large.repeat(64)).problem(413);
    assert_eq!(broker.data_of("t").len(), 10_000);
    assert_eq!(broker.data_of("u").len(), 1);
}

#[test]
fn a_batch_of_envelopes_publishes_exactly_the_same_again() {
    let (one, other) = (Broker::start(), Broker::start());
    one.publish_batch(data_file("wikipedia-edits.ndjson"));
    one.publish_batch(data_file("github-events.ndjson"));
    for text in crate::publish::AWKWARD {
        one.publish("awkward", text);
    }
    // JSON by its grammar, though half of its readers refuse it.
    for text in [r#"{"a":"\ud800"}"#, r#"["\ude80\ud83d"]"#, r#"{"\udfff":"\ud83dx"}"#, r#""\ud800""#] {
        one.publish("surrogates", text);
    }
    let request =
        Request::new("GET", "/v1/events?topic=**&from=earliest").header("Accept", "application/x-ndjson");
    let lines: String = one.send(&request).text().lines().map(without_what_the_broker_gave).collect();
    other.publish_batch(lines);
    let told = |broker: &Broker| -> Vec<_> {
        let all = broker.envelopes("topic=**").into_iter();
        all.map(|e| (e.topic, e.kind, e.key, e.origin, e.data, e.raw_data)).collect()
    };
    assert_eq!(told(&one), told(&other));
}

fn without_what_the_broker_gave(line: &str) -> String {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(line).unwrap();
    let kept =
        ["topic", "type", "key", "origin", "data"].map(|name| format!("\"{name}\":{}", members[name].get()));
    format!("{{{}}}\n", kept.join(","))
}

#[test]
fn real_events_come_back_as_they_were() {
    let broker = Broker::start();
    for file in ["wikipedia-edits.ndjson", "github-events.ndjson"] {
        let text = String::from_utf8(data_file(file)).unwrap();
        let ids = broker.publish_batch(&text);
        let read: Vec<_> = broker.envelopes("topic=**").into_iter().filter(|e| ids.contains(&e.id)).collect();
        assert_eq!(read.len(), text.lines().count());
        for (event, line) in read.iter().zip(text.lines()) {
            let members: BTreeMap<&str, &RawValue> = serde_json::from_str(line).unwrap();
            assert_eq!(event.data, members["data"].get());
            assert_eq!(
                json!(event.key).to_string(),
                json!(serde_json::from_str::<String>(members["key"].get()).unwrap()).to_string()
            );
        }
    }
}
