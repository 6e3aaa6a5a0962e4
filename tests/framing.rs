//! How data travels: framed so that every client reads back what was published, and in envelopes byte for byte.

use serde_json::json;

use crate::harness::{Broker, PATIENCE, Reader, data_file, escape};
use crate::publish::AWKWARD;

/// What a browser makes of line ends inside data.
pub(crate) fn with_lf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[test]
fn data_comes_back_with_lf_line_ends_and_otherwise_unchanged() {
    let broker = Broker::start();
    for text in AWKWARD {
        broker.publish("t", text);
    }
    let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=earliest");
    for (event, text) in reader.collect(AWKWARD.len()).iter().zip(AWKWARD) {
        assert_eq!((event.data.clone(), event.kind.as_str()), (with_lf(text), "message"));
    }
    // The same live.
    let mut reader = Reader::open(&broker, "/v1/topics/t/events");
    reader.until("$live");
    for text in AWKWARD {
        broker.publish("t", text);
        assert_eq!(reader.next().data, with_lf(text));
    }
}

#[test]
fn nothing_that_is_published_can_forge_a_field() {
    let broker = Broker::start();
    let attempts = [
        "x\nid: 99-00000000\n\n",
        "x\rid: 99\r\r",
        "x\r\nevent: $closing\r\n\r\n",
        "\n\n\n",
        "\revent: y",
        "\u{feff}id: 1",
        "retry: 1",
        ":",
        "\n:",
        "\u{85}id: 2",
        "\u{2028}id: 3",
        "\u{b}id: 4",
        "\u{c}id: 5",
    ];
    let types = ["a", "data: x", " a", ":", "id", "retry", "\u{85}", "\u{2028}x", "é", "message"];
    let mut expected = Vec::new();
    for (n, text) in attempts.iter().enumerate() {
        let kind = types[n % types.len()];
        let response = broker.post(&format!("/v1/topics/t/events?type={}", escape(kind)), text);
        assert_eq!(response.status, 201, "{text:?} {kind:?}: {response}");
        expected.push((response.json()["id"].as_str().unwrap().to_owned(), kind.to_owned(), with_lf(text)));
    }
    let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=earliest");
    let read: Vec<_> = reader.collect(expected.len()).into_iter().map(|e| (e.id, e.kind, e.data)).collect();
    assert_eq!(read, expected);
    reader.expect("$live");
}

#[test]
fn an_envelope_is_one_line_that_holds_the_data_byte_for_byte() {
    let broker = Broker::start();
    let embedded = [
        "{\"a\" : 1.0 }",
        "[]",
        "-1.50",
        "0",
        "true",
        "false",
        "null",
        "{\"a\":{\"a\":\"\\u00e9\\/\"},\"a\":1}",
        "[\"\u{2028}\"]",
        "1E400",
    ];
    let strings = [
        "text",
        "\"text\"",
        " 1",
        "1 ",
        "{\"a\":1}\n",
        "[1,\n2]",
        "{\"a\":\r1}",
        "",
        "{",
        "nul",
        "NaN",
        "01",
        "1.",
        "+1",
        "\t{}",
        "{} {}",
        "\u{feff}{}",
        "'a'",
        "\"",
        "tru",
        "-",
        "[1,]",
    ];
    for text in embedded.iter().chain(&strings) {
        let query = "type=a&key=b";
        let answer = broker.post(&format!("/v1/topics/t/events?{query}"), text).json();
        let data = if embedded.contains(text) { (*text).to_owned() } else { json!(text).to_string() };
        let expected = format!(
            "{{\"id\":{},\"topic\":\"t\",\"type\":\"a\",\"key\":\"b\",\"origin\":null,\"time\":{},\"uuid\":{},\"data\":{data}}}",
            answer["id"], answer["time"], answer["uuid"]
        );
        let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=-1&envelope=true");
        let event = reader.collect(1).remove(0);
        assert_eq!(event.data, expected, "{text:?}");
        assert_eq!((json!(event.id), event.kind.as_str()), (answer["id"].clone(), "a"));
        let one = broker.get(&format!("/v1/events/{}", event.id));
        assert_eq!(one.text().trim_end(), expected);
    }
}

#[test]
fn real_events_are_replayed_and_followed_in_order() {
    let broker = Broker::start();
    let text = String::from_utf8(data_file("wikipedia-edits.ndjson")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    broker.publish_batch(lines[..200].join("\n"));
    let mut reader = Reader::open(&broker, "/v1/events?topic=wiki.*&from=earliest");
    let mut data: Vec<String> = reader.collect(200).into_iter().map(|event| event.data).collect();
    reader.expect("$live");
    for chunk in lines[200..].chunks(10) {
        broker.publish_batch(chunk.join("\n"));
        data.extend(reader.collect(chunk.len()).into_iter().map(|event| event.data));
    }
    for (line, data) in lines.iter().zip(data) {
        assert!(line.contains(&format!("\"data\":{data}}}")), "{data} in {line}");
    }
}

#[test]
fn a_stream_in_pieces_of_any_size_is_the_same_stream() {
    let broker = Broker::start();
    let large = format!("{}\r\n{}", "é".repeat(60_000), "\u{1F680}".repeat(30_000));
    let texts = ["small", &large, "\n", &large, "end"];
    for text in texts {
        broker.publish("t", text);
    }
    let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=earliest");
    let expected: Vec<String> = texts.iter().map(|text| with_lf(text)).collect();
    let events = reader.collect(texts.len());
    assert!(events.iter().map(|event| &event.data).eq(&expected), "the data differs");
    assert!(reader.try_next(PATIENCE).is_some_and(|event| event.kind == "$live"));
}
