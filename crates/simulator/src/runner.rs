//! Runs seeds, as many side by side as the machine has cores.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::bail;
use clap::{Args, ValueEnum};

use crate::serving;
use crate::storage::seed::{self, Counts};

/// Which seeds are run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Seeds {
    /// How many.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// This part alone; both by default.
    #[arg(long)]
    only: Option<Part>,
    /// How many at a time; all cores by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Keep nothing of a seed that fails.
    #[arg(long)]
    discard: bool,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The log on its disks.
    Storage,
    /// The broker above the log.
    Serving,
}

/// What seeds came to.
#[derive(Default)]
struct Sum {
    storage: Counts,
    serving: serving::Counts,
    failed: Vec<u64>,
}

/// Runs them, and fails if any did.
pub(crate) fn run(seeds: &Seeds) -> anyhow::Result<()> {
    let (from, count) = seeds.seed.map_or((seeds.from, seeds.seeds), |seed| (seed, 1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = seeds.jobs.unwrap_or(cores);
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return;
            }
            let result = one(seed, seeds);
            let mut sum = sum.lock().expect("nobody panics with this lock");
            match result {
                Ok((storage, serving)) => {
                    sum.storage.add(storage);
                    sum.serving.add(serving);
                }
                Err(error) => {
                    println!(
                        "seed {seed} failed: {error:#}\nrun it again: cargo xtask simulate --seed {seed}\n"
                    );
                    sum.failed.push(seed);
                    stop.store(!seeds.keep_going, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let Sum { storage, serving, failed } = sum.into_inner().expect("nobody panics with this lock");
    let Counts { lives, cuts, faults } = storage;
    println!("storage: {lives} lives, {cuts} cuts, {faults} lives with faults");
    let serving::Counts { events, received, gaps, superseded } = serving;
    println!("serving: {events} events, {superseded} superseded, {received} received, {gaps} gaps");
    println!("{:.1} s", began.elapsed().as_secs_f64());
    match failed.is_empty() {
        true => Ok(()),
        false => bail!("{} of {count} seeds failed: {failed:?}", failed.len()),
    }
}

/// One seed. What it leaves is kept only if it fails.
fn one(seed: u64, seeds: &Seeds) -> anyhow::Result<(Counts, serving::Counts)> {
    let (mut storage, mut serving) = (Counts::default(), serving::Counts::default());
    if seeds.only != Some(Part::Storage) {
        serving = serving::run(seed).map_err(|why| anyhow::anyhow!("above the log: {why}"))?.counts;
    }
    if seeds.only != Some(Part::Serving) {
        storage = on_disks(seed, seeds.discard)?;
    }
    Ok((storage, serving))
}

fn on_disks(seed: u64, discard: bool) -> anyhow::Result<Counts> {
    let folder = tempfile::Builder::new().prefix(&format!("simulator-{seed}-")).tempdir_in(memory())?;
    let result = seed::run(seed, folder.path());
    if result.is_err() && !discard {
        let kept = folder.keep();
        println!("the disk, the ledger and the journal of its last life are in {}", kept.display());
    }
    result
}

/// Where files cost no disk.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.lives += other.lives;
        self.cuts += other.cuts;
        self.faults += other.faults;
    }
}
