//! Attacks on the authentication: each is refused with the right answer, publishes nothing and reads nothing, and an honest
//! client is served meanwhile.

/// Slow clients by the thousand, and connections without end.
mod floods;
/// Requests with two readings, names like paths, forged lines of a log.
mod requests;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::harness::tokens::{
    Generated, SECRET, all_powerful, asking, bearing, claims, now, send_as, signed, signed_with, with,
};
use crate::harness::{Broker, Connection, Reader, Request, Response};

const POWER: (&[&str], &[&str]) = (&["**"], &["**"]);

fn powerful() -> Value {
    claims("mallory", POWER.0, POWER.1, true)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number =
            three.iter().fold(0_u32, |n, byte| (n << 8) | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            text.push(char::from(DIGITS[(number >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

/// A token without a signature, or with any text in its place.
fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| base64(value.to_string().as_bytes());
    format!("{}.{}.{signature}", part(header), part(claims))
}

/// What a request is that publishes, as both sides of a broker read it: the one for the simplest requests, and the other.
fn publishing(headers: &[(&str, &str)]) -> [Request; 2] {
    let add = |request: Request, (name, value): &(&str, &str)| request.header(name, value);
    let simple = headers.iter().fold(Request::new("POST", "/v1/topics/a/events").body("forged"), add);
    [simple.clone(), simple.header("TE", "trailers")]
}

/// That a token opens nothing.
fn assert_worthless(broker: &Broker, token: &str, what: &str) {
    let header = format!("Bearer {token}");
    for request in publishing(&[("Authorization", &header)]) {
        assert_unauthorized(&broker.send(&request), what);
    }
    for path in ["/v1/topics/a/events?from=earliest", "/v1/status", "/v1/events?topic=**", "/v1/export"] {
        assert_unauthorized(&send_as(broker, token, "GET", path), what);
    }
    let cookie = format!("__Host-perennial={token}");
    assert_unauthorized(&broker.send(&Request::page("/v1/status").header("Cookie", &cookie)), what);
}

fn assert_unauthorized(response: &Response, what: &str) {
    assert_eq!(response.status, 401, "{what}: {response}");
    response.problem(401);
    let challenge = response.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("error=\"invalid_token\""), "{what}: {response}");
}

/// That nothing was published, and that an honest client is served.
fn assert_unharmed(broker: &Broker) {
    let root = all_powerful();
    let page = send_as(broker, &root, "GET", "/v1/events?topic=**&from=earliest").json();
    assert_eq!(page["events"], json!([]), "something was published");
    let honest = Request::new("POST", "/v1/topics/honest/events").body("x");
    assert_eq!(broker.send(&bearing(honest, &root)).status, 201);
}

#[test]
fn tokens_without_a_good_signature_are_worthless() {
    let broker = asking(&[]);
    let good = signed(&powerful());
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256"] {
        for signature in ["", "AAAA", good.rsplit('.').next().unwrap()] {
            let token = unsigned(&json!({ "alg": alg, "typ": "JWT" }), &powerful(), signature);
            assert_worthless(&broker, &token, &format!("alg {alg:?}"));
        }
    }
    for header in [json!({}), json!([]), json!(null), json!({ "alg": null }), json!({ "alg": ["HS256"] })] {
        assert_worthless(&broker, &unsigned(&header, &powerful(), "AAAA"), &header.to_string());
    }
    let mut parts = good.split('.');
    let (header, payload, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let wider = base64(with(powerful(), "sub", json!("root")).to_string().as_bytes());
    for (what, token) in [
        ("other claims", format!("{header}.{wider}.{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("two parts", format!("{header}.{payload}")),
        ("one part", header.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", format!("{header}.{payload}.{header}.{payload}.{signature}")),
        ("an empty payload", format!("{header}..{signature}")),
        ("a cut signature", good[..good.len() - 5].to_owned()),
        ("a longer signature", format!("{good}AAAA")),
        ("padding", format!("{good}=")),
        (
            "another secret",
            signed_with(&Header::default(), &powerful(), &EncodingKey::from_secret(b"another")),
        ),
        ("an empty secret", signed_with(&Header::default(), &powerful(), &EncodingKey::from_secret(b""))),
        (
            "another hash",
            signed_with(
                &Header::new(Algorithm::HS512),
                &powerful(),
                &EncodingKey::from_secret(SECRET.as_bytes()),
            ),
        ),
    ] {
        assert_worthless(&broker, &token, what);
    }
    for place in (0..good.len()).step_by(7) {
        let mut changed = good.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        assert_worthless(&broker, std::str::from_utf8(&changed).unwrap(), &format!("changed at {place}"));
    }
    assert_unharmed(&broker);
}

#[test]
fn a_public_key_is_no_secret() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let key = Generated::new(algorithm);
        let broker = Broker::with(&["--set", &format!("auth_keys={}", key.public_path())]);
        let der: Vec<u8> =
            key.public.lines().filter(|line| !line.starts_with('-')).flat_map(str::bytes).collect();
        for (what, secret) in [
            ("the file", key.public.clone().into_bytes()),
            ("the file without its last line end", key.public.trim_end().as_bytes().to_vec()),
            ("its middle", der),
        ] {
            for hash in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let token = signed_with(&Header::new(hash), &powerful(), &EncodingKey::from_secret(&secret));
                assert_worthless(&broker, &token, &format!("{algorithm} {what} {hash:?}"));
            }
        }
        // The key's own tokens are good, and only with its own algorithm in their header.
        let private = key.private();
        let signing = match algorithm {
            "RS256" => EncodingKey::from_rsa_pem(&private),
            "ES256" => EncodingKey::from_ec_pem(&private),
            _ => EncodingKey::from_ed_pem(&private),
        };
        let signing = signing.unwrap();
        let right: Algorithm = algorithm.parse().unwrap();
        let good = signed_with(&Header::new(right), &powerful(), &signing);
        assert_eq!(send_as(&broker, &good, "GET", "/v1/status").status, 200, "{algorithm}");
        if algorithm == "RS256" {
            for other in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
                assert_worthless(
                    &broker,
                    &signed_with(&Header::new(other), &powerful(), &signing),
                    "another RSA",
                );
            }
        }
        let inside: Value =
            json!({ "alg": algorithm, "jwk": { "kty": "oct", "k": "AAAA" }, "jku": "http://127.0.0.1:1/" });
        assert_worthless(&broker, &unsigned(&inside, &powerful(), "AAAA"), "a key inside of the token");
    }
}

#[test]
fn tokens_of_another_time_place_or_maker_are_worthless() {
    let broker = asking(&[
        "--set",
        "auth_audience=perennial,other-name",
        "--set",
        "auth_issuer=https://issuer.example",
    ]);
    let whole = || {
        let claims = with(powerful(), "aud", json!("perennial"));
        with(claims, "iss", json!("https://issuer.example"))
    };
    let code = |claims: Value| {
        let response = send_as(&broker, &signed(&claims), "GET", "/v1/status");
        match response.status {
            200 => "good".to_owned(),
            status => {
                let problem = response.problem(status);
                format!(
                    "{status} {} {}",
                    problem["code"].as_str().unwrap(),
                    problem["claim"].as_str().unwrap_or("-")
                )
            }
        }
    };
    assert_eq!(code(whole()), "good");
    assert_eq!(code(with(whole(), "aud", json!(["x", "other-name"]))), "good");
    for (name, value, expected) in [
        ("exp", json!(now() - 1), "401 token-expired exp"),
        ("exp", json!(0), "401 token-expired exp"),
        ("exp", json!(null), "401 invalid-token exp"),
        ("exp", json!("9999999999"), "401 invalid-token exp"),
        ("exp", json!(-1), "401 invalid-token exp"),
        ("exp", json!(1e300), "401 invalid-token exp"),
        ("nbf", json!(now() + 50), "401 invalid-token nbf"),
        ("nbf", json!("0"), "401 invalid-token nbf"),
        ("aud", json!("Perennial"), "401 invalid-token aud"),
        ("aud", json!(["perennial2"]), "401 invalid-token aud"),
        ("aud", json!(null), "401 invalid-token aud"),
        ("aud", json!({ "perennial": 1 }), "401 invalid-token aud"),
        ("iss", json!("https://issuer.example/"), "401 invalid-token iss"),
        ("iss", json!(null), "401 invalid-token iss"),
        ("sub", json!("a\nb"), "401 invalid-token sub"),
        ("perennial", json!({ "publish": ["**"], "Admin": true }), "401 invalid-token perennial"),
        ("perennial", json!({ "subscribe": ["a..b"] }), "401 invalid-token perennial.subscribe"),
        ("perennial", json!(null), "403 missing-grant perennial.admin"),
    ] {
        assert_eq!(code(with(whole(), name, value.clone())), expected, "{name} {value}");
    }
    // What is for somebody else is not for a broker without a name either.
    let unnamed = asking(&[]);
    assert_worthless(
        &unnamed,
        &signed(&with(powerful(), "aud", json!("other"))),
        "a token for somebody else",
    );
    assert_unharmed(&unnamed);
}

#[test]
fn huge_and_strange_tokens_are_refused_before_they_are_read() {
    let broker = asking(&[]);
    for length in [8_193, 20_000, 60_000] {
        let token = format!("eyJhbGciOiJIUzI1NiJ9.{}.AAAA", "A".repeat(length - 26));
        let response = broker.send(&bearing(Request::page("/v1/status"), &token));
        // The largest may be more than a head may have.
        assert!(matches!(response.status, 400 | 401 | 431), "{length}: {response}");
    }
    let many: Vec<String> = (0..500).map(|n| format!("topic.{n}.*")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let large = signed(&claims("a", &many, &[], false));
    assert_eq!(large.len() > 8_192, send_as(&broker, &large, "GET", "/v1/topics/a").status == 401);
    let deep = format!("{{\"exp\":{}1{}}}", "[".repeat(3_000), "]".repeat(3_000));
    let token = format!("{}.{}.AAAA", base64(b"{\"alg\":\"HS256\"}"), base64(deep.as_bytes()));
    assert_worthless(&broker, &token, "deep JSON");
    let header = format!("{{\"alg\":\"HS256\",\"x\":{}1{}}}", "[".repeat(2_000), "]".repeat(2_000));
    let token = format!("{}.{}.AAAA", base64(header.as_bytes()), base64(b"{}"));
    assert_worthless(&broker, &token, "a deep header");
    for crit in [json!(["exp"]), json!([]), json!(["b64"])] {
        let header = Header { crit: serde_json::from_value(crit).unwrap(), ..Header::default() };
        let token = signed_with(&header, &powerful(), &EncodingKey::from_secret(SECRET.as_bytes()));
        assert_worthless(&broker, &token, "crit");
    }
    assert_unharmed(&broker);
}

#[test]
fn a_token_counts_only_where_it_belongs_and_once() {
    let broker = asking(&[]);
    let (good, other) = (all_powerful(), signed(&claims("other", &["**"], &["**"], true)));
    let bearer = format!("Bearer {good}");
    let listed = format!("Bearer {good}, Bearer {other}");
    let twice = format!("Bearer {good} {other}");
    let basic = format!("Basic {good}");
    let token = format!("Token {good}");
    for (headers, statuses) in [
        (vec![("Authorization", &*bearer), ("Authorization", &*bearer)], &[400][..]),
        (vec![("Authorization", &bearer), ("authorization", "Bearer x")], &[400]),
        (vec![("Authorization", &listed)], &[401]),
        (vec![("Authorization", &twice)], &[401]),
        (vec![("Authorization", &basic)], &[401]),
        (vec![("Authorization", &token)], &[401]),
        (vec![("Authorization", &good)], &[401]),
        (vec![("Authorization", "Bearer")], &[401]),
        (vec![("Authorization", "Bearer ")], &[401]),
        (vec![("Authorization", "")], &[401]),
        (vec![("Proxy-Authorization", &bearer)], &[401]),
        (vec![("X-Authorization", &bearer)], &[401]),
        (vec![("X-Forwarded-User", "root")], &[401]),
        (vec![("Authorization-", &bearer)], &[401]),
    ] {
        for request in publishing(&headers) {
            let response = broker.send(&request);
            assert!(statuses.contains(&response.status), "{headers:?}: {response}");
        }
    }
    for query in [format!("access_token={good}"), format!("access%5Ftoken={good}"), format!("token={good}")] {
        let response = broker.send(&Request::page(&format!("/v1/topics/a/events?{query}")));
        assert!(matches!(response.status, 400 | 401), "{query}: {response}");
        let post = broker.send(&Request::new("POST", &format!("/v1/topics/a/events?{query}")).body("x"));
        assert!(matches!(post.status, 400 | 401), "{query}: {post}");
    }
    // Not as a header that is folded, or that hides behind another.
    for head in [
        format!("Authorization:\r\n {bearer}\r\n"),
        format!("Authorization : {bearer}\r\n"),
        format!("X: y\rAuthorization: {bearer}\r\n"),
        format!("X: y\nAuthorization: {bearer}\r\n"),
    ] {
        let text =
            format!("POST /v1/topics/a/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{head}\r\nx");
        let mut connection = Connection::open(broker.port());
        connection.send(text.as_bytes());
        let status = connection.try_head(false).map(|head| head.status);
        let published = matches!(status, Ok(200..300));
        // A line that ends with LF alone ends all the same (RFC 9112, 2.2): that one is a header of its own.
        assert!(!published || head.starts_with("X: y\n"), "{head:?}: {status:?}");
    }
    let forms = asking(&["--set", "auth_query_token=true"]);
    let path = "/v1/topics/a/events?from=earliest";
    let with_query = |query: &str| forms.send(&Request::page(&format!("{path}{query}"))).status;
    assert_eq!(with_query(&format!("&access_token={good}")), 200);
    assert_eq!(with_query(&format!("&access%5ftoken={good}")), 200);
    assert_eq!(with_query(&format!("&access_token={good}&access_token={good}")), 400);
    assert_eq!(with_query("&access_token=bad"), 401);
    assert_eq!(with_query("&access_token="), 401);
    let both = Request::page(&format!("{path}&access_token={good}"));
    assert_eq!(forms.send(&bearing(both, &good)).status, 400);
    let published =
        Request::new("POST", &format!("/v1/topics/b/events?type=t&access_token={good}")).body("x");
    assert_eq!(forms.send(&published).status, 201);
}

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

/// A reader that comes back as somebody else gets what that one may read, whatever cursor it has.
#[test]
fn anothers_topics_cannot_be_replayed_after_a_change_of_tokens() {
    let broker = asking(&[]);
    let root = all_powerful();
    for topic in ["alice.inbox", "bob.inbox"] {
        let request = Request::new("POST", &format!("/v1/topics/{topic}/events")).body(topic);
        assert_eq!(broker.send(&bearing(request, &root)).status, 201);
    }
    let token = |subject: &str| signed(&claims(subject, &[], &[&format!("{subject}.*")], false));
    let open = |token: &str, topic: &str, id: &str| {
        let request = Request::new("GET", &format!("/v1/events?topic={topic}"))
            .header("Accept", "text/event-stream")
            .header("Last-Event-ID", id);
        bearing(request, token)
    };
    let mut alice = Reader::open_request(&broker, &open(&token("alice"), "alice.*", "0"));
    assert_eq!(alice.collect(1)[0].data, "alice.inbox");
    for (topic, id) in
        [("bob.*", "0"), ("bob.inbox", "0"), ("**", alice.last_event_id()), ("alice.*&topic=bob.*", "0")]
    {
        assert_eq!(broker.send(&open(&token("alice"), topic, id)).status, 403, "{topic}");
    }
    assert_eq!(broker.send(&open(&token("bob"), "alice.*", alice.last_event_id())).status, 403);
    let mut bob = Reader::open_request(&broker, &open(&token("bob"), "bob.*", "0"));
    assert_eq!(bob.collect(1)[0].data, "bob.inbox");
    // On one connection, one after the other: what was found good for one is not taken for the next.
    let mut connection = Connection::open(broker.port());
    let publish = |token: &str| bearing(Request::new("POST", "/v1/topics/a/events").body("x"), token);
    let may = signed(&claims("may", &["a"], &[], false));
    let may_not = signed(&claims("may-not", &["b"], &[], false));
    for (token, status) in [(&may, 201), (&may_not, 403)] {
        assert_eq!(connection.exchange(&publish(token)).status, status);
    }
    let mut connection = Connection::open(broker.port());
    assert_eq!(connection.exchange(&publish(&may)).status, 201);
    assert_eq!(connection.exchange(&Request::new("POST", "/v1/topics/a/events").body("x")).status, 401);
}

#[test]
fn a_token_that_ends_on_an_open_connection_publishes_no_more() {
    let broker = asking(&[]);
    let token = signed(&with(claims("a", &["a"], &[], false), "exp", json!(now() + 2)));
    let mut connection = Connection::open(broker.port());
    let publish = bearing(Request::new("POST", "/v1/topics/a/events").body("x"), &token);
    let mut statuses = Vec::new();
    crate::harness::heavy::eventually("the token ends", std::time::Duration::from_secs(10), || {
        statuses.push(connection.exchange(&publish).status);
        statuses.last() == Some(&401)
    });
    assert_eq!(statuses[0], 201);
    assert!(statuses[..statuses.len() - 1].iter().all(|status| *status == 201), "{statuses:?}");
}

/// An address that answers with keys, or with whatever it is told.
struct KeyServer {
    port: u16,
    answer: Arc<Mutex<Option<(u16, String)>>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer: Arc<Mutex<Option<(u16, String)>>> = Arc::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let server = KeyServer { port, answer: Arc::clone(&answer), asked: Arc::clone(&asked) };
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                asked.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                // Without an answer the connection breaks.
                if let Some((status, body)) = answer.lock().unwrap().clone() {
                    let head = format!(
                        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all((head + &body).as_bytes());
                }
            }
        });
        server
    }

    fn set(&self, answer: Option<(u16, String)>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A key with a name, and a token that it signed.
fn named_key(id: &str) -> (Value, String) {
    let key = EncodingKey::from_ec_pem(&Generated::new("ES256").private()).unwrap();
    let mut jwk =
        serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap())
            .unwrap();
    jwk["kid"] = json!(id);
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
    (jwk, signed_with(&header, &powerful(), &key))
}

#[test]
fn keys_of_an_address_are_changed_and_kept_while_it_fails_and_not_asked_for_too_often() {
    let server = KeyServer::start();
    let set = |keys: &[&Value]| Some((200, json!({ "keys": keys }).to_string()));
    let (one, by_one) = named_key("one");
    let (two, by_two) = named_key("two");
    let (_, by_stranger) = named_key("two");
    server.set(None);
    let address = format!("auth_jwks=http://127.0.0.1:{}/keys", server.port);
    let broker =
        Broker::with(&["--set", &address, "--set", "auth_jwks_refresh=1h", "--set", "auth_jwks_floor=1s"]);
    let status = |token: &str| send_as(&broker, token, "GET", "/v1/status").status;
    let eventually = |what: &str, is: &dyn Fn() -> bool| {
        crate::harness::heavy::eventually(what, std::time::Duration::from_secs(20), is);
    };
    // As long as there is no key it cannot be known whether a token is good: what may pass must not kill an EventSource.
    assert_eq!(status(&by_one), 503);
    let header = format!("Bearer {by_one}");
    let mut reader = Reader::open_with(&broker, "/v1/topics/a/events", &[("Authorization", &header)]);
    assert_eq!(reader.expect("$closing").json()["reason"], "overloaded");
    server.set(set(&[&one]));
    eventually("the first key is known", &|| status(&by_one) == 200);
    assert_eq!(status(&by_two), 401);
    server.set(set(&[&two]));
    eventually("the second key is found out", &|| status(&by_two) == 200);
    assert_eq!(status(&by_one), 401, "a key that was taken away is good no longer");
    assert_worthless(&broker, &by_stranger, "a key that bears the name of another");
    // Nothing that the address says or does takes the last keys away.
    let huge = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300 << 10));
    for answer in [
        None,
        Some((500, String::new())),
        Some((302, String::new())),
        Some((200, "{".to_owned())),
        Some((200, huge)),
        set(&[]),
        set(&[&json!(7)]),
    ] {
        server.set(answer);
        let before = server.asked();
        eventually("it is asked again", &|| {
            status(&by_one);
            server.asked() > before + 1
        });
        assert_eq!(status(&by_two), 200);
    }
    let (begun, before) = (std::time::Instant::now(), server.asked());
    let mut connection = Connection::open(broker.port());
    for _ in 0..2_000 {
        let request = bearing(Request::page("/v1/status"), &by_one);
        assert_eq!(connection.exchange(&request).status, 401);
    }
    let fetches = (server.asked() - before) as f64;
    assert!(fetches <= begun.elapsed().as_secs_f64() + 2.0, "{fetches} in {:?}", begun.elapsed());
    server.set(set(&[&one, &two]));
    eventually("it goes on when the address answers again", &|| {
        status(&by_one) == 200 && status(&by_two) == 200
    });
}

#[test]
fn keys_are_fetched_only_by_ways_that_nobody_can_change() {
    for address in ["http://keys.example/", "ftp://keys.example/", "http://127.0.0.1.keys.example/"] {
        let setting = format!("auth_jwks={address}");
        let output = crate::harness::broker::command().args(["serve", "--set", &setting]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}: {output:?}");
    }
}
