//! `perennial bench`: measures a broker from outside, and checks every event while measuring.
//!
//! One process holds the publishers and the readers, so that one clock times both ends: an event carries the moment at
//! which it was sent. What each reader was given is held against what the publishers were answered; a figure without that
//! would be worth nothing, since losing events is fast.
//!
//! Reading order: a command (`publish`, `fanout`, `replay`, `storm`), the `stage` that it plays on, then `load` with its
//! `publisher`s and `audience` with its `reader`s; `ledger` is the check.

mod fanout;
mod publish;
mod replay;
mod storm;

mod report;
mod session;
mod stage;

mod load;
mod pace;
mod publisher;

mod audience;
mod reader;
mod stream;

mod body;
mod http;
mod ledger;
mod meter;
mod payload;
mod plot;

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tokio::signal::ctrl_c;

pub(crate) use payload::DATA_BYTES_MIN;

use crate::cli::{BenchCommand, BenchOptions};
use crate::client::publish::check_topic;
use crate::tell;
use report::{Outputs, Report};
use session::{Session, Threads, make_room};

pub(crate) fn run(command: &BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Publish(args) => {
            publish::check(args)?;
            measured(&args.options, args.connections, async |session| publish::measure(args, session).await)
        }
        BenchCommand::Fanout(args) => {
            let connections = args.readers.get() + args.publishers;
            measured(&args.options, connections, async |session| fanout::measure(args, session).await)
        }
        BenchCommand::Replay(args) => {
            measured(&args.options, args.readers.get(), async |session| replay::measure(args, session).await)
        }
        BenchCommand::Storm(args) => {
            measured(&args.options, args.readers.get(), async |session| storm::measure(args, session).await)
        }
    }
}

/// Prepares a run with so many connections, carries it out, cleans up and tells what was found.
fn measured(
    options: &BenchOptions,
    connections: usize,
    work: impl AsyncFnOnce(&Arc<Session>) -> anyhow::Result<Report>,
) -> anyhow::Result<()> {
    if let Some(topic) = &options.topic {
        check_topic(topic)?;
    }
    make_room(connections)?;
    let threads = Threads::start(options.threads)?;
    threads.timing.block_on(async {
        let session = Arc::new(Session::open(options, &threads).await?);
        let outputs = Outputs::create(options)?;
        let worked = tokio::select! {
            worked = work(&session) => worked,
            _ = ctrl_c() => Err(anyhow!("interrupted; nothing is told of half a run")),
        };
        conclude(worked, &session, outputs).await
    })
}

/// A run that was not exact leaves its events, so that somebody can look at them.
async fn conclude(worked: anyhow::Result<Report>, session: &Session, outputs: Outputs) -> anyhow::Result<()> {
    let report = match worked {
        Ok(report) => report,
        Err(error) => {
            if let Err(error) = session.clean_up().await {
                tell(&format!("perennial: {error:#}"));
            }
            return Err(error);
        }
    };
    let purged = if report.is_exact() { session.clean_up().await } else { Ok(false) };
    let is_purged = purged.as_ref().is_ok_and(|is_purged| *is_purged);
    outputs.write(&report, session, is_purged).context("the figures cannot be told")?;
    if !report.is_exact() {
        bail!("the broker was not exact: {}", report.verdict.faults);
    }
    purged.map(|_| ())
}
