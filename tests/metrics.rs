//! `/metrics`: the text format of Prometheus, read strictly, and counts that agree with what the broker says elsewhere.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::heavy;
use crate::harness::history::WITHIN;
use crate::harness::{Broker, Reader, Request};

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
            let family = name.split('{').next().unwrap();
            assert!(family.starts_with("perennial_"), "{line}");
            assert!(typed.contains(&family) && helped.contains(&family), "{family} is not declared");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(samples.insert(name.to_owned(), value).is_none(), "{name} stands there twice");
        }
    }
    samples
}

#[test]
fn the_metrics_agree_with_the_status() {
    let broker = Broker::start();
    broker.publish_many("t", 0..30);
    let mut reader = Reader::open(&broker, "/v1/topics/t/events");
    reader.until("$live");
    // An event is counted as published a moment after it was answered.
    heavy::eventually("all that was published is counted", WITHIN, || {
        metrics(&broker)["perennial_events_published_total"] >= 30.0
    });
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
fn the_metrics_take_no_parameters_and_no_other_method() {
    let broker = Broker::start();
    broker.post("/metrics", json!({}).to_string()).problem(405);
    let head = broker.send(&Request::new("HEAD", "/metrics"));
    assert_eq!((head.status, head.body.len()), (200, 0), "{head}");
    // What is served without authentication is not for web pages of elsewhere.
    let foreign = Request::new("GET", "/metrics").header("Origin", "https://elsewhere.example");
    broker.send(&foreign).problem(403);
}
