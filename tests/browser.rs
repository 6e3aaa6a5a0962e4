//! The demo page in a real browser, over a crash of the broker: it misses nothing and counts nothing twice.
//!
//! The page's own counters are read, and beside them an EventSource of the test collects ids, which are compared with the
//! log: so the page's word is not the only one.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::Broker;
use crate::harness::heavy;
use crate::harness::outside::Outside;

const LIMIT: Duration = Duration::from_secs(60);

/// A counter of the page; digits may be grouped.
fn counter(line: &Value, name: &str) -> Option<u64> {
    let text = line[name].as_str()?;
    text.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn newest(client: &Outside, name: &str) -> u64 {
    client.lines().last().and_then(|line| counter(line, name)).unwrap_or_default()
}

#[test]
fn the_demo_page_goes_on_over_a_crash_without_missing_or_doubling_a_trade() {
    let _turn = heavy::turn();
    let mut server = Broker::with(&["--demo", "--set", "retry=500ms"]);
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.png");
    drop(std::fs::remove_file(&screenshot));
    let mut page = Outside::start("node", "demo.mjs", &[&server.url(), screenshot.to_str().unwrap()]);
    let received = |least: u64| {
        move |lines: &[Value]| {
            lines.last().and_then(|line| counter(line, "received")).is_some_and(|n| n >= least)
        }
    };
    page.wait_for("trades come in", LIMIT, received(20));
    for _ in 0..2 {
        let before = newest(&page, "received");
        server.kill();
        std::thread::sleep(Duration::from_millis(700));
        server.restart();
        page.wait_for("the page goes on after the restart", LIMIT, received(before + 20));
    }
    page.finish();

    let lines = page.lines();
    let last = lines.last().unwrap();
    println!("the page at the end: {last}");
    for line in &lines {
        assert_eq!(counter(line, "missed").unwrap_or(0), 0, "{line}");
        assert_eq!(counter(line, "duplicates").unwrap_or(0), 0, "{line}");
        assert_eq!(line["own_gaps"].as_array().map(Vec::len), Some(0), "{line}");
    }
    assert_eq!((counter(last, "missed"), counter(last, "duplicates")), (Some(0), Some(0)), "{last}");
    assert_eq!(counter(last, "gaps"), Some(0), "{last}");
    let size = std::fs::metadata(&screenshot).map(|file| file.len()).unwrap_or_default();
    assert!(size > 5_000, "the screenshot has {size} bytes");
    println!("screenshot: {}", screenshot.display());
    compare_with_log(&server, &lines);
}

/// The ids that the test's own EventSource collected are those of the log, from its first to its last.
fn compare_with_log(server: &Broker, lines: &[Value]) {
    let collected: Vec<&str> = lines
        .iter()
        .flat_map(|line| line["collected"].as_array().unwrap())
        .map(|id| id.as_str().unwrap())
        .collect();
    assert!(collected.len() >= 40, "only {} ids were collected", collected.len());
    let (first, last) = (collected[0], collected[collected.len() - 1]);
    let log = heavy::history(server, "topic=**&type=trade&type=trade-off-exchange");
    let ids = log.iter().map(|event| event["id"].as_str().unwrap());
    let mut between: Vec<&str> = ids.skip_while(|id| *id != first).collect();
    let end = between.iter().position(|id| *id == last).expect("the last id is in the log");
    between.truncate(end + 1);
    assert!(
        collected == between,
        "collected {} ids, and the log has {} there",
        collected.len(),
        between.len()
    );
}
