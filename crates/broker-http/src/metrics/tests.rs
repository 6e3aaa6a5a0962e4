use std::collections::HashMap;

use event_log::limits::DATA_BYTES_DEFAULT;

use crate::Options;
use crate::server::tests::{call, request, state_with};

#[actix_web::test]
async fn what_is_counted_is_told_as_prometheus_reads_it() {
    let state = state_with(Options { version: "1.2.3".to_owned(), ..Options::default() });
    for _ in 0..3 {
        call(&state, request("POST", "/v1/topics/a/events").set_payload("four")).await;
    }
    let too_large = request("POST", "/v1/topics/a/events").set_payload(vec![b'x'; DATA_BYTES_DEFAULT + 1]);
    assert_eq!(call(&state, too_large).await.status, 413);
    assert_eq!(call(&state, request("GET", "/metrics?x=1")).await.refusal().0, 400);
    let answer = call(&state, request("GET", "/metrics")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    let values: HashMap<&str, f64> = answer
        .body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name, value.parse().unwrap())).unwrap())
        .collect();
    let head = state.broker.head().get() as f64;
    for (name, expected) in [
        ("perennial_build_info{version=\"1.2.3\"}", 1.0),
        ("perennial_streams", 0.0),
        ("perennial_head_sequence", head),
        ("perennial_events", 3.0),
        ("perennial_bytes", 15.0),
        ("perennial_bytes_on_disk", 0.0),
        ("perennial_publishes_total", 3.0),
        ("perennial_events_published_total", 3.0),
        ("perennial_bytes_published_total", 15.0),
        ("perennial_duplicates_total", 0.0),
        ("perennial_commit_events_bucket{le=\"1\"}", 3.0),
        ("perennial_commit_events_bucket{le=\"+Inf\"}", 3.0),
        ("perennial_commit_events_count", 3.0),
        ("perennial_commit_to_socket_seconds_bucket{le=\"0.00025\"}", 0.0),
        ("perennial_refusals_total{code=\"unknown-parameter\"}", 1.0),
        ("perennial_resumes_total{outcome=\"exact\"}", 0.0),
        ("perennial_streams_behind{more_than=\"0\"}", 0.0),
        ("perennial_retention_trimmed_events_total", 0.0),
        ("perennial_retention_trimmed_bytes_total", 0.0),
        ("perennial_retention_superseded_events_total", 0.0),
        ("perennial_retention_superseded_bytes_total", 0.0),
        ("perennial_retention_steps_total", 0.0),
        ("perennial_limited_total{limit=\"max_data\"}", 1.0),
        ("perennial_limited_total{limit=\"max_streams\"}", 0.0),
    ] {
        assert_eq!(values.get(name), Some(&expected), "{name}: {}", answer.body);
    }
    for name in [
        "perennial_uptime_seconds",
        "perennial_retention_passes_total",
        "perennial_retention_seconds_total",
        "perennial_retention_last_pass_seconds",
    ] {
        assert!(values.contains_key(name), "{name}: {}", answer.body);
        let described = format!("# HELP {name} ");
        assert!(answer.body.contains(&described), "{name}");
    }
}
