use std::sync::Arc;

use actix_web::body::to_bytes;
use actix_web::http::header::{ALLOW, HOST, HeaderMap, RETRY_AFTER};
use actix_web::test::{TestRequest, call_service, init_service};
use event_log::AppendError;
use event_log::contract::{WINDOW, clock};
use event_log::memory::MemoryLog;
use serde_json::Value;

use super::*;
use crate::options::StaticPage;

/// What all tests of the routes share: a broker on a log in memory.
pub(crate) fn state_with(options: Options) -> web::Data<State> {
    let log = Arc::new(MemoryLog::new(clock(), WINDOW));
    let broker = Broker::start(log, clock(), broker::Options::default()).unwrap();
    web::Data::new(State::new(broker, options, CancellationToken::new()))
}

pub(crate) fn state() -> web::Data<State> {
    state_with(Options::default())
}

pub(crate) fn request(method: &str, uri: &str) -> TestRequest {
    TestRequest::with_uri(uri).method(method.parse().unwrap()).insert_header((HOST, "localhost:8080"))
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: impl ToString) -> Option<&str> {
        self.headers.get(name.to_string().as_str()).map(|value| value.to_str().unwrap())
    }

    /// Status and code of a refusal, after a look at its form.
    pub(crate) fn refusal(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some(problem::CONTENT_TYPE), "{}", self.body);
        let body = self.json();
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["status"], self.status);
        assert!(!body["detail"].as_str().unwrap().is_empty() && !body["title"].as_str().unwrap().is_empty());
        (self.status, body["code"].as_str().unwrap().to_owned())
    }
}

pub(crate) async fn call(state: &web::Data<State>, request: TestRequest) -> Answer {
    let service = init_service(app(state.clone(), Pulse::start(state.shutdown.clone()))).await;
    let response = call_service(&service, request.to_request()).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = to_bytes(response.into_body()).await.unwrap();
    Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

#[actix_web::test]
async fn unknown_paths_are_problems() {
    let state = state();
    for uri in [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/nothing",
        "/v1/topics/a/b",
        "/v1/topics/a/keys",
        "/v1/policies/a/b",
        "/",
    ] {
        assert_eq!(call(&state, request("GET", uri)).await.refusal(), (404, "not-found".to_owned()), "{uri}");
    }
}

#[actix_web::test]
async fn a_wrong_method_is_told_which_are_right() {
    let state = state();
    for (method, uri, allow) in [
        ("PUT", "/v1/events", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/v1/topics/a/events", "GET, HEAD, POST, OPTIONS"),
        ("PUT", "/v1/topics/a", "GET, HEAD, DELETE, OPTIONS"),
        ("PATCH", "/v1/topics/", "GET, HEAD, DELETE, OPTIONS"),
        ("POST", "/v1/policies/a", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("PUT", "/v1/policies", "GET, HEAD, OPTIONS"),
        ("GET", "/v1/connections/a", "DELETE, OPTIONS"),
        ("DELETE", "/v1/connections", "GET, HEAD, OPTIONS"),
        ("POST", "/metrics", "GET, HEAD, OPTIONS"),
        ("POST", "/v1/topics", "GET, HEAD, OPTIONS"),
        ("GET", "/v1/topics/a/keys/k", "DELETE, OPTIONS"),
        ("POST", "/v1/events/1", "GET, HEAD, OPTIONS"),
        ("POST", "/v1/status", "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("BREW", "/readyz", "GET, HEAD, OPTIONS"),
    ] {
        let answer = call(&state, request(method, uri)).await;
        assert_eq!(answer.refusal(), (405, "method-not-allowed".to_owned()), "{method} {uri}");
        assert_eq!(answer.header(ALLOW), Some(allow), "{method} {uri}");
        let options = call(&state, request("OPTIONS", uri)).await;
        assert_eq!((options.status, options.header(ALLOW), &*options.body), (204, Some(allow), ""), "{uri}");
    }
}

#[actix_web::test]
async fn health_is_told_to_everybody_and_readiness_when_the_log_is_writable() {
    let writable = state();
    let alive = call(&writable, TestRequest::get().uri("/healthz").insert_header((HOST, "10.0.0.1"))).await;
    assert_eq!((alive.status, &*alive.body), (200, "ok"));
    assert_eq!(call(&writable, request("GET", "/readyz")).await.status, 200);
    assert_eq!(call(&writable, TestRequest::get().uri("/readyz")).await.refusal().0, 403);
    writable.shutdown.cancel();
    assert_eq!(call(&writable, request("GET", "/readyz")).await.refusal(), (503, "shutting-down".to_owned()));

    let full = || Err(AppendError::NoSpace { free: 1, floor: 2 });
    let full = state_with(Options { writable: Arc::new(full), ..Options::default() });
    let refused = call(&full, request("GET", "/readyz")).await;
    assert_eq!(refused.refusal(), (503, "insufficient-storage".to_owned()));
    assert!(refused.header(RETRY_AFTER).is_some());
}

#[actix_web::test]
async fn status_tells_what_the_log_holds() {
    let state = state_with(Options { version: "1.2.3".to_owned(), ..Options::default() });
    let empty = call(&state, request("GET", "/v1/status")).await.json();
    let keys: Vec<&String> = empty.as_object().unwrap().keys().collect();
    let expected =
        ["bytes", "bytes_on_disk", "connections", "epoch", "events", "head", "oldest", "uptime", "version"];
    assert_eq!(keys, expected);
    assert_eq!((empty["head"].as_str(), empty["oldest"].as_str()), (Some("0-7f3a9c1e"), None));
    let published = call(&state, request("POST", "/v1/topics/a/events").set_payload("four")).await.json();
    let status = call(&state, request("GET", "/v1/status")).await.json();
    assert_eq!((&status["head"], &status["oldest"]), (&published["id"], &published["id"]));
    assert_eq!((&status["events"], &status["bytes"]), (&Value::from(1), &Value::from(5)));
    assert_eq!((&status["version"], &status["epoch"]), (&Value::from("1.2.3"), &Value::from("7f3a9c1e")));
    assert!(status["uptime"].is_u64() && status["connections"] == 0);
    assert_eq!(call(&state, request("GET", "/v1/status?x=1")).await.refusal().0, 400);
}

#[actix_web::test]
async fn topics_are_listed_by_pattern() {
    let state = state();
    assert_eq!(call(&state, request("GET", "/v1/topics")).await.body, r#"{"topics":[]}"#);
    for topic in ["a.b", "a.c", "x%2Fy"] {
        let publish = request("POST", &format!("/v1/topics/{topic}/events")).set_payload("four");
        assert_eq!(call(&state, publish).await.status, 201, "{topic}");
    }
    let own = event_log::contract::event("$broker.x", "four");
    state.broker.publish(event_log::Batch::new(vec![own])).await.unwrap();
    for (query, expected) in [
        ("", vec!["a.b", "a.c", "x/y"]),
        ("?pattern=a.*", vec!["a.b", "a.c"]),
        ("?pattern=**", vec!["a.b", "a.c", "x/y"]),
        ("?pattern=x/y", vec!["x/y"]),
        ("?pattern=%24broker.**", vec!["$broker.x"]),
        ("?pattern=absent", vec![]),
    ] {
        let answer = call(&state, request("GET", &format!("/v1/topics{query}"))).await.json();
        let names: Vec<&str> = answer["topics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|topic| topic["topic"].as_str().unwrap())
            .collect();
        assert_eq!(names, expected, "{query}");
    }
    for query in
        ["?pattern=", "?pattern=a..b", "?pattern=**.a", "?pattern=a+b", "?pattern=a&pattern=b", "?patern=a"]
    {
        assert_eq!(
            call(&state, request("GET", &format!("/v1/topics{query}"))).await.refusal().0,
            400,
            "{query}"
        );
    }
}

#[actix_web::test]
async fn one_topic_tells_what_it_holds() {
    let state = state();
    let first = call(&state, request("POST", "/v1/topics/a.b/events?key=k").set_payload("four")).await.json();
    let last = call(&state, request("POST", "/v1/topics/a.b/events").set_payload("four")).await.json();
    let topic = call(&state, request("GET", "/v1/topics/a.b")).await;
    let expected = format!(
        r#"{{"topic":"a.b","first_id":{},"last_id":{},"events":2,"bytes":15,"policy":null}}"#,
        first["id"], last["id"]
    );
    assert_eq!((topic.status, topic.body), (200, expected));
    assert_eq!(
        call(&state, request("GET", "/v1/topics/absent")).await.refusal(),
        (404, "unknown-topic".to_owned())
    );
    for uri in [
        "/v1/topics/",
        "/v1/topics/a.*",
        "/v1/topics/a%20b",
        "/v1/topics/%ff",
        "/v1/topics/%2",
        "/v1/topics/a?b=c",
    ] {
        assert_eq!(call(&state, request("GET", uri)).await.refusal().0, 400, "{uri}");
    }
}

#[actix_web::test]
async fn pages_are_served_under_a_strict_policy() {
    let page = StaticPage { path: "/", content_type: "text/html; charset=utf-8", body: b"<p>" };
    let state = state_with(Options { pages: vec![page], ..Options::default() });
    let answer = call(&state, request("GET", "/")).await;
    assert_eq!((answer.status, &*answer.body), (200, "<p>"));
    assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'self';"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
}

#[actix_web::test]
async fn errors_and_panics_of_the_framework_are_problems_too() {
    let broken = |config: &mut web::ServiceConfig| {
        config
            .route("/panic", web::get().to(|| async { std::panic::panic_any("a defect") as HttpResponse }))
            .route("/plain", web::get().to(HttpResponse::BadGateway));
    };
    let state = state();
    let app = app(state.clone(), Pulse::start(state.shutdown.clone())).configure(broken);
    let service = init_service(app).await;
    let get = |uri| request("GET", uri).insert_header(("origin", "http://localhost:1")).to_request();
    let plain = call_service(&service, get("/plain")).await;
    assert!(is_problem(&plain));
    assert_eq!(plain.headers().get("access-control-allow-origin").unwrap(), "http://localhost:1");
    let error = actix_web::test::try_call_service(&service, get("/panic")).await.unwrap_err();
    let panicked = error.error_response();
    assert_eq!(panicked.status(), 500);
    assert_eq!(panicked.headers().get(CONTENT_TYPE).unwrap(), problem::CONTENT_TYPE);
    assert_eq!(panicked.headers().get("access-control-allow-origin").unwrap(), "http://localhost:1");
}
