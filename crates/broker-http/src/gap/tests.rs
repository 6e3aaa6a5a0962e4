//! What readers are told of removed history, in each shape: at the beginning and in the middle.

use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::test::{call_service, init_service};
use actix_web::web;
use event_log::contract::{event, remove_all, trim};
use event_log::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use event_log::{Batch, Keep, Position};
use serde_json::{Value, json};

use crate::Options;
use crate::pulse::Pulse;
use crate::server::app;
use crate::server::tests::{call, request, state, state_with};
use crate::state::State;

async fn publish(state: &State, topic: &str, data: &str) -> Position {
    state.broker.publish(Batch::new(vec![event(topic, data)])).await.unwrap().head
}

async fn fill(state: &State, topics: &[&str], count: usize) -> Vec<Position> {
    let mut places = Vec::new();
    for n in 0..count {
        places.push(publish(state, topics[n % topics.len()], &n.to_string()).await);
    }
    places
}

fn keep(state: &State, topic: &str, events: u64) {
    let keep = Keep { events: Some(events), ..Keep::default() };
    remove_all(&**state.broker.log(), &[trim(topic, keep)]);
}

fn id(state: &State, place: Position) -> String {
    state.broker.epochs().id(place).to_string()
}

fn trimmed(requested: &str, resumed_after: &str) -> Value {
    json!({ "reason": "trimmed", "requested": requested, "resumed_after": resumed_after })
}

/// A body that is taken as slowly as a test likes.
struct Body(std::pin::Pin<Box<BoxBody>>, String);

impl Body {
    async fn open(state: &web::Data<State>, uri: &str, accept: &str) -> Self {
        let service = init_service(app(state.clone(), Pulse::start(state.shutdown.clone()))).await;
        let request = request("GET", uri).insert_header(("accept", accept));
        let response = call_service(&service, request.to_request()).await;
        assert_eq!(response.status(), 200);
        Body(Box::pin(response.into_body()), String::new())
    }

    /// The next chunk, which is what was written at once; `None` at the end.
    async fn chunk(&mut self) -> Option<String> {
        let next = std::future::poll_fn(|context| self.0.as_mut().poll_next(context));
        let next = tokio::time::timeout(Duration::from_secs(20), next).await.expect("a chunk");
        next.map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap())
    }

    /// The next block of an event stream.
    async fn block(&mut self) -> String {
        loop {
            while self.1.starts_with(":\n") {
                self.1.drain(..2);
            }
            if let Some((block, rest)) = self.1.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.1 = rest;
                return block;
            }
            let more = self.chunk().await.expect("the stream goes on");
            self.1.push_str(&more);
        }
    }
}

/// A gap's block as it must be, and what its data says.
fn gap_block(block: &str, retry: bool) -> Value {
    let mut lines = block.lines();
    assert_eq!(lines.next(), Some("event: $gap"), "{block}");
    if retry {
        assert_eq!(lines.next(), Some("retry: 2000"));
    }
    let data: Value = serde_json::from_str(lines.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(lines.next().unwrap(), format!("id: {}", data["resumed_after"].as_str().unwrap()));
    assert_eq!(lines.next(), None);
    data
}

const STREAM: &str = "text/event-stream";
const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";

#[actix_web::test]
async fn a_stream_is_told_first_of_all() {
    let state = state();
    let places = fill(&state, &["a", "b"], 40).await;
    keep(&state, "a", 5);
    let (asked, end) = (id(&state, places[3]), id(&state, places[30].just_before()));
    for quiet in [false, true] {
        let uri = format!("/v1/topics/a/events?last_event_id={asked}&quiet={quiet}");
        let mut body = Body::open(&state, &uri, STREAM).await;
        assert_eq!(gap_block(&body.block().await, true), trimmed(&asked, &end));
        if !quiet {
            let open = body.block().await;
            assert!(open.starts_with("event: $open\n") && open.ends_with(&format!("\nid: {end}")), "{open}");
        }
        assert_eq!(body.block().await, format!("data: 30\nid: {}", id(&state, places[30])));
    }
    let uri = format!("/v1/topics/b/events?last_event_id={asked}");
    assert!(Body::open(&state, &uri, STREAM).await.block().await.starts_with("event: $open\n"));
}

#[actix_web::test]
async fn a_slow_stream_is_told_between_two_events() {
    let state = state();
    let places = fill(&state, &["a"], 2_000).await;
    let mut body = Body::open(&state, "/v1/topics/a/events?from=earliest&quiet=true", STREAM).await;
    let first = body.chunk().await.unwrap();
    let seen = first.matches("\n\n").count();
    assert!((1..2_000).contains(&seen), "a page is being written");
    assert!(first.ends_with(&format!("id: {}\n\n", id(&state, places[seen - 1]))));
    keep(&state, "a", 2);
    // The rest of the page that was read, if there is any, then the gap from its end.
    let mut told = seen;
    let gap = loop {
        let block = body.block().await;
        if block.starts_with("event: $gap") {
            break gap_block(&block, false);
        }
        assert_eq!(block, format!("data: {told}\nid: {}", id(&state, places[told])));
        told += 1;
    };
    assert_eq!(gap, trimmed(&id(&state, places[told - 1]), &id(&state, places[1_998].just_before())));
    for n in [1_998, 1_999] {
        assert_eq!(body.block().await, format!("data: {n}\nid: {}", id(&state, places[n])));
    }
}

#[actix_web::test]
async fn a_quiet_stream_whose_first_block_is_a_gap_in_the_middle_says_how_to_come_back() {
    let state = state_with(Options { heartbeat: Duration::from_millis(10), ..Options::default() });
    let places = fill(&state, &["a"], 10).await;
    let mut body = Body::open(&state, "/v1/topics/a/events?from=earliest&quiet=true", STREAM).await;
    keep(&state, "a", 1);
    let gap = gap_block(&body.block().await, true);
    assert_eq!(gap, trimmed(&id(&state, places[0].just_before()), &id(&state, places[9].just_before())));
    assert_eq!(body.block().await, format!("data: 9\nid: {}", id(&state, places[9])));
}

#[actix_web::test]
async fn ndjson_has_a_line_for_a_gap_at_its_beginning_and_in_its_middle() {
    let state = state();
    // One page of a body holds a part of this only.
    let count = 3 * PAGE_EVENTS_MAX;
    let places = fill(&state, &["a"], count).await;
    keep(&state, "a", (count - 10) as u64);
    let asked = id(&state, places[2]);
    let uri = format!("/v1/topics/a/events?last_event_id={asked}");
    let mut body = Body::open(&state, &uri, NDJSON).await;
    let first = body.chunk().await.unwrap();
    assert!(first.len() < 2 * PAGE_BYTES_MAX);
    let lines =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let mut told = lines(&first);
    let end = id(&state, places[10].just_before());
    assert_eq!(told.remove(0), json!({ "type": "$gap", "id": end, "data": trimmed(&asked, &end) }));
    assert_eq!(told[0]["id"], id(&state, places[10]));
    keep(&state, "a", 1);
    while let Some(more) = body.chunk().await {
        told.extend(lines(&more));
    }
    let gap = told.iter().position(|line| line["type"] == "$gap").unwrap();
    let (before, last) = (&told[gap - 1], places[count - 1]);
    let end = id(&state, last.just_before());
    let requested = before["id"].as_str().unwrap();
    let expected = json!({ "type": "$gap", "id": end, "data": trimmed(requested, &end) });
    assert_eq!(told[gap], expected);
    assert_eq!((told.len(), &told[gap + 1]["id"]), (gap + 2, &json!(id(&state, last))));
}

#[actix_web::test]
async fn a_page_names_the_gap_before_its_events() {
    let state = state();
    let places = fill(&state, &["a"], 40).await;
    keep(&state, "a", 5);
    let (asked, end) = (id(&state, places[3]), id(&state, places[35].just_before()));
    // A gap is answered at once, whatever wait says.
    for query in ["limit=2", "limit=2&wait=60"] {
        let uri = format!("/v1/topics/a/events?last_event_id={asked}&{query}");
        let page = call(&state, request("GET", &uri).insert_header(("accept", JSON))).await.json();
        assert_eq!(page["gap"], trimmed(&asked, &end));
        assert_eq!((&page["events"][0]["data"], &page["next"]), (&json!(35), &json!(id(&state, places[36]))));
        let next = format!("/v1/topics/a/events?last_event_id={}", id(&state, places[36]));
        let page = call(&state, request("GET", &next).insert_header(("accept", JSON))).await.json();
        assert_eq!((page["events"].as_array().unwrap().len(), &page["gap"]), (3, &Value::Null));
    }
    keep(&state, "a", 0);
    let uri = format!("/v1/topics/a/events?last_event_id={asked}&wait=60");
    let page = call(&state, request("GET", &uri).insert_header(("accept", JSON))).await.json();
    let head = id(&state, places[39]);
    let expected = json!({ "events": [], "next": head, "head": head, "gap": trimmed(&asked, &head) });
    assert_eq!(page, expected, "also when nothing is left");
}

#[actix_web::test]
async fn a_page_ends_before_a_gap_in_its_middle_and_the_next_one_tells_of_it() {
    let state = state();
    let count = 3 * PAGE_EVENTS_MAX;
    let places = fill(&state, &["a"], count).await;
    let mut body = Body::open(&state, "/v1/topics/a/events?from=earliest&limit=10000", JSON).await;
    let mut text = body.chunk().await.unwrap();
    keep(&state, "a", 1);
    while let Some(more) = body.chunk().await {
        text.push_str(&more);
    }
    let page: Value = serde_json::from_str(&text).unwrap();
    let events = page["events"].as_array().unwrap();
    let last = &events[events.len() - 1]["id"];
    assert!(events.len() < count - 1);
    assert_eq!((&page["gap"], &page["next"]), (&Value::Null, last));
    let uri = format!("/v1/topics/a/events?last_event_id={}", last.as_str().unwrap());
    let next = call(&state, request("GET", &uri).insert_header(("accept", JSON))).await.json();
    let end = id(&state, places[count - 1].just_before());
    assert_eq!(next["gap"], trimmed(last.as_str().unwrap(), &end));
    assert_eq!(next["events"][0]["id"], id(&state, places[count - 1]));
}

#[actix_web::test]
async fn a_long_poll_is_answered_when_what_it_waits_for_is_removed() {
    let state = state();
    let before = publish(&state, "other", "0").await;
    let waiting = state.clone();
    let poll = actix_web::rt::spawn(async move {
        let uri = "/v1/topics/a/events?wait=60";
        call(&waiting, request("GET", uri).insert_header(("accept", JSON))).await.json()
    });
    // Published and removed until the poll has seen either.
    let mut published = Vec::new();
    while !poll.is_finished() {
        published.push(publish(&state, "a", "x").await);
        keep(&state, "a", 0);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let page = poll.await.unwrap();
    let got = page["events"].as_array().unwrap().len();
    assert!(got > 0 || page["gap"]["reason"] == "trimmed", "{page}");
    assert_ne!(page["next"], id(&state, before));
}

#[actix_web::test]
async fn one_event_is_found_or_removed_whatever_was_removed_before_it() {
    let state = state();
    let places = fill(&state, &["a", "b"], 6).await;
    keep(&state, "a", 1);
    for (n, status) in [(0, 410), (1, 200), (2, 410), (3, 200), (4, 200), (5, 200)] {
        let answer = call(&state, request("GET", &format!("/v1/events/{}", places[n]))).await;
        assert_eq!(answer.status, status, "{n}");
    }
}
