use std::sync::Arc;

use actix_web::test::TestRequest;
use event_log::contract::everything;
use event_log::{Event, Key, NewEvent, Origin};
use serde_json::Value;

use super::parse::events;
use super::*;
use crate::Options;
use crate::server::tests::{call, request, state, state_with};

const LIMITS: Limits = Limits { events_max: 3, data_bytes_max: 20 };

fn parsed(body: &[u8], form: Form) -> Vec<NewEvent> {
    events(body, form, LIMITS)
        .unwrap_or_else(|problem| panic!("{problem}: {}", String::from_utf8_lossy(body)))
}

fn data(body: &str) -> String {
    let mut events = parsed(body.as_bytes(), Form::Ndjson);
    assert_eq!(events.len(), 1);
    events.remove(0).data.as_str().to_owned()
}

#[test]
fn data_is_a_string_verbatim_or_the_exact_text() {
    for (json, expected) in [
        (r#""plain""#, "plain"),
        (r#""""#, ""),
        (r#""a\n\"b\" \u00e9 \ud83d\ude80""#, "a\n\"b\" é \u{1F680}"),
        (r#""null""#, "null"),
        ("null", "null"),
        ("true", "true"),
        ("1.0e+2", "1.0e+2"),
        ("12345678901234567890", "12345678901234567890"),
        (r#"{"b":1, "a" : [ ] }"#, r#"{"b":1, "a" : [ ] }"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
        (r#"  [1,  2]  "#, "[1,  2]"),
        (r#"["\ud83d\ude80"]"#, r#"["\ud83d\ude80"]"#),
        (r#"{"a":"\ud800"}"#, r#"{"a":"\ud800"}"#),
        (r#"["\ude80\ud83d"]"#, r#"["\ude80\ud83d"]"#),
        (r#"{"\udfff":1}"#, r#"{"\udfff":1}"#),
    ] {
        assert_eq!(data(&format!(r#"{{"topic":"a","data":{json}}}"#)), expected, "{json}");
    }
}

#[test]
fn all_fields_are_taken_and_null_is_absent() {
    let body = r#"{"topic":"a.b","data":"x","type":"t","key":"k\u00e9","origin":"o","idempotency_key":"i"}"#;
    let event = &parsed(body.as_bytes(), Form::Json)[0];
    assert_eq!(event.topic.as_str(), "a.b");
    assert_eq!(event.event_type.as_ref().unwrap().as_str(), "t");
    assert_eq!(event.key.as_ref().map(Key::as_str), Some("ké"));
    assert_eq!(event.origin.as_ref().map(Origin::as_str), Some("o"));
    assert_eq!(event.idempotency_key.as_ref().unwrap().as_str(), "i");
    let body = r#"{"idempotency_key":null,"origin":null,"key":null,"type":null,"data":null,"topic":"a.b"}"#;
    let event = &parsed(body.as_bytes(), Form::Json)[0];
    assert!(event.event_type.is_none() && event.key.is_none() && event.origin.is_none());
    assert!(event.idempotency_key.is_none() && event.data.as_str() == "null");
    let message = parsed(br#"{"topic":"a","data":1,"type":"message"}"#, Form::Json);
    assert!(message[0].event_type.is_none());
}

#[test]
fn lines_may_be_blank_or_end_with_crlf() {
    let body = "\n \t\r\n{\"topic\":\"a\",\"data\":1}\r\n\r\n {\"topic\":\"a\",\"data\":2} \n\n{\"topic\":\"b\",\"data\":3}";
    let texts: Vec<String> =
        parsed(body.as_bytes(), Form::Ndjson).iter().map(|e| e.data.as_str().to_owned()).collect();
    assert_eq!(texts, ["1", "2", "3"]);
    let lines = [0, 1, 2].map(|index| parse::line_of(body.as_bytes(), Form::Ndjson, index));
    assert_eq!(lines, [3, 5, 7]);
    assert_eq!(parse::line_of(b"[{},{}]", Form::Json, 1), 2);
}

#[test]
fn json_is_an_object_or_an_array_over_many_lines() {
    let object = b" \n{\n\"topic\":\n\"a\",\"data\":{\n\"x\":1}}\n";
    assert_eq!(parsed(object, Form::Json)[0].data.as_str(), "{\n\"x\":1}");
    let array = br#" [ {"topic":"a","data":1} , {"topic":"b","data":2} ] "#;
    assert_eq!(parsed(array, Form::Json).len(), 2);
}

type Expected = (u16, &'static str, Option<&'static str>, Option<usize>);

fn check(form: Form, cases: &[(&[u8], Expected)]) {
    for (body, expected) in cases {
        let shown = String::from_utf8_lossy(body);
        let problem = events(body, form, LIMITS).expect_err(&shown);
        assert_eq!(problem.parts(), *expected, "{shown}: {problem}");
    }
}

fn check_line((line, (status, code, field)): (&str, (u16, &'static str, Option<&'static str>))) {
    let body = format!("{{\"topic\":\"a\",\"data\":1}}\n\n{line}");
    check(Form::Ndjson, &[(body.as_bytes(), (status, code, field, Some(3)))]);
}

#[test]
fn hostile_lines_are_refused_with_their_place() {
    [
        ("{}", (400, "missing-field", Some("topic"))),
        (r#"{"topic":"a"}"#, (400, "missing-field", Some("data"))),
        (r#"{"data":"a"}"#, (400, "missing-field", Some("topic"))),
        (r#"{"topic":null,"data":"a"}"#, (400, "missing-field", Some("topic"))),
        (r#"{"topic":"a","data":1,"x":1}"#, (400, "unknown-field", Some("x"))),
        (r#"{"topic":"a","data":1,"id":"1"}"#, (400, "unknown-field", Some("id"))),
        (r#"{"topic":"a","data":1,"Type":"x"}"#, (400, "unknown-field", Some("Type"))),
        (r#"{"topic":"a","topic":"a","data":1}"#, (400, "repeated-field", Some("topic"))),
        (r#"{"topic":"a","data":1,"data":1}"#, (400, "repeated-field", Some("data"))),
        (r#"{"topic":"a","data":1,"key":null,"key":"k"}"#, (400, "repeated-field", Some("key"))),
        (r#"{"topic":"a","data":1,"t\u006fpic":"a"}"#, (400, "repeated-field", Some("topic"))),
        (r#"{"topic":5,"data":1}"#, (400, "invalid-field", Some("topic"))),
        (r#"{"topic":"a","data":1,"type":["x"]}"#, (400, "invalid-field", Some("type"))),
        (r#"{"topic":"a","data":1,"key":{}}"#, (400, "invalid-field", Some("key"))),
        (r#"{"topic":"a","data":1,"origin":true}"#, (400, "invalid-field", Some("origin"))),
        (r#"{"topic":"","data":1}"#, (400, "invalid-topic", Some("topic"))),
        (r#"{"topic":"a b","data":1}"#, (400, "invalid-topic", Some("topic"))),
        (r#"{"topic":"a.*","data":1}"#, (400, "invalid-topic", Some("topic"))),
        (r#"{"topic":"$broker.x","data":1}"#, (400, "invalid-topic", Some("topic"))),
        (r#"{"topic":"a","data":1,"type":""}"#, (400, "invalid-type", Some("type"))),
        (r#"{"topic":"a","data":1,"type":"$gap"}"#, (400, "invalid-type", Some("type"))),
        (r#"{"topic":"a","data":1,"type":"a\nb"}"#, (400, "invalid-type", Some("type"))),
        (r#"{"topic":"a","data":1,"key":""}"#, (400, "invalid-key", Some("key"))),
        (r#"{"topic":"a","data":1,"key":"\u0000"}"#, (400, "invalid-key", Some("key"))),
        (r#"{"topic":"a","data":1,"origin":""}"#, (400, "invalid-origin", Some("origin"))),
        (
            r#"{"topic":"a","data":1,"idempotency_key":""}"#,
            (400, "invalid-idempotency-key", Some("idempotency_key")),
        ),
        (r#"{"topic":"a","data":"123456789012345678901"}"#, (413, "data-too-large", Some("data"))),
        (r#"{"topic":"a","data":[1234567890,123456789]}"#, (413, "data-too-large", Some("data"))),
        (r#"{"topic":"a","data":1"#, (400, "bad-json", None)),
        (r#"{"topic":"a","data":}"#, (400, "bad-json", Some("data"))),
        (r#"{"topic":"a","data":1,}"#, (400, "bad-json", None)),
        (r#"{"topic":"a","data":01}"#, (400, "bad-json", Some("data"))),
        (r#"{"topic":"a","data":NaN}"#, (400, "bad-json", Some("data"))),
        (r#"{"topic":"a","data":"\x"}"#, (400, "bad-json", Some("data"))),
        ("{\"topic\":\"a\",\"data\":\"\t\"}", (400, "bad-json", Some("data"))),
        (r#"{'topic':'a'}"#, (400, "bad-json", None)),
        (r#"{"topic":"a","data":1} {"topic":"a","data":2}"#, (400, "bad-json", None)),
        (r#"[{"topic":"a","data":1}]"#, (400, "bad-json", None)),
        ("5", (400, "bad-json", None)),
        ("null", (400, "bad-json", None)),
        ("\u{feff}{}", (400, "bad-json", None)),
    ]
    .into_iter()
    .for_each(check_line);
}

#[test]
fn half_of_a_surrogate_pair_is_refused_where_text_must_be_decoded_and_nowhere_else() {
    [
        (r#"{"topic":"a","data":"\ud800"}"#, (422, "lone-surrogate", Some("data"))),
        (r#"{"topic":"a","data":"\udc00x"}"#, (422, "lone-surrogate", Some("data"))),
        (r#"{"topic":"a","data":"\ude80\ud83d"}"#, (422, "lone-surrogate", Some("data"))),
        (r#"{"topic":"a","data":"\ud83d\ud83d\ude80"}"#, (422, "lone-surrogate", Some("data"))),
        (r#"{"topic":"a","data":["\ud800"],"key":5}"#, (400, "invalid-field", Some("key"))),
        (r#"{"topic":"a","data":["\ud800"],}"#, (400, "bad-json", None)),
        (r#"{"topic":"a","data":["\ud800}"#, (400, "bad-json", Some("data"))),
        (r#"{"topic":"a","data":"\ud800}"#, (400, "bad-json", Some("data"))),
        (r#"{"topic":"\ud8","data":1}"#, (400, "bad-json", Some("topic"))),
        (r#"{"topic":"\ud83d x","data":1}"#, (422, "lone-surrogate", Some("topic"))),
        (r#"{"topic":"a","data":1,"type":"\udc00"}"#, (422, "lone-surrogate", Some("type"))),
        (r#"{"topic":"a","data":1,"origin":"\ud800\u0041"}"#, (422, "lone-surrogate", Some("origin"))),
        (
            r#"{"topic":"a","data":1,"idempotency_key":"\\\ud800"}"#,
            (422, "lone-surrogate", Some("idempotency_key")),
        ),
        (r#"{"topic":"\ud800","data":1}"#, (422, "lone-surrogate", Some("topic"))),
        (r#"{"topic":"a","data":1,"key":"\ud83d\ud83d"}"#, (422, "lone-surrogate", Some("key"))),
        (r#"{"\udfff":1}"#, (422, "lone-surrogate", Some("name"))),
    ]
    .into_iter()
    .for_each(check_line);
}

#[test]
fn hostile_bodies_are_refused() {
    check(
        Form::Ndjson,
        &[
            (b"", (400, "empty-batch", None, None)),
            (b"\n \r\n\t", (400, "empty-batch", None, None)),
            (b"\xef\xbb\xbf{}", (400, "bad-json", None, None)),
            (b"{}\n{\"topic\":\"\xff\"}", (422, "not-utf8", None, Some(2))),
        ],
    );
    let nested = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let one = br#"{"topic":"a","data":1},"#;
    let four = [&b"["[..], &one.repeat(4)[..one.len() * 4 - 1], b"]"].concat();
    check(
        Form::Json,
        &[
            (b"", (400, "bad-json", None, None)),
            (b" ", (400, "bad-json", None, None)),
            (b"[]", (400, "empty-batch", None, None)),
            (b"null", (400, "bad-json", None, None)),
            (b"\"x\"", (400, "bad-json", None, None)),
            (b"[1]", (400, "bad-json", None, Some(1))),
            (b"[[]]", (400, "bad-json", None, Some(1))),
            (&nested, (400, "bad-json", None, Some(1))),
            (br#"{"topic":"a","data":1}{"topic":"a","data":1}"#, (400, "bad-json", None, None)),
            (br#"[{"topic":"a","data":1}] x"#, (400, "bad-json", None, None)),
            (br#"[{"topic":"a","data":1},]"#, (400, "bad-json", None, Some(2))),
            (br#"[{"topic":"a","data":1},{"topic":"a"}]"#, (400, "missing-field", Some("data"), Some(2))),
            (
                br#"[{"topic":"a","data":1},{"topic":"a","data":1,"y":0}]"#,
                (400, "unknown-field", Some("y"), Some(2)),
            ),
            (
                b"[{\"topic\":\"a\",\n\"data\":1},\n{\"topic\":\"\\ud800\"}]",
                (422, "lone-surrogate", Some("topic"), Some(2)),
            ),
            (&four, (413, "too-many-events", None, None)),
            (b"{\"topic\":\"\xff\"}", (422, "not-utf8", None, None)),
        ],
    );
}

#[test]
fn deep_data_is_no_danger() {
    let deep = format!(r#"{{"topic":"a","data":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
    let limits = Limits { events_max: 1, data_bytes_max: 4_000_000 };
    assert_eq!(events(deep.as_bytes(), Form::Ndjson, limits).unwrap()[0].data.as_str().len(), 2_000_000);
}

fn batch(content_type: &str, body: &str) -> TestRequest {
    request("POST", "/v1/events").insert_header((CONTENT_TYPE, content_type)).set_payload(body.to_owned())
}

fn ndjson(body: &str) -> TestRequest {
    batch("application/x-ndjson", body)
}

fn everything_of(state: &State) -> Vec<Arc<Event>> {
    everything(&**state.broker.log())
}

#[actix_web::test]
async fn a_batch_is_published_in_order_and_answered_event_by_event() {
    let state = state();
    let body = "{\"topic\":\"a\",\"data\":\"x\"}\n{\"topic\":\"b\",\"data\":{\"y\": 1},\"type\":\"t\"}\n";
    let answer = call(&state, ndjson(body)).await;
    let published = everything_of(&state);
    assert_eq!((answer.status, published.len()), (201, 2));
    let texts: Vec<&str> = published.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(texts, ["x", "{\"y\": 1}"]);
    let answer = answer.json();
    assert_eq!(answer["head"], answer["events"][1]["id"]);
    for (told, event) in answer["events"].as_array().unwrap().iter().zip(&published) {
        assert_eq!(told["id"], format!("{}-7f3a9c1e", event.position));
        assert_eq!(told["sequence"], event.position.get());
        assert_eq!(
            (&told["topic"], &told["duplicate"]),
            (&Value::from(event.topic.as_str()), &Value::from(false))
        );
        assert_eq!(told["uuid"], event.uuid.to_string());
        assert_eq!(told["time"], event.time.to_string());
    }
}

#[actix_web::test]
async fn the_content_type_decides_how_a_body_is_read() {
    let state = state();
    let object = r#"{"topic":"a","data":1}"#;
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x-ndjson;charset=UTF-8",
    ] {
        assert_eq!(call(&state, batch(content_type, object)).await.status, 201, "{content_type}");
    }
    assert_eq!(call(&state, batch("application/json", &format!("[{object},{object}]"))).await.status, 201);
    for content_type in [
        "",
        "text/plain",
        "application/ndjson",
        "application/json+x",
        "json",
        "application/x-www-form-urlencoded",
    ] {
        let refused = call(&state, batch(content_type, object)).await;
        assert_eq!(refused.refusal(), (415, "unsupported-media-type".to_owned()), "{content_type}");
    }
    let absent = request("POST", "/v1/events").set_payload(object);
    assert_eq!(call(&state, absent).await.refusal().0, 415);
    let lines = format!("{object}\n{object}\n");
    let twice = |first, second| batch(first, &lines).append_header((CONTENT_TYPE, second));
    assert_eq!(call(&state, twice("application/json", "application/x-ndjson")).await.status, 201);
    assert_eq!(call(&state, twice("application/x-ndjson", "no type")).await.status, 201);
    assert_eq!(call(&state, twice("application/x-ndjson", "application/json")).await.refusal().0, 400);
    assert_eq!(call(&state, twice("application/json", "text/plain")).await.refusal().0, 415);
}

#[actix_web::test]
async fn a_batch_has_bounds_and_no_conditions() {
    let state = state_with(Options {
        limits: crate::Limits { batch_events_max: 2, batch_bytes_max: 100, ..crate::Limits::default() },
        ..Options::default()
    });
    let object = "{\"topic\":\"a\",\"data\":1}\n";
    assert_eq!(call(&state, ndjson(&object.repeat(3))).await.refusal(), (413, "too-many-events".to_owned()));
    assert_eq!(call(&state, ndjson(&" ".repeat(101))).await.refusal(), (413, "body-too-large".to_owned()));
    for header in [IDEMPOTENCY_KEY, EXPECTED_ID] {
        let refused = call(&state, ndjson(object).insert_header((header, "0"))).await;
        assert_eq!(refused.refusal(), (400, "header-on-batch".to_owned()));
        assert_eq!(refused.json()["field"], header);
    }
    let query = request("POST", "/v1/events?topic=a").insert_header((CONTENT_TYPE, "application/json"));
    assert_eq!(call(&state, query.set_payload(object)).await.refusal().0, 400);
    assert!(everything_of(&state).is_empty());
    assert_eq!(call(&state, ndjson(&object.repeat(2))).await.status, 201);
}

#[actix_web::test]
async fn duplicates_of_a_batch_are_told_one_by_one() {
    let state = state();
    let keyed =
        |data: u32, key: &str| format!("{{\"topic\":\"a\",\"data\":{data},\"idempotency_key\":\"{key}\"}}\n");
    let twice = call(&state, ndjson(&format!("{}{}", keyed(1, "i"), keyed(1, "i")))).await;
    assert_eq!(twice.status, 201);
    let (first, second) = (&twice.json()["events"][0], &twice.json()["events"][1]);
    assert_eq!((&first["duplicate"], &second["duplicate"]), (&Value::from(false), &Value::from(true)));
    assert_eq!(first["id"], second["id"]);
    assert_eq!(call(&state, ndjson(&keyed(1, "i"))).await.status, 200);
    assert_eq!(call(&state, ndjson(&format!("{}{}", keyed(1, "i"), keyed(2, "j")))).await.status, 201);
    let before = everything_of(&state).len();
    let conflict = call(&state, ndjson(&format!("{}\n\n{}", keyed(3, "k"), keyed(9, "i")))).await;
    assert_eq!(conflict.refusal(), (422, "idempotency-conflict".to_owned()));
    assert_eq!(
        (&conflict.json()["line"], &conflict.json()["field"]),
        (&Value::from(4), &Value::from("idempotency_key"))
    );
    assert_eq!(everything_of(&state).len(), before);
}

#[actix_web::test]
async fn one_bad_event_refuses_the_whole_batch() {
    let state = state();
    let refused = call(&state, ndjson("{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"$a\",\"data\":2}")).await;
    assert_eq!(refused.refusal(), (400, "invalid-topic".to_owned()));
    assert_eq!((&refused.json()["line"], &refused.json()["field"]), (&Value::from(2), &Value::from("topic")));
    assert!(everything_of(&state).is_empty());
}
