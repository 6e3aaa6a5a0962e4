//! Tokens: what each allows and what none does, how streams end with them, revocations, and the commands that make them.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::broker::command;
use crate::harness::tokens::{
    Generated, SECRET, all_powerful, asking, bearing, claims, now, send_as, signed, with,
};
use crate::harness::{Broker, Reader, Request, Response};

/// Every kind of path that needs something, and the claim that it needs.
const PATHS: [(&str, &str, &str); 25] = [
    ("GET", "/v1/events?topic=mine.a", "perennial.subscribe"),
    ("GET", "/v1/events?topic=mine.a&topic=mine.b", "perennial.subscribe"),
    ("GET", "/v1/topics/mine.a/events", "perennial.subscribe"),
    ("HEAD", "/v1/topics/mine.a/events", "perennial.subscribe"),
    ("GET", "/v1/events/1", "perennial.subscribe"),
    ("GET", "/v1/topics", "perennial.subscribe"),
    ("GET", "/v1/topics/mine.a", "perennial.subscribe"),
    ("GET", "/v1/topics/unheard.of", "perennial.subscribe"),
    ("POST", "/v1/topics/mine.a/events", "perennial.publish"),
    ("POST", "/v1/events", "perennial.publish"),
    ("DELETE", "/v1/topics/mine.a/keys/k", "perennial.publish"),
    ("GET", "/v1/events?topic=$broker.**", "perennial.admin"),
    ("GET", "/v1/topics/$broker.policies/events", "perennial.admin"),
    ("DELETE", "/v1/topics/mine.a", "perennial.admin"),
    ("GET", "/v1/policies", "perennial.admin"),
    ("GET", "/v1/policies/a", "perennial.admin"),
    ("PUT", "/v1/policies/a", "perennial.admin"),
    ("DELETE", "/v1/policies/a", "perennial.admin"),
    ("GET", "/v1/connections", "perennial.admin"),
    ("DELETE", "/v1/connections/0", "perennial.admin"),
    ("GET", "/v1/revocations", "perennial.admin"),
    ("POST", "/v1/revocations", "perennial.admin"),
    ("GET", "/v1/status", "perennial.admin"),
    ("GET", "/metrics", "perennial.admin"),
    ("GET", "/v1/export", "perennial.admin"),
];

/// That it is refused with this status, and names the claim.
fn assert_refused(response: &Response, status: u16, claim: Option<&str>, what: &str) {
    assert_eq!(response.status, status, "{what}: {response}");
    let challenge = response.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer realm="), "{what}: {response}");
    if !response.body.is_empty() {
        assert_eq!(response.problem(status)["claim"].as_str(), claim, "{what}: {response}");
    }
}

fn publish_as(broker: &Broker, token: &str, topic: &str, data: &str) -> Response {
    let path = format!("/v1/topics/{topic}/events");
    broker.send(&bearing(Request::new("POST", &path).body(data), token))
}

fn open_as(broker: &Broker, token: &str, target: &str) -> Reader {
    Reader::open_with(broker, target, &[("Authorization", &format!("Bearer {token}"))])
}

#[test]
fn without_a_token_nothing_is_answered_but_whether_the_broker_is_there() {
    let broker = asking(&[]);
    for (method, path, claim) in PATHS {
        let request = Request::new(method, path);
        let request = if method == "POST" || method == "PUT" { request.body("x") } else { request };
        assert_refused(&broker.send(&request), 401, Some(claim), &format!("{method} {path}"));
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(broker.get(path).status, 200, "{path}");
        // A probe that was given a bad token, too.
        assert_eq!(broker.send(&bearing(Request::new("GET", path), "bad")).status, 200, "{path}");
    }
}

#[test]
fn a_token_allows_what_its_claims_say_and_nothing_else() {
    let broker = asking(&[]);
    let nothing = signed(&claims("nobody", &[], &[], false));
    for (method, path, claim) in PATHS {
        assert_refused(
            &send_as(&broker, &nothing, method, path),
            403,
            Some(claim),
            &format!("{method} {path}"),
        );
    }
    for said in [
        claims("a", &["mine.*"], &[], false),
        claims("a", &[], &["mine.*"], false),
        claims("a", &[], &[], true),
        claims("a", &["**"], &["**"], true),
    ] {
        let (token, may) = (signed(&said), &said["perennial"]);
        for (method, path, claim) in PATHS {
            let allowed = match claim {
                "perennial.publish" => may["publish"] != json!([]),
                "perennial.subscribe" if path.contains("unheard") => {
                    may["subscribe"] == json!(["**"]) || may["admin"] == json!(true)
                }
                "perennial.subscribe" if path.starts_with("/v1/topics") && !path.ends_with("/events") => {
                    may["subscribe"] != json!([]) || may["admin"] == json!(true)
                }
                "perennial.subscribe" => may["subscribe"] != json!([]),
                _ => may["admin"] == json!(true),
            };
            let status = send_as(&broker, &token, method, path).status;
            assert_eq!(status != 403 && status != 401, allowed, "{may}: {method} {path}: {status}");
        }
    }
}

#[test]
fn no_pattern_widens_what_a_token_allows() {
    let broker = asking(&[]);
    let token = signed(&claims("a", &["a.b"], &["a.b", "c.*"], false));
    for query in ["topic=a.b", "topic=c.*", "topic=c.x", "topic=a.b&topic=c.*", "topic=a.b&topic=a.b"] {
        let reader = open_as(&broker, &token, &format!("/v1/events?{query}"));
        assert!(reader.head.header("perennial-connection").is_some(), "{query}");
    }
    for accept in ["text/event-stream", "application/json", "application/x-ndjson"] {
        for query in [
            "topic=a.*",
            "topic=a.**",
            "topic=**",
            "topic=*.b",
            "topic=*",
            "topic=c.**",
            "topic=c",
            "topic=a",
            "topic=a.b.c",
            "topic=a.b&topic=**",
            "topic=$broker.**",
            "topic=a%2Eb%2E%2A",
            "topic=a.b&topic=a.*&from=earliest",
            "topic=c.*.d",
            "topic=A.b",
        ] {
            let request = Request::new("GET", &format!("/v1/events?{query}")).header("Accept", accept);
            let response = broker.send(&bearing(request.header("Last-Event-ID", "0"), &token));
            assert_eq!(response.status, 403, "{accept} {query}: {response}");
        }
    }
    for topic in ["a.c", "a", "a.b.c", "c.x", "$broker.policies"] {
        let status = publish_as(&broker, &token, topic, "x").status;
        assert!(status == 403 || (status == 400 && topic.starts_with('$')), "{topic}: {status}");
    }
    let batch = |lines: &str| {
        let request =
            Request::new("POST", "/v1/events").header("Content-Type", "application/x-ndjson").body(lines);
        broker.send(&bearing(request, &token))
    };
    let refused = batch("{\"topic\":\"a.b\",\"data\":1}\n\n{\"topic\":\"a.c\",\"data\":1}\n");
    assert_eq!((refused.status, refused.problem(403)["line"].as_u64()), (403, Some(3)), "{refused}");
    assert_eq!(batch("{\"topic\":\"a.b\",\"data\":1}\n").status, 201);
    let reader = Request::page("/v1/topics/a.b/events?from=earliest");
    let page = broker.send(&bearing(reader, &token)).json();
    assert_eq!(page["events"].as_array().unwrap().len(), 1, "nothing of the refused batch was published");
}

#[test]
fn what_somebody_may_not_read_cannot_be_told_from_what_is_not_there() {
    let broker = asking(&[]);
    let root = all_powerful();
    assert_eq!(publish_as(&broker, &root, "theirs.a", "x").status, 201);
    let token = signed(&claims("a", &[], &["mine.*"], false));
    let shown = |path: &str, name: &str| {
        let response = send_as(&broker, &token, "GET", path);
        (response.status, response.text().replace(name, "..."))
    };
    assert_eq!(shown("/v1/topics/theirs.a", "theirs.a"), shown("/v1/topics/theirs.b", "theirs.b"));
    assert_eq!(
        shown("/v1/topics/theirs.a/events", "theirs.a"),
        shown("/v1/topics/theirs.b/events", "theirs.b")
    );
    assert_eq!(shown("/v1/topics?pattern=**", "theirs"), (200, "{\"topics\":[]}".to_owned()));
    assert_eq!(send_as(&broker, &token, "GET", "/v1/events/1").status, 403);
    assert_eq!(publish_as(&broker, &root, "mine.a", "x").status, 201);
    let listed = send_as(&broker, &token, "GET", "/v1/topics").json();
    assert_eq!(listed["topics"].as_array().unwrap().len(), 1);
    let all = send_as(&broker, &root, "GET", "/v1/topics").json();
    assert_eq!(all["topics"].as_array().unwrap().len(), 2);
}

#[test]
fn named_patterns_can_be_read_by_everybody() {
    let broker = asking(&["--set", "auth_anonymous_subscribe=public.**,news"]);
    assert_eq!(publish_as(&broker, &all_powerful(), "public.a", "x").status, 201);
    assert_eq!(publish_as(&broker, &all_powerful(), "theirs", "x").status, 201);
    let mut reader = Reader::open(&broker, "/v1/events?topic=public.*&topic=news&from=earliest");
    assert_eq!(reader.collect(1)[0].data, "x");
    for query in ["topic=**", "topic=theirs", "topic=public", "topic=$broker.**"] {
        assert_eq!(broker.get(&format!("/v1/events?{query}")).status, 401, "{query}");
    }
    assert_eq!(broker.json("/v1/topics")["topics"].as_array().unwrap().len(), 1);
    assert_eq!(broker.post("/v1/topics/public.a/events", "x").status, 401);
    let token = signed(&claims("a", &[], &["theirs"], false));
    let mut both = open_as(&broker, &token, "/v1/events?topic=public.*&topic=theirs&from=earliest");
    assert_eq!(both.collect(2).len(), 2);
}

#[test]
fn a_stream_ends_with_its_token_and_its_reader_comes_back_with_another() {
    let broker = asking(&[]);
    let token = signed(&with(claims("alice", &[], &["a"], false), "exp", json!(now() + 2)));
    let mut reader = open_as(&broker, &token, "/v1/events?topic=a");
    reader.until("$live");
    let root = all_powerful();
    assert_eq!(publish_as(&broker, &root, "a", "one").status, 201);
    assert_eq!(reader.collect(1)[0].data, "one");
    let listed = send_as(&broker, &root, "GET", "/v1/connections").json();
    assert_eq!(listed["connections"][0]["subject"], "alice");
    let closing = reader.expect("$closing");
    assert_eq!(closing.json()["reason"], "token-expired");
    assert!(closing.retry.is_some_and(|retry| (500..=5_000).contains(&retry)));
    assert!(reader.rest().is_empty());
    assert_eq!(publish_as(&broker, &root, "a", "two").status, 201);
    let again = Request::new("GET", "/v1/events?topic=a").header("Accept", "text/event-stream");
    let refused = broker.send(&bearing(again, &token));
    assert_eq!(refused.problem(401)["code"], "token-expired");
    let fresh = signed(&claims("alice", &[], &["a"], false));
    let header = format!("Bearer {fresh}");
    let id = reader.last_event_id().to_owned();
    let mut next = Reader::open_with(
        &broker,
        "/v1/events?topic=a",
        &[("Authorization", &header), ("Last-Event-ID", &id)],
    );
    assert_eq!(next.collect(1)[0].data, "two", "nothing is lost over the change of tokens");
}

#[test]
fn a_stream_goes_on_with_a_new_token_of_the_same_subject() {
    let broker = asking(&[]);
    let root = all_powerful();
    let short = |subject: &str| signed(&with(claims(subject, &[], &["a.*"], false), "exp", json!(now() + 4)));
    let mut renewed = open_as(&broker, &short("alice"), "/v1/events?topic=a.*&quiet=true");
    let mut left = open_as(&broker, &short("alice"), "/v1/events?topic=a.*");
    let opened = left.expect("$open").json();
    assert_eq!(left.head.header("perennial-connection"), opened["connection"].as_str());
    let path = format!("/v1/connections/{}/token", renewed.head.header("perennial-connection").unwrap());
    let renew = |token: &str, path: &str| send_as(&broker, token, "POST", path);
    assert_eq!(broker.post(&path, "").status, 401);
    let narrow = signed(&claims("alice", &[], &["a.b"], false));
    assert_refused(&renew(&narrow, &path), 403, Some("perennial.subscribe"), "a token that grants less");
    let other = signed(&claims("bob", &["**"], &["**"], false));
    let unknown = renew(&other, "/v1/connections/0000000000000000/token");
    let others = renew(&other, &path);
    assert_eq!((unknown.status, others.status), (404, 404), "whose stream it is cannot be found out");
    let good = signed(&claims("alice", &[], &["a.**"], false));
    let answer = renew(&good, &path);
    assert_eq!((answer.status, answer.json()["subject"].as_str()), (200, Some("alice")), "{answer}");
    // The one that was not renewed ends; by then the old token's time is over.
    left.until("$closing");
    assert_eq!(publish_as(&broker, &root, "a.b", "after").status, 201);
    assert_eq!(renewed.collect(1)[0].data, "after");
    assert_eq!(
        renew(&good, &format!("/v1/connections/{}/token", opened["connection"].as_str().unwrap())).status,
        404
    );
}

#[test]
fn a_revoked_token_is_refused_its_streams_end_and_it_stays_so_over_a_crash() {
    let mut broker = asking(&[]);
    let root = all_powerful();
    let make =
        |subject: &str, id: &str| signed(&with(claims(subject, &["a"], &["a"], false), "jti", json!(id)));
    let tokens = [make("alice", "one"), make("alice", "two"), make("bob", "three"), make("carol", "four")];
    let mut readers: Vec<Reader> =
        tokens.iter().map(|token| open_as(&broker, token, "/v1/events?topic=a")).collect();
    let mut publisher = crate::harness::Connection::open(broker.port());
    let publish = |token: &str| bearing(Request::new("POST", "/v1/topics/a/events").body("x"), token);
    assert_eq!(publisher.exchange(&publish(&tokens[0])).status, 201);
    let revoke = |broker: &Broker, body: Value| {
        let request = Request::new("POST", "/v1/revocations").header("Content-Type", "application/json");
        broker.send(&bearing(request.body(body.to_string()), &root))
    };
    let answer = revoke(&broker, json!({ "jti": "one" }));
    assert_eq!((answer.status, answer.json()["jti"].as_str()), (201, Some("one")), "{answer}");
    assert_eq!(publisher.exchange(&publish(&tokens[0])).status, 401, "on a connection that knew it");
    assert_eq!(revoke(&broker, json!({ "subject": "bob" })).status, 201);
    for (reader, token, is_revoked) in [(0, 0, true), (2, 2, true), (1, 1, false), (3, 3, false)] {
        let response = publish_as(&broker, &tokens[token], "a", "after");
        match is_revoked {
            true => {
                assert_eq!(
                    readers[reader].until("$closing").pop().unwrap().json()["reason"],
                    "token-expired"
                );
                assert_eq!(response.problem(401)["code"], "token-revoked");
            }
            false => {
                assert_eq!(response.status, 201);
                while readers[reader].collect(1)[0].data != "after" {}
            }
        }
    }
    for body in [
        json!({}),
        json!({ "jti": "a", "subject": "b" }),
        json!({ "jti": "" }),
        json!({ "jit": "a" }),
        json!({ "jti": "a", "until": "soon" }),
    ] {
        assert_eq!(revoke(&broker, body.clone()).status, 400, "{body}");
    }
    broker.kill();
    broker.restart();
    let listed = send_as(&broker, &root, "GET", "/v1/revocations").json();
    assert_eq!(listed["revocations"].as_array().unwrap().len(), 2, "{listed}");
    let statuses: Vec<u16> = tokens.iter().map(|token| publish_as(&broker, token, "a", "x").status).collect();
    assert_eq!(statuses, [401, 201, 401, 201]);
    // What is made after its subject was revoked is good: from the next second on, as tokens count seconds.
    let renewed = || signed(&claims("bob", &["a"], &["a"], false));
    crate::harness::heavy::eventually("a new token of bob is good", Duration::from_secs(10), || {
        publish_as(&broker, &renewed(), "a", "x").status == 201
    });
}

#[test]
fn keys_and_tokens_are_made_by_commands() {
    for algorithm in ["HS256", "RS256", "ES256", "EdDSA"] {
        let key = Generated::new(algorithm);
        let mode = std::fs::metadata(key.private_path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{algorithm}");
        assert_eq!(key.public.contains("BEGIN PUBLIC KEY"), algorithm != "HS256");
        assert!(!key.public.contains("PRIVATE"), "{algorithm}");
        let broker = Broker::with(&["--set", &format!("auth_keys={}", key.public_path())]);
        let output = broker
            .command(&["token", "--key", &key.private_path(), "--publish", "a.*", "--subscribe", "a.**"])
            .args(["--subject", "alice", "--ttl", "5m"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        assert_eq!(publish_as(&broker, &token, "a.b", algorithm).status, 201);
        assert_eq!(publish_as(&broker, &token, "b", algorithm).status, 403);
        let page = broker.send(&bearing(Request::page("/v1/events?topic=a.**&from=earliest"), &token)).json();
        assert_eq!(page["events"][0]["data"], algorithm);
        let again =
            broker.command(&["keys", "generate", "--alg", algorithm, &key.private_path()]).output().unwrap();
        assert_eq!(again.status.code(), Some(1), "a key is never written over");
    }
}

#[test]
fn every_client_command_shows_its_token() {
    let broker = asking(&[]);
    let token = all_powerful();
    let run = |arguments: &[&str], token: Option<&str>| {
        let mut command = broker.command(arguments);
        if let Some(token) = token {
            command.env("PERENNIAL_TOKEN", token);
        }
        command.output().unwrap()
    };
    let file = broker.place().join("event");
    std::fs::write(&file, "hello").unwrap();
    let file = file.display().to_string();
    let backup = broker.place().join("copy").display().to_string();
    for arguments in [
        &["publish", "a.b", &file][..],
        &["topics"],
        &["status"],
        &["policy", "list"],
        &["export", "--url", &broker.url()],
        &["backup", &backup],
        &["purge", "a.b", "--yes"],
    ] {
        let without = run(arguments, None);
        assert_eq!(without.status.code(), Some(1), "{arguments:?}: {without:?}");
        let told = String::from_utf8_lossy(&without.stderr).into_owned();
        assert!(told.contains("needs a token"), "{arguments:?}: {told}");
        let with = run(arguments, Some(&token));
        assert!(with.status.success(), "{arguments:?}: {with:?}");
    }
    let flag = run(&["status", "--token", &token], None);
    assert!(flag.status.success(), "{flag:?}");
    let help = run(&["status", "--help"], Some(&token));
    assert!(!String::from_utf8_lossy(&help.stdout).contains(&token), "the help shows no token");
}

#[test]
fn a_broker_with_keys_may_be_reached_from_elsewhere() {
    let place = tempfile::TempDir::new().unwrap();
    let mut serve = command()
        .args(["serve", "--listen", "0.0.0.0:0", "--data"])
        .arg(place.path().join("data"))
        .env("PERENNIAL_AUTH_SECRET", SECRET)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(serve.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().strip_prefix("perennial listening on http://0.0.0.0:").map(str::parse);
    let answered = port.map(|port| {
        let request = Request::page("/v1/status").header("Host", "broker.example.com");
        let port = port.unwrap();
        (request.clone().send(port).status, bearing(request, &all_powerful()).send(port).status)
    });
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert_eq!(answered, Some((401, 200)), "{line}");
}

#[test]
fn settings_of_authentication_without_a_key_are_refused() {
    for setting in ["auth_audience=a", "auth_issuer=a", "auth_query_token=true", "auth_anonymous_subscribe=a"]
    {
        let output = command().args(["serve", "--set", setting]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{setting}: {output:?}");
    }
    for secret in ["short", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"] {
        let mut command = command();
        let output = command.arg("serve").env("PERENNIAL_AUTH_SECRET", secret).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(secret));
    }
}

#[test]
fn neither_secrets_nor_tokens_reach_the_log() {
    let mut broker = Broker::with_environment(
        &["--set", "log=trace", "--set", "auth_query_token=true"],
        &[("PERENNIAL_AUTH_SECRET", SECRET)],
    );
    let token = all_powerful();
    let bad = format!("{}x", &token[..token.len() - 1]);
    for token in [&token, &bad] {
        publish_as(&broker, token, "a", "x");
        for path in ["/v1/topics/a/events", "/v1/nothing", "/v1/status", "/v1/events"] {
            let target = format!("{path}?access_token={token}&typo=1");
            let response = broker.send(&Request::page(&target));
            assert!(!response.to_string().contains(token.as_str()), "{response}");
            send_as(&broker, token, "GET", path);
            let cookie = format!("__Host-perennial={token}");
            broker.send(&Request::page(path).header("Cookie", &cookie));
            broker.send(&Request::new("POST", path).header("Cookie", &cookie).body("x"));
        }
        let mut unreadable = crate::harness::Connection::open(broker.port());
        let text = format!(
            "GET /v1/status HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nBad Header: x\r\n\r\n"
        );
        unreadable.send(text.as_bytes());
        let _ = unreadable.try_head(false);
    }
    let mut reader = Reader::open(&broker, &format!("/v1/events?topic=a&from=earliest&access_token={token}"));
    reader.collect(1);
    let listed = send_as(&broker, &token, "GET", "/v1/connections");
    assert!(!listed.text().contains(&token));
    broker.terminate();
    let log = broker.log();
    assert!(log.contains("TRACE"), "there is something to search");
    let pieces =
        [SECRET, token.as_str(), token.split('.').nth(1).unwrap(), token.split('.').next_back().unwrap()];
    for secret in pieces {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret is in the log");
    }
}
