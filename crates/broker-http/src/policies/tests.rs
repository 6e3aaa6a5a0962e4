use actix_web::test::TestRequest;
use event_log::contract::filter;
use serde_json::{Value, json};

use crate::server::tests::{Answer, call, request, state};

fn put(uri: &str, body: &str) -> TestRequest {
    request("PUT", &format!("/v1/policies/{uri}")).set_payload(body.to_owned())
}

fn answered(answer: &Answer) -> (u16, &str) {
    (answer.status, &answer.body)
}

#[actix_web::test]
async fn a_policy_is_set_shown_listed_and_taken_away_as_it_was_written() {
    let state = state();
    let listed = call(&state, request("GET", "/v1/policies")).await;
    assert_eq!(answered(&listed), (200, r#"{"policies":[]}"#));
    let stated = r#"{"pattern":"a.**","max_age":"7d","max_events":"100","max_bytes":1024,"compact":"key"}"#;
    let written = r#"{"compact":"key","max_bytes":1024,"max_events":"100","max_age":"7d"}"#;
    assert_eq!(answered(&call(&state, put("a.**", written)).await), (200, stated));
    assert_eq!(answered(&call(&state, request("GET", "/v1/policies/a.%2A%2A")).await), (200, stated));
    let other = r#"{"pattern":"a/b"}"#;
    assert_eq!(answered(&call(&state, put("a%2Fb", "{}")).await), (200, other));
    let listed = call(&state, request("GET", "/v1/policies")).await;
    assert_eq!(answered(&listed), (200, &*format!(r#"{{"policies":[{stated},{other}]}}"#)));
    assert_eq!(answered(&call(&state, request("DELETE", "/v1/policies/a.**")).await), (200, stated));
    for method in ["GET", "DELETE"] {
        let gone = call(&state, request(method, "/v1/policies/a.**")).await;
        assert_eq!(gone.refusal(), (404, "unknown-policy".to_owned()), "{method}");
    }
    let gone = call(&state, request("DELETE", "/v1/policies/a.**?dry_run=true")).await;
    assert_eq!(gone.refusal(), (404, "unknown-policy".to_owned()));
}

#[actix_web::test]
async fn what_is_no_policy_is_refused_and_changes_nothing() {
    let state = state();
    let large = format!("{{{}}}", " ".repeat(4 * 1024));
    for (uri, body, status, code, field) in [
        ("a", r#"{"max_ages":"7d"}"#, 400, "invalid-policy", Some("max_ages")),
        ("a", r#"{"max_age":"7d","max_age":"7d"}"#, 400, "invalid-policy", Some("max_age")),
        ("a", r#"{"max_age":"soon"}"#, 400, "invalid-policy", Some("max_age")),
        ("a", r#"{"compact":"all"}"#, 400, "invalid-policy", Some("compact")),
        ("a", "", 400, "invalid-policy", None),
        ("a", "[]", 400, "invalid-policy", None),
        ("a", &large, 413, "body-too-large", None),
        ("$broker.**", "{}", 400, "invalid-pattern", Some("pattern")),
        ("%24x?dry_run=true", "{}", 400, "invalid-pattern", Some("pattern")),
        ("**.a", "{}", 400, "invalid-pattern", Some("pattern")),
        ("", "{}", 400, "invalid-pattern", Some("pattern")),
        ("a?dry_run=1", "{}", 400, "invalid-parameter", Some("dry_run")),
        ("a?dryrun=true", "{}", 400, "unknown-parameter", Some("dryrun")),
    ] {
        let answer = call(&state, put(uri, body)).await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{uri} {body}");
        assert_eq!(answer.json()["field"].as_str(), field, "{uri} {body}");
    }
    assert_eq!(state.broker.log().bounds().events, 0);
    assert_eq!(call(&state, put("a", "\u{e9}").set_payload(&b"\xff"[..])).await.refusal().0, 422);
}

#[actix_web::test]
async fn a_dry_run_says_what_would_be_removed_and_changes_nothing() {
    let state = state();
    for topic in ["a", "a", "a", "b", "b"] {
        let publish = request("POST", &format!("/v1/topics/{topic}/events")).set_payload("four");
        assert_eq!(call(&state, publish).await.status, 201);
    }
    let tried = call(&state, put("*?dry_run=true", r#"{"max_events":1}"#)).await;
    assert_eq!(answered(&tried), (200, r#"{"dry_run":true,"events":3,"bytes":15}"#));
    let purge = call(&state, request("DELETE", "/v1/topics/a?dry_run=true")).await;
    assert_eq!(answered(&purge), (200, r#"{"dry_run":true,"events":3,"bytes":15}"#));
    assert_eq!(call(&state, put("a?dry_run=false", "{}")).await.status, 200);
    assert_eq!(call(&state, put("b", "{}")).await.status, 200);
    assert_eq!(call(&state, put("*", r#"{"max_events":1}"#)).await.status, 200);
    let without = call(&state, request("DELETE", "/v1/policies/a?dry_run=true")).await;
    assert_eq!(answered(&without), (200, r#"{"dry_run":true,"events":2,"bytes":10}"#));
    assert_eq!(state.broker.log().topics(Some(&filter(&["*"]).patterns()[0])).len(), 2);
    assert_eq!(state.broker.log().bounds().events, 5 + 3);
}

#[actix_web::test]
async fn topics_name_the_policy_that_governs_them() {
    let state = state();
    for topic in ["a.b", "a.c", "x"] {
        call(&state, request("POST", &format!("/v1/topics/{topic}/events")).set_payload("four")).await;
    }
    call(&state, put("a.*", r#"{"max_age":"7d"}"#)).await;
    call(&state, put("a.b", r#"{"max_events":5}"#)).await;
    let listed = call(&state, request("GET", "/v1/topics")).await.json();
    let policies: Vec<&Value> = listed["topics"].as_array().unwrap().iter().map(|t| &t["policy"]).collect();
    let of_all = json!({ "pattern": "a.*", "max_age": "7d" });
    let of_one = json!({ "pattern": "a.b", "max_events": 5 });
    assert_eq!(policies, [&of_one, &of_all, &Value::Null]);
    let one = call(&state, request("GET", "/v1/topics/a.c")).await.json();
    assert_eq!(one["policy"], of_all);
}

#[actix_web::test]
async fn a_purge_answers_with_the_topic_as_it_is_then() {
    let state = state();
    let publish = || request("POST", "/v1/topics/a.b/events").set_payload("four");
    call(&state, publish()).await;
    let last = call(&state, publish()).await.json();
    let purged = call(&state, request("DELETE", "/v1/topics/a.b")).await;
    let expected = format!(
        r#"{{"topic":"a.b","first_id":null,"last_id":{},"events":0,"bytes":0,"policy":null,"purged":{{"events":2,"bytes":14}}}}"#,
        last["id"]
    );
    assert_eq!(answered(&purged), (200, &*expected));
    let told = call(
        &state,
        request("GET", "/v1/topics/$broker.purges/events?from=earliest")
            .insert_header(("accept", "application/json")),
    );
    let told = told.await.json();
    assert_eq!(told["events"][0]["data"]["events"], 2);
    for (uri, refusal) in [
        ("absent", (404, "unknown-topic")),
        ("absent?dry_run=true", (404, "unknown-topic")),
        ("$broker.purges", (400, "invalid-topic")),
        ("%24broker.purges?dry_run=true", (400, "invalid-topic")),
        ("a.*", (400, "invalid-topic")),
        ("a.b?dry_run=yes", (400, "invalid-parameter")),
        ("a.b?x=y", (400, "unknown-parameter")),
    ] {
        let answer = call(&state, request("DELETE", &format!("/v1/topics/{uri}"))).await;
        assert_eq!(answer.refusal(), (refusal.0, refusal.1.to_owned()), "{uri}");
    }
}

#[actix_web::test]
async fn pages_may_ask_whether_they_may_put() {
    let state = state();
    let preflight = request("OPTIONS", "/v1/policies/a")
        .insert_header(("origin", "http://localhost:1"))
        .insert_header(("access-control-request-method", "PUT"));
    let answer = call(&state, preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD, PUT, DELETE, OPTIONS"));
}
