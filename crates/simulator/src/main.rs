//! The simulator: runs the log and the broker on time, scheduling and disks that follow from a seed, and checks the five promises.
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

mod mutants;
mod numbers;
mod runner;
mod serving;
mod storage;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Simulates the log and the broker, and breaks what is below them")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs seeds; a failing one says how it is run again.
    Simulate(runner::Seeds),
    /// Plants bugs, one at a time, and shows that some seed sees each.
    Mutants(mutants::Mutants),
    /// Prints the journal of a life.
    Journal {
        /// The file.
        file: PathBuf,
    },
    /// Prints what happens above the log in a seed, step by step.
    Trace {
        /// The seed.
        seed: u64,
    },
    /// One life of the engine, started by the simulator itself.
    #[command(hide = true)]
    Phase {
        /// What it is made of.
        file: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Simulate(seeds) => runner::run(&seeds),
        Task::Mutants(mutants) => mutants::run(&mutants),
        Task::Journal { file } => storage::print(&file),
        Task::Trace { seed } => serving::print(seed),
        Task::Phase { file } => storage::phase(&file),
    }
}
