//! The cases run, one after the other or side by side.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::adapter::Adapter;
use crate::case::{Case, Outcome, Stop, Verdict};
use crate::cases::all;
use crate::hub::Hub;
use crate::launch::{Launch, Process};
use crate::report::{Report, Row};

/// Which cases are run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only cases whose name contains this.
    pub case: Option<String>,
    /// The cases that take minutes, too.
    pub long: bool,
    /// How many run at once.
    pub jobs: usize,
    /// How long the idle case waits.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { case: None, long: false, jobs: 1, idle: Duration::from_secs(180) }
    }
}

impl Options {
    fn chosen(&self, case: &Case) -> bool {
        self.case.as_ref().is_none_or(|part| case.name.contains(part.as_str()))
    }
}

/// Takes a hub through the cases, started by its adapter's command. `done` is told of each case as it ends.
pub fn run(adapter: &Adapter, options: &Options, done: &(dyn Fn(&Row) + Sync)) -> Report {
    run_with(adapter, &Process, options, done)
}

/// The same with hubs that are started in another way.
pub fn run_with(
    adapter: &Adapter,
    launch: &dyn Launch,
    options: &Options,
    done: &(dyn Fn(&Row) + Sync),
) -> Report {
    let date = OffsetDateTime::now_utc().date();
    let cases: Vec<Case> = all().into_iter().filter(|case| options.chosen(case)).collect();
    let rows: Mutex<Vec<(usize, Row)>> = Mutex::default();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some((i, case)) = take(&next, &cases) {
                    let row = run_case(adapter, launch, options, case);
                    done(&row);
                    rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((i, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    rows.sort_by_key(|(i, _)| *i);
    Report {
        hub: adapter.name.clone(),
        about: adapter.about.clone(),
        version: version(adapter),
        date: date.to_string(),
        promises: adapter.promises.iter().copied().collect(),
        rows: rows.into_iter().map(|(_, row)| row).collect(),
    }
}

fn take<'a>(next: &AtomicUsize, cases: &'a [Case]) -> Option<(usize, &'a Case)> {
    let i = next.fetch_add(1, Ordering::SeqCst);
    cases.get(i).map(|case| (i, case))
}

fn run_case(adapter: &Adapter, launch: &dyn Launch, options: &Options, case: &Case) -> Row {
    let began = Instant::now();
    let verdict = if case.long && !options.long {
        Verdict::NotRun
    } else {
        judge(adapter, case, &outcome(adapter, launch, options, case))
    };
    Row { case: *case, verdict, seconds: began.elapsed().as_secs_f64() }
}

/// Runs a case on a hub of its own. A fault of the suite itself reads as a failure, never as a pass.
fn outcome(adapter: &Adapter, launch: &dyn Launch, options: &Options, case: &Case) -> Outcome {
    let hub = Hub::start(adapter, launch, options.idle)?;
    catch_unwind(AssertUnwindSafe(|| (case.run)(&hub)))
        .unwrap_or_else(|_| Err(Stop::Failed("the suite itself failed; please report it".to_owned())))
}

fn judge(adapter: &Adapter, case: &Case, outcome: &Outcome) -> Verdict {
    let missing = case.needs.iter().find(|promise| !adapter.promises.contains(promise));
    match (outcome, missing) {
        (Err(Stop::NotApplicable(reason)), _) => Verdict::NotApplicable(reason.clone()),
        (Ok(_), Some(promise)) => Verdict::NotPromised(*promise, "it held".to_owned()),
        (Err(Stop::Failed(seen)), Some(promise)) => Verdict::NotPromised(*promise, seen.clone()),
        (Ok(remark), None) => Verdict::Pass(remark.clone()),
        (Err(Stop::Failed(seen)), None) => Verdict::Fail(seen.clone()),
    }
}

/// What the adapter's command says of the version: its output in one line.
fn version(adapter: &Adapter) -> String {
    let Some((program, arguments)) = adapter.version.split_first() else { return "unknown".to_owned() };
    match Command::new(program).args(arguments).current_dir(&adapter.folder).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&said);
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
        }
        Err(error) => format!("unknown: {error}"),
    }
}
