//! How fast a subject may publish: what is refused, for how long, and that others publish on.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::tokens::{asking, bearing, claims, signed};
use crate::harness::{Broker, Connection, PATIENCE, Request, Response, heavy};

use super::times_limited;

/// A header that makes a request too hard for the fast path of publishing, and changes nothing.
const HARD: (&str, &str) = ("TE", "trailers");
const TARGET: &str = "/v1/topics/t/events";

/// One event a second, and five at once.
fn slow(more: &[&str]) -> Broker {
    Broker::with(&[&["--set", "publish_rate=1", "--set", "publish_burst=5"], more].concat())
}

/// Publishes until that is too fast; the answer then, and how many were taken before.
fn until_refused(connection: &mut Connection, request: &Request) -> (usize, Response) {
    for taken in 0..1_000 {
        let response = connection.exchange(request);
        if response.status != 201 {
            return (taken, response);
        }
    }
    panic!("a thousand events were taken at once, at one a second");
}

#[test]
fn who_publishes_too_fast_is_told_when_to_come_back_and_is_taken_then() {
    let broker = slow(&[]);
    let easy = Request::new("POST", TARGET).body("x");
    let mut sent = 0;
    for request in [easy.clone(), easy.header(HARD.0, HARD.1)] {
        let mut connection = Connection::open(broker.port());
        let (taken, refused) = until_refused(&mut connection, &request);
        sent += taken;
        assert_eq!(refused.problem(429)["code"], "rate-limited");
        let wait: u64 =
            refused.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("seconds");
        assert!((1..=2).contains(&wait), "{refused}");
        thread::sleep(Duration::from_secs(wait));
        assert_eq!(connection.exchange(&request).status, 201, "after the time that it was told");
        sent += 1;
    }
    assert!(sent >= 5 + 2, "the burst, and one for each wait: {sent}");
    assert_eq!(broker.data_of("t").len(), sent, "what was refused was not published");
    assert!(times_limited(&broker, "publish_rate") >= 2);
    assert!(broker.json("/v1/status")["events"].as_u64() == Some(sent as u64), "reading is not limited");
}

#[test]
fn an_address_that_publishes_too_fast_does_not_slow_down_another() {
    let broker = slow(&[]);
    until_refused(&mut Connection::open(broker.port()), &Request::new("POST", TARGET).body("x"));
    let from_elsewhere = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--interface", "127.0.0.2", "-d", "y"])
        .arg(format!("{}{TARGET}", broker.url()))
        .output()
        .expect("curl");
    assert_eq!(String::from_utf8_lossy(&from_elsewhere.stdout), "201");
}

#[test]
fn with_tokens_the_share_is_the_subjects_wherever_it_publishes_from() {
    let broker = asking(&["--set", "publish_rate=1", "--set", "publish_burst=5"]);
    let token = |subject: &str| signed(&claims(subject, &["**"], &[], false));
    for headers in [&[][..], &[HARD]] {
        let as_subject = |subject: &str| {
            let request = bearing(Request::new("POST", TARGET).body("x"), &token(subject));
            headers.iter().fold(request, |request, (name, value)| request.header(name, value))
        };
        let (fast, calm) = (format!("fast{}", headers.len()), format!("calm{}", headers.len()));
        until_refused(&mut Connection::open(broker.port()), &as_subject(&fast));
        assert_eq!(broker.send(&as_subject(&calm)).status, 201);
        // On another connection, with another token of the same subject.
        heavy::eventually("the subject is refused elsewhere too", PATIENCE, || {
            broker.send(&as_subject(&fast)).status == 429
        });
    }
}

#[test]
fn a_batch_counts_each_of_its_events_and_their_bytes() {
    let broker = slow(&[]);
    let line = "{\"topic\":\"t\",\"data\":\"x\"}\n";
    let never = broker.post_batch(line.repeat(6));
    assert_eq!(never.problem(413)["code"], "burst-too-large");
    assert_eq!(never.header("retry-after"), None, "it is not better later");
    assert_eq!(broker.post_batch(line.repeat(5)).status, 201);
    broker.post_batch(line.repeat(5)).problem(429);
    assert_eq!(broker.data_of("t").len(), 5);

    let broker = Broker::with(&["--set", "publish_bytes=1KiB", "--set", "publish_bytes_burst=4KiB"]);
    let large = "x".repeat(4_000);
    assert_eq!(broker.post(TARGET, &large).status, 201);
    let later = broker.post(TARGET, &large);
    assert_eq!(later.problem(429)["code"], "rate-limited");
    assert!(later.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| s <= 4)));
    assert_eq!(broker.post(TARGET, "x".repeat(4_097)).problem(413)["code"], "burst-too-large");
    assert!(times_limited(&broker, "publish_bytes") >= 2);
}
