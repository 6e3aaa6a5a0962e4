//! Topics, status and health, methods that do not fit, and bounds that hold whatever is sent.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::envelope::sequence;
use crate::harness::{Broker, Connection, PATIENCE, Reader, Request, escape, heavy};

/// How many connections and streams there may be.
mod places;
/// Who is behind a proxy.
mod proxies;
/// How fast a subject may publish.
mod rates;
/// Clients that send or take slowly; how long streams live; replays that wait.
mod slow;

/// How often a limit was reached, as the metrics tell it.
fn times_limited(broker: &Broker, limit: &str) -> u64 {
    let told = broker.get("/metrics");
    let name = format!("perennial_limited_total{{limit=\"{limit}\"}} ");
    let count = told.text().lines().find_map(|line| line.strip_prefix(name.as_str()));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{name}: {told}"))
}

#[test]
fn topics_are_listed_with_what_they_hold() {
    let broker = Broker::start();
    assert_eq!(broker.json("/v1/topics"), json!({ "topics": [] }));
    let a = [broker.publish("a.x", "1234"), broker.publish("a.x", "56")];
    let b = broker.publish("b", "789");
    let listed = |query: &str| -> Vec<String> {
        let answer = broker.json(&format!("/v1/topics{query}"));
        let mut names: Vec<String> = answer["topics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["topic"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(listed(""), ["a.x", "b"]);
    assert_eq!(listed("?pattern=a.*"), ["a.x"]);
    assert_eq!(listed("?pattern=**"), ["a.x", "b"]);
    assert_eq!(listed("?pattern=b"), ["b"]);
    assert!(listed("?pattern=absent.**").is_empty());
    for bad in ["?pattern=a..b", "?pattern=**.a", "?patern=a", "?pattern=a&pattern=b", "?pattern=%FF"] {
        broker.get(&format!("/v1/topics{bad}")).problem(400);
    }
    let one = broker.json("/v1/topics/a.x");
    let members: Vec<&String> = one.as_object().unwrap().keys().collect();
    assert_eq!(members, ["bytes", "events", "first_id", "last_id", "policy", "topic"]);
    assert_eq!((&one["first_id"], &one["last_id"], &one["events"]), (&json!(a[0]), &json!(a[1]), &json!(2)));
    assert!(one["bytes"].as_u64().is_some_and(|bytes| bytes >= 6), "{one}");
    assert_eq!(one["policy"], json!(null));
    assert_eq!(broker.json("/v1/topics/b")["first_id"], json!(b));
    broker.get("/v1/topics/absent").problem(404);
    broker.get("/v1/topics/a.*").problem(400);
}

#[test]
fn topics_and_status_are_the_same_after_a_crash() {
    let mut broker = Broker::start();
    for n in 0..30 {
        broker.publish(&format!("t.{}", n % 3), format!("{n}"));
    }
    let told = |broker: &Broker| {
        let status = broker.json("/v1/status");
        let kept = ["epoch", "head", "oldest", "events", "bytes"].map(|name| status[name].clone());
        (kept, broker.json("/v1/topics"))
    };
    let before = told(&broker);
    broker.kill();
    broker.restart();
    assert_eq!(told(&broker), before);
    assert!(broker.terminate().success());
    broker.restart();
    assert_eq!(told(&broker), before);
}

#[test]
fn the_status_tells_what_the_log_holds() {
    let broker = Broker::start();
    let status = broker.json("/v1/status");
    let members: Vec<&String> = status.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["bytes", "bytes_on_disk", "connections", "epoch", "events", "head", "oldest", "uptime", "version"]
    );
    assert_eq!(
        (&status["oldest"], &status["events"], &status["bytes"]),
        (&json!(null), &json!(0), &json!(0))
    );
    assert!(
        status["uptime"].is_number() && status["bytes_on_disk"].is_u64() && status["version"].is_string()
    );
    let first = broker.publish("t", "12345");
    let last = broker.publish("t", "67890");
    let status = broker.json("/v1/status");
    assert_eq!(
        (&status["oldest"], &status["head"], &status["events"]),
        (&json!(first), &json!(last), &json!(2))
    );
    assert!(status["bytes"].as_u64().is_some_and(|bytes| bytes >= 10));
}

#[test]
fn the_status_counts_the_streams_that_are_open() {
    // A stream whose reader has gone is found out when it is written to, at the latest by its heartbeats.
    let broker = Broker::with(&["--set", "heartbeat=100ms"]);
    let mut readers: Vec<Reader> = (0..3).map(|_| Reader::open(&broker, "/v1/topics/t/events")).collect();
    readers.iter_mut().for_each(|reader| drop(reader.until("$live")));
    for left in (0..3).rev() {
        assert_eq!(broker.json("/v1/status")["connections"], left + 1);
        readers.pop();
        let deadline = Instant::now() + PATIENCE;
        while broker.json("/v1/status")["connections"] != left {
            assert!(Instant::now() < deadline, "a reader that has gone is still counted");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_broker_that_serves_is_alive_and_ready() {
    let broker = Broker::start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(broker.get(path).status, 200, "{path}");
        assert_eq!(broker.send(&Request::new("HEAD", path)).status, 200, "{path}");
    }
}

#[test]
fn a_wrong_method_is_answered_with_the_right_ones() {
    let broker = Broker::start();
    let cases = [
        ("PUT", "/v1/topics/t/events", ["GET", "POST"]),
        ("DELETE", "/v1/topics/t/events", ["GET", "POST"]),
        ("PATCH", "/v1/events", ["GET", "POST"]),
        ("POST", "/v1/events/1", ["GET", "HEAD"]),
        ("POST", "/v1/topics", ["GET", "HEAD"]),
        ("POST", "/v1/status", ["GET", "HEAD"]),
        ("GET", "/v1/topics/t/keys/k", ["DELETE", "OPTIONS"]),
        ("PUT", "/v1/topics/t/keys/k", ["DELETE", "OPTIONS"]),
        ("POST", "/healthz", ["GET", "HEAD"]),
        ("DELETE", "/readyz", ["GET", "HEAD"]),
        ("BREW", "/v1/status", ["GET", "HEAD"]),
    ];
    for (method, path, allowed) in cases {
        let response = broker.send(&Request::new(method, path));
        response.problem(405);
        let allow = response.header("allow").unwrap_or_default().to_owned();
        assert!(allowed.iter().all(|method| allow.contains(method)), "{method} {path}: {allow:?}");
        let options = broker.send(&Request::new("OPTIONS", path));
        assert_eq!((options.status, options.header("allow")), (204, Some(allow.as_str())), "{path}");
        assert!(options.body.is_empty());
    }
}

#[test]
fn what_does_not_exist_is_not_found() {
    let broker = Broker::start();
    for path in [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v2/events",
        "/v1/topics/t/event",
        "/v1/topics/t/keys",
        "/v1/events/1/2",
        "/nothing",
    ] {
        broker.get(path).problem(404);
    }
}

#[test]
fn every_endpoint_refuses_a_parameter_that_it_does_not_document() {
    let broker = Broker::start();
    broker.publish("t", "x");
    for path in [
        "/v1/status",
        "/v1/topics",
        "/v1/topics/t",
        "/v1/events/1",
        "/v1/topics/t/events",
        "/v1/events?topic=t",
    ] {
        let joint = if path.contains('?') { '&' } else { '?' };
        for query in ["x=1", "x", "limits=1", "%FF=1"] {
            broker.send(&Request::page(&format!("{path}{joint}{query}"))).problem(400);
        }
    }
    broker.send(&Request::new("DELETE", "/v1/topics/t/keys/k?x=1")).problem(400);
    assert_eq!(broker.data_of("t"), ["x"]);
}

#[test]
fn a_query_that_is_too_long_is_told_so() {
    let broker = Broker::start();
    for length in [60 * 1_024 + 1, 64 * 1_024 - 100] {
        let query = format!("topic={}", "x".repeat(length - "topic=".len()));
        let refused = broker.send(&Request::page(&format!("/v1/events?{query}")));
        assert_eq!(refused.problem(414)["code"], "query-too-long");
    }
}

#[test]
fn sixty_four_of_the_longest_patterns_fit_into_one_query() {
    let broker = Broker::start();
    let pattern = |number: usize| format!("topic={number:0>3}{}", "x".repeat(509));
    let query = |count: usize| (0..count).map(pattern).collect::<Vec<_>>().join("&");
    assert_eq!(broker.send(&Request::page(&format!("/v1/events?{}", query(64)))).status, 200);
    broker.send(&Request::page(&format!("/v1/events?{}", query(65)))).problem(400);
}

#[test]
fn the_limit_of_data_is_a_setting() {
    let broker = Broker::with(&["--set", "max_data=1KiB"]);
    let body = "x".repeat(1_024);
    assert_eq!(broker.post("/v1/topics/t/events", &body).status, 201);
    broker.post("/v1/topics/t/events", format!("{body}y")).problem(413);
    broker.post_batch(format!("{{\"topic\":\"t\",\"data\":\"{body}y\"}}")).problem(413);
    let larger = Broker::with(&["--set", "max_data=1MiB"]);
    let body = "x".repeat(1_024 * 1_024);
    assert_eq!(larger.post("/v1/topics/t/events", &body).status, 201);
    larger.post("/v1/topics/t/events", format!("{body}y")).problem(413);
    assert_eq!(larger.data_of("t"), [body]);
}

#[test]
fn requests_without_end_are_refused_and_harm_nobody() {
    let broker = Broker::start();
    let long = "x".repeat(1_000_000);
    let heads = [
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /v1/topics/t/events?from={long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
        format!("GET /v1/status HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(50_000)),
        "POST /v1/topics/t/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\nx".to_owned(),
        "POST /v1/topics/t/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\nx".to_owned(),
        "POST /v1/topics/t/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        "POST /v1/topics/t/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
    ];
    for head in heads {
        let mut connection = Connection::open(broker.port());
        connection.send(head.as_bytes());
        let shown: String = head.chars().take(120).collect();
        // Some are answered, some connections are only closed.
        if let Ok(answer) = connection.try_head(false) {
            assert!((400..500).contains(&answer.status), "{shown:?}: {answer:?}");
        }
        assert_eq!(broker.get("/healthz").status, 200, "after {shown:?}");
    }
    assert!(broker.data_of("t").is_empty());
}

#[test]
fn a_connection_is_used_for_one_request_after_another() {
    let broker = Broker::start();
    let mut connection = Connection::open(broker.port());
    for n in 0..20 {
        let request = Request::new("POST", "/v1/topics/t/events").body(format!("{n}"));
        assert_eq!(connection.exchange(&request).status, 201);
        assert_eq!(connection.exchange(&Request::page("/v1/topics/t/events?typo=1")).status, 400);
        assert_eq!(
            connection.exchange(&Request::new("POST", "/v1/topics/a..b/events").body("refused")).status,
            400
        );
        assert_eq!(
            connection.exchange(&Request::page("/v1/topics/t/events?from=-1")).json()["events"][0]["data"],
            n
        );
    }
    // Two at once, answered in their order.
    let port = broker.port();
    let first = Request::new("POST", "/v1/topics/t/events").body("pipelined").bytes(port);
    connection.send(&[first, Request::page("/v1/topics/t/events?from=-1").bytes(port)].concat());
    assert_eq!(connection.response(false).status, 201);
    assert_eq!(connection.response(false).json()["events"][0]["data"], "pipelined");
}

#[test]
fn an_event_reaches_hundreds_of_open_streams() {
    let broker = Broker::start();
    let target = |n: usize| format!("/v1/events?topic=t&topic={}", escape(&format!("own.{n}")));
    let mut readers: Vec<Reader> = (0..300).map(|n| Reader::open(&broker, &target(n))).collect();
    for reader in &mut readers {
        reader.until("$live");
    }
    let id = broker.publish("t", "to all");
    for reader in &mut readers {
        let event = reader.next();
        assert_eq!((event.data.as_str(), &event.id), ("to all", &id));
    }
    for (n, reader) in readers.iter_mut().enumerate().step_by(50) {
        let id = broker.publish(&format!("own.{n}"), "to one");
        assert!(sequence(&reader.next().id) == sequence(&id));
    }
}

#[test]
fn a_client_that_asks_before_it_sends_its_body_is_told_to_go_on() {
    let broker = Broker::start();
    let mut connection = Connection::open(broker.port());
    connection.send(b"POST /v1/topics/t/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut interim = [0; 25];
    connection.socket().set_read_timeout(Some(PATIENCE)).unwrap();
    (&mut connection.socket()).read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.send(b"hello");
    assert_eq!(connection.response(false).status, 201);
    assert_eq!(broker.data_of("t"), ["hello"]);
}

/// A flood from one address is let go before a byte of it is read, and another address is served meanwhile.
#[test]
fn an_address_has_its_number_of_connections_and_the_others_are_served() {
    let _turn = heavy::turn();
    for more in [&[][..], &["--tls-self-signed"]] {
        let broker = Broker::with(&[&["--set", "max_connections_per_address=3"], more].concat());
        let scheme = if more.is_empty() { "http" } else { "https" };
        let ask = |from: &str, path: &str| {
            let url = format!("{scheme}://127.0.0.1:{}{path}", broker.port());
            let output = Command::new("curl").args(["-sk", "--interface", from, &url]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let mut inside: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(("127.0.0.1", broker.port())).unwrap()).collect();
        heavy::eventually("the address has its number", PATIENCE, || ask("127.0.0.1", "/healthz").is_empty());
        for _ in 0..100 {
            let mut flood = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
            flood.set_read_timeout(Some(PATIENCE)).unwrap();
            let told = flood.read(&mut [0; 16]);
            assert!(matches!(told, Ok(0)) || told.is_err_and(|error| error.kind() != ErrorKind::WouldBlock));
        }
        let told = ask("127.0.0.2", "/metrics");
        let turned_away = told
            .lines()
            .find_map(|line| {
                line.strip_prefix("perennial_limited_total{limit=\"max_connections_per_address\"} ")
            })
            .and_then(|count| count.parse::<u64>().ok());
        assert!(turned_away.is_some_and(|count| count >= 101), "{told}");
        drop(inside.pop());
        heavy::eventually("a place is free again", PATIENCE, || {
            ask("127.0.0.1", "/v1/status").contains("version")
        });
        let warned = broker.log().matches("too many connections").count();
        assert!((1..=10).contains(&warned), "a flood must not flood the log: {warned} lines");
    }
}
