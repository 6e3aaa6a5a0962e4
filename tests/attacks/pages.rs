//! Pages of other sites that lend themselves a cookie, and names that were bound to this machine.

use super::assert_unharmed;
use crate::harness::tokens::{all_powerful, asking, bearing, claims, signed};
use crate::harness::{Broker, Connection, Request, Response};

#[test]
fn a_token_that_a_client_chose_goes_before_its_cookie() {
    let broker = asking(&[]);
    let (few, all) = (signed(&claims("few", &[], &["a"], false)), all_powerful());
    let status = |header: Option<&str>, cookies: &[String]| {
        let mut request = Request::page("/v1/status");
        if let Some(token) = header {
            request = bearing(request, token);
        }
        broker.send(&cookies.iter().fold(request, |request, cookie| request.header("Cookie", cookie))).status
    };
    let cookie = |token: &str| format!("theme=dark; __Host-perennial={token}; x=y");
    assert_eq!(status(None, &[cookie(&all)]), 200);
    assert_eq!(status(None, &[cookie(&few)]), 403);
    assert_eq!(status(Some(&few), &[cookie(&all)]), 403);
    assert_eq!(status(Some(&all), &[cookie(&few)]), 200);
    assert_eq!(status(Some("bad"), &[cookie(&all)]), 401, "a bad token is not made good by a cookie");
    assert_eq!(status(None, &[cookie(&all), cookie(&few)]), 400);
    assert_eq!(status(None, &[format!("{}; {}", cookie(&few), cookie(&all))]), 400);
    for name in
        ["perennial", "__host-perennial", "__Host-Perennial", "__Secure-perennial", " __Host-perennialx"]
    {
        assert_eq!(status(None, &[format!("{name}={all}")]), 401, "{name}");
    }
}

/// Sends a request with the cookie of somebody who may do everything, as a page of an origin makes a browser do it.
fn send_with_cookie(
    broker: &Broker,
    method: &str,
    path: &str,
    origin: Option<&str>,
    more: &[(&str, &str)],
) -> Response {
    let cookie = format!("__Host-perennial={}", all_powerful());
    let request = Request::new(method, path).header("Cookie", &cookie).header("Accept", "application/json");
    let request = origin.into_iter().fold(request, |request, origin| request.header("Origin", origin));
    let request = more.iter().fold(request, |request, (name, value)| request.header(name, value));
    broker.send(&if method == "GET" { request } else { request.body("forged") })
}

#[test]
fn no_page_of_another_origin_changes_anything_with_a_cookie() {
    let broker = asking(&["--set", "allowed_origins=https://app.example.com"]);
    let cookie = format!("__Host-perennial={}", all_powerful());
    let send = |method: &str, path: &str, origin: Option<&str>, more: &[(&str, &str)]| {
        send_with_cookie(&broker, method, path, origin, more)
    };
    let changes = [
        ("POST", "/v1/topics/a/events"),
        ("POST", "/v1/events"),
        ("DELETE", "/v1/topics/a/keys/k"),
        ("DELETE", "/v1/topics/a"),
        ("PUT", "/v1/policies/a"),
        ("POST", "/v1/revocations"),
        ("DELETE", "/v1/connections/0"),
    ];
    let foreign = [
        "https://evil.example",
        "null",
        "http://app.example.com",
        "https://app.example.com.evil.example",
        "http://localhost.evil.example",
        "https://127.0.0.1.evil.example",
        "",
    ];
    let host = format!("127.0.0.1:{}", broker.port());
    let others: Vec<String> =
        vec!["http://127.0.0.1:1".to_owned(), "http://localhost:3000".to_owned(), format!("{host}")];
    for (method, path) in changes {
        for origin in foreign.into_iter().chain(others.iter().map(String::as_str)) {
            let response = send(method, path, Some(origin), &[("Content-Type", "text/plain")]);
            assert_eq!(response.status, 403, "{method} {path} {origin:?}: {response}");
            assert_eq!(response.header("access-control-allow-origin"), None, "{origin}");
        }
        assert_eq!(send(method, path, None, &[]).status, 403, "{method} {path} without an origin");
    }
    for origin in foreign {
        assert_eq!(send("GET", "/v1/topics", Some(origin), &[]).status, 403, "{origin} may not read either");
        let preflight = Request::new("OPTIONS", "/v1/events").header("Origin", origin);
        assert_eq!(
            broker.send(&preflight.header("Access-Control-Request-Method", "POST")).status,
            403,
            "{origin}"
        );
    }
    assert_unharmed(&broker);
    // A name that was rebound to our address is a page of that host for the browser, which has no cookie of ours there.
    let rebound = Request::new("POST", "/v1/topics/a/events").header("Host", "evil.example").body("forged");
    assert_eq!(broker.send(&rebound.clone().header("Origin", "http://evil.example")).status, 401);
    assert_eq!(
        broker.send(&rebound.header("Origin", "http://evil.example").header("Cookie", &cookie)).status,
        403
    );
}

#[test]
fn its_own_pages_and_allowed_ones_may_use_the_cookie() {
    let broker = asking(&["--set", "allowed_origins=https://app.example.com"]);
    let host = format!("127.0.0.1:{}", broker.port());
    let send = |method: &str, path: &str, origin: Option<&str>, more: &[(&str, &str)]| {
        send_with_cookie(&broker, method, path, origin, more)
    };
    // Over TLS that ends before the broker, or on this machine.
    assert_eq!(send("POST", "/v1/topics/a/events", Some(&format!("http://{host}")), &[]).status, 201);
    assert_eq!(
        send("POST", "/v1/topics/a/events", Some("https://b.example"), &[("Host", "b.example")]).status,
        201
    );
    assert_eq!(
        send("POST", "/v1/topics/a/events", Some("http://b.example"), &[("Host", "b.example")]).status,
        403
    );
    let allowed = send("POST", "/v1/topics/a/events", Some("https://app.example.com"), &[]);
    assert_eq!(allowed.status, 201);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(allowed.header("access-control-allow-credentials"), Some("true"));
    // A refusal can be read by the page that it is for.
    let refused = Request::page("/v1/status").header("Origin", "https://app.example.com");
    let refused = broker.send(&refused);
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some("https://app.example.com"))
    );
}

#[test]
fn a_request_without_one_clear_host_is_refused() {
    let broker = asking(&[]);
    let token = all_powerful();
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"] {
        let text = format!(
            "POST /v1/topics/a/events HTTP/1.1\r\n{hosts}Authorization: Bearer {token}\r\nContent-Length: 6\r\n\r\nforged"
        );
        let mut connection = Connection::open(broker.port());
        connection.send(text.as_bytes());
        assert_eq!(connection.response(false).status, 400, "{hosts:?}");
    }
    assert_unharmed(&broker);
}
