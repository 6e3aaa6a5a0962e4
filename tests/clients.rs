//! Clients that other people wrote, over cuts at odd bytes and a crash: each sees exactly what the log says.
//!
//! The programs are in `clients/`, pinned; `tests/run` installs them. They reach the broker through a relay that cuts
//! their first connections, and the broker is killed and restarted while publishing goes on. What they print is compared
//! with the log as NDJSON tells it.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Broker;
use crate::harness::heavy;
use crate::harness::outside::Outside;
use crate::harness::proxy::Proxy;
use crate::harness::stream::Publisher;

const LIMIT: Duration = Duration::from_secs(60);
const TYPES: [&str; 3] = ["trade", "note", "message"];
/// Bytes of answer after which the connections are cut, one after the other: inside fields, inside data, late. None is
/// inside the head: Chromium takes a head that was cut short for a whole one, and gives up on its half content type.
const CUTS: [usize; 8] = [1_111, 777, 2_003, 4_096, 901, 3_333, 6_001, 1_402];

/// Text of every kind that a frame has to carry.
fn text(number: usize) -> String {
    match number % 6 {
        0 => format!("{{\"n\":{number},\"price\":182.3}}"),
        1 => format!("{number}: two\nlines"),
        2 => format!("{number}: naïve — 雪 🦀 \u{2028} \u{feff}"),
        3 => format!("{number}: CRLF\r\nand CR\rand LF\n"),
        4 => format!("  {number}: data: id: 7\n\nevent: forged\n"),
        _ => format!("{number}: {}", "long ".repeat(40)),
    }
}

/// Publishes events of these numbers, over a crash too: what is not answered is sent again under its key.
fn publish(port: u16, numbers: std::ops::Range<usize>) {
    let mut connection = None;
    for number in numbers {
        let target = format!("/v1/topics/clients/events?type={}", TYPES[number % 3]);
        let headers = format!("Idempotency-Key: {number}\r\n");
        let mut published = false;
        for _ in 0..5_000 {
            connection = connection.or_else(|| Publisher::connect(port).ok());
            let answer = connection.as_mut().map(|to| to.post(&target, &headers, text(number).as_bytes()));
            match answer {
                Some(Ok((200 | 201, _))) => {
                    published = true;
                    break;
                }
                Some(Ok((503, _))) => {}
                Some(Ok((status, body))) => panic!("status {status}: {}", String::from_utf8_lossy(&body)),
                Some(Err(_)) | None => connection = None,
            }
            thread::sleep(Duration::from_millis(4));
        }
        assert!(published, "event {number} could not be published");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What an event stream gives back of a text: line ends become LF.
fn as_read_from_a_stream(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Id, type and data of every event: the id from the log, the rest from what was published.
fn expected(server: &Broker) -> Vec<Value> {
    let log = heavy::history(server, "topic=clients");
    let event = |(number, envelope): (usize, &Value)| {
        let kind = TYPES[number % 3];
        json!({"id": envelope["id"], "type": kind, "data": as_read_from_a_stream(&text(number))})
    };
    log.iter().enumerate().map(event).collect()
}

/// Runs one client through history, cuts, live events, a crash and more live events.
fn run(start: impl FnOnce(&str) -> Outside, query: &str) -> (Broker, Vec<Value>) {
    let mut server = Broker::with(&["--set", "retry=300ms"]);
    let port = server.port();
    publish(port, 0..40);
    let proxy = Proxy::start(port, &CUTS);
    let mut client =
        start(&format!("http://127.0.0.1:{}/v1/events?topic=clients&from=earliest{query}", proxy.port()));
    client.wait_for("the client has read history", LIMIT, |lines| lines.len() >= 40);
    thread::scope(|scope| {
        scope.spawn(|| publish(port, 40..240));
        client.wait_for("the client follows", LIMIT, |lines| lines.len() >= 100);
        server.kill();
        thread::sleep(Duration::from_millis(300));
        server.restart();
    });
    publish(port, 240..300);
    client.wait_for("the client has caught up", LIMIT, |lines| lines.len() >= 300);
    // An event that came twice would come by now.
    thread::sleep(Duration::from_millis(500));
    assert!(proxy.cuts_made() >= 4, "only {} connections were cut", proxy.cuts_made());
    let lines = client.lines();
    (server, lines)
}

fn compare(lines: &[Value], expected: &[Value]) {
    assert_eq!(expected.len(), 300, "the log itself");
    let differs = lines.iter().zip(expected).position(|(line, expected)| line != expected);
    if let Some(at) = differs {
        panic!("event {at}: the client saw {} and the log says {}", lines[at], expected[at]);
    }
    assert_eq!(lines.len(), expected.len());
}

#[test]
fn the_npm_package_eventsource_sees_every_event_once() {
    let _turn = heavy::turn();
    let (server, lines) =
        run(|url| Outside::start("node", "eventsource.mjs", &[&[url][..], &TYPES].concat()), "");
    compare(&lines, &expected(&server));
}

#[test]
fn the_browsers_own_eventsource_sees_every_event_once() {
    let _turn = heavy::turn();
    let (server, lines) =
        run(|url| Outside::start("node", "in_browser.mjs", &[&["native", url][..], &TYPES].concat()), "");
    compare(&lines, &expected(&server));
}

#[test]
fn fetch_event_source_in_a_browser_sees_every_event_once() {
    let _turn = heavy::turn();
    let (server, lines) =
        run(|url| Outside::start("node", "in_browser.mjs", &[&["fetch", url][..], &TYPES].concat()), "");
    compare(&lines, &expected(&server));
}

#[test]
fn the_python_package_httpx_sse_sees_every_event_once() {
    let _turn = heavy::turn();
    let (server, lines) = run(|url| Outside::start("python", "httpx_sse_client.py", &[url]), "");
    compare(&lines, &expected(&server));
}

#[test]
fn curl_sees_every_event_once() {
    let _turn = heavy::turn();
    let (server, lines) = run(|url| Outside::start("bash", "curl.sh", &[url]), "&envelope=true");
    compare(&lines, &heavy::history(&server, "topic=clients"));
}
