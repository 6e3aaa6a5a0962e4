use super::*;
use crate::Options;
use crate::server::tests::{call, request, state_with};

fn judged(hosts: &[&str], origins: &[&str], authority: Option<&str>) -> Result<bool, &'static str> {
    let mut headers = HeaderMap::new();
    hosts.iter().for_each(|host| headers.append(HOST, HeaderValue::from_str(host).unwrap()));
    origins.iter().for_each(|origin| headers.append(ORIGIN, HeaderValue::from_str(origin).unwrap()));
    let allowed =
        ["https://App.example", "https://app.example:8443", "moz-extension://0a1b", "tauri://localhost"];
    let allowed = Origins::new(&allowed.map(str::to_owned));
    let judged = judge(&headers, authority, &allowed);
    judged.map(|origin| origin.is_some()).map_err(|problem| {
        assert_eq!(problem.parts().0, 403);
        problem.code()
    })
}

#[test]
fn only_loopback_names_of_the_broker_are_answered() {
    for host in [
        "localhost",
        "localhost:8080",
        "LOCALHOST",
        "localhost.",
        "localhost:",
        "app.localhost",
        "a.b.localhost:1",
        "127.0.0.1",
        "127.0.0.1:65535",
        "127.1.2.3",
        "127.1",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]",
    ] {
        assert_eq!(judged(&[host], &[], None), Ok(false), "{host}");
    }
    for host in [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.example:8080",
        "notlocalhost",
        "localhost@evil.example",
        "evil.example@localhost",
        "evil.example/@localhost",
        "evil.example#.localhost",
        "evil.example?.localhost",
        "evil.example\\.localhost",
        "localhost evil.example",
        "localhost\tx",
        "localhost,evil.example",
        "localhost:99999",
        "localhost:8080:1",
        "127.0.0.1.evil.example",
        "128.0.0.1",
        "10.0.0.1",
        "192.168.0.1",
        "0.0.0.0",
        "[::]",
        "[::2]",
        "::1",
        "[::ffff:127.0.0.1]",
        "%6cocalhost",
        "localhost..",
        ".localhost:x",
        "169.254.1.1",
        "null",
        "*",
    ] {
        assert_eq!(judged(&[host], &[], None), Err("host-not-allowed"), "{host}");
    }
    assert_eq!(judged(&[], &[], None), Err("host-not-allowed"));
}

#[test]
fn every_name_in_a_request_counts() {
    assert_eq!(judged(&["localhost", "evil.example"], &[], None), Err("host-not-allowed"));
    assert_eq!(judged(&["evil.example", "localhost"], &[], None), Err("host-not-allowed"));
    assert_eq!(judged(&["localhost"], &[], Some("evil.example")), Err("host-not-allowed"));
    assert_eq!(judged(&["evil.example"], &[], Some("localhost")), Err("host-not-allowed"));
    assert_eq!(judged(&["localhost"], &[], Some("user@localhost")), Err("host-not-allowed"));
    assert_eq!(judged(&["localhost"], &[], Some("127.0.0.1:8080")), Ok(false));
}

#[test]
fn only_pages_of_this_machine_and_allowed_ones_may_speak() {
    for origin in [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:3000",
        "http://127.0.0.1:3000",
        "http://[::1]:1",
        "http://app.localhost",
        "https://app.example",
        "HTTPS://APP.EXAMPLE",
        "https://app.example:443",
        "https://app.example:8443",
        "moz-extension://0a1b",
        "tauri://localhost",
    ] {
        assert_eq!(judged(&["localhost"], &[origin], None), Ok(true), "{origin}");
    }
    for origin in [
        "",
        "null",
        "NULL",
        "http://evil.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil.example",
        "https://sub.app.example",
        "https://evil.example:443/https://app.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://evil.example#localhost",
        "localhost",
        "http:localhost",
        "http:/localhost",
        "http://",
        "http://localhost http://evil.example",
        "moz-extension://0a1c",
        "tauri://localhos",
        "file://",
        "ftp://localhost",
        "http://localhost/",
        "https://app.example, https://app.example",
    ] {
        assert_eq!(judged(&["localhost"], &[origin], None), Err("origin-not-allowed"), "{origin}");
    }
    assert_eq!(judged(&["localhost"], &["http://localhost", "null"], None), Err("origin-not-allowed"));
    assert_eq!(judged(&["evil.example"], &["http://localhost"], None), Err("host-not-allowed"));
}

#[test]
fn null_cannot_be_allowed() {
    let allowed = Origins::new(&["null".to_owned(), "*".to_owned(), "app.example".to_owned()]);
    assert!(!allowed.allow(b"null") && !allowed.allow(b"http://app.example") && !allowed.allow(b"\xff"));
}

fn options() -> Options {
    Options { allowed_origins: vec!["https://app.example".to_owned()], ..Options::default() }
}

#[actix_web::test]
async fn pages_that_may_speak_can_read_answers_and_errors() {
    let state = state_with(options());
    for (uri, status) in
        [("/v1/status", 200), ("/v1/status?x=1", 400), ("/absent", 404), ("/v1/events?from=x", 400)]
    {
        let answer = call(&state, request("GET", uri).insert_header((ORIGIN, "https://app.example"))).await;
        assert_eq!(answer.status, status, "{uri}");
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("https://app.example"), "{uri}");
        assert_eq!(answer.header(VARY), Some("Origin"), "{uri}");
        assert!(answer.header(ACCESS_CONTROL_EXPOSE_HEADERS).is_some(), "{uri}");
    }
    let without = call(&state, request("GET", "/v1/status")).await;
    assert_eq!((without.status, without.header(ACCESS_CONTROL_ALLOW_ORIGIN)), (200, None));
}

#[actix_web::test]
async fn preflights_are_judged_and_told() {
    let state = state_with(options());
    let preflight = |origin: &str| {
        request("OPTIONS", "/v1/topics/a/events")
            .insert_header((ORIGIN, origin))
            .insert_header(("access-control-request-method", "POST"))
            .insert_header((REQUEST_PRIVATE_NETWORK, "true"))
    };
    let told = call(&state, preflight("http://localhost:3000")).await;
    assert_eq!(told.status, 204);
    assert_eq!(told.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("http://localhost:3000"));
    assert_eq!(told.header(ACCESS_CONTROL_ALLOW_METHODS), Some("GET, HEAD, POST, OPTIONS"));
    assert_eq!(told.header(ALLOW_PRIVATE_NETWORK), Some("true"));
    assert_eq!(told.header(ACCESS_CONTROL_MAX_AGE), Some("600"));
    let headers = told.header(ACCESS_CONTROL_ALLOW_HEADERS).unwrap();
    let names: Vec<&str> = headers.split(", ").collect();
    for name in [
        "last-event-id",
        "authorization",
        "cache-control",
        "content-type",
        "idempotency-key",
        "perennial-expected-id",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    for origin in ["null", "https://evil.example"] {
        let refused = call(&state, preflight(origin)).await;
        assert_eq!(refused.refusal(), (403, "origin-not-allowed".to_owned()));
        assert_eq!(refused.header(ACCESS_CONTROL_ALLOW_ORIGIN), None);
    }
    let foreign = call(&state, preflight("http://localhost").insert_header((HOST, "evil.example"))).await;
    assert_eq!(foreign.refusal().0, 403);
}

#[actix_web::test]
async fn a_foreign_page_publishes_nothing() {
    let state = state_with(options());
    let publish =
        |origin| request("POST", "/v1/topics/a/events").insert_header((ORIGIN, origin)).set_payload("x");
    assert_eq!(call(&state, publish("https://evil.example")).await.refusal().0, 403);
    assert_eq!(state.broker.log().bounds().events, 0);
    assert_eq!(call(&state, publish("https://app.example")).await.status, 201);
    let open = call(&state, request("GET", OPEN_PATH).insert_header((ORIGIN, "https://evil.example"))).await;
    assert_eq!((open.status, open.header(ACCESS_CONTROL_ALLOW_ORIGIN)), (200, None));
}

#[actix_web::test]
async fn everybody_is_told_that_the_broker_is_alive_and_pages_that_may_speak_can_read_it() {
    let state = state_with(options());
    for origin in ["http://localhost:3000", "https://app.example"] {
        let told = call(&state, request("GET", OPEN_PATH).insert_header((ORIGIN, origin))).await;
        assert_eq!((told.status, told.header(ACCESS_CONTROL_ALLOW_ORIGIN)), (200, Some(origin)));
        assert_eq!(told.header(VARY), Some("Origin"));
        let preflight = call(&state, request("OPTIONS", OPEN_PATH).insert_header((ORIGIN, origin))).await;
        assert_eq!((preflight.status, preflight.header(ACCESS_CONTROL_ALLOW_ORIGIN)), (204, Some(origin)));
        assert_eq!(preflight.header(ACCESS_CONTROL_ALLOW_METHODS), Some("GET, HEAD, OPTIONS"));
    }
    for (host, origin) in
        [("localhost", "https://evil.example"), ("localhost", "null"), ("evil.example", "http://localhost")]
    {
        for (method, status) in [("GET", 200), ("OPTIONS", 204)] {
            let asked =
                request(method, OPEN_PATH).insert_header((HOST, host)).insert_header((ORIGIN, origin));
            let told = call(&state, asked).await;
            assert_eq!((told.status, told.header(ACCESS_CONTROL_ALLOW_ORIGIN)), (status, None), "{origin}");
        }
    }
}

#[actix_web::test]
async fn headers_of_our_own_that_a_page_asks_for_are_allowed() {
    let state = state_with(options());
    let usual = ALLOWED_HEADERS.join(", ");
    for (asked, told) in [
        (&["perennial-new"][..], format!("{usual}, perennial-new")),
        (
            &["Perennial-New,x-other , perennial-b", "perennial-c"],
            format!("{usual}, perennial-new, perennial-b, perennial-c"),
        ),
        (&["perennial-a,perennial-a, Perennial-Expected-Id"], format!("{usual}, perennial-a")),
        (&["perennial-a b, perennial-\u{e9}, perennial-(x), perennial-a;b, *, perennial"], usual.clone()),
        (&[], usual.clone()),
    ] {
        let preflight = request("OPTIONS", "/v1/events").insert_header((ORIGIN, "http://localhost"));
        let name = "access-control-request-headers";
        let preflight = asked.iter().fold(preflight, |request, value| {
            request.append_header((name, HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        });
        let answer = call(&state, preflight).await;
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_HEADERS), Some(told.as_str()), "{asked:?}");
    }
}
