//! The console's files as they are served: what a browser is told with them, and that nothing is missing.

use std::collections::BTreeSet;

use crate::harness::tokens::asking;
use crate::harness::{Broker, Connection, Request, Response};

/// What every file of the console says in its headers.
fn assert_headers(response: &Response, path: &str) {
    assert_eq!(response.status, 200, "{path}: {response}");
    let policy = response.header("content-security-policy").unwrap_or_else(|| panic!("{path}: {response}"));
    assert!(
        policy.starts_with("default-src 'self';") && !policy.contains("-inline") && !policy.contains("-eval"),
        "{path}: {policy}"
    );
    assert!(
        policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"),
        "{path}: {policy}"
    );
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(response.header(name), Some(value), "{path}: {name}");
    }
    assert!(response.header("etag").is_some_and(|tag| tag.starts_with('"')), "{path}: {response}");
    let expected = match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    };
    assert_eq!(response.header("content-type"), Some(expected), "{path}");
}

/// The addresses that a file names: in HTML by attributes, in scripts by imports and texts.
fn named_in(text: &str, path: &str) -> Vec<String> {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let quoted = text.split('"').skip(1).step_by(2);
    let files = quoted.filter(|word| [".js", ".css", ".svg"].iter().any(|end| word.ends_with(end)));
    files
        .filter_map(|word| match word.split_once('/') {
            Some(("", _)) => Some(word.to_owned()),
            Some((".", rest)) => Some(format!("{directory}/{rest}")),
            Some(("..", rest)) => Some(format!("{}/{rest}", directory.rsplit_once('/')?.0)),
            _ => None,
        })
        .collect()
}

#[test]
fn the_page_and_all_that_it_names_are_served_with_strict_headers() {
    let broker = Broker::start();
    let (mut seen, mut to_see) = (BTreeSet::new(), vec!["/console".to_owned(), "/console/".to_owned()]);
    while let Some(path) = to_see.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let response = broker.get(&path);
        assert_headers(&response, &path);
        // What is kept as others wrote it names files of their own build.
        if !path.contains("/vendor/") {
            to_see.extend(named_in(response.text(), &path));
        }
    }
    for expected in ["/console/console.css", "/console/views/topic.js", "/console/vendor/uplot/uPlot.esm.js"]
    {
        assert!(seen.contains(expected), "{expected} is not reached; {seen:?} are");
    }
}

#[test]
fn a_browser_that_has_a_file_is_told_so_and_another_version_is_sent() {
    let broker = Broker::start();
    let tag = broker.get("/console/main.js").header("etag").unwrap().to_owned();
    let ask = |tag: &str| broker.send(&Request::new("GET", "/console/main.js").header("If-None-Match", tag));
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let response = ask(&known);
        assert_eq!((response.status, response.body.len()), (304, 0), "{known}: {response}");
        assert_eq!(response.header("etag"), Some(&*tag), "{known}");
    }
    for other in ["\"other\"", "nonsense", ""] {
        assert_eq!(ask(other).status, 200, "{other:?}");
    }
}

#[test]
fn methods_and_paths_that_are_not_there_are_refused() {
    let broker = Broker::start();
    let head = broker.send(&Request::new("HEAD", "/console"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    let length = broker.get("/console").body.len().to_string();
    assert_eq!(head.header("content-length"), Some(&*length));
    for path in
        ["/console/nothing.js", "/console/LICENSE", "/console/../Cargo.toml", "/console/views", "/consoles"]
    {
        let problem = broker.get(path).problem(404);
        assert_eq!(problem["code"], "not-found", "{path}");
    }
    let refused = broker.send(&Request::new("POST", "/console").body("x"));
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, OPTIONS")), "{refused}");
}

#[test]
fn the_files_need_no_token_and_what_they_do_does() {
    let broker = asking(&[]);
    for path in ["/console", "/console/main.js"] {
        assert_headers(&broker.get(path), path);
    }
    assert_eq!(broker.get("/v1/status").status, 401);
    assert_eq!(broker.get("/v1/topics/$broker.stats/events").status, 401);
}

#[test]
fn pages_of_others_and_foreign_names_do_not_reach_it() {
    let broker = Broker::start();
    for (name, value) in [("Origin", "https://evil.example"), ("Origin", "null")] {
        let response = broker.send(&Request::new("GET", "/console").header(name, value));
        assert_eq!(response.status, 403, "{name}: {value}");
    }
    let mut connection = Connection::open(broker.port());
    connection.send(b"GET /console HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(connection.response(false).status, 403);
}
