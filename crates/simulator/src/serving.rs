//! The broker: everything above the log, on the model of the log in memory, on one thread, in an order that follows from the seed.
//!
//! Publishers retry with idempotency keys and lose answers; readers cut their connections at any event and come back with their
//! last id; policies, purges and compaction remove; the log answers late; and now and then all of it crashes and starts again on what
//! was durable. Each reader keeps a ledger, which is judged at every step by what the log was really given.

mod log;
mod readers;
mod turns;
mod world;

pub(crate) use world::{Counts, run};

/// Prints what happens in a seed.
pub(crate) fn print(seed: u64) -> anyhow::Result<()> {
    let trace = run(seed).map_err(|why| anyhow::anyhow!("{why}"))?;
    println!("{}", trace.steps.join("\n"));
    Ok(())
}
