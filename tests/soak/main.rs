//! The soak: publish at full rate into topics with all kinds of policies, while readers come and go and the broker is
//! killed now and then, and watch that every ledger is exact and that disk and memory stay flat.
//!
//! ```text
//! cargo test --release -p perennial --test soak -- [--minutes N] [--seed N] FOLDER
//! cargo test --release -p perennial --test soak -- --compare [--minutes N] FOLDER
//! ```
//!
//! The folder gets `soak.csv`, `soak.svg` and `soak.txt`, or `compare.txt`. Anything that is wrong ends the run with exit
//! code 1. It is no part of `cargo test`: it measures, and takes as long as it is told to.
#![cfg(test)]

/// Publishing with and without retention beside it.
mod compare;
#[expect(dead_code, unused_imports, reason = "the soak uses a part of what the tests stand on")]
#[path = "../harness/mod.rs"]
mod harness;
/// What is published.
mod lanes;
/// What every reader must have been given.
mod ledger;
/// The publishers.
mod load;
/// The picture.
mod plot;
/// The readers.
mod readers;
/// What is measured.
mod samples;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::heavy::Numbers;
use harness::stream::sequence;
use harness::{Broker, Request, escape};
use lanes::{END_TOPIC, Feed, LANES};
use load::{Run, locked};
use samples::{MIB, Samples};

/// What was asked for.
struct Arguments {
    minutes: f64,
    seed: u64,
    is_comparison: bool,
    folder: PathBuf,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments =
            Arguments { minutes: 20.0, seed: 1, is_comparison: false, folder: PathBuf::new() };
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|text| text.parse::<f64>().ok());
            match word.as_str() {
                "--minutes" => arguments.minutes = number().ok_or("--minutes needs a number")?,
                "--seed" => arguments.seed = number().ok_or("--seed needs a number")? as u64,
                "--compare" => arguments.is_comparison = true,
                word if word.starts_with('-') => return Err(format!("{word} is not known")),
                folder => arguments.folder = PathBuf::from(folder),
            }
        }
        match arguments.folder.as_os_str().is_empty() {
            true => Err("name a folder for the results".to_owned()),
            false => Ok(arguments),
        }
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("soak: {wrong}; usage: [--compare] [--minutes N] [--seed N] FOLDER");
            return ExitCode::from(2);
        }
    };
    std::fs::create_dir_all(&arguments.folder).expect("a folder for the results");
    let length = Duration::from_secs_f64(arguments.minutes * 60.0);
    // A broken promise of the broker may also show as a panic of the harness.
    let outcome = std::panic::catch_unwind(|| match arguments.is_comparison {
        true => {
            let found = compare::compare(length);
            println!("{found}");
            std::fs::write(arguments.folder.join("compare.txt"), found).expect("a file for what was found");
            true
        }
        false => soak(length, arguments.seed, &arguments.folder),
    });
    if outcome.unwrap_or(false) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run; whether nothing was wrong.
fn soak(length: Duration, seed: u64, folder: &Path) -> bool {
    let mut broker = Broker::with(&[
        "--set",
        "retention_interval=500ms",
        "--set",
        "heartbeat=1s",
        "--set",
        "idempotency_window=2m",
    ]);
    for lane in &LANES {
        if let Some(policy) = lane.policies.first() {
            broker.put_policy(lane.topic, policy);
        }
    }
    broker.put_policy("soak.state.graves", r#"{"compact":"key"}"#);
    let run = Run::new(broker.port());
    let settled: Vec<AtomicU64> = readers::HABITS.iter().map(|_| AtomicU64::new(0)).collect();
    let mut samples = Samples::default();
    let mut kills = 0;
    thread::scope(|scope| {
        let mut publishers = vec![scope.spawn(|| load::bury(&run))];
        for lanes in publishers_lanes() {
            let run = &run;
            publishers.push(scope.spawn(move || load::feed(run, &lanes)));
        }
        for (habit, settled) in readers::HABITS.iter().zip(&settled) {
            let run = &run;
            scope.spawn(move || readers::read(run, *habit, settled));
        }
        let course = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            course(&mut broker, &run, &settled, &mut samples, length, seed)
        }));
        run.over.store(true, Ordering::SeqCst);
        for publisher in publishers {
            if publisher.join().is_err() {
                run.fail("a publisher", "it panicked");
            }
        }
        match course {
            Ok(count) => kills = count,
            Err(_) => run.fail("the course of the run", "it panicked"),
        }
        if !run.has_failed() {
            let end =
                Request::new("POST", &format!("/v1/topics/{END_TOPIC}/events?type=end")).body("the end");
            assert_eq!(broker.send(&end).status, 201);
        }
    });
    let mut wrong = run.wrong();
    wrong.extend(samples.judge());
    if broker.is_running() && !broker.terminate().success() {
        wrong.push("the broker did not stop cleanly".to_owned());
    }
    if std::panic::catch_unwind(|| broker.verify()).is_err() {
        wrong.push("verify found damage".to_owned());
    }
    report(&run, &samples, kills, &wrong, folder);
    if !wrong.is_empty() {
        eprintln!("--- the end of what the broker logged:");
        broker.log().lines().rev().take(40).for_each(|line| eprintln!("{line}"));
    }
    wrong.is_empty()
}

/// Who feeds which lanes: batches by two publishers, and each single lane by one of its own.
fn publishers_lanes() -> Vec<Vec<usize>> {
    let is_batch = |lane: &usize| matches!(LANES[*lane].feed, Feed::Batch(_));
    let (batches, singles): (Vec<usize>, Vec<usize>) = (0..LANES.len()).partition(is_batch);
    let half = |turn: usize| batches.iter().copied().skip(turn).step_by(2).collect();
    [half(0), half(1)].into_iter().chain(singles.into_iter().map(|lane| vec![lane])).collect()
}

/// The run itself, a second at a time: samples, kills, purges and changes of policies. Returns how often it killed.
fn course(
    broker: &mut Broker,
    run: &Run,
    settled: &[AtomicU64],
    samples: &mut Samples,
    length: Duration,
    seed: u64,
) -> u32 {
    let mut numbers = Numbers::from_seed(seed);
    let began = Instant::now();
    // The first one comes early, so that a short trial has one too.
    let (mut kills, mut next_kill) = (0, 20 + numbers.below(30));
    for second in 1.. {
        let due = began + Duration::from_secs(second);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if began.elapsed() >= length || run.has_failed() {
            break;
        }
        let is_kill = second >= next_kill;
        if is_kill {
            broker.kill();
            broker.restart();
            kills += 1;
            next_kill = second + 60 + numbers.below(60);
        }
        let purged = numbers.below(LANES.len() as u64) as usize;
        if second % 13 == 0 && LANES[purged].is_purged {
            let target = format!("/v1/topics/{}", escape(LANES[purged].topic));
            let status = broker.send(&Request::new("DELETE", &target)).status;
            assert!(matches!(status, 200 | 404), "a purge was answered {status}");
        }
        let changed = &LANES[numbers.below(LANES.len() as u64) as usize];
        if second % 7 == 0 && !changed.policies.is_empty() {
            let policy = changed.policies[numbers.below(changed.policies.len() as u64) as usize];
            broker.put_policy(changed.topic, policy);
        }
        samples.take(broker, run, began.elapsed().as_secs_f64(), is_kill);
        forget(broker, run, settled);
    }
    kills
}

/// Lets the lanes forget what nobody will ask of: what all readers have passed, and what a reader that begins at the
/// earliest cannot be given any more.
fn forget(broker: &Broker, run: &Run, settled: &[AtomicU64]) {
    let passed = settled.iter().map(|settled| settled.load(Ordering::SeqCst)).min().unwrap_or(0);
    let listed = broker.json("/v1/topics?pattern=soak.**");
    for told in listed["topics"].as_array().expect("topics") {
        let Some(lane) = LANES.iter().position(|lane| told["topic"] == lane.topic) else { continue };
        let first = told["first_id"].as_str().map_or(u64::MAX, |id| sequence(id.as_bytes()));
        locked(&run.lanes[lane]).forget_through(passed.min(first - 1));
    }
}

/// Writes the results and says them.
fn report(run: &Run, samples: &Samples, kills: u32, wrong: &[String], folder: &Path) {
    let all = &samples.all;
    let mean =
        |value: fn(&samples::Sample) -> f64| all.iter().map(value).sum::<f64>() / all.len().max(1) as f64;
    let peak = |value: fn(&samples::Sample) -> u64| all.iter().map(value).max().unwrap_or(0) / MIB;
    let published: u64 = run.lanes.iter().map(|lane| locked(lane).recorded()).sum();
    let text = format!(
        "{:.0} seconds, {kills} kills\n\
         {published} events published, {:.0} a second; {} delivered, {:.0} a second\n\
         {} gaps told; {} events not given to readers: told of, or superseded\n\
         publish of one event: p50 {:.2} ms, p99 {:.2} ms (means over seconds)\n\
         at the most {} MiB kept, {} MiB on disk, {} MiB resident\n\
         {}\n",
        all.last().map_or(0.0, |sample| sample.seconds),
        mean(|sample| sample.published_per_second),
        run.delivered.load(Ordering::Relaxed),
        mean(|sample| sample.delivered_per_second),
        run.gaps.load(Ordering::Relaxed),
        run.missing.load(Ordering::Relaxed),
        mean(|sample| sample.single_p50_ms),
        mean(|sample| sample.single_p99_ms),
        peak(|sample| sample.kept_bytes),
        peak(|sample| sample.disk_bytes),
        peak(|sample| sample.resident_bytes),
        if wrong.is_empty() {
            "nothing was wrong".to_owned()
        } else {
            format!("WRONG:\n{}", wrong.join("\n"))
        },
    );
    println!("{text}");
    std::fs::write(folder.join("soak.txt"), &text).expect("a file for the summary");
    samples.write_csv(&folder.join("soak.csv")).expect("a file for the samples");
    plot::draw(all, &folder.join("soak.svg")).expect("a picture");
}
