//! Text that breaks programs. What must be taken and what must be refused is told by the rules below, which are
//! written from the contract alone; what was taken must come back exactly.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::framing::with_lf;
use crate::harness::{Broker, Connection, Envelope, Reader, Request, data_file, escape};

/// 1 to 512 bytes, no White_Space, no Cc, segments neither empty nor wildcards, not the broker's own.
fn is_topic(text: &str) -> bool {
    let segments_hold = text.split('.').all(|segment| !matches!(segment, "" | "*" | "**"));
    let characters_hold = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    (1..=512).contains(&text.len()) && segments_hold && characters_hold && !text.starts_with('$')
}

/// 1 to 255 bytes, no CR, LF or NUL, not the broker's own.
fn is_type(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(['\r', '\n', '\0']) && !text.starts_with('$')
}

/// 1 to 512 bytes, no NUL.
fn is_name(text: &str) -> bool {
    (1..=512).contains(&text.len()) && !text.contains('\0')
}

fn naughty_strings() -> Vec<String> {
    let mut strings: Vec<String> =
        serde_json::from_slice(&data_file("hostile/naughty-strings.json")).unwrap();
    assert_eq!(strings.len(), 515);
    let own = [
        "a\rb",
        "\r\n",
        "\n\n",
        "\0",
        "$x",
        "$",
        "*",
        "**",
        "a.*",
        "a..b",
        ".",
        "x\u{85}",
        "\u{a0}",
        "\u{200b}",
        "\u{2028}",
        "data: x\n\nid: 1",
        "\u{fffd}",
        "\u{10ffff}",
        "%",
        "%00",
        "%zz",
        "+",
        "&a=b",
        "#",
        "?",
        "/",
        "//",
        "../..",
        ";",
    ];
    strings.extend(own.map(str::to_owned));
    strings.extend([
        "é".repeat(127),
        "é".repeat(128),
        "x".repeat(512),
        "x".repeat(513),
        "y".repeat(255),
        "y".repeat(256),
    ]);
    strings
}

/// What one publish says, apart from what the broker adds.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    topic: String,
    kind: Option<String>,
    key: Option<String>,
    origin: Option<String>,
    data: String,
}

impl Said {
    /// The text in each role in turn, and whether it may stand there.
    fn in_every_role(text: &str) -> Vec<(Self, bool)> {
        let plain = Said { topic: "t".into(), kind: None, key: None, origin: None, data: "x".into() };
        let own = Some(text.to_owned());
        vec![
            (Said { data: text.to_owned(), ..plain.clone() }, true),
            (Said { kind: own.clone(), ..plain.clone() }, is_type(text)),
            (Said { key: own.clone(), ..plain.clone() }, is_name(text)),
            (Said { origin: own, ..plain.clone() }, is_name(text)),
            (Said { topic: text.to_owned(), ..plain }, is_topic(text)),
        ]
    }

    fn request(&self) -> Request {
        let fields = [("type", &self.kind), ("key", &self.key), ("origin", &self.origin)];
        let set =
            fields.iter().filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_ref()?))));
        let query: Vec<String> = set.collect();
        let target = format!("/v1/topics/{}/events?{}", escape(&self.topic), query.join("&"));
        Request::new("POST", &target).body(&self.data)
    }

    fn line(&self) -> String {
        let (topic, data) = (&self.topic, &self.data);
        json!({ "topic": topic, "data": data, "type": self.kind, "key": self.key, "origin": self.origin })
            .to_string()
    }

    fn assert_kept(&self, read: &Envelope) {
        let kind = self.kind.clone().unwrap_or_else(|| "message".to_owned());
        let expected = (&self.topic, kind, &self.key, &self.origin, &self.data);
        assert_eq!((&read.topic, read.kind.clone(), &read.key, &read.origin, &read.data), expected);
    }
}

fn by_id(broker: &Broker) -> BTreeMap<String, Envelope> {
    broker.envelopes("topic=**").into_iter().map(|envelope| (envelope.id.clone(), envelope)).collect()
}

#[test]
fn every_naughty_string_in_every_role_is_kept_exactly_or_refused() {
    let broker = Broker::start();
    let strings = naughty_strings();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut connection = Connection::open(broker.port());
        let mut kept = Vec::new();
        while let Some(text) = strings.get(next.fetch_add(1, Ordering::Relaxed)) {
            for (said, right) in Said::in_every_role(text) {
                let answer = connection.exchange(&said.request());
                match right {
                    true => assert_eq!(answer.status, 201, "{said:?}: {answer}"),
                    // A path with an empty segment may also name nothing at all.
                    false if said.topic.is_empty() => assert!(matches!(answer.status, 400 | 404), "{answer}"),
                    false => assert_eq!(answer.status, 400, "{said:?}: {answer}"),
                }
                if right {
                    kept.push((answer.json()["id"].as_str().unwrap().to_owned(), said));
                }
            }
        }
        kept
    };
    let kept: Vec<(String, Said)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let read = by_id(&broker);
    assert_eq!(read.len(), kept.len());
    kept.iter().for_each(|(id, said)| said.assert_kept(&read[id]));
    assert_streamed(&broker, &read);
}

/// Checks that a browser reads every event of the log as it is, with LF line ends.
fn assert_streamed(broker: &Broker, read: &BTreeMap<String, Envelope>) {
    for event in Reader::open(broker, "/v1/events?topic=**&from=earliest").collect(read.len()) {
        let envelope = &read[&event.id];
        assert_eq!(
            (event.kind, event.data),
            (envelope.kind.clone(), with_lf(&envelope.data)),
            "{}",
            event.id
        );
    }
}

#[test]
fn every_naughty_string_in_a_batch_is_kept_exactly_or_refused() {
    let broker = Broker::start();
    let all: Vec<(Said, bool)> =
        naughty_strings().iter().flat_map(|text| Said::in_every_role(text)).collect();
    let right: Vec<&Said> = all.iter().filter(|(_, right)| *right).map(|(said, _)| said).collect();
    let ids = broker.publish_batch(right.iter().map(|said| said.line() + "\n").collect::<String>());
    let read = by_id(&broker);
    right.iter().zip(&ids).for_each(|(said, id)| said.assert_kept(&read[id]));
    assert_eq!(read.len(), right.len());
    assert_streamed(&broker, &read);
    let mut connection = Connection::open(broker.port());
    for (said, _) in all.iter().filter(|(_, right)| !right) {
        let request = Request::new("POST", "/v1/events").header("Content-Type", "application/json");
        let answer = connection.exchange(&request.body(said.line()));
        assert_eq!(answer.status, 400, "{said:?}: {answer}");
    }
    assert_eq!(broker.envelopes("topic=**").len(), right.len());
}

#[test]
fn every_naughty_topic_can_be_read_alone() {
    let broker = Broker::start();
    let topics: Vec<String> = naughty_strings().into_iter().filter(|text| is_topic(text)).collect();
    broker.publish_batch(
        topics
            .iter()
            .map(|topic| json!({ "topic": topic, "data": topic }).to_string() + "\n")
            .collect::<String>(),
    );
    let mut connection = Connection::open(broker.port());
    for topic in &topics {
        let target = escape(topic);
        for target in [
            format!("/v1/topics/{target}/events?from=earliest"),
            format!("/v1/events?from=earliest&topic={target}"),
        ] {
            let page = connection.exchange(&Request::page(&target)).json();
            let events = page["events"].as_array().unwrap();
            assert!(
                !events.is_empty() && events.iter().all(|e| e["topic"] == topic.as_str()),
                "{topic:?}: {page}"
            );
        }
        let one = connection.exchange(&Request::new("GET", &format!("/v1/topics/{target}"))).json();
        assert_eq!(one["topic"], topic.as_str());
    }
}

#[test]
fn every_naughty_string_is_a_harmless_filter_and_a_harmless_cursor() {
    let broker = Broker::start();
    broker.publish("t", "x");
    let mut connection = Connection::open(broker.port());
    for text in naughty_strings() {
        let filters = format!("type={0}&exclude_origin={0}", escape(&text));
        let answer =
            connection.exchange(&Request::page(&format!("/v1/topics/t/events?from=earliest&{filters}")));
        assert!(matches!(answer.status, 200 | 400), "{text:?}: {answer}");
        let answer = connection
            .exchange(&Request::page(&format!("/v1/topics/t/events?last_event_id={}", escape(&text))));
        let page = answer.json();
        let is_id = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        match (text.is_empty(), is_id) {
            (true, _) => assert_eq!(page["gap"], Value::Null),
            (_, true) => {
                assert!(page["gap"].is_null() || page["gap"]["requested"] == text.as_str(), "{page}")
            }
            (_, false) => assert_eq!(
                (&page["gap"]["reason"], &page["gap"]["requested"]),
                (&json!("malformed"), &json!(text))
            ),
        }
    }
}

#[test]
fn text_that_is_not_utf_8_is_told_from_text_that_is() {
    let broker = Broker::start();
    let whole = data_file("hostile/UTF-8-test.txt");
    broker.post("/v1/topics/t/events", &whole).problem(422);
    let mut connection = Connection::open(broker.port());
    let mut kept = Vec::new();
    for line in whole.split(|byte| *byte == b'\n') {
        let answer = connection.exchange(&Request::new("POST", "/v1/topics/t/events").body(line));
        let batch = [b"{\"topic\":\"t\",\"data\":\"".as_slice(), line, b"\"}\n"].concat();
        match std::str::from_utf8(line) {
            Ok(text) => {
                assert_eq!(answer.status, 201, "{text:?}: {answer}");
                kept.push(text.to_owned());
            }
            Err(_) => {
                answer.problem(422);
                broker.post_batch(&batch).problem(422);
                let escaped: String = line.iter().map(|byte| format!("%{byte:02X}")).collect();
                for query in [format!("key={escaped}"), format!("type={escaped}")] {
                    connection
                        .exchange(&Request::new("POST", &format!("/v1/topics/t/events?{query}")).body("x"))
                        .problem(400);
                }
                connection
                    .exchange(&Request::new("POST", &format!("/v1/topics/{escaped}/events")).body("x"))
                    .problem(400);
            }
        }
    }
    assert!(kept.len() > 100);
    assert_eq!(broker.data_of("t"), kept);
}

/// The cases of a test suite for JSON parsers: a name, what to expect, and the bytes.
fn json_cases() -> Vec<(String, String, Vec<u8>)> {
    let text = String::from_utf8(data_file("hostile/json-parsing.ndjson")).unwrap();
    let case = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| case[name].as_str().unwrap().to_owned();
        (text("name"), text("expect"), from_base64(&text("bytes_base64")))
    };
    text.lines().map(case).collect()
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|d| *d == digit).expect("a digit of base 64");
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn json_inside_a_batch_is_judged_as_the_standard_says_and_kept_as_it_was() {
    let broker = Broker::start();
    let mut expected = Vec::new();
    for (name, expect, bytes) in json_cases() {
        let object = [b"{\"topic\":\"t\",\"data\":".as_slice(), &bytes, b"}"].concat();
        let one_line = !bytes.contains(&b'\n');
        let kind = if one_line { "application/x-ndjson" } else { "application/json" };
        let request = Request::new("POST", "/v1/events").header("Content-Type", kind).body(object);
        let answer = broker.send(&request);
        match expect.as_str() {
            "accept" => assert_eq!(answer.status, 201, "{name}: {answer}"),
            "reject" => assert!(matches!(answer.status, 400 | 422), "{name}: {answer}"),
            // What JSON leaves to its readers, big numbers and halves of surrogate pairs, is kept if it is text at all.
            _ => {
                let status = if std::str::from_utf8(&bytes).is_ok() { 201 } else { 422 };
                assert_eq!(answer.status, status, "{name}: {answer}");
            }
        }
        if answer.status == 201 {
            let text =
                String::from_utf8(bytes).unwrap_or_else(|_| panic!("{name} is no text, but was taken"));
            let text = text.trim_matches([' ', '\t', '\r', '\n']).to_owned();
            let string = text.starts_with('"').then(|| serde_json::from_str(&text).unwrap());
            expected.push(string.unwrap_or(text));
        } else {
            answer.problem(answer.status);
        }
    }
    assert!(expected.len() > 20);
    assert_eq!(broker.data_of("t"), expected);
}

#[test]
fn json_that_is_no_batch_is_refused_as_a_body_and_taken_as_data() {
    let broker = Broker::start();
    for (name, _, bytes) in json_cases() {
        for kind in ["application/json", "application/x-ndjson"] {
            let answer =
                broker.send(&Request::new("POST", "/v1/events").header("Content-Type", kind).body(&bytes));
            assert!(matches!(answer.status, 400 | 422), "{name} as {kind}: {answer}");
            answer.problem(answer.status);
        }
        let answer = broker.post("/v1/topics/t/events", &bytes);
        assert_eq!(
            answer.status,
            if std::str::from_utf8(&bytes).is_ok() { 201 } else { 422 },
            "{name}: {answer}"
        );
    }
    // Whatever was taken verbatim can be read in envelopes, which embed only what is JSON.
    let texts: Vec<String> =
        json_cases().into_iter().filter_map(|(_, _, bytes)| String::from_utf8(bytes).ok()).collect();
    assert_eq!(broker.data_of("t"), texts);
}

#[test]
fn deeply_nested_json_does_not_take_the_broker_down() {
    let broker = Broker::start();
    let depth = 60_000;
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let answer = broker.post_batch(format!("{{\"topic\":\"t\",\"data\":{deep}}}"));
    assert!(matches!(answer.status, 201 | 400), "{}", answer.status);
    broker.post_batch(format!("{{\"topic\":\"t\",\"data\":{}", "{\"a\":".repeat(depth))).problem(400);
    assert_eq!(broker.post("/v1/topics/u/events", &deep).status, 201);
    assert_eq!(broker.post("/v1/topics/u/events", "[".repeat(2 * depth)).status, 201);
    let request =
        Request::new("GET", "/v1/topics/u/events?from=earliest").header("Accept", "application/x-ndjson");
    let response = broker.send(&request);
    assert_eq!(response.body.iter().filter(|byte| **byte == b'\n').count(), 2);
    assert!(response.text().contains(&deep));
}
