//! Addresses that answer with keys, or with whatever they are told.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{assert_worthless, powerful};
use crate::harness::tokens::{Generated, bearing, send_as, signed_with};
use crate::harness::{Broker, Connection, Reader, Request};

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
