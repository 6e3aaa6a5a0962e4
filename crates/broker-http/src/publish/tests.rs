use std::sync::Arc;

use actix_web::test::TestRequest;
use event_log::contract::everything;
use event_log::{Event, EventId};
use serde_json::json;

use super::*;
use crate::Options;
use crate::server::tests::{Answer, call, request, state, state_with};

fn post(uri: &str, data: &str) -> TestRequest {
    request("POST", &format!("/v1/topics/{uri}")).set_payload(data.to_owned())
}

async fn refusal(state: &web::Data<State>, request: TestRequest) -> (u16, String) {
    let before = state.broker.log().bounds().events;
    let refusal = call(state, request).await.refusal();
    assert_eq!(state.broker.log().bounds().events, before, "what is refused publishes nothing");
    refusal
}

fn newest(state: &State) -> Arc<Event> {
    everything_of(state).pop().unwrap()
}

fn everything_of(state: &State) -> Vec<Arc<Event>> {
    everything(&**state.broker.log())
}

#[actix_web::test]
async fn an_event_is_published_as_it_was_sent() {
    let state = state();
    let data = "{\"price\": 1}\r\n\u{0}\u{1F680}";
    let answer = call(&state, post("a%2Fb.%C3%A9/events?type=trade&key=a+key%2B&origin=me", data)).await;
    let event = newest(&state);
    assert_eq!(answer.status, 201);
    let expected = json!({
        "id": format!("{}-7f3a9c1e", event.position),
        "sequence": event.position.get(),
        "topic": "a/b.é",
        "time": event.time.to_string(),
        "uuid": event.uuid.to_string(),
        "duplicate": false,
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("location"), Some(&*format!("/v1/events/{}-7f3a9c1e", event.position)));
    assert_eq!((event.topic.as_str(), event.data.as_str(), event.type_name()), ("a/b.é", data, "trade"));
    assert_eq!(event.key.as_ref().map(Key::as_str), Some("a key+"));
    assert_eq!(event.origin.as_ref().map(Origin::as_str), Some("me"));
}

#[actix_web::test]
async fn data_may_be_empty_and_of_any_content_type_and_as_large_as_allowed() {
    let state = state_with(Options {
        limits: crate::Limits { data_bytes_max: 10, ..crate::Limits::default() },
        ..Options::default()
    });
    assert_eq!(call(&state, post("a/events", "")).await.status, 201);
    assert_eq!((newest(&state).data.as_str(), newest(&state).event_type.clone()), ("", None));
    let form = post("a/events?type=message", "a=b")
        .insert_header(("content-type", "application/x-www-form-urlencoded"));
    assert_eq!(call(&state, form).await.status, 201);
    assert_eq!((newest(&state).data.as_str(), newest(&state).event_type.clone()), ("a=b", None));
    assert_eq!(call(&state, post("a/events", "0123456789")).await.status, 201);
    assert_eq!(refusal(&state, post("a/events", "0123456789a")).await, (413, "body-too-large".to_owned()));
}

#[actix_web::test]
async fn bad_input_is_refused_and_publishes_nothing() {
    let state = state();
    let long = "x".repeat(513);
    for (uri, status, code) in [
        ("/events", 400, "invalid-topic"),
        ("%24own/events", 400, "invalid-topic"),
        ("$broker.x/events", 400, "invalid-topic"),
        ("a.*/events", 400, "invalid-topic"),
        ("**/events", 400, "invalid-topic"),
        ("a%20b/events", 400, "invalid-topic"),
        ("a..b/events", 400, "invalid-topic"),
        ("a%0A/events", 400, "invalid-topic"),
        ("%ff/events", 400, "malformed-escape"),
        ("%2/events", 400, "malformed-escape"),
        (&*format!("{long}/events"), 400, "invalid-topic"),
        ("a/events?type=", 400, "invalid-type"),
        ("a/events?type=%24delete", 400, "invalid-type"),
        ("a/events?type=a%0Ab", 400, "invalid-type"),
        ("a/events?key=", 400, "invalid-key"),
        ("a/events?key=%00", 400, "invalid-key"),
        (&*format!("a/events?key={long}"), 400, "invalid-key"),
        ("a/events?origin=", 400, "invalid-origin"),
        ("a/events?origin=%FF", 400, "malformed-escape"),
        ("a/events?type=a&type=a", 400, "repeated-parameter"),
        ("a/events?kye=a", 400, "unknown-parameter"),
        ("a/events?idempotency_key=a", 400, "unknown-parameter"),
    ] {
        assert_eq!(refusal(&state, post(uri, "x")).await, (status, code.to_owned()), "{uri}");
    }
    let bytes = request("POST", "/v1/topics/a/events").set_payload(&b"ab\xff"[..]);
    let answer = call(&state, bytes).await;
    assert_eq!(answer.refusal(), (422, "not-utf8".to_owned()));
    assert!(answer.body.contains("byte 2 (0xff)"), "{}", answer.body);
    let gzip = post("a/events", "x").insert_header(("content-encoding", "gzip"));
    assert_eq!(refusal(&state, gzip).await, (415, "unsupported-encoding".to_owned()));
    let identity = post("a/events", "x").insert_header(("content-encoding", "identity"));
    assert_eq!(call(&state, identity).await.status, 201);
}

fn keyed(data: &str, key: &str) -> TestRequest {
    post("a/events", data).insert_header((IDEMPOTENCY_KEY, key))
}

#[actix_web::test]
async fn a_retry_gets_the_first_answer_and_other_content_is_refused() {
    let state = state();
    let first = call(&state, keyed("x", "k")).await;
    let again = call(&state, keyed("x", "k")).await;
    assert_eq!((first.status, again.status), (201, 200));
    let mut expected = first.json();
    expected["duplicate"] = json!(true);
    assert_eq!(again.json(), expected);
    let other = call(&state, keyed("y", "k")).await;
    assert_eq!(other.refusal(), (422, "idempotency-conflict".to_owned()));
    assert!(other.body.contains(first.json()["id"].as_str().unwrap()), "{}", other.body);
    let elsewhere = post("b/events", "y").insert_header((IDEMPOTENCY_KEY, "k"));
    assert_eq!(call(&state, elsewhere).await.status, 201);
    assert_eq!(everything_of(&state).len(), 2);
}

#[actix_web::test]
async fn an_idempotency_key_is_one_good_text() {
    let state = state();
    let long = "x".repeat(513);
    for key in ["", &long] {
        assert_eq!(
            refusal(&state, keyed("x", key)).await,
            (400, "invalid-idempotency-key".to_owned()),
            "{key}"
        );
    }
    let value = HeaderValue::from_bytes(b"\xff").unwrap();
    let bytes = post("a/events", "x").insert_header((IDEMPOTENCY_KEY, value));
    assert_eq!(refusal(&state, bytes).await, (400, "invalid-idempotency-key".to_owned()));
    let twice = keyed("x", "a").append_header((IDEMPOTENCY_KEY, "a"));
    assert_eq!(refusal(&state, twice).await, (400, "repeated-header".to_owned()));
    let value = HeaderValue::from_bytes("é".as_bytes()).unwrap();
    assert_eq!(call(&state, post("a/events", "x").insert_header((IDEMPOTENCY_KEY, value))).await.status, 201);
}

fn expecting(id: &str) -> TestRequest {
    post("a/events", "x").insert_header((EXPECTED_ID, id))
}

fn last_id(answer: &Answer) -> String {
    assert_eq!(answer.refusal(), (412, "expected-id-mismatch".to_owned()));
    answer.json()["last_id"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn an_expected_id_must_be_the_topics_newest() {
    let state = state();
    assert_eq!(last_id(&call(&state, expecting("5-7f3a9c1e")).await), "0");
    let first = call(&state, expecting("0")).await;
    assert_eq!(first.status, 201);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    for wrong in ["0", "0-7f3a9c1e", "999", "1-00000000"] {
        assert_eq!(last_id(&call(&state, expecting(wrong)).await), id, "{wrong}");
    }
    let position = EventId::parse(id.as_bytes()).unwrap().position;
    let second = call(&state, expecting(&position.to_string())).await;
    assert_eq!(second.status, 201);
    assert_eq!(call(&state, expecting(second.json()["id"].as_str().unwrap())).await.status, 201);
    for malformed in ["", "x", "-1", "01", "1-", "1-XYZ", "18446744073709551616", "\"1\"", "*"] {
        assert_eq!(
            refusal(&state, expecting(malformed)).await,
            (400, "invalid-id".to_owned()),
            "{malformed}"
        );
    }
    let twice = expecting("0").append_header((EXPECTED_ID, "0"));
    assert_eq!(refusal(&state, twice).await, (400, "repeated-header".to_owned()));
}

#[actix_web::test]
async fn a_retry_of_a_conditional_publish_that_succeeded_is_no_mismatch() {
    let state = state();
    let publish = || expecting("0").insert_header((IDEMPOTENCY_KEY, "k"));
    assert_eq!(call(&state, publish()).await.status, 201);
    assert_eq!(call(&state, publish()).await.status, 200);
}

fn delete(uri: &str) -> TestRequest {
    request("DELETE", &format!("/v1/topics/{uri}"))
}

#[actix_web::test]
async fn deleting_a_key_publishes_a_tombstone() {
    let state = state();
    let answer = call(&state, delete("a.b/keys/x%2F%22+%C3%A9")).await;
    assert_eq!((answer.status, answer.json()["topic"].as_str()), (201, Some("a.b")));
    let event = newest(&state);
    assert_eq!((event.type_name(), event.data.as_str()), ("$delete", r#"{"key":"x/\"+é"}"#));
    assert_eq!(event.key.as_ref().map(Key::as_str), Some("x/\"+é"));

    let keyed = || delete("a.b/keys/k").insert_header((IDEMPOTENCY_KEY, "i"));
    assert_eq!((call(&state, keyed()).await.status, call(&state, keyed()).await.status), (201, 200));
    let expecting = delete("a.b/keys/k").insert_header((EXPECTED_ID, "0"));
    assert_eq!(last_id(&call(&state, expecting).await), format!("{}-7f3a9c1e", newest(&state).position));
    for (uri, code) in [
        ("a.b/keys/", "invalid-key"),
        ("a.b/keys/%00", "invalid-key"),
        ("/keys/k", "invalid-topic"),
        ("$broker.x/keys/k", "invalid-topic"),
        ("a/keys/k?x=1", "unknown-parameter"),
        ("a/keys/%ff", "malformed-escape"),
    ] {
        assert_eq!(refusal(&state, delete(uri)).await, (400, code.to_owned()), "{uri}");
    }
}

#[actix_web::test]
async fn a_log_that_takes_no_more_says_so() {
    let state = state();
    state.broker.log().close().await;
    let answer = call(&state, post("a/events", "x")).await;
    assert_eq!(answer.refusal(), (503, "log-unavailable".to_owned()));
    assert!(answer.header("retry-after").is_some());
}
