//! `perennial purge`: a topic's events go for good, so somebody is asked first.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Context;
use event_log::Topic;

use super::http::{Server, block_on};
use super::{removal, table};
use crate::WrongUsage;
use crate::cli::PurgeArgs;

pub(crate) fn run(args: &PurgeArgs) -> anyhow::Result<()> {
    check(args)?;
    let server = Server::new(&args.server)?;
    let url = server.url(&["v1", "topics", &args.topic]);
    let mut dry = url.clone();
    dry.set_query(Some("dry_run=true"));
    let there = removal::read(&block_on(server.answer(server.client().delete(dry)))?)?;
    if args.dry_run {
        return Ok(table::print(there.would_go().as_bytes())?);
    }
    if !args.yes && !confirm(&format!("remove {} of {} for good?", there.count(), args.topic))? {
        anyhow::bail!("nothing was removed");
    }
    block_on(server.answer(server.client().delete(url)))?;
    Ok(table::print(format!("purged {}\n", args.topic).as_bytes())?)
}

/// Refuses what no broker takes, before one is asked.
fn check(args: &PurgeArgs) -> Result<(), WrongUsage> {
    let topic = Topic::parse(args.topic.as_str()).map_err(|invalid| WrongUsage(invalid.to_string()))?;
    if topic.is_reserved() {
        return Err(WrongUsage(format!(
            "topic {:?} starts with $: the broker's own topics cannot be purged",
            topic.as_str()
        )));
    }
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    match args.yes || args.dry_run || can_ask {
        true => Ok(()),
        false => Err(WrongUsage(
            "there is no terminal to ask on; say --yes to remove the events, or --dry-run to count them"
                .to_owned(),
        )),
    }
}

fn confirm(question: &str) -> anyhow::Result<bool> {
    let mut err = io::stderr().lock();
    write!(err, "perennial: {question} [y/N] ").and_then(|()| err.flush()).context("nobody can be asked")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("the answer cannot be read")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
