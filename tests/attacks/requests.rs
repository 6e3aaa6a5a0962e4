//! Requests that two servers would read differently, topics that look like paths, text that forges lines of a log, bodies that grow.

use std::fs;

use serde_json::Value;

use crate::harness::{Broker, Connection, PATIENCE, Request};

/// What a request that hides another one is answered with.
const REFUSED: &[u16] = &[400];

/// Sends bytes as they are, and returns the status codes of all answers up to the end of the connection, which the broker
/// has to make.
fn statuses(broker: &Broker, bytes: &[u8]) -> Vec<u16> {
    let mut connection = Connection::open(broker.port());
    connection.send(bytes);
    let mut statuses = Vec::new();
    while let Ok(head) = connection.try_head(false) {
        statuses.push(head.status);
        while let Ok(Some(_)) = connection.piece(PATIENCE) {}
    }
    statuses
}

/// A whole request that publishes to a topic which nothing else publishes to.
fn hidden(number: usize) -> String {
    format!(
        "POST /v1/topics/hidden.{number:03}/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
    )
}

/// Heads and bodies that a proxy in front may read in another way than the broker. `@` stands for a hidden request, `#` for the
/// length that hides it behind an empty chunk, `+` for its length and one more.
const SMUGGLING: [(&str, &str); 31] = [
    ("Content-Length: #\r\nTransfer-Encoding: chunked", "0\r\n\r\n@"),
    ("Transfer-Encoding: chunked\r\nContent-Length: #", "0\r\n\r\n@"),
    ("Transfer-Encoding: identity\r\nContent-Length: 1", "x@"),
    ("Transfer-Encoding: xchunked\r\nContent-Length: #", "0\r\n\r\n@"),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n@"),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n@"),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n@"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n@"),
    ("Transfer-Encoding : chunked\r\nContent-Length: #", "0\r\n\r\n@"),
    ("Transfer-Encoding:\tchunked\r\nContent-Length: #", "0\r\n\r\n@"),
    ("Transfer-Encoding: \u{b}chunked\r\nContent-Length: #", "0\r\n\r\n@"),
    ("Transfer-Encoding: \"chunked\"\r\nContent-Length: #", "0\r\n\r\n@"),
    ("Content-Length: 1\r\nContent-Length: +", "x@"),
    ("Content-Length: 1, +", "x@"),
    ("Content-Length: +1", "x@"),
    ("Content-Length: -1", "x@"),
    ("Content-Length: 0x1", "x@"),
    ("Content-Length: 1 1", "x@"),
    ("Content-Length: 99999999999999999999999", "x@"),
    ("Content-Length:", "x@"),
    ("Content-Length : 1", "x@"),
    ("Content-Length 1", "x@"),
    ("Transfer-Encoding: chunked", "0x1\r\nx\r\n0\r\n\r\n@"),
    ("Transfer-Encoding: chunked", "-1\r\nx\r\n0\r\n\r\n@"),
    ("Transfer-Encoding: chunked", "10000000000000001\r\nx\r\n0\r\n\r\n@"),
    ("Transfer-Encoding: chunked", "1;a\nb\r\nx\r\n0\r\n\r\n@"),
    ("Transfer-Encoding: chunked", "1\nx\n0\n\n@"),
    ("Transfer-Encoding: chunked", "1\r\nxx\r\n0\r\n\r\n@"),
    ("X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 1", "x@"),
    ("X: a\rTransfer-Encoding: chunked\r\nContent-Length: #", "0\r\n\r\n@"),
    ("X: a\nTransfer-Encoding: chunked\r\nContent-Length: #", "0\r\n\r\n@"),
];

#[test]
fn a_request_that_two_servers_would_read_differently_hides_no_other_one() {
    let broker = Broker::start();
    for (number, (head, body)) in SMUGGLING.into_iter().enumerate() {
        let hidden = hidden(number);
        // A plus is a sign where a digit follows, and a length elsewhere.
        let head = head.replace('#', &(5 + hidden.len()).to_string());
        let head = match head.ends_with('+') {
            true => head.replace('+', &(1 + hidden.len()).to_string()),
            false => head,
        };
        let body = body.replace('@', &hidden);
        let request =
            format!("POST /v1/topics/seen/events HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{body}");
        let statuses = statuses(&broker, request.as_bytes());
        assert_eq!(statuses, REFUSED, "{request}");
        assert_eq!(broker.get(&format!("/v1/topics/hidden.{number:03}")).status, 404, "{request}");
    }
    let old = format!(
        "POST /v1/topics/seen/events HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
        hidden(900)
    );
    assert_eq!(statuses(&broker, old.as_bytes()), REFUSED, "chunks came with HTTP/1.1");
    assert_eq!(broker.get("/v1/topics/seen").status, 404, "nothing was published at all");
    let lines = broker.log().lines().count();
    assert!(lines < SMUGGLING.len(), "whoever sends nonsense fills the log: {lines} lines");
    // The plain forms are read, one behind the other.
    let plain = "POST /v1/topics/seen/events HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding: CHUNKED\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n";
    let mut connection = Connection::open(broker.port());
    connection.send(format!("{plain}{}", hidden(901)).as_bytes());
    assert_eq!((connection.response(false).status, connection.response(false).status), (201, 201));
}

#[test]
fn a_topic_that_looks_like_a_path_is_a_name_or_refused_and_touches_no_file() {
    let broker = Broker::start();
    let listing = || {
        let mut names: Vec<_> =
            fs::read_dir(broker.place()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort_unstable();
        names
    };
    let before = listing();
    let hostile = [
        "..%2f..%2fetc%2fpasswd",
        "../../etc/passwd",
        "%2e%2e/%2e%2e/etc",
        "a%2f..%2fb",
        "..%5c..%5cx",
        "a%00b",
        "%c0%ae%c0%ae",
        "..;/x",
        ".",
        "..",
        "a..b",
    ];
    for topic in hostile {
        for (method, rest) in [("POST", "/events"), ("GET", "/events"), ("GET", ""), ("DELETE", "")] {
            let target = format!("/v1/topics/{topic}{rest}");
            let answer = broker.send(&Request::new(method, &target).body("x"));
            assert!([400, 404, 405].contains(&answer.status), "{method} {target}: {answer}");
        }
    }
    for name in ["etc%2Fpasswd", "~root", "C:%5Cx", "-rf", "LOCK", "events"] {
        let answer = broker.post(&format!("/v1/topics/{name}/events"), "a name like any other");
        assert_eq!(answer.status, 201, "{name}: {answer}");
    }
    assert_eq!(listing(), before);
    assert_eq!(broker.json("/v1/status")["events"], 6);
}

#[test]
fn nothing_that_is_sent_forges_a_line_of_the_log_or_reaches_a_terminal() {
    let broker = Broker::with_environment(&[], &[("RUST_LOG", "trace"), ("PERENNIAL_LOG", "trace")]);
    let forged = "2026-01-01T00:00:00Z ERROR perennial: forged";
    let escaped = "%0d%0a2026-01-01T00:00:00Z%20ERROR%20perennial:%20forged%1b%5b31m";
    let raw = format!("a\u{1b}[31m\u{9b}31m{forged}");
    for target in [
        format!("/v1/topics/{escaped}/events"),
        format!("/v1/topics/a/events?type={escaped}"),
        format!("/v1/topics/a/events?{escaped}=x"),
        format!("/v1/events?topic={escaped}&last_event_id={escaped}"),
        format!("/{escaped}"),
        format!("/v1/connections/{escaped}"),
        format!("/v1/policies/{escaped}"),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let request = Request::new(method, &target).header("Accept", "application/json").body("{}");
            assert!(broker.send(&request).status < 500, "{method} {target}");
        }
    }
    for header in
        ["Last-Event-ID", "Origin", "User-Agent", "Authorization", "Cookie", "X-Forwarded-For", "Forwarded"]
    {
        let request =
            Request::new("GET", "/v1/status").header(header, &raw).header("Accept", "application/json");
        broker.send(&request);
    }
    broker.publish("a", format!("data\r\n{forged}\u{1b}[31m"));
    let log = broker.log();
    assert!(log.contains("listening") || log.contains("INFO"), "something is logged: {log}");
    let is_forged = |line: &&str| line.starts_with(forged);
    assert_eq!(log.lines().find(is_forged), None);
    assert!(!log.contains('\u{1b}') && !log.contains('\u{9b}'), "what a terminal obeys: {log}");
}

#[test]
fn a_compressed_body_is_refused_and_not_unpacked() {
    let broker = Broker::start();
    // Whatever is in it: no encoding is taken.
    for encoding in ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"] {
        for target in ["/v1/topics/a/events", "/v1/events"] {
            let request = Request::new("POST", target)
                .header("Content-Type", "application/x-ndjson")
                .header("Content-Encoding", encoding)
                .body([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
            let problem: Value = broker.send(&request).problem(415);
            assert!(problem["detail"].as_str().unwrap().contains("Content-Encoding"), "{problem}");
        }
    }
    assert_eq!(broker.json("/v1/status")["events"], 0);
}

#[test]
fn whatever_is_too_long_is_refused_by_its_name_and_the_next_one_is_served() {
    let broker = Broker::start();
    let long = "x".repeat(300_000);
    let cases: [(&str, Request, &[u16]); 6] = [
        ("path", Request::new("GET", &format!("/v1/topics/{long}")), &[400, 414, 431]),
        ("query", Request::new("GET", &format!("/v1/events?topic={long}")), &[400, 414, 431]),
        ("header", Request::new("GET", "/v1/status").header("X", &long), &[400, 431]),
        (
            "token",
            Request::new("GET", "/v1/status").header("Authorization", format!("Bearer {long}")),
            &[400, 401, 431],
        ),
        ("data", Request::new("POST", "/v1/topics/a/events").body(&long), &[413]),
        ("policy", Request::new("PUT", "/v1/policies/a").body(&long), &[413]),
    ];
    for (what, request, allowed) in cases {
        let answer = broker.send(&request);
        assert!(allowed.contains(&answer.status), "{what}: {}", answer.status);
        assert_eq!(broker.get("/healthz").status, 200, "after {what}");
    }
    let many: String = (0..2_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let many = format!("GET /v1/status HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    assert!(statuses(&broker, many.as_bytes()).iter().all(|status| [400, 431].contains(status)));
    assert_eq!(broker.json("/v1/status")["events"], 0);
}
