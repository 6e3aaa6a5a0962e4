//! `perennial topics`: what there is, and how much of it.

use anyhow::Context;
use serde::Deserialize;

use super::http::{Server, block_on};
use super::table::{self, Align, grouped};
use crate::cli::TopicsArgs;

#[derive(Debug, Deserialize)]
struct Answer {
    topics: Vec<Topic>,
}

#[derive(Debug, Deserialize)]
struct Topic {
    topic: String,
    first_id: Option<String>,
    last_id: Option<String>,
    events: u64,
    bytes: u64,
}

pub(crate) fn run(args: &TopicsArgs) -> anyhow::Result<()> {
    let server = Server::new(&args.server)?;
    let mut url = server.url(&["v1", "topics"]);
    if let Some(pattern) = &args.pattern {
        url.query_pairs_mut().append_pair("pattern", pattern);
    }
    let answer = block_on(server.get(url))?;
    if args.json {
        return Ok(table::print(format!("{}\n", answer.trim_end()).as_bytes())?);
    }
    let answer: Answer =
        serde_json::from_str(&answer).context("the broker's answer is not a list of topics")?;
    let mut out = Vec::new();
    let head = [
        ("TOPIC", Align::Left),
        ("EVENTS", Align::Right),
        ("BYTES", Align::Right),
        ("FIRST", Align::Left),
        ("LAST", Align::Left),
    ];
    let rows: Vec<Vec<String>> = answer.topics.into_iter().map(row).collect();
    table::write(&mut out, &head, &rows)?;
    Ok(table::print(&out)?)
}

fn row(topic: Topic) -> Vec<String> {
    let absent = || "-".to_owned();
    vec![
        topic.topic,
        grouped(topic.events),
        grouped(topic.bytes),
        topic.first_id.unwrap_or_else(absent),
        topic.last_id.unwrap_or_else(absent),
    ]
}
