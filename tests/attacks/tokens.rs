//! Forged, foreign, early and late tokens, tokens in the wrong place, and readers that come back with another one.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{assert_unharmed, assert_worthless, base64, powerful, publishing, unsigned};
use crate::harness::tokens::{
    Generated, SECRET, all_powerful, asking, bearing, claims, now, send_as, signed, signed_with, with,
};
use crate::harness::{Broker, Connection, Reader, Request};

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
