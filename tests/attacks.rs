//! Attacks: each is refused with the right answer, publishes nothing and reads nothing, and an honest client is served
//! meanwhile.

/// Slow clients by the thousand, and connections without end.
mod floods;
/// Addresses that answer with keys, or with whatever they are told.
mod keys;
/// Pages of other sites, with the cookie of their visitor.
mod pages;
/// Requests with two readings, names like paths, forged lines of a log.
mod requests;
/// Forged, foreign, early and late tokens, and tokens in the wrong place.
mod tokens;

use serde_json::{Value, json};

use crate::harness::tokens::{all_powerful, bearing, claims, send_as};
use crate::harness::{Broker, Request, Response};

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
