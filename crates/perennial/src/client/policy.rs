//! `perennial policy`: how much history is kept.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Context;
use broker::units::{self, Plain};
use event_log::Pattern;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{Server, block_on};
use super::removal;
use super::table::{self, Align};
use crate::WrongUsage;
use crate::cli::{
    Limits, PolicyCommand, PolicyDeleteArgs, PolicyGetArgs, PolicyListArgs, PolicySetArgs, ServerArgs,
};

/// The limits, by the names that they have in the broker's answers.
const FIELDS: [&str; 4] = ["max_age", "max_events", "max_bytes", "compact"];

#[derive(Deserialize)]
struct Listing {
    policies: Vec<Policy>,
}

/// A policy as the broker tells it. A limit is a text or a number, and null or absent if there is none.
#[derive(Deserialize)]
struct Policy {
    pattern: String,
    #[serde(flatten)]
    limits: BTreeMap<String, Value>,
}

/// What is set. The broker reads the values as they are written here, too.
#[derive(Serialize)]
struct Wanted<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_events: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compact: Option<&'a str>,
}

pub(crate) fn run(command: &PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::List(args) => list(args),
        PolicyCommand::Get(args) => get(args),
        PolicyCommand::Set(args) => set(args),
        PolicyCommand::Delete(args) => delete(args),
    }
}

fn list(args: &PolicyListArgs) -> anyhow::Result<()> {
    let server = Server::new(&args.server)?;
    let answer = block_on(server.get(server.url(&["v1", "policies"])))?;
    if args.json {
        return Ok(table::print(format!("{}\n", answer.trim_end()).as_bytes())?);
    }
    let listing: Listing =
        serde_json::from_str(&answer).context("the broker's answer is not a list of policies")?;
    let head = [
        ("PATTERN", Align::Left),
        ("MAX AGE", Align::Right),
        ("MAX EVENTS", Align::Right),
        ("MAX BYTES", Align::Right),
        ("COMPACT", Align::Left),
    ];
    let rows: Vec<Vec<String>> = listing.policies.into_iter().map(row).collect();
    let mut out = Vec::new();
    table::write(&mut out, &head, &rows)?;
    Ok(table::print(&out)?)
}

fn row(policy: Policy) -> Vec<String> {
    let limits = FIELDS.iter().map(|name| limit(&policy, name).unwrap_or_else(|| "-".to_owned()));
    let limits: Vec<String> = limits.collect();
    [vec![policy.pattern], limits].concat()
}

fn limit(policy: &Policy, name: &str) -> Option<String> {
    match policy.limits.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn get(args: &PolicyGetArgs) -> anyhow::Result<()> {
    let (server, url) = at(&args.server, &args.pattern, false)?;
    let answer = block_on(server.get(url))?;
    show(&answer, args.json)
}

fn set(args: &PolicySetArgs) -> anyhow::Result<()> {
    let wanted = wanted(&args.limits)?;
    let (server, url) = at(&args.server, &args.pattern, args.dry_run)?;
    let answer = block_on(server.answer(server.client().put(url).json(&wanted)))?;
    match args.dry_run && !args.json {
        true => Ok(table::print(removal::read(&answer)?.would_go().as_bytes())?),
        false => show(&answer, args.json),
    }
}

fn delete(args: &PolicyDeleteArgs) -> anyhow::Result<()> {
    let (server, url) = at(&args.server, &args.pattern, args.dry_run)?;
    let answer = block_on(server.answer(server.client().delete(url)))?;
    if args.dry_run {
        return Ok(table::print(removal::read(&answer)?.would_go().as_bytes())?);
    }
    Ok(table::print(format!("deleted the policy of {}\n", args.pattern).as_bytes())?)
}

/// Where a pattern's policy is; refuses what no broker takes, before one is asked.
fn at(args: &ServerArgs, pattern: &str, dry_run: bool) -> anyhow::Result<(Server, Url)> {
    Pattern::parse(pattern).map_err(|invalid| WrongUsage(invalid.to_string()))?;
    let server = Server::new(args)?;
    let mut url = server.url(&["v1", "policies", pattern]);
    if dry_run {
        url.set_query(Some("dry_run=true"));
    }
    Ok((server, url))
}

fn wanted(limits: &Limits) -> Result<Wanted<'_>, WrongUsage> {
    let wrong = |name: &'static str| move |detail: String| WrongUsage(format!("{name}: {detail}"));
    let max_age = limits.max_age.as_deref();
    max_age.map(|text| units::duration(text, Plain::Seconds)).transpose().map_err(wrong("--max-age"))?;
    let max_events = limits.max_events.as_deref().map(units::count).transpose();
    let max_bytes = limits.max_bytes.as_deref().map(units::bytes).transpose();
    Ok(Wanted {
        max_age,
        max_events: max_events.map_err(wrong("--max-events"))?,
        max_bytes: max_bytes.map_err(wrong("--max-bytes"))?,
        compact: limits.compact.as_deref(),
    })
}

fn show(answer: &str, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(table::print(format!("{}\n", answer.trim_end()).as_bytes())?);
    }
    let policy: Policy = serde_json::from_str(answer).context("the broker's answer is not a policy")?;
    let mut out = format!("{:<12} {}\n", "pattern", policy.pattern);
    for name in FIELDS {
        writeln!(out, "{:<12} {}", name.replace('_', " "), limit(&policy, name).as_deref().unwrap_or("-"))?;
    }
    Ok(table::print(out.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_age: Option<&str>, max_events: Option<&str>, max_bytes: Option<&str>) -> Limits {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Limits {
            max_age: owned(max_age),
            max_events: owned(max_events),
            max_bytes: owned(max_bytes),
            compact: Some("key".to_owned()),
        }
    }

    #[test]
    fn limits_are_sent_as_they_were_meant() {
        let limits = limits(Some("7d"), Some("0"), Some("1KiB"));
        let wanted = serde_json::to_string(&wanted(&limits).unwrap()).unwrap();
        assert_eq!(wanted, r#"{"max_age":"7d","max_events":0,"max_bytes":1024,"compact":"key"}"#);
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_named() {
        for (limits, name) in [
            (limits(Some("soon"), None, None), "--max-age"),
            (limits(None, Some("1k"), None), "--max-events"),
            (limits(None, None, Some("1GB")), "--max-bytes"),
        ] {
            let refused = wanted(&limits).err().map(|error| error.to_string());
            assert!(refused.as_deref().is_some_and(|text| text.starts_with(name)), "{refused:?}");
        }
    }

    #[test]
    fn a_policy_shows_what_it_limits() {
        let policy = r#"{"pattern":"a.**","max_age":"7d","max_events":5,"max_bytes":null}"#;
        assert_eq!(row(serde_json::from_str(policy).unwrap()), ["a.**", "7d", "5", "-", "-"]);
    }
}
