//! The one binary: the broker's daemon and its command line client.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (an argument, or a value of the configuration).
#![forbid(unsafe_code)]

mod archive;
mod authentication;
mod bench;
mod cli;
mod client;
mod config;
mod demo;
mod engine;
mod jwks;
mod open_files;
mod progress;
mod secret;
mod serve;
mod telemetry;
mod tls;
mod tokens;
mod values;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// An error that is the caller's: exit code 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongUsage(pub(crate) String);

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Publish(args) => client::publish::run(&args),
        Command::Subscribe(args) => client::subscribe::run(&args),
        Command::Topics(args) => client::topics::run(&args),
        Command::Status(args) => client::status::run(&args),
        Command::Health(args) => client::health::run(&args),
        Command::Policy(args) => client::policy::run(&args.command),
        Command::Purge(args) => client::purge::run(&args),
        Command::Export(args) => archive::export::run(&args),
        Command::Import(args) => archive::import::run(&args),
        Command::Backup(args) => archive::backup::run(&args),
        Command::Verify(args) => archive::verify::run(&args),
        Command::Token(args) => tokens::token(&args),
        Command::Keys(args) => tokens::keys(&args.command),
        Command::Bench(args) => bench::run(&args.command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("perennial: {error:#}"));
            ExitCode::from(if error.is::<WrongUsage>() { 2 } else { 1 })
        }
    }
}

/// A line for the person at the terminal. If nobody can read it, there is nobody to tell.
pub(crate) fn tell(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").unwrap_or_default();
}
