use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::test::{call_service, init_service};
use event_log::Batch;
use event_log::contract::event;
use serde_json::{Value, json};

use super::*;
use crate::pulse::Pulse;
use crate::server::app;
use crate::server::tests::{call, request, state};

/// An event stream, and what it said so far.
struct Stream(std::pin::Pin<Box<dyn MessageBody<Error = Box<dyn std::error::Error>>>>, String);

impl Stream {
    async fn open(state: &web::Data<State>, uri: &str) -> Self {
        let service = init_service(app(state.clone(), Pulse::start(state.shutdown.clone()))).await;
        let request = request("GET", uri).peer_addr("127.0.0.1:5000".parse().unwrap());
        let response: ServiceResponse<_> = call_service(&service, request.to_request()).await;
        Stream(Box::pin(response.into_body()), String::new())
    }

    /// Reads until something was said, or the end.
    async fn until(&mut self, said: &str) -> &str {
        while !self.1.contains(said) {
            let next = std::future::poll_fn(|context| self.0.as_mut().poll_next(context));
            let next = tokio::time::timeout(Duration::from_secs(20), next).await.expect("a chunk");
            let Some(chunk) = next else { break };
            self.1.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
        &self.1
    }
}

async fn listed(state: &web::Data<State>) -> Vec<Value> {
    let answer = call(state, request("GET", "/v1/connections")).await;
    answer.json()["connections"].as_array().unwrap().clone()
}

fn id_of(said: &str) -> String {
    let data = said.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str::<Value>(data).unwrap()["connection"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn open_streams_are_listed_with_how_far_they_are() {
    let state = state();
    assert!(listed(&state).await.is_empty());
    let mut places = Vec::new();
    for name in ["a.b", "other", "a.b"] {
        places.push(state.broker.publish(Batch::new(vec![event(name, "x")])).await.unwrap().head);
    }
    let id = |n: usize| state.broker.epochs().id(places[n]).to_string();
    let uri = format!("/v1/events?topic=a.*&topic=b&last_event_id={}", id(0));
    let mut stream = Stream::open(&state, &uri).await;
    let connection = id_of(stream.until("$open").await);
    let expected = json!({
        "id": connection,
        "remote": "127.0.0.1:5000",
        "subject": null,
        "patterns": ["a.*", "b"],
        "cursor": id(0),
        "lag": 2,
        "since": state.broker.now().to_string(),
    });
    assert_eq!(listed(&state).await, std::slice::from_ref(&expected));
    stream.until("$live").await;
    let caught_up = listed(&state).await.remove(0);
    assert_eq!((&caught_up["cursor"], &caught_up["lag"]), (&json!(id(2)), &json!(0)));
    assert_eq!(caught_up["id"], expected["id"]);
    drop(stream);
    assert!(listed(&state).await.is_empty());
}

#[actix_web::test]
async fn a_stream_is_ended_between_two_events_and_can_come_back() {
    let state = state();
    for _ in 0..3 {
        state.broker.publish(Batch::new(vec![event("a", "x")])).await.unwrap();
    }
    let mut other = Stream::open(&state, "/v1/topics/a/events").await;
    let other_id = id_of(other.until("$open").await);
    let mut stream = Stream::open(&state, "/v1/topics/a/events?from=earliest").await;
    let connection = id_of(stream.until("$open").await);
    let ended = call(&state, request("DELETE", &format!("/v1/connections/{connection}"))).await;
    assert_eq!((ended.status, &ended.json()["id"]), (200, &json!(connection)));
    let again = call(&state, request("DELETE", &format!("/v1/connections/{connection}"))).await;
    assert_eq!(again.refusal(), (404, "unknown-connection".to_owned()));
    let said = stream.until("\0").await;
    let (before, closing) = said.split_once("event: $closing\n").unwrap();
    assert!(before.ends_with("\n\n"), "{said}");
    assert!(closing.contains("data: {\"reason\":\"ended\"}\n") && closing.ends_with("\n\n"), "{said}");
    let last = before.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap();
    assert!(closing.ends_with(&format!("id: {last}\n\n")), "nothing is skipped: {said}");
    let left: Vec<Value> = listed(&state).await.iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(left, [json!(other_id)], "no other is ended");
}

#[actix_web::test]
async fn a_connection_that_is_not_known_is_not_found() {
    let state = state();
    for id in ["0", "ffffffffffffffff", "%20"] {
        let answer = call(&state, request("DELETE", &format!("/v1/connections/{id}"))).await;
        assert_eq!(answer.refusal(), (404, "unknown-connection".to_owned()), "{id}");
    }
    assert_eq!(call(&state, request("GET", "/v1/connections?x=1")).await.refusal().0, 400);
    assert_eq!(call(&state, request("DELETE", "/v1/connections/0?x=1")).await.refusal().0, 400);
}
