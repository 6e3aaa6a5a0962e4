//! How many connections and streams there may be, of all together, of an address and of a subject; and how much may be asked for
//! at once.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use crate::harness::tokens::{all_powerful, asking, bearing, claims, signed};
use crate::harness::{Broker, Connection, PATIENCE, Reader, Request, heavy};

use super::times_limited;

const TARGET: &str = "/v1/topics/t/events";

/// That a stream is answered 200, is told that it may pass, and ends.
fn assert_turned_away(mut reader: Reader, what: &str) {
    let closing = reader.expect("$closing");
    assert_eq!(closing.json()["reason"], "overloaded", "{what}");
    let retry = closing.retry.expect("a time to come back");
    assert!((500..=5_000).contains(&retry), "{what}: {retry}");
    assert_eq!(closing.id, "", "{what}: no cursor is known");
    assert!(reader.rest().is_empty(), "{what}");
}

#[test]
fn more_connections_than_there_may_be_are_let_go_and_one_that_ends_makes_room() {
    let broker = Broker::with(&["--set", "max_connections=3"]);
    let mut inside: Vec<Connection> = (0..3)
        .map(|_| {
            let mut connection = Connection::open(broker.port());
            assert_eq!(connection.exchange(&Request::new("GET", "/healthz")).status, 200);
            connection
        })
        .collect();
    for _ in 0..20 {
        let mut one_more = TcpStream::connect(("127.0.0.1", broker.port())).expect("a port");
        one_more.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let told = one_more.read(&mut [0; 16]);
        assert!(matches!(told, Ok(0)) || told.is_err_and(|error| error.kind() != ErrorKind::WouldBlock));
    }
    let asked = inside[0].exchange(&Request::new("GET", "/metrics"));
    let counted = asked
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("perennial_limited_total{limit=\"max_connections\"} "));
    assert_eq!(counted, Some("20"));
    drop(inside.pop());
    heavy::eventually("a place is free again", PATIENCE, || {
        let request = Request::new("GET", "/healthz").bytes(broker.port());
        let Ok(mut connection) = Connection::try_open(broker.port()) else { return false };
        connection.send(&request);
        connection.try_head(false).is_ok_and(|head| head.status == 200)
    });
}

#[test]
fn a_subject_has_its_number_of_connections_and_another_has_its_own() {
    let broker = asking(&["--set", "max_connections_per_subject=2"]);
    let as_subject = |subject: &str, request: Request| {
        bearing(request, &signed(&claims(subject, &["**"], &["**"], false)))
    };
    let publish = || Request::new("POST", TARGET).body("x");
    let page = || Request::page(&format!("{TARGET}?from=earliest"));
    // One that publishes, on the fast path, and one that reads.
    let mut inside = [Connection::open(broker.port()), Connection::open(broker.port())];
    assert_eq!(inside[0].exchange(&as_subject("ann", publish())).status, 201);
    assert_eq!(inside[1].exchange(&as_subject("ann", page())).status, 200);
    for request in [publish(), page()] {
        let refused = broker.send(&as_subject("ann", request));
        assert_eq!(refused.problem(429)["code"], "too-many-connections");
        assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()));
    }
    let stream = as_subject("ann", Request::new("GET", TARGET));
    assert_turned_away(Reader::open_request(&broker, &stream), "a third connection");
    assert_eq!(broker.send(&as_subject("bob", publish())).status, 201);
    assert_eq!(inside[0].exchange(&as_subject("ann", publish())).status, 201, "what is inside stays so");
    drop(inside);
    heavy::eventually("a place is free again", PATIENCE, || {
        broker.send(&as_subject("ann", publish())).status == 201
    });
}

#[test]
fn an_address_has_its_number_of_streams() {
    let broker = Broker::with(&["--set", "max_streams_per_address=2"]);
    let mut open: Vec<Reader> = (0..2).map(|_| Reader::open(&broker, TARGET)).collect();
    open.iter_mut().for_each(|reader| drop(reader.until("$live")));
    assert_turned_away(Reader::open(&broker, TARGET), "a third stream");
    assert_eq!(broker.send(&Request::page(TARGET)).status, 200, "other readings are no streams");
    let id = broker.publish("t", "x");
    assert!(open.iter_mut().all(|reader| reader.next().id == id), "who is reading reads on");
    open.pop();
    heavy::eventually("a place is free again", PATIENCE, || {
        broker.publish("t", "x");
        Reader::open(&broker, TARGET).next().kind == "$open"
    });
    assert!(times_limited(&broker, "max_streams_per_address") >= 1);
}

#[test]
fn a_subject_has_its_number_of_streams_and_another_has_its_own() {
    let broker = asking(&["--set", "max_streams_per_subject=1"]);
    let open = |subject: &str| {
        let token = signed(&claims(subject, &[], &["**"], false));
        Reader::open_request(&broker, &bearing(Request::new("GET", TARGET), &token))
    };
    let mut first = open("ann");
    first.until("$live");
    assert_turned_away(open("ann"), "a second stream of the same subject");
    open("bob").until("$live");
    let told = broker.send(&bearing(Request::new("GET", "/metrics"), &all_powerful()));
    assert!(told.text().contains("perennial_limited_total{limit=\"max_streams_per_subject\"} 1\n"), "{told}");
}

#[test]
fn fewer_patterns_may_be_allowed_and_the_refusal_says_how_many() {
    let broker = Broker::with(&["--set", "max_patterns=2"]);
    assert_eq!(broker.send(&Request::page("/v1/events?topic=a&topic=b")).status, 200);
    let refused = broker.send(&Request::page("/v1/events?topic=a&topic=b&topic=c")).problem(400);
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("name 1 to 2")), "{refused}");
    assert_eq!(times_limited(&broker, "max_patterns"), 1);
}

#[test]
fn heads_and_addresses_may_be_kept_shorter() {
    let broker = Broker::with(&["--set", "max_head=2KiB", "--set", "max_url=1KiB"]);
    let publish = |query: &str, header: usize| {
        let target = format!("{TARGET}{query}");
        broker.send(&Request::new("POST", &target).header("X-Long", "x".repeat(header)).body("x"))
    };
    assert_eq!(publish("", 1_500).status, 201);
    assert_eq!(publish("", 2_048).problem(431)["code"], "head-too-large");
    let (fits, long) = (format!("?key={}", "k".repeat(500)), format!("?key={}", "k".repeat(1_024)));
    assert_eq!(publish(&fits, 0).status, 201);
    assert_eq!(publish(&long, 0).problem(414)["code"], "url-too-long");
    assert_eq!(
        broker.get(&format!("/v1/topics?pattern={}", "a".repeat(1_100))).problem(414)["code"],
        "url-too-long"
    );
    assert_eq!((times_limited(&broker, "max_head"), times_limited(&broker, "max_url")), (1, 2));
}
