//! One life of the engine, in a process of its own: it opens what the life before left, is judged by the ledger, and goes on
//! working until it ends, is stopped, or fails. What it does to its files and what it answers goes into a journal.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bincode::{Decode, Encode};
use event_log::contract::WINDOW;
use event_log::{AppendError, EventLog, ManualClock, Receipt, Removed, Timestamp};
use event_log_sled::{SledLog, SledOptions};
use futures_executor::block_on;
use futures_util::future::{BoxFuture, Either, select};

use crate::numbers::Numbers;
use crate::storage::fault::Fault;
use crate::storage::history::{Answer, Condition, Kept, Kind, Ledger, Mark, Operation, Shape};
use crate::storage::interpose::{self, GateWaker, gate};
use crate::storage::journal::Entry;
use crate::storage::profile::Profile;
use crate::storage::twin::{self, TOPICS, Twin};

/// The exit code of a life whose engine met a fault and stopped, as it should.
pub(crate) const FAILED: i32 = 10;
/// The exit code of a life that broke a promise.
pub(crate) const BROKEN: i32 = 20;
/// The exit code of a life that did not end by itself.
pub(crate) const HUNG: i32 = 30;
/// A life that takes longer hangs; most take less than a tenth of one.
const LIFE_SECONDS: u32 = 60;
/// When the first life begins, in microseconds.
const BEGINNING: u64 = 1_795_226_400_000_000;

/// What a life is made of.
#[derive(Debug, Clone, Encode, Decode)]
pub(crate) struct Phase {
    pub(crate) seed: u64,
    /// Which life of the seed it is.
    pub(crate) path: Vec<u64>,
    pub(crate) root: String,
    pub(crate) journal: String,
    pub(crate) ledger: Ledger,
    /// From the beginning, or from the moment when the log is open.
    pub(crate) faults: Vec<Fault>,
    pub(crate) faults_at_open: bool,
}

/// The engine failed; nothing more can be asked of it.
struct Failed;

struct Life {
    engine: SledLog,
    twin: Twin,
    numbers: Numbers,
    now: u64,
    options: SledOptions,
    clock: Arc<ManualClock>,
}

/// Lives, and ends the process.
pub(crate) fn run(phase: Phase) -> ! {
    let journal = File::create(&phase.journal).expect("a journal can be made");
    let at_open = if phase.faults_at_open { phase.faults.clone() } else { Vec::new() };
    interpose::begin(Path::new(&phase.root), journal, at_open);
    end_if_it_hangs();
    let has_faults = !phase.faults.is_empty();
    let code = match catch_unwind(AssertUnwindSafe(|| live(phase))) {
        Ok(Ok(())) => 0,
        Ok(Err(Failed)) if has_faults => FAILED,
        Ok(Err(Failed)) => BROKEN,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            // What asks the log stops where it gets an error instead of an answer.
            let is_refusal = text.contains("Engine(") || text.contains("Closed") || text.contains("Damaged(");
            if has_faults && is_refusal { FAILED } else { BROKEN }
        }
    };
    // Without a stop: whatever runs on is cut off as by a kill.
    std::process::exit(code)
}

/// Ends a life that hangs, and says where each of its threads is.
fn end_if_it_hangs() {
    let watch = || {
        // A second at a time: a process that is stopped meanwhile does not hang.
        (0..LIFE_SECONDS).for_each(|_| std::thread::sleep(Duration::from_secs(1)));
        interpose::show_stacks();
        interpose::end_at_once(HUNG);
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(watch).expect("a thread");
}

fn options(phase: &Phase) -> SledOptions {
    let mut numbers = Numbers::new(phase.seed, &[]);
    let (segment_bytes, checkpoint_events) = match Profile::of(phase.seed) {
        Profile::Mixed | Profile::Starts => {
            (numbers.one_of(&[4 << 10, 16 << 10, 64 << 10]), numbers.one_of(&[10, 50, 300, usize::MAX]))
        }
        Profile::Packing => (numbers.one_of(&[4 << 10, 16 << 10]), numbers.one_of(&[10, 50, 300])),
        Profile::Torn => (4 << 10, usize::MAX),
    };
    SledOptions {
        idempotency_window: WINDOW,
        free_disk_bytes_min: 0,
        segment_bytes,
        key_bucket_entries: 8,
        checkpoint_events,
        recent_bytes: numbers.one_of(&[0, 0, 8 << 20]),
        cache_bytes: 4 << 20,
        pack: false,
        ..SledOptions::new(PathBuf::from(&phase.root).join("data"))
    }
}

fn live(phase: Phase) -> Result<(), Failed> {
    let clock = Arc::new(ManualClock::default());
    let mut numbers = Numbers::new(phase.seed, &phase.path);
    let last = phase.ledger.now.max(BEGINNING);
    clock.set(Timestamp::from_micros(last));
    let options = options(&phase);
    let mut twin = Twin::new(&clock, &phase.ledger);
    clock.set(Timestamp::from_micros(last));
    let engine = open(&options, &clock, !phase.faults.is_empty())?;
    for answer in twin.resolve(&engine, &phase.ledger.in_flight) {
        note(Mark::Done(answer));
    }
    clock.set(Timestamp::from_micros(last));
    twin.compare(&engine, &mut numbers);
    if phase.faults.is_empty() {
        engine.verify().expect("the log is whole");
    }
    if !phase.faults_at_open {
        interpose::set_faults(phase.faults.clone());
    }
    // Dropping it would wait for a writer that may be held at the gate.
    let mut life = ManuallyDrop::new(Life { engine, twin, numbers, now: last, options, clock });
    let profile = Profile::of(phase.seed);
    let steps = profile.steps(&mut life.numbers);
    (0..steps).try_for_each(|_| match profile {
        Profile::Mixed | Profile::Starts => life.step(&phase),
        Profile::Packing => life.step_of_packing(&phase),
        Profile::Torn => life.append_some(profile),
    })?;
    if life.numbers.percent(50) {
        life.close();
    }
    Ok(())
}

fn open(options: &SledOptions, clock: &Arc<ManualClock>, has_faults: bool) -> Result<SledLog, Failed> {
    match SledLog::open(options.clone(), Arc::<ManualClock>::clone(clock)) {
        Ok(engine) => {
            note(Mark::Opened { epoch: engine.bounds().epochs.current().get() });
            Ok(engine)
        }
        Err(_) if has_faults => Err(Failed),
        Err(error) => panic!("the log does not open: {error}"),
    }
}

fn note(mark: Mark) {
    interpose::note(&Entry::Mark(mark));
}

impl Life {
    fn step(&mut self, phase: &Phase) -> Result<(), Failed> {
        match self.numbers.below(24) {
            0..10 => self.append_some(Profile::of(phase.seed)),
            10 => self.append(&[(Shape::Many, Condition::Nothing)]),
            11..13 => {
                self.now += self.numbers.below(40_000_000);
                note(Mark::Time(self.now));
                self.clock.set(Timestamp::from_micros(self.now));
                Ok(())
            }
            13..16 => {
                let kind = self.trim();
                self.remove(kind)
            }
            16..18 => {
                let topic = self.numbers.index(TOPICS.len());
                let kind = Kind::Compact { topic, seconds: self.numbers.below(60) };
                self.remove(kind)
            }
            18..21 => self.engine.give_back().map(drop).map_err(|error| self.failed(&error.to_string())),
            21 => self.reopen(phase),
            _ => {
                self.twin.compare(&self.engine, &mut self.numbers);
                Ok(())
            }
        }
    }

    /// Blocks of 1,024 places become complete, and mostly dead; then they are packed.
    fn step_of_packing(&mut self, phase: &Phase) -> Result<(), Failed> {
        if self.twin.events() < 1_200 {
            return self.append(&[(Shape::Many, Condition::Nothing)]);
        }
        match self.numbers.below(12) {
            0 | 1 => self.append_some(Profile::Packing),
            2 => self.append(&[(Shape::Many, Condition::Nothing)]),
            3..6 => {
                let few = self.numbers.below(60);
                let topic = self.numbers.one_of(&[0, 0, 1, 2, 3, 4]);
                self.remove(Kind::Trim { topic, kept: Kept::Events(few) })
            }
            6..10 => self.engine.give_back().map(drop).map_err(|error| self.failed(&error.to_string())),
            _ => self.step(phase),
        }
    }

    /// Something failed that only a fault may let fail: whoever asks next is refused.
    fn failed(&self, _error: &str) -> Failed {
        Failed
    }

    fn reopen(&mut self, phase: &Phase) -> Result<(), Failed> {
        self.close();
        self.engine = open(&self.options, &self.clock, !phase.faults.is_empty())?;
        self.twin.compare(&self.engine, &mut self.numbers);
        Ok(())
    }

    fn close(&self) {
        block_on(self.engine.close());
    }

    fn trim(&mut self) -> Kind {
        let topic = self.numbers.index(TOPICS.len());
        let events = self.twin.events();
        let kept = match self.numbers.below(5) {
            0 | 1 => Kept::Events(self.numbers.below(1 << self.numbers.clone().below(10))),
            2 => Kept::Bytes(self.numbers.below(20_000)),
            3 => Kept::Seconds(self.numbers.below(60)),
            _ => Kept::After(self.numbers.index(events + 1)),
        };
        Kind::Trim { topic, kept }
    }

    fn remove(&mut self, kind: Kind) -> Result<(), Failed> {
        let operation = Operation { now: self.now, kind };
        let removal = self.twin.removal(&operation, |place| place.engine());
        note(Mark::Begun(operation.clone()));
        let mut sum = Removed::default();
        loop {
            let step = block_on(select(self.engine.remove(vec![removal.clone()]), self.engine.failed()));
            let Either::Left((Ok(step), _)) = step else { return Err(Failed) };
            sum = sum.and(step);
            if !step.more {
                break;
            }
        }
        let answer = Answer::Removed { events: sum.events, bytes: sum.bytes, through: sum.through.get() };
        note(Mark::Done(answer.clone()));
        self.twin.check(&operation, &answer);
        Ok(())
    }

    fn append_some(&mut self, profile: Profile) -> Result<(), Failed> {
        let count = 1 + self.numbers.below(5);
        let some: Vec<(Shape, Condition)> = (0..count)
            .map(|_| {
                let shape = profile.shape(&mut self.numbers);
                let condition = match self.numbers.below(10) {
                    0 => Condition::Never,
                    // A place that there is not yet could be there when a group is judged.
                    1 if self.twin.events() == 0 => Condition::Never,
                    1 => Condition::Place(self.twin.events().saturating_sub(1 + self.numbers.index(8))),
                    _ => Condition::Nothing,
                };
                (shape, condition)
            })
            .collect();
        self.append(&some)
    }

    /// Appends batches: one after the other, or all but the first while the first waits for its barrier.
    fn append(&mut self, batches: &[(Shape, Condition)]) -> Result<(), Failed> {
        let operations: Vec<Operation> = batches
            .iter()
            .map(|(shape, condition)| {
                let kind = Kind::Append { seed: self.numbers.next(), shape: *shape, condition: *condition };
                Operation { now: self.now, kind }
            })
            .collect();
        if self.numbers.percent(50) {
            return operations.iter().try_for_each(|operation| {
                let append = self.begin(operation);
                self.finish(operation, append)
            });
        }
        gate().close();
        let mut first = self.begin(&operations[0]);
        let answered = until_at_gate(&mut first, &mut self.engine.failed())?;
        if answered.is_some() {
            assert!(!gate().is_somebody_waiting(), "an answer before the barrier");
        } else {
            // Nothing of it is seen while it waits.
            let mut looking = self.numbers.clone();
            self.twin.compare(&self.engine, &mut looking);
        }
        let others: Vec<_> = operations[1..].iter().map(|operation| self.begin(operation)).collect();
        gate().open();
        match answered {
            Some(answered) => self.answered(&operations[0], &answered)?,
            None => self.finish(&operations[0], first)?,
        }
        operations[1..].iter().zip(others).try_for_each(|(operation, append)| self.finish(operation, append))
    }

    fn begin(&self, operation: &Operation) -> BoxFuture<'static, Result<Receipt, AppendError>> {
        note(Mark::Begun(operation.clone()));
        self.engine.append(self.twin.batch(operation, |place| place.engine()))
    }

    fn finish(
        &mut self,
        operation: &Operation,
        append: BoxFuture<'static, Result<Receipt, AppendError>>,
    ) -> Result<(), Failed> {
        match block_on(select(append, self.engine.failed())) {
            Either::Left((answered, _)) => self.answered(operation, &answered),
            Either::Right(_) => Err(Failed),
        }
    }

    fn answered(
        &mut self,
        operation: &Operation,
        answered: &Result<Receipt, AppendError>,
    ) -> Result<(), Failed> {
        if matches!(answered, Err(AppendError::Engine(_) | AppendError::Closed)) {
            return Err(Failed);
        }
        let answer = twin::answer(answered);
        note(Mark::Done(answer.clone()));
        self.twin.check(operation, &answer);
        Ok(())
    }
}

/// Waits until the writer is at the barrier of this append, or has answered it.
fn until_at_gate(
    append: &mut BoxFuture<'static, Result<Receipt, AppendError>>,
    failed: &mut BoxFuture<'static, String>,
) -> Result<Option<Result<Receipt, AppendError>>, Failed> {
    let waker = Waker::from(Arc::new(GateWaker));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(answered) = append.as_mut().poll(&mut context) {
            return Ok(Some(answered));
        }
        if failed.as_mut().poll(&mut context).is_ready() {
            return Err(Failed);
        }
        if gate().is_somebody_waiting() {
            return Ok(None);
        }
        gate().wait_for_somebody();
    }
}
