//! The fast path and the web side are one server: whichever serves a request, its client sees the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use auth::{Grants, Key, NewToken, Rules, SigningKey, Verifier};
use event_log::contract::clock;
use event_log::{Clock, Pattern, Timestamp};
use serde_json::Value;

use crate::server::socket_tests::{Running, Then, workers};
use crate::{Authentication, Limits, Options};

/// A header that is no news to the web side, and makes a request too hard for the fast path.
const HARD: &str = "TE: trailers\r\n";

struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Answer {
    /// Reads an answer with a JSON body; what differs from one event to the next is masked.
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().to_owned();
        let mut headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        headers.sort();
        // What no HTTP parser takes is refused without a body.
        let body = if body.is_empty() { "null" } else { body };
        let mut body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
        for (name, value) in &mut headers {
            if name == "location" {
                assert_eq!(*value, format!("/v1/events/{}", body["id"].as_str().unwrap()));
                *value = "masked".to_owned();
            }
            if name == "date" {
                assert!(value.ends_with(" GMT") && value.len() == 29, "{value}");
                *value = "masked".to_owned();
            }
        }
        for field in ["id", "sequence", "time", "uuid", "last_id"] {
            if let Some(value) = body.get_mut(field) {
                *value = "masked".into();
            }
        }
        for (pattern, with) in [("event 1-", "event "), ("event 2-", "event ")] {
            if let Some(detail) = body["detail"].as_str().map(|detail| detail.replace(pattern, with)) {
                body["detail"] = detail.into();
            }
        }
        Answer { status, headers, body }
    }
}

/// The answer to one request on a connection of its own.
async fn answer(server: &Running, request: Vec<u8>) -> String {
    server.exchange(request, Then::StopAfterAnswer, "").await
}

/// What a client may send to publish: simple requests, and some that the web side has to refuse.
fn requests() -> Vec<(&'static str, &'static str, &'static [u8])> {
    vec![
        ("/v1/topics/a.b/events", "", b"data"),
        ("/v1/topics/a.b/events", "", b""),
        ("/v1/topics/a.b/events?type=t&key=k&origin=o", "", "Z\u{fc}rich\r\n".as_bytes()),
        ("/v1/topics/a.b/events?type=a+b%20c", "User-Agent: x\r\nAccept: */*\r\n", b"data"),
        ("/v1/topics/\u{fc}/events", "", b"data"),
        ("/v1/topics/a%2Eb/events", "", b"data"),
        ("/v1/topics/a.b/events", "Connection: keep-alive\r\n", b"data"),
        ("/v1/topics/idem/events", "Idempotency-Key: one\r\n", b"data"),
        ("/v1/topics/idem/events", "Idempotency-Key: one\r\n", b"data"),
        ("/v1/topics/idem/events", "Idempotency-Key: one\r\n", b"other"),
        ("/v1/topics/idem/events", "Idempotency-Key: \u{fc}\r\n", b"data"),
        ("/v1/topics/idem/events", "Idempotency-Key: a\r\nIdempotency-Key: a\r\n", b"data"),
        ("/v1/topics/a.b/events", "Perennial-Expected-Id: 7\r\n", b"data"),
        ("/v1/topics/new/events", "Perennial-Expected-Id: 0\r\n", b"data"),
        ("/v1/topics/new/events", "Perennial-Expected-Id: 0\r\n", b"data"),
        ("/v1/topics/a.b/events", "Perennial-Expected-Id: x\r\n", b"data"),
        ("/v1/topics/a.b/events?typ=t", "", b"data"),
        ("/v1/topics/a.b/events?type=t&type=u", "", b"data"),
        ("/v1/topics/a.b/events?type=%zz", "", b"data"),
        ("/v1/topics/a.b/events?type=$t", "", b"data"),
        ("/v1/topics/$broker.x/events", "", b"data"),
        ("/v1/topics/a..b/events", "", b"data"),
        ("/v1/topics/a.*/events", "", b"data"),
        ("/v1/topics/a.b/events", "", b"\xff\xfe"),
        ("/v1/topics/a.b/events", "", &[b'x'; 1_001]),
        ("/v1/topics/a.b/events", "Content-Encoding: gzip\r\n", b"data"),
        ("/v1/topics/a.b/events", "Host: example.com\r\n", b"data"),
        ("/v1/topics/a.b/events", "Origin: http://example.com\r\n", b"data"),
        ("/v1/topics/a.b/events", "Origin: http://localhost:3000\r\n", b"data"),
    ]
}

fn bytes(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let host = if headers.starts_with("Host") { "" } else { "Host: localhost\r\n" };
    let head = format!("POST {path} HTTP/1.1\r\n{host}{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[actix_web::test]
async fn the_fast_path_answers_as_the_web_side_does() {
    let options = || Options { limits: Limits { data_bytes_max: 1_000, ..Limits::default() }, ..workers(1) };
    let (fast, web) = (Running::start(options()), Running::start(options()));
    for (path, headers, body) in requests() {
        let one = Answer::read(&answer(&fast, bytes(path, headers, body)).await);
        let other = Answer::read(&answer(&web, bytes(path, &format!("{headers}{HARD}"), body)).await);
        let what = format!("{path} {headers:?}");
        assert_eq!(one.status, other.status, "{what}: {} {}", one.body, other.body);
        assert_eq!(one.body, other.body, "{what}");
        assert_eq!(one.headers, other.headers, "{what}");
    }
    assert_eq!(fast.events(), web.events());
    fast.stop().await;
    web.stop().await;
}

const SECRET: &[u8] = b"a secret of more than 32 bytes, as it has to be";

/// Asks for tokens that are signed with [`SECRET`].
fn authentication() -> Authentication {
    let key = Key::from_secret(SECRET).unwrap();
    Authentication {
        verifier: Arc::new(Verifier::new(Rules::default(), vec![key])),
        query_token: true,
        anonymous_subscribe: Vec::new(),
    }
}

/// A token that may publish to what a pattern names, and ends so many seconds from now.
fn token(publish: &str, seconds: i64) -> String {
    let now = clock().now().as_micros();
    let new = NewToken {
        subject: None,
        token_id: None,
        audience: None,
        issuer: None,
        issued: clock().now(),
        expires: Timestamp::from_micros(now.saturating_add_signed(seconds * 1_000_000)),
        grants: Grants { publish: vec![Pattern::parse(publish.to_owned()).unwrap()], ..Grants::default() },
    };
    SigningKey::from_file(SECRET).unwrap().sign(&new).unwrap()
}

#[actix_web::test]
async fn the_fast_path_asks_for_tokens_as_the_web_side_does() {
    let options = || Options { authentication: Some(authentication()), ..workers(1) };
    let (fast, web) = (Running::start(options()), Running::start(options()));
    let (good, other, old) = (token("a.*", 60), token("b", 60), token("**", -60));
    let mut published = 0;
    for headers in [
        format!("Authorization: Bearer {good}\r\n"),
        format!("authorization: bearer  {good} \r\n"),
        format!("Authorization: Bearer {other}\r\n"),
        format!("Authorization: Bearer {old}\r\n"),
        format!("Authorization: Bearer {good}x\r\n"),
        format!("Authorization: Bearer {good}, Bearer {good}\r\n"),
        format!("Authorization: Basic {good}\r\n"),
        format!("Authorization: {good}\r\n"),
        format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
        format!("Cookie: __Host-perennial={good}\r\n"),
        format!("Cookie: a=b\r\nAuthorization: Bearer {good}\r\n"),
        format!("Host: example.com\r\nAuthorization: Bearer {good}\r\n"),
        format!("Authorization: Bearer {good}\r\nOrigin: https://example.com\r\n"),
        "Authorization:\r\n".to_owned(),
        String::new(),
    ] {
        for path in ["/v1/topics/a.b/events", "/v1/topics/c/events", "/v1/topics/$a/events"] {
            for query in ["", "?type=t", &format!("?access_token={good}")] {
                let path = format!("{path}{query}");
                let one = Answer::read(&answer(&fast, bytes(&path, &headers, b"x")).await);
                let hard = format!("{headers}{HARD}");
                let other = Answer::read(&answer(&web, bytes(&path, &hard, b"x")).await);
                assert_eq!(one.status, other.status, "{path} {headers:?}: {} {}", one.body, other.body);
                assert_eq!((one.body, one.headers), (other.body, other.headers), "{path} {headers:?}");
                published += u64::from(one.status.contains("201"));
            }
        }
    }
    assert!(published > 5);
    assert_eq!((fast.events(), web.events()), (published, published));
    fast.stop().await;
    web.stop().await;
}

#[actix_web::test]
async fn requests_that_come_together_or_in_pieces_are_answered_in_order() {
    let server = Running::start(workers(1));
    let mut all = Vec::new();
    for n in 0..20 {
        // One is for the web side, from where a connection does not come back.
        let headers = if n == 15 { HARD } else { "" };
        all.extend(bytes(&format!("/v1/topics/t{n}/events"), headers, n.to_string().as_bytes()));
    }
    for piece in [all.len(), 1_000, 7, 1] {
        let address = server.address;
        let all = all.clone();
        let answered = web::block(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for piece in all.chunks(piece) {
                stream.write_all(piece).unwrap();
            }
            let mut text = Vec::new();
            let mut buffer = [0; 4096];
            while String::from_utf8_lossy(&text).matches("\"duplicate\":false}").count() < 20 {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "{}", String::from_utf8_lossy(&text));
                text.extend_from_slice(&buffer[..count]);
            }
            String::from_utf8(text).unwrap()
        });
        let answered = answered.await.unwrap();
        let mut rest = &*answered;
        for n in 0..20 {
            let topic = format!("\"topic\":\"t{n}\"");
            let place = rest.find(&topic).unwrap_or_else(|| panic!("{topic} in pieces of {piece}"));
            rest = &rest[place..];
        }
    }
    assert_eq!(server.events(), 80);
    server.stop().await;
}

#[actix_web::test]
async fn a_connection_that_breaks_off_publishes_nothing_of_its_last_request() {
    let server = Running::start(workers(1));
    let whole = bytes("/v1/topics/a/events", "", b"12345678");
    for end in 1..whole.len() {
        let told = server.exchange(whole[..end].to_vec(), Then::CloseWriting, "").await;
        assert!(!told.contains(" 201 "), "{end}: {told}");
    }
    assert_eq!(server.events(), 0);
    server.stop().await;
}

#[actix_web::test]
async fn a_client_that_reads_nothing_holds_up_nobody_else() {
    let server = Running::start(workers(1));
    let mut deaf = TcpStream::connect(server.address).unwrap();
    deaf.set_nonblocking(true).unwrap();
    let request = bytes("/v1/topics/deaf/events", "", b"x");
    let many = request.repeat(100);
    // Until what it does not read fills the way back, and what it sends the way there.
    let address = server.address;
    let sent = web::block(move || {
        let mut sent = 0;
        for _ in 0..2_000 {
            match deaf.write(&many) {
                Ok(count) => sent += count,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        (deaf, sent)
    });
    let (deaf, sent) = sent.await.unwrap();
    assert!(sent > 1_000_000, "{sent} at {address}");
    let told = server.exchange(bytes("/v1/topics/a/events", "", b"x"), Then::StopAfterAnswer, "").await;
    assert!(told.starts_with("HTTP/1.1 201 "), "{told}");
    drop(deaf);
    server.stop().await;
}
