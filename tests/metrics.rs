//! `/metrics`: the text format of Prometheus, read strictly, and counts that agree with what the broker says elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::heavy;
use crate::harness::history::WITHIN;
use crate::harness::{Broker, Connection, Reader, Request};

/// The samples by name and labels; every family must say what it is before its first sample.
fn metrics(broker: &Broker) -> BTreeMap<String, f64> {
    let response = broker.get("/metrics");
    assert_eq!(response.status, 200, "{response}");
    let kind = response.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    let (mut helped, mut typed) = (Vec::new(), Vec::new());
    let mut samples = BTreeMap::new();
    for line in response.text().lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(help.len() > 5, "{line}");
            helped.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(!typed.contains(&name), "{name} is declared twice");
            typed.push(name);
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let series = name.split('{').next().unwrap();
            let family = histogram(series).filter(|family| typed.contains(family)).unwrap_or(series);
            assert!(family.starts_with("perennial_"), "{line}");
            assert!(typed.contains(&family) && helped.contains(&family), "{family} is not declared");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(samples.insert(name.to_owned(), value).is_none(), "{name} stands there twice");
        }
    }
    samples
}

/// The family of which a series is a part, if it is one of a histogram.
fn histogram(series: &str) -> Option<&str> {
    ["_bucket", "_sum", "_count"].iter().find_map(|part| series.strip_suffix(part))
}

/// The values of a histogram's buckets, without the last, which is its count.
fn buckets(samples: &BTreeMap<String, f64>, family: &str) -> Vec<f64> {
    let of_family = format!("{family}_bucket{{le=\"");
    let mut buckets: Vec<(f64, f64)> = samples
        .iter()
        .filter_map(|(name, value)| {
            Some((name.strip_prefix(&of_family)?.strip_suffix("\"}")?.parse().unwrap(), *value))
        })
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, samples[&format!("{family}_count")])));
    buckets.into_iter().map(|(_, count)| count).collect()
}

#[test]
fn the_metrics_agree_with_the_status() {
    let broker = Broker::start();
    broker.publish_many("t", 0..30);
    let mut reader = Reader::open(&broker, "/v1/topics/t/events");
    reader.until("$live");
    let (status, metrics) = (broker.json("/v1/status"), metrics(&broker));
    for (metric, member) in [
        ("perennial_events", "events"),
        ("perennial_bytes", "bytes"),
        ("perennial_bytes_on_disk", "bytes_on_disk"),
        ("perennial_streams", "connections"),
    ] {
        assert_eq!(metrics[metric], status[member].as_f64().unwrap(), "{metric}");
    }
    assert_eq!(metrics["perennial_events_published_total"], 30.0);
    let version = format!("perennial_build_info{{version={}}}", status["version"]);
    assert_eq!(metrics.get(&version), Some(&1.0), "{metrics:?}");
}

#[test]
fn what_retention_and_compaction_did_is_counted_and_logged() {
    let broker = Broker::quick();
    let before = metrics(&broker);
    for name in ["trimmed_events", "trimmed_bytes", "superseded_events", "superseded_bytes"] {
        assert_eq!(before[&format!("perennial_retention_{name}_total")], 0.0);
    }
    broker.publish_many("t", 0..10);
    for data in ["1", "2", "3"] {
        broker.publish_state("s", "k", data);
    }
    broker.put_policy("t", r#"{"max_events":3}"#);
    broker.put_policy("s", r#"{"compact":"key"}"#);
    broker.until_kept("t", 3);
    broker.until_kept("s", 1);
    let mut after = BTreeMap::new();
    // A step is counted once it was taken, and a pass once it has ended.
    heavy::eventually("all of it is counted", WITHIN, || {
        after = metrics(&broker);
        let is_logged = broker.log().lines().any(|line| line.contains("INFO") && line.contains("retention"));
        is_logged
            && after["perennial_retention_superseded_events_total"] > 1.0
            && after["perennial_retention_trimmed_events_total"] > 6.0
    });
    let count = |name: &str| after[&format!("perennial_retention_{name}_total")];
    assert_eq!((count("trimmed_events"), count("trimmed_bytes")), (7.0, 14.0));
    assert_eq!((count("superseded_events"), count("superseded_bytes")), (2.0, 6.0));
    assert!(count("passes") > 0.0 && count("steps") > 0.0);
}

#[test]
fn what_is_published_is_counted_before_it_is_answered() {
    let broker = Broker::start();
    let count = |name: &str| metrics(&broker)[name];
    broker.publish("t", "1234");
    assert_eq!(count("perennial_bytes_published_total"), 5.0);
    let events: Vec<String> =
        (0..40).map(|n| format!(r#"{{"topic":"t","data":"{n:02}","idempotency_key":"{n}"}}"#)).collect();
    broker.publish_batch(events.join("\n"));
    let again = broker.post_batch(events[..10].join("\n"));
    assert_eq!(again.status, 200, "{again}");
    for (name, expected) in [
        ("perennial_publishes_total", 3.0),
        ("perennial_events_published_total", 41.0),
        ("perennial_bytes_published_total", 5.0 + 40.0 * 3.0),
        ("perennial_duplicates_total", 10.0),
        ("perennial_commit_events_sum", 41.0),
        ("perennial_commit_events_count", 2.0),
        ("perennial_barrier_seconds_count", 2.0),
    ] {
        assert_eq!(count(name), expected, "{name}");
    }
    let metrics = metrics(&broker);
    let events = buckets(&metrics, "perennial_commit_events");
    assert_eq!((events[0], events[1], *events.last().unwrap()), (1.0, 1.0, 2.0), "{events:?}");
    let barriers = buckets(&metrics, "perennial_barrier_seconds");
    assert!(barriers.is_sorted() && *barriers.last().unwrap() == 2.0, "{barriers:?}");
    assert!(metrics["perennial_barrier_seconds_sum"] > 0.0);
}

#[test]
fn refusals_are_counted_by_the_code_that_was_told() {
    let broker = Broker::start();
    // One that the fast path refuses, some of the web side, and one that is refused before any of that.
    broker.publish("t", "first");
    for _ in 0..3 {
        let request =
            Request::new("POST", "/v1/topics/t/events").header("Perennial-Expected-Id", "0").body("x");
        broker.send(&request).problem(412);
    }
    broker.get("/v1/events?topic=t&frm=1").problem(400);
    broker.get("/v1/topics/unknown").problem(404);
    broker
        .send(&Request::new("GET", "/v1/status").header("Origin", "https://elsewhere.example"))
        .problem(403);
    let after = metrics(&broker);
    let refusals: Vec<(&str, f64)> = after
        .iter()
        .filter_map(|(name, value)| {
            let code = name.strip_prefix("perennial_refusals_total{code=\"")?.strip_suffix("\"}")?;
            Some((code, *value))
        })
        .filter(|(_, refusals)| *refusals > 0.0)
        .collect();
    assert_eq!(
        after["perennial_refusals_total{code=\"insufficient-storage\"}"], 0.0,
        "an alert sees it grow"
    );
    let expected = [
        ("expected-id-mismatch", 3.0),
        ("origin-not-allowed", 1.0),
        ("unknown-parameter", 1.0),
        ("unknown-topic", 1.0),
    ];
    assert_eq!(refusals, expected);
}

#[test]
fn readings_that_come_back_are_counted_by_what_became_of_them() {
    let broker = Broker::quick();
    broker.publish_many("t", 0..20);
    let id = |sequence: u64| format!("{sequence}-{}", broker.epoch());
    let stream = "/v1/topics/t/events";
    Reader::open(&broker, stream).until("$live");
    Reader::resume(&broker, stream, &id(3)).until("$live");
    Reader::open(&broker, &format!("{stream}?from={}", id(5))).until("$live");
    let page = broker.json(&format!("{stream}?last_event_id={}", id(7)));
    assert_eq!(page["gap"], json!(null));
    Reader::resume(&broker, stream, "nonsense").expect("$gap");
    Reader::resume(&broker, stream, &id(9_999)).expect("$gap");
    Reader::resume(&broker, stream, "1-ffffffff").expect("$gap");
    broker.put_policy("t", r#"{"max_events":3}"#);
    broker.until_kept("t", 3);
    Reader::resume(&broker, stream, &id(3)).expect("$gap");
    let metrics = metrics(&broker);
    for (outcome, expected) in
        [("exact", 3.0), ("malformed", 1.0), ("ahead", 1.0), ("epoch", 1.0), ("trimmed", 1.0)]
    {
        let name = format!("perennial_resumes_total{{outcome=\"{outcome}\"}}");
        assert_eq!(metrics.get(&name), Some(&expected), "{name}");
    }
    assert_eq!(metrics["perennial_streams_opened_total"], 7.0);
}

#[test]
fn what_streams_say_is_counted_and_how_long_it_takes() {
    let broker = Broker::with(&["--set", "heartbeat=60s"]);
    broker.publish_many("t", 0..50);
    let before = metrics(&broker);
    let mut reader = Reader::open(&broker, "/v1/topics/t/events?from=earliest");
    let mut told: usize = reader.until("$live").iter().map(|event| event.raw.len()).sum();
    let replayed = metrics(&broker);
    assert_eq!(replayed["perennial_replayed_events_total"] - before["perennial_replayed_events_total"], 50.0);
    let bytes = replayed["perennial_replayed_bytes_total"];
    assert!(bytes > 50.0 * 20.0 && bytes < told as f64, "{bytes} of {told}");
    assert_eq!(replayed["perennial_commit_to_socket_seconds_count"], 0.0, "history is not counted as late");
    // One at a time, so that each is a write of its own.
    for number in 50..55 {
        broker.publish_many("t", number..number + 1);
        told += reader.collect(1)[0].raw.len();
    }
    heavy::eventually("all that was said is counted", WITHIN, || {
        let metrics = metrics(&broker);
        metrics["perennial_stream_bytes_total"] == told as f64
            && metrics["perennial_commit_to_socket_seconds_count"] == 5.0
    });
    let after = metrics(&broker);
    assert!(after["perennial_commit_to_socket_seconds_sum"] > 0.0);
    assert!(buckets(&after, "perennial_commit_to_socket_seconds").is_sorted());
    assert_eq!(after["perennial_replayed_bytes_total"], bytes, "what is new is no history");
}

#[test]
fn a_stream_that_is_not_read_is_behind_and_one_that_waits_is_not() {
    let broker = Broker::with(&["--set", "heartbeat=60s"]);
    let mut idle = Reader::open(&broker, "/v1/topics/quiet/events");
    idle.until("$live");
    let target = Request::new("GET", "/v1/topics/busy/events?from=earliest");
    let mut stalled = Connection::open(broker.port());
    stalled.send(&target.bytes(broker.port()));
    stalled.head(false);
    let data = "x".repeat(200_000);
    heavy::eventually("a reader that does not read is left behind", WITHIN, || {
        broker.publish_many("small", 0..200);
        broker.publish("busy", &data);
        metrics(&broker)["perennial_streams_behind{more_than=\"1000\"}"] > 0.0
    });
    let metrics = metrics(&broker);
    assert_eq!(metrics["perennial_streams_behind{more_than=\"0\"}"], 1.0, "the other one only waits");
    assert!(metrics["perennial_stream_lag_events"] > 1_000.0);
    assert_eq!(metrics["perennial_streams_behind{more_than=\"1000000\"}"], 0.0);
}

#[test]
fn prometheus_takes_the_text_and_the_page_about_it_names_the_same_families() {
    let broker = Broker::start();
    let text = broker.get("/metrics").text().to_owned();
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; tests/run installs it"));
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let judged = check.wait_with_output().unwrap();
    assert!(judged.status.success(), "{judged:?}");
    assert_eq!((judged.stdout.len(), judged.stderr.len()), (0, 0), "{judged:?}");
    let told: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let explained: Vec<&str> = rows.map(|row| row.split(['`', '{']).next().unwrap()).collect();
    assert_eq!(
        explained.iter().copied().collect::<BTreeSet<_>>().len(),
        explained.len(),
        "a family is explained twice"
    );
    assert_eq!(explained.into_iter().collect::<BTreeSet<_>>(), told);
}

#[test]
fn the_metrics_take_no_parameters_and_no_other_method() {
    let broker = Broker::start();
    broker.post("/metrics", json!({}).to_string()).problem(405);
    let head = broker.send(&Request::new("HEAD", "/metrics"));
    assert_eq!((head.status, head.body.len()), (200, 0), "{head}");
    // What is served without authentication is not for web pages of elsewhere.
    let foreign = Request::new("GET", "/metrics").header("Origin", "https://elsewhere.example");
    broker.send(&foreign).problem(403);
}
