//! The command: takes hubs through the suite, and prints a table for each.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use sse_resume_conformance::{Adapter, Options, Report, Row, all, junit, markdown, run, table};

/// Looks in durable hubs of Server-Sent Events for the failures known from the field.
///
/// Exits with 0 when no hub broke a promise that it makes, with 1 when one did, with 2 when it was called wrongly.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Files that say how a hub is started, published to and read.
    #[arg(required_unless_present = "list")]
    adapters: Vec<PathBuf>,
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "PATTERN")]
    case: Option<String>,
    /// Also the cases that take minutes.
    #[arg(long)]
    long: bool,
    /// How many cases run at once, each with a hub of its own.
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: usize,
    /// How long the idle case waits.
    #[arg(long, default_value_t = 180, value_name = "SECONDS")]
    idle: u64,
    /// Write the tables of all hubs as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write them as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Show the cases and what they rest on.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match work(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sse-resume-conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether no promise was found broken.
fn work(arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        list()?;
        return Ok(true);
    }
    let load = |path: &PathBuf| Adapter::load(path, &BTreeMap::new());
    let adapters = arguments.adapters.iter().map(load).collect::<Result<Vec<_>>>()?;
    let options = Options {
        case: arguments.case.clone(),
        long: arguments.long,
        jobs: arguments.jobs,
        idle: Duration::from_secs(arguments.idle),
    };
    let mut reports: Vec<Report> = Vec::new();
    for adapter in &adapters {
        // What is done so far goes to standard error, so that the tables alone can be kept.
        let done = |row: &Row| {
            let _ = writeln!(io::stderr(), "{}: {} {}", adapter.name, row.case.name, row.verdict.word());
        };
        let report = run(adapter, &options, &done);
        anyhow::ensure!(!report.rows.is_empty(), "no case is named like that; --list shows all");
        writeln!(io::stdout(), "{}", table(&report))?;
        reports.push(report);
        // Written after each hub, so that what is there is not lost with a later one.
        if let Some(path) = &arguments.markdown {
            fs::write(path, markdown(&reports))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(path) = &arguments.junit {
            fs::write(path, junit(&reports)?).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(reports.iter().all(|report| report.failures().next().is_none()))
}

fn list() -> Result<()> {
    for case in all() {
        let needs: Vec<String> = case.needs.iter().map(ToString::to_string).collect();
        let long = if case.long { " (--long)" } else { "" };
        let needs = if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") };
        writeln!(io::stdout(), "{:<28} {}{long}; rests on {needs}", case.name, case.about)?;
    }
    Ok(())
}
