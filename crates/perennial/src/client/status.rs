//! `perennial status`: how the broker is.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::http::{Server, block_on};
use super::table::{self, grouped};
use crate::cli::StatusArgs;

#[derive(Debug, Deserialize)]
struct Answer {
    version: String,
    epoch: String,
    head: String,
    oldest: Option<String>,
    events: u64,
    bytes: u64,
    bytes_on_disk: u64,
    connections: u64,
    uptime: f64,
}

pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let server = Server::new(&args.server)?;
    let answer = block_on(server.get(server.url(&["v1", "status"])))?;
    if args.json {
        return Ok(table::print(format!("{}\n", answer.trim_end()).as_bytes())?);
    }
    let status: Answer = serde_json::from_str(&answer).context("the broker's answer is not a status")?;
    let mut out = Vec::new();
    for (name, value) in rows(status) {
        writeln!(out, "{name:<12} {value}")?;
    }
    Ok(table::print(&out)?)
}

fn rows(status: Answer) -> [(&'static str, String); 9] {
    [
        ("version", status.version),
        ("up for", age(Duration::try_from_secs_f64(status.uptime).unwrap_or_default())),
        ("connections", grouped(status.connections)),
        ("epoch", status.epoch),
        ("head", status.head),
        ("oldest", status.oldest.unwrap_or_else(|| "-".to_owned())),
        ("events", grouped(status.events)),
        ("bytes", grouped(status.bytes)),
        ("on disk", grouped(status.bytes_on_disk)),
    ]
}

/// A duration in its two largest units.
fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_shows_its_two_largest_units() {
        for (seconds, shown) in [(5, "5s"), (65, "1m 5s"), (3_660, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(age(Duration::from_secs(seconds)), shown);
        }
    }
}
