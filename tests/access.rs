//! Who may speak when there is no authentication: loopback hosts, loopback origins, and those that were allowed.

use crate::harness::{Broker, Reader, Request};

/// Every kind of path; all but `/healthz` follow the rule, those that do not exist too.
const PATHS: [(&str, &str); 10] = [
    ("GET", "/v1/events?topic=t&from=earliest"),
    ("GET", "/v1/topics/t/events"),
    ("POST", "/v1/topics/t/events"),
    ("POST", "/v1/events"),
    ("DELETE", "/v1/topics/t/keys/k"),
    ("GET", "/v1/topics"),
    ("GET", "/v1/topics/t"),
    ("GET", "/v1/status"),
    ("GET", "/readyz"),
    ("GET", "/v1/nothing/here"),
];

fn request(method: &str, path: &str) -> Request {
    let request = Request::new(method, path).header("Accept", "application/json");
    if method == "POST" {
        return request.header("Content-Type", "application/json").body("{\"topic\":\"t\",\"data\":1}");
    }
    request
}

fn assert_refused(broker: &Broker, with: impl Fn(Request) -> Request, what: &str) {
    for (method, path) in PATHS {
        let response = broker.send(&with(request(method, path)));
        assert_eq!(response.status, 403, "{what} on {method} {path}: {response}");
        response.problem(403);
        let preflight = Request::new("OPTIONS", path).header("Access-Control-Request-Method", method);
        assert_eq!(broker.send(&with(preflight)).status, 403, "{what} on OPTIONS {path}");
    }
    assert_eq!(broker.send(&with(Request::new("GET", "/healthz"))).status, 200, "{what} on /healthz");
    assert!(broker.envelopes("topic=**").is_empty(), "{what} has published");
}

fn assert_admitted(broker: &Broker, with: impl Fn(Request) -> Request, what: &str) {
    for (method, path) in PATHS {
        let response = broker.send(&with(request(method, path)));
        assert_ne!(response.status, 403, "{what} on {method} {path}: {response}");
    }
    assert_eq!(broker.send(&with(Request::new("GET", "/v1/status"))).status, 200);
}

#[test]
fn only_loopback_hosts_are_served() {
    let broker = Broker::start();
    let port = broker.port();
    let foreign = [
        "example.com",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "10.0.0.1",
        "0.0.0.0",
        "192.168.1.1:8080",
        "[::]",
        "[fe80::1]",
        "notlocalhost",
        "localhost.",
        "1270.0.1",
        "[::ffff:10.0.0.1]",
    ];
    // Whether a name with a final dot is loopback may be decided either way, so it is left out.
    for host in foreign.into_iter().filter(|host| *host != "localhost.") {
        assert_refused(&broker, |r| r.header("Host", host), host);
        let with_port = format!("{}:{port}", host.split(":8080").next().unwrap());
        assert_refused(&broker, |r| r.header("Host", &with_port), &with_port);
    }
    for host in ["localhost", "LocalHost", "127.0.0.1", "[::1]", "127.0.0.2"] {
        assert_admitted(&broker, |r| r.header("Host", host), host);
        let with_port = format!("{host}:{port}");
        assert_admitted(&broker, |r| r.header("Host", &with_port), &with_port);
    }
}

#[test]
fn a_request_without_one_clear_host_is_refused() {
    let broker = Broker::start();
    for head in [
        "GET /v1/status HTTP/1.1\r\n\r\n",
        "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nHost: example.com\r\n\r\n",
        "GET /v1/status HTTP/1.1\r\nHost: \r\n\r\n",
        "GET http://example.com/v1/status HTTP/1.1\r\nHost: example.com\r\n\r\n",
    ] {
        let mut connection = crate::harness::Connection::open(broker.port());
        connection.send(head.as_bytes());
        let response = connection.response(false);
        assert!(matches!(response.status, 400 | 403), "{head:?}: {response}");
    }
}

#[test]
fn only_loopback_origins_are_served() {
    let broker = Broker::start();
    let foreign = [
        "null",
        "http://example.com",
        "https://example.com:8080",
        "http://localhost.evil.com",
        "http://127.0.0.1.evil.com",
        "http://evil.com/localhost",
        "http://localhost@evil.com",
        "file://",
        "http://10.0.0.1",
        "http://0.0.0.0:8080",
        "localhost.evil.com",
        "chrome-extension://abc",
        "http://evillocalhost",
    ];
    for origin in foreign {
        assert_refused(&broker, |r| r.header("Origin", origin), origin);
    }
    for origin in [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:8443",
        "http://127.0.0.1:5173",
        "http://[::1]:3000",
    ] {
        assert_admitted(&broker, |r| r.header("Origin", origin), origin);
    }
}

#[test]
fn origins_that_are_allowed_are_served_and_those_that_look_like_them_are_not() {
    let broker =
        Broker::with(&["--set", "allowed_origins=https://app.example.com,http://other.example:8080"]);
    let foreign = [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.com",
        "https://evil-app.example.com",
        "https://example.com",
        "http://other.example",
        "http://other.example:80801",
        "null",
        "*",
    ];
    for origin in foreign {
        assert_refused(&broker, |r| r.header("Origin", origin), origin);
    }
    for origin in ["https://app.example.com", "http://other.example:8080", "http://localhost:3000"] {
        assert_admitted(&broker, |r| r.header("Origin", origin), origin);
        let response = broker.send(&Request::page("/v1/topics/t/events").header("Origin", origin));
        assert_eq!(response.header("access-control-allow-origin"), Some(origin));
    }
    // An allowed origin does not make a foreign host loopback.
    assert_eq!(
        broker
            .send(
                &Request::new("GET", "/v1/status")
                    .header("Host", "evil.com")
                    .header("Origin", "https://app.example.com")
            )
            .status,
        403
    );
}

#[test]
fn answers_to_a_page_carry_cors_headers_errors_too() {
    let broker = Broker::start();
    let origin = "http://localhost:3000";
    for (method, path) in PATHS {
        let response = broker.send(&request(method, path).header("Origin", origin));
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some(origin),
            "{method} {path}: {response}"
        );
    }
    let refused = broker.send(&Request::page("/v1/topics/t/events?typo=1").header("Origin", origin));
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (400, Some(origin)));
    let reader = Reader::open_with(&broker, "/v1/topics/t/events", &[("Origin", origin)]);
    assert_eq!(reader.head.header("access-control-allow-origin"), Some(origin));
    let without = broker.send(&Request::page("/v1/status"));
    assert!(without.header("access-control-allow-origin").is_none_or(|value| value == "*"), "{without}");
}

#[test]
fn a_preflight_allows_what_clients_send() {
    let broker = Broker::start();
    let wanted = [
        "last-event-id",
        "authorization",
        "cache-control",
        "content-type",
        "idempotency-key",
        "perennial-expected-id",
        "perennial-something-new",
    ];
    for (method, path) in [
        ("GET", "/v1/events?topic=t"),
        ("POST", "/v1/topics/t/events"),
        ("DELETE", "/v1/topics/t/keys/k"),
        ("POST", "/v1/events"),
    ] {
        let preflight = Request::new("OPTIONS", path)
            .header("Origin", "http://localhost:3000")
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", wanted.join(", "));
        let response = broker.send(&preflight);
        assert_eq!(response.status, 204, "{response}");
        assert_eq!(response.header("access-control-allow-origin"), Some("http://localhost:3000"));
        let list = |name: &str| -> Vec<String> {
            let text = response.header(name).unwrap_or_default().to_ascii_lowercase();
            text.split(',').map(|item| item.trim().to_owned()).collect()
        };
        let headers = list("access-control-allow-headers");
        assert!(wanted.iter().all(|name| headers.iter().any(|header| header == name)), "{headers:?}");
        assert!(list("access-control-allow-methods").contains(&method.to_ascii_lowercase()), "{response}");
        assert!(list("allow").contains(&method.to_ascii_lowercase()), "{response}");
    }
}

#[test]
fn pages_that_may_speak_can_read_whether_the_broker_is_alive_and_nobody_is_refused() {
    let broker = Broker::start();
    for (origin, told) in
        [("http://localhost:3000", Some("http://localhost:3000")), ("http://evil.com", None)]
    {
        for (method, status) in [("GET", 200), ("OPTIONS", 204)] {
            let response = broker.send(&Request::new(method, "/healthz").header("Origin", origin));
            assert_eq!(
                (response.status, response.header("access-control-allow-origin")),
                (status, told),
                "{response}"
            );
        }
    }
}
