//! What connections cost and when they end, seen from both sides of the socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::heavy::{self, resident_bytes};
use crate::harness::{Broker, Reader, escape};

const KIB: usize = 1_024;
const MIB: u64 = 1_024 * 1_024;

fn streams(broker: &Broker) -> u64 {
    broker.json("/v1/status")["connections"].as_u64().unwrap()
}

/// The heartbeat is far away, so only the closed connection itself can tell.
#[test]
fn a_client_that_left_frees_its_stream_before_the_next_heartbeat() {
    let broker = Broker::with(&["--set", "max_streams=2", "--set", "heartbeat=10m"]);
    let open = || {
        let mut reader = Reader::open(&broker, "/v1/events?topic=**");
        reader.expect("$open");
        reader
    };
    let readers = [open(), open()];
    assert_eq!(streams(&broker), 2);
    let mut turned_away = Reader::open(&broker, "/v1/events?topic=**");
    let closing = turned_away.expect("$closing");
    assert_eq!(closing.json()["reason"], "overloaded");
    assert!(turned_away.rest().is_empty(), "the stream ends after $closing");
    drop(readers);
    heavy::eventually("the places are free again", Duration::from_secs(20), || streams(&broker) == 0);
    open();
}

/// Found with pages that were made whole before they were sent: 25 MiB for each reader.
#[test]
fn a_stalled_reader_of_a_large_json_page_costs_less_than_a_mebibyte() {
    let _turn = heavy::turn();
    const READERS: u64 = 40;
    const SLACK: u64 = 48 * MIB;
    let broker = Broker::start();
    let data = "x".repeat(200 * KIB);
    let batch = format!("{{\"topic\":\"big\",\"data\":\"{data}\"}}\n").repeat(40);
    let ids: Vec<String> = (0..6).flat_map(|_| broker.publish_batch(&batch)).collect();
    let alone = resident_bytes(broker.pid());
    let request = "GET /v1/topics/big/events?from=earliest&limit=10000 HTTP/1.1\r\nHost: localhost\r\n\
                   Accept: application/json\r\nConnection: close\r\n\r\n";
    let mut sockets: Vec<TcpStream> = (0..READERS)
        .map(|_| {
            let mut socket = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
            socket.write_all(request.as_bytes()).unwrap();
            socket
        })
        .collect();
    // Each has its head once it is being answered; then nobody reads on.
    for socket in &mut sockets {
        socket.read_exact(&mut [0; 12]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    let stalled = resident_bytes(broker.pid());
    println!("resident: {} MiB alone, {} MiB with {READERS} stalled pages", alone / MIB, stalled / MIB);
    assert!(stalled <= alone + READERS * MIB + SLACK, "{stalled} is more than {alone} and a MiB for each");
    let page = broker.send(&crate::harness::Request::page("/v1/topics/big/events?from=earliest&limit=10000"));
    let read: Vec<String> = page.json()["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(read, ids);
    assert_eq!(page.json()["next"].as_str().unwrap(), broker.head());
}

/// A heartbeat that is due while a slow read is under way must not begin the read anew.
#[test]
fn a_replay_goes_on_under_the_shortest_heartbeat() {
    let mut broker = Broker::with(&["--set", "heartbeat=10ms"]);
    let line = "{\"topic\":\"haystack\",\"data\":\"hay\"}\n".repeat(9_999);
    for _ in 0..10 {
        broker.publish_batch(&line);
    }
    broker.post("/v1/topics/haystack/events?type=needle", "found");
    // After a restart nothing recent is in memory: all is read from the disk.
    broker.terminate();
    broker.restart();
    let mut reader = Reader::open(&broker, "/v1/events?topic=**&from=earliest&type=needle");
    assert_eq!(reader.collect(1)[0].data, "found");
}

#[test]
fn http_1_0_gets_plain_bodies_that_end_with_the_connection() {
    let broker = Broker::start();
    broker.publish("a", "one");
    let answer = |accept: &str, query: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
        let request = format!(
            "GET /v1/topics/a/events?{query} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (mut all, began) = (Vec::new(), Instant::now());
        let mut piece = [0; 4_096];
        while began.elapsed() < Duration::from_secs(20) && !String::from_utf8_lossy(&all).contains("one") {
            if let Ok(read) = socket.read(&mut piece) {
                all.extend_from_slice(&piece[..read]);
            }
        }
        String::from_utf8(all).unwrap()
    };
    for accept in ["text/event-stream", "application/x-ndjson"] {
        let text = answer(accept, "from=earliest");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
        assert!(body.starts_with("event: $open\n") || body.starts_with("{\"id\":"), "{body}");
    }
}

#[test]
fn a_long_poll_is_answered_once_the_log_has_passed_its_end() {
    let broker = Broker::start();
    broker.publish("other", "1");
    let target = "/v1/topics/a/events?from=latest&until=2&wait=60";
    let began = Instant::now();
    let page = std::thread::scope(|scope| {
        let poll = scope.spawn(|| broker.send(&crate::harness::Request::page(target)));
        std::thread::sleep(Duration::from_millis(300));
        broker.publish("other", "2");
        broker.publish("other", "3");
        poll.join().unwrap()
    });
    assert_eq!(page.json()["events"].as_array().unwrap().len(), 0);
    assert!(began.elapsed() < Duration::from_secs(50), "it was held though nothing could come any more");
}

fn listed(broker: &Broker) -> Vec<Value> {
    let answer = broker.json("/v1/connections");
    answer["connections"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

fn close(broker: &Broker, id: &str) -> crate::harness::Response {
    broker.send(&crate::harness::Request::new("DELETE", &format!("/v1/connections/{}", escape(id))))
}

#[test]
fn every_open_stream_is_listed_with_its_place() {
    let broker = Broker::with(&["--set", "heartbeat=100ms"]);
    let first = broker.publish("a.x", "1");
    assert!(listed(&broker).is_empty());
    let mut one = Reader::open(&broker, "/v1/events?topic=a.*&topic=b.**&from=earliest");
    let mut other = Reader::resume(&broker, "/v1/topics/c/events", &first);
    let ids = [&mut one, &mut other].map(|reader| {
        reader.until("$live").remove(0).json()["connection"].as_str().expect("an id").to_owned()
    });
    assert_ne!(ids[0], ids[1]);
    let streams = listed(&broker);
    assert_eq!(streams.len(), 2, "{streams:?}");
    for (id, patterns) in ids.iter().zip([json!(["a.*", "b.**"]), json!(["c"])]) {
        let told =
            streams.iter().find(|told| told["id"] == id.as_str()).unwrap_or_else(|| panic!("{streams:?}"));
        let members: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["cursor", "id", "lag", "patterns", "remote", "since", "subject"]);
        assert_eq!((&told["patterns"], &told["subject"]), (&patterns, &Value::Null), "{told}");
        assert!(told["remote"].as_str().is_some_and(|remote| remote.contains("127.0.0.1")), "{told}");
        assert!(told["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{told}");
        assert_eq!((&told["cursor"], &told["lag"]), (&json!(first), &json!(0)), "{told}");
    }
    // A reader that reads nothing that matches moves all the same.
    let last = broker.publish("elsewhere", "2");
    heavy::eventually("both cursors are at the head", Duration::from_secs(20), || {
        listed(&broker).iter().all(|told| told["cursor"] == last.as_str() && told["lag"] == 0)
    });
    drop(one);
    heavy::eventually("one is left", Duration::from_secs(20), || listed(&broker).len() == 1);
    assert_eq!(listed(&broker)[0]["id"], ids[1].as_str());
}

#[test]
fn the_lag_of_a_stalled_reader_is_what_it_has_not_got() {
    let _turn = heavy::turn();
    let broker = Broker::start();
    let mut reader = Reader::open(&broker, "/v1/topics/big/events");
    reader.until("$live");
    let data = "x".repeat(100 * KIB);
    let batch = format!("{{\"topic\":\"big\",\"data\":\"{data}\"}}\n").repeat(100);
    for _ in 0..6 {
        broker.publish_batch(&batch);
    }
    let ids: Vec<String> = broker.envelopes("topic=big").into_iter().map(|event| event.id).collect();
    // The kernel's buffers take a part of the 60 MiB; the lag is what is behind the cursor.
    let mut told = Value::Null;
    heavy::eventually("it stands still with a lag", Duration::from_secs(60), || {
        let now = listed(&broker).remove(0);
        let stands = now["cursor"] == told["cursor"] && now["lag"].as_u64() > Some(0);
        told = now;
        std::thread::sleep(Duration::from_millis(300));
        stands
    });
    let cursor = told["cursor"].as_str().unwrap();
    let seen = ids.iter().position(|id| id == cursor).map_or(0, |at| at + 1);
    assert_eq!(told["lag"], ids.len() - seen, "{told}");
    assert_eq!(reader.collect(600).len(), 600);
    heavy::eventually("nothing is behind it", Duration::from_secs(20), || listed(&broker)[0]["lag"] == 0);
}

#[test]
fn a_connection_that_is_ended_is_told_and_may_come_back() {
    let broker = Broker::start();
    let mut readers = [(); 2].map(|()| Reader::open(&broker, "/v1/topics/t/events"));
    let ids = readers
        .each_mut()
        .map(|reader| reader.until("$live").remove(0).json()["connection"].as_str().unwrap().to_owned());
    let id = broker.publish("t", "x");
    assert_eq!(readers[0].collect(1)[0].id, id);
    let response = close(&broker, &ids[0]);
    assert_eq!((response.status, &response.json()["id"]), (200, &json!(ids[0])), "{response}");
    let rest = readers[0].rest();
    assert_eq!((rest.len(), rest[0].kind.as_str()), (1, "$closing"), "{rest:?}");
    assert_eq!((&rest[0].json()["reason"], &rest[0].id), (&json!("ended"), &id));
    assert!(rest[0].retry.is_some_and(|retry| (500..=5_000).contains(&retry)), "{rest:?}");
    heavy::eventually("it is not listed", Duration::from_secs(20), || listed(&broker).len() == 1);
    close(&broker, &ids[0]).problem(404);
    for unknown in ["0", "absent", "a b", "é"] {
        close(&broker, unknown).problem(404);
    }
    // Nobody else is ended by it.
    broker.publish("t", "y");
    assert_eq!(readers[1].collect(2).len(), 2);
    let mut again = Reader::resume(&broker, "/v1/topics/t/events", &id);
    assert_eq!(again.collect(1)[0].data, "y");
}
