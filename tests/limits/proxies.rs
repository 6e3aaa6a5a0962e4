//! Behind a proxy: who a request is from, whose word is taken for that, and what hangs on it.

use crate::harness::{Broker, Connection, PATIENCE, Reader, Request, heavy};

const TARGET: &str = "/v1/topics/t/events";

/// A broker that takes this machine for a proxy.
fn behind_a_proxy(more: &[&str]) -> Broker {
    Broker::with(&[&["--set", "trusted_proxies=127.0.0.0/8,::1"], more].concat())
}

fn open(broker: &Broker, header: &str, value: &str) -> Reader {
    Reader::open_with(broker, TARGET, &[(header, value)])
}

/// Where the streams come from that are open, as the broker tells it.
fn remotes(broker: &Broker) -> Vec<String> {
    let connections = broker.json("/v1/connections");
    let connections = connections["connections"].as_array().expect("a list");
    connections
        .iter()
        .map(|connection| connection["remote"].as_str().expect("an address").to_owned())
        .collect()
}

#[test]
fn a_stream_is_told_with_the_address_that_a_trusted_proxy_names() {
    let broker = behind_a_proxy(&[]);
    for (header, value, remote) in [
        ("X-Forwarded-For", "203.0.113.9", "203.0.113.9"),
        ("X-Forwarded-For", "198.51.100.1, 203.0.113.9, 127.0.0.3", "203.0.113.9"),
        ("Forwarded", "for=\"[2001:db8::1]:7\";proto=https", "[2001:db8::1]:7"),
        ("Forwarded", "for=198.51.100.1, for=203.0.113.9", "203.0.113.9"),
    ] {
        let mut reader = open(&broker, header, value);
        reader.until("$live");
        assert_eq!(remotes(&broker), [remote], "{header}: {value}");
        drop(reader);
        heavy::eventually("the stream has gone", PATIENCE, || {
            broker.publish("t", "x");
            remotes(&broker).is_empty()
        });
    }
}

#[test]
fn what_anybody_else_says_is_not_believed() {
    let broker =
        Broker::with(&["--set", "trusted_proxies=192.0.2.0/24", "--set", "max_streams_per_address=1"]);
    let mut reader =
        Reader::open_with(&broker, TARGET, &[("Forwarded", "for=1.1.1.1"), ("X-Forwarded-For", "1.1.1.1")]);
    reader.until("$live");
    assert!(remotes(&broker)[0].starts_with("127.0.0.1:"), "{:?}", remotes(&broker));
    let mut other = open(&broker, "X-Forwarded-For", "2.2.2.2");
    assert_eq!(other.expect("$closing").json()["reason"], "overloaded", "a new name gives no new share");
    let private = broker.send(&Request::new("GET", "/healthz").header("X-Forwarded-Proto", "https"));
    assert_eq!(private.header("strict-transport-security"), None);
}

#[test]
fn each_client_of_a_proxy_has_a_share_of_its_own() {
    let broker = behind_a_proxy(&["--set", "max_streams_per_address=1", "--set", "publish_rate=1"]);
    let mut first = open(&broker, "X-Forwarded-For", "203.0.113.1");
    first.until("$live");
    let mut again = open(&broker, "X-Forwarded-For", "203.0.113.1");
    assert_eq!(again.expect("$closing").json()["reason"], "overloaded");
    open(&broker, "X-Forwarded-For", "203.0.113.2").until("$live");

    let publish = |client: &str| Request::new("POST", TARGET).header("X-Forwarded-For", client).body("x");
    let mut connection = Connection::open(broker.port());
    heavy::eventually("the client is too fast", PATIENCE, || {
        connection.exchange(&publish("203.0.113.1")).status == 429
    });
    assert_eq!(connection.exchange(&publish("203.0.113.2")).status, 201, "on the same connection");
}

#[test]
fn connections_are_counted_for_the_client_once_its_head_was_read() {
    let broker = behind_a_proxy(&["--set", "max_connections_per_address=1"]);
    let page = |client: &str| Request::page(TARGET).header("X-Forwarded-For", client);
    let mut inside = Connection::open(broker.port());
    assert_eq!(inside.exchange(&page("203.0.113.1")).status, 200);
    assert_eq!(broker.send(&page("203.0.113.1")).problem(429)["code"], "too-many-connections");
    assert_eq!(broker.send(&page("203.0.113.2")).status, 200);
    let mut turned_away = open(&broker, "X-Forwarded-For", "203.0.113.1");
    assert_eq!(turned_away.expect("$closing").json()["reason"], "overloaded");
    assert_eq!(inside.exchange(&page("203.0.113.1")).status, 200);
}

#[test]
fn a_browser_is_told_to_stay_private_if_the_proxy_says_that_it_is() {
    let broker = behind_a_proxy(&[]);
    let ask = |header: &str, value: &str| {
        let answer = broker.send(&Request::new("GET", "/healthz").header(header, value));
        answer.header("strict-transport-security").is_some()
    };
    assert!(ask("X-Forwarded-Proto", "https") && ask("Forwarded", "for=203.0.113.1;proto=https"));
    assert!(!ask("X-Forwarded-Proto", "http") && !ask("X-Forwarded-For", "203.0.113.1"));
}

#[test]
fn hostile_values_are_harmless_and_stand_in_no_log() {
    let arguments = ["--set", "max_connections_per_address=2", "--set", "max_streams_per_address=1"];
    let broker = behind_a_proxy(&arguments);
    let long = "1.1.1.1, ".repeat(5_000);
    for value in [
        "hostile\u{1b}[31m",
        "for=\"hostile",
        ",,,,;;;==",
        "hostile, 1.1.1.1",
        long.as_str(),
        "[::::]",
        "hostile\u{ff}",
        "for=hostile;for=hostile;proto=hostile",
        "999.999.999.999",
        "1.1.1.1:99999",
        "%0d%0ahostile",
        "\"",
        "[",
        "for=[",
    ] {
        for header in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto"] {
            // A line end or a bare control cannot be in a header: whether that is refused is not the matter here.
            let request = Request::page(TARGET).header(header, value);
            let status = broker.send(&request).status;
            assert!(matches!(status, 200 | 400 | 429), "{header}: {value:?}: {status}");
            assert_eq!(broker.get("/healthz").status, 200);
        }
    }
    let logged = broker.log();
    let line = logged.lines().find(|line| line.contains("hostile"));
    assert!(line.is_none(), "{line:?}");
}
