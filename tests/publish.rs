//! One event in: what is answered, what is kept, what is refused, and what a client that goes away leaves behind.

use std::net::Shutdown;
use std::time::Duration;

use crate::harness::envelope::{is_embedded, sequence};
use crate::harness::{Broker, Connection, Reader, Request, Response, escape};

/// Texts that lose something in careless hands.
pub(crate) const AWKWARD: [&str; 22] = [
    "",
    " ",
    "\n",
    "\r",
    "\r\n",
    "a\rb\nc\r\nd",
    "x\n",
    "\n\nx",
    " leading and trailing ",
    "\0",
    "a\0b",
    "\u{feff}bom",
    "\u{2028}",
    "id: 7\n\ndata: forged",
    ": comment",
    "data",
    "\u{1F680}\u{301}",
    "{\"a\" : 1.0}",
    "[1,\n2]",
    "null",
    "\"quoted\"",
    " {} ",
];

fn publish(query: &str, data: &str) -> Request {
    Request::new("POST", &format!("/v1/topics/t/events?{query}")).body(data)
}

#[test]
fn an_answer_has_the_fields_and_formats_of_the_contract() {
    let broker = Broker::start();
    let epoch = broker.epoch();
    let mut last_time = String::new();
    for n in 1..=5 {
        let response = broker.post("/v1/topics/stocks.ibm/events", format!("{n}"));
        assert_eq!(response.status, 201, "{response}");
        assert!(response.header("content-type").is_some_and(|t| t.starts_with("application/json")));
        let answer = response.json();
        let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(members, ["duplicate", "id", "sequence", "time", "topic", "uuid"]);
        let number = answer["sequence"].as_u64().unwrap();
        assert_eq!(answer["id"], format!("{number}-{epoch}"));
        assert_eq!(
            (answer["topic"].as_str(), answer["duplicate"].as_bool()),
            (Some("stocks.ibm"), Some(false))
        );
        let time = answer["time"].as_str().unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let fraction = shape.strip_prefix("0000-00-00T00:00:00.").and_then(|rest| rest.strip_suffix('Z'));
        assert!(fraction.is_some_and(|f| f.len() >= 3 && f.bytes().all(|b| b == b'0')), "{time}");
        assert!(time >= last_time.as_str(), "{time} after {last_time}");
        last_time = time.to_owned();
        let uuid = answer["uuid"].as_str().unwrap();
        assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(broker.head(), answer["id"].as_str().unwrap());
    }
}

#[test]
fn sequences_begin_after_zero_and_increase() {
    let broker = Broker::start();
    assert_eq!(broker.head(), format!("0-{}", broker.epoch()));
    let ids: Vec<u64> = (0..10).map(|n| sequence(&broker.publish(["a", "b"][n % 2], "x"))).collect();
    assert!(ids[0] >= 1 && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

#[test]
fn data_is_kept_verbatim_whatever_its_content_type() {
    let broker = Broker::start();
    let types = ["text/plain", "application/json", "application/octet-stream", "text/html; charset=utf-8"];
    for (n, text) in AWKWARD.iter().enumerate() {
        let request = publish("", text).header("Content-Type", types[n % types.len()]);
        assert_eq!(broker.send(&request).status, 201, "{text:?}");
    }
    assert_eq!(broker.send(&publish("", "no content type")).status, 201);
    let read = broker.envelopes("topic=t");
    for (envelope, text) in read.iter().zip(AWKWARD.iter().chain(&["no content type"])) {
        assert_eq!(envelope.data, *text);
        assert_eq!(
            !envelope.raw_data.starts_with('"'),
            is_embedded(text),
            "{text:?} as {}",
            envelope.raw_data
        );
    }
    assert_eq!(read.len(), AWKWARD.len() + 1);
}

#[test]
fn type_key_and_origin_are_kept() {
    let broker = Broker::start();
    let query = "type=a+b%3A&key=%E6%97%A5%0A%2F&origin=me%26you%3D";
    assert_eq!(broker.send(&publish(query, "1")).status, 201);
    let read = broker.envelopes("topic=t");
    let shown = (read[0].kind.as_str(), read[0].key.as_deref(), read[0].origin.as_deref());
    assert_eq!(shown, ("a b:", Some("日\n/"), Some("me&you=")));
}

#[test]
fn an_event_without_a_type_is_a_message() {
    let broker = Broker::start();
    assert_eq!(broker.send(&publish("", "1")).status, 201);
    assert_eq!(broker.send(&publish("type=message", "2")).status, 201);
    let read = broker.envelopes("topic=t");
    assert!(read.iter().all(|e| e.kind == "message" && e.key.is_none() && e.origin.is_none()), "{read:?}");
    let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=earliest");
    assert!(reader.collect(2).iter().all(|event| event.kind == "message"));
}

#[test]
fn names_are_taken_up_to_their_limits() {
    let broker = Broker::start();
    let long = |bytes: usize| escape(&format!("{}{}", "é".repeat(bytes / 2), "x".repeat(bytes % 2)));
    for (field, bytes_max) in [("type", 255), ("key", 512), ("origin", 512)] {
        let kept = broker.send(&publish(&format!("{field}={}", long(bytes_max)), "x"));
        assert_eq!(kept.status, 201, "{field}: {kept}");
        for bad in [long(bytes_max + 1), String::new(), "a%00b".to_owned()] {
            let problem = broker.send(&publish(&format!("{field}={bad}"), "x")).problem(400);
            assert_eq!(problem["field"], field, "{problem}");
        }
    }
    assert_eq!(broker.post(&format!("/v1/topics/{}/events", long(512)), "x").status, 201);
    let problem = broker.post(&format!("/v1/topics/{}/events", long(513)), "x").problem(400);
    assert_eq!(problem["field"], "topic");
    assert_eq!(broker.envelopes("topic=**").len(), 4);
}

#[test]
fn types_that_could_forge_a_field_or_are_the_brokers_own_are_refused() {
    let broker = Broker::start();
    for bad in ["a%0Ab", "a%0Db", "%0A", "%24open", "%24", "%24delete"] {
        assert_eq!(broker.send(&publish(&format!("type={bad}"), "x")).problem(400)["field"], "type");
    }
    for unwise in ["open", "error", "a%24", "%3A", "id%3A+1"] {
        assert_eq!(broker.send(&publish(&format!("type={unwise}"), "x")).status, 201, "{unwise}");
    }
}

#[test]
fn topics_hold_what_the_contract_allows_and_nothing_else() {
    let broker = Broker::start();
    for good in
        ["a", "a.b.c", "a*", "a.b*c", "***", "é.日本", "a/b", "a+b", "a%b", "a?b#c", "a.$x", "\u{feff}"]
    {
        let id = broker.publish(good, "x");
        let envelope = &broker.envelopes(&format!("topic={}", escape(good)))[0];
        assert_eq!((envelope.id.as_str(), envelope.topic.as_str()), (id.as_str(), good));
    }
    let bad = [
        "a..b",
        ".a",
        "a.",
        ".",
        "*",
        "**",
        "a.*",
        "a.**",
        "*.a",
        "a b",
        "a\u{a0}b",
        "a\u{85}",
        "a\0",
        "a\n",
        "\u{2028}",
        "\u{7f}",
        "$a",
        "$broker.policies",
    ];
    for bad in bad {
        let response = broker.post(&format!("/v1/topics/{}/events", escape(bad)), "x");
        assert_eq!(response.problem(400)["field"], "topic", "{bad:?}");
    }
    assert_eq!(broker.envelopes("topic=**").len(), 12);
}

#[test]
fn a_plus_in_a_path_is_a_plus_and_an_escaped_slash_belongs_to_the_topic() {
    let broker = Broker::start();
    assert_eq!(broker.post("/v1/topics/a+b/events", "1").status, 201);
    assert_eq!(broker.post("/v1/topics/a%2Fb/events", "2").status, 201);
    assert_eq!(broker.post("/v1/topics/a%2fb.c%25/events", "3").status, 201);
    let topics: Vec<String> = broker.envelopes("topic=**").into_iter().map(|e| e.topic).collect();
    assert_eq!(topics, ["a+b", "a/b", "a/b.c%"]);
    assert_eq!(broker.post("/v1/topics/a%FFb/events", "x").status, 400);
}

#[test]
fn data_is_taken_up_to_its_limit() {
    let broker = Broker::start();
    let full = "x".repeat(256 * 1024);
    assert_eq!(broker.send(&publish("", &full)).status, 201);
    broker.send(&publish("", &format!("{full}x"))).problem(413);
    // Without a length the broker has to count by itself.
    let chunked = format!("40001\r\n{full}x\r\n0\r\n\r\n");
    let request = publish("", &chunked).header("Transfer-Encoding", "chunked").header("Content-Length", "");
    let bytes = String::from_utf8(request.bytes(broker.port())).unwrap().replace("Content-Length: \r\n", "");
    let mut connection = Connection::open(broker.port());
    connection.send(bytes.as_bytes());
    connection.response(false).problem(413);
    assert_eq!(broker.data_of("t"), [full]);
}

#[test]
fn a_body_in_chunks_is_one_event() {
    let broker = Broker::start();
    let mut connection = Connection::open(broker.port());
    connection
        .send(b"POST /v1/topics/t/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    // The pieces part a character.
    for piece in [b"3\r\na\xF0\x9F\r\n".as_slice(), b"3\r\n\x9A\x80b\r\n", b"0\r\n\r\n"] {
        connection.send(piece);
    }
    assert_eq!(connection.response(false).status, 201);
    assert_eq!(broker.data_of("t"), ["a\u{1F680}b"]);
}

#[test]
fn what_is_not_utf_8_is_refused_and_leaves_nothing() {
    let broker = Broker::start();
    for bad in
        [b"\xff".as_slice(), b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"ok \xfe ok"]
    {
        broker.post("/v1/topics/t/events", bad).problem(422);
    }
    assert!(broker.data_of("t").is_empty());
}

#[test]
fn a_query_with_a_typing_error_is_refused() {
    let broker = Broker::start();
    for query in [
        "typ=x",
        "Type=x",
        "type=a&type=b",
        "key=a&key=a",
        "origin=%FF",
        "key=%C3",
        "topic=t",
        "limit=1",
        "x",
    ] {
        broker.send(&publish(query, "x")).problem(400);
    }
    assert!(broker.data_of("t").is_empty());
}

#[test]
fn a_tombstone_is_an_event_of_its_key() {
    let broker = Broker::start();
    for key in ["IBM", "a/b", "日本 \u{1F680}", "..", "\"q\"\n"] {
        let response = broker.send(&Request::new("DELETE", &format!("/v1/topics/t/keys/{}", escape(key))));
        assert_eq!(response.status, 201, "{key:?}: {response}");
        let answer = response.json();
        assert_eq!((answer["topic"].as_str(), answer["duplicate"].as_bool()), (Some("t"), Some(false)));
        assert_eq!(answer["id"], broker.head());
        let last = broker.envelopes("topic=t").pop().unwrap();
        assert_eq!((last.kind.as_str(), last.key.as_deref()), ("$delete", Some(key)));
        let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=-1");
        let event = reader.collect(1).remove(0);
        assert_eq!((event.kind.as_str(), event.json()), ("$delete", serde_json::json!({ "key": key })));
    }
    let refused = |path: &str| broker.send(&Request::new("DELETE", path)).problem(400);
    refused(&format!("/v1/topics/t/keys/{}", "k".repeat(513)));
    refused("/v1/topics/t/keys/%00");
    refused("/v1/topics/t.*/keys/k");
    refused("/v1/topics/%24broker.x/keys/k");
}

/// Sends part of a request, closes that side, and waits until the broker is done with it.
fn leave_after(broker: &Broker, bytes: &[u8]) -> Option<Response> {
    let mut connection = Connection::open(broker.port());
    connection.send(bytes);
    connection.socket().shutdown(Shutdown::Write).unwrap();
    connection.socket().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    connection.try_head(false).ok().map(|head| Response { status: head.status, head, body: Vec::new() })
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_a_request_has_published_nothing() {
    let broker = Broker::start();
    let body = "{\"half\":\"an event is not an event\"}";
    let whole = publish("key=k", body).bytes(broker.port());
    let begin = whole.len() - body.len();
    for cut in (0..begin).step_by(17).chain((begin..whole.len()).step_by(5)) {
        let answer = leave_after(&broker, &whole[..cut]);
        assert!(answer.is_none_or(|a| a.status >= 400), "cut at {cut}");
    }
    let chunked = b"POST /v1/topics/t/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    assert!(leave_after(&broker, chunked).is_none_or(|a| a.status >= 400));
    assert!(leave_after(&broker, &[chunked.as_slice(), b"0\r\n"].concat()).is_none_or(|a| a.status >= 400));
    broker.publish("t", "after");
    assert_eq!(broker.data_of("t"), ["after"]);
}

#[test]
fn a_batch_that_breaks_off_has_published_nothing() {
    let broker = Broker::start();
    let line = "{\"topic\":\"t\",\"data\":{\"a\":1}}\n";
    let batch = Request::new("POST", "/v1/events")
        .header("Content-Type", "application/x-ndjson")
        .body(line.repeat(50));
    let whole = batch.bytes(broker.port());
    for cut in [
        whole.len() - 1,
        whole.len() - line.len(),
        whole.len() - 20 * line.len(),
        whole.len() - 50 * line.len(),
    ] {
        assert!(leave_after(&broker, &whole[..cut]).is_none_or(|a| a.status >= 400), "cut at {cut}");
    }
    broker.publish("t", "after");
    assert_eq!(broker.data_of("t"), ["after"]);
}

#[test]
fn a_client_that_does_not_wait_for_its_answer_has_published_the_whole_or_nothing() {
    let broker = Broker::start();
    let line = "{\"topic\":\"t\",\"data\":{\"a\":1}}\n";
    let batch = Request::new("POST", "/v1/events")
        .header("Content-Type", "application/x-ndjson")
        .body(line.repeat(100));
    for _ in 0..20 {
        Connection::open(broker.port()).send(&batch.bytes(broker.port()));
    }
    // A batch of ours behind theirs; theirs are there as wholes, before or after it.
    assert_eq!(broker.send(&batch).status, 201);
    let read = broker.envelopes("topic=t");
    assert_eq!(read.len() % 100, 0, "{} events", read.len());
}
