//! The world around a broker: a log that answers late, publishers, readers, upkeep and crashes.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::{Broker, Events, OnGap, Options, Policy, Start, Step, Turns};
use event_log::contract::{Verbatim, WINDOW, clock, decoded, event, filter, keyed, read_from};
use event_log::memory::MemoryLog;
use event_log::{
    AppendError, Batch, Bounds, Cursor, Event, EventId, EventLog, EventType, Filter, Key, LogReader,
    ManualClock, NewEvent, Page, PageLimit, Pattern, Position, ReadError, Receipt, Removal, Removals,
    Removed, Resumed, Seek, TailWatch, Topic, TopicStats,
};
use futures_executor::block_on;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::numbers::Numbers;
use crate::serving::readers::{Fate, Reader, Truth};
use crate::serving::turns::{Tasks, step_back};

const TOPICS: [&str; 4] = ["stocks.a", "stocks.b", "news.x", "states"];
const PATTERNS: [&[&str]; 5] =
    [&["**"], &["stocks.*"], &["news.x"], &["states", "news.**"], &["stocks.a", "stocks.*"]];
const EVERYTHING: PageLimit = PageLimit { events: 4_096, bytes: 1 << 24 };
/// Turns and acts of one seed.
const STEPS: usize = 3_000;

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A log in memory that answers late, and writes down what it was really given.
#[derive(Clone)]
struct LateLog {
    inner: MemoryLog,
    truth: Shared<Truth>,
    numbers: Shared<Numbers>,
}

impl LateLog {
    fn delay(&self) -> u64 {
        let mut numbers = lock(&self.numbers);
        let most = numbers.one_of(&[1, 3, 12]);
        numbers.below(most)
    }

    fn kept(&self) -> Vec<Arc<Event>> {
        let cursor = Cursor { position: Position::ORIGIN, removals: self.inner.removals() };
        read_from(&self.inner, filter(&["**", "$broker.**"]), cursor, EVERYTHING).0
    }

    /// Removes, and says what that means to readers.
    fn remove_one(&self, removal: &Removal) -> Result<Removed, ReadError> {
        let before = self.kept();
        let removed = block_on(self.inner.remove(vec![removal.clone()]))?;
        let after: BTreeSet<Position> = self.kept().iter().map(|event| event.position).collect();
        let mut truth = lock(&self.truth);
        for gone in before.iter().filter(|event| !after.contains(&event.position)) {
            let newer = |other: &&Arc<Event>| {
                other.topic == gone.topic && other.key == gone.key && other.position > gone.position
            };
            let fate = match removal {
                Removal::Superseded { .. } if before.iter().any(|event| newer(&event)) => Fate::Superseded,
                _ => Fate::Trimmed,
            };
            truth.events.get_mut(&gone.position).expect("it was published").2 = fate;
        }
        Ok(removed)
    }
}

impl EventLog for LateLog {
    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Receipt, AppendError>> {
        let events = batch.events.clone();
        let appended = block_on(self.inner.append(batch));
        if let Ok(receipt) = &appended {
            let mut truth = lock(&self.truth);
            for (event, place) in events.iter().zip(&receipt.events).filter(|(_, place)| !place.duplicate) {
                let entry = (event.topic.clone(), event.data.as_str().to_owned(), Fate::Kept);
                assert!(truth.events.insert(place.position, entry).is_none(), "a place was given twice");
            }
        }
        let delay = self.delay();
        step_back(delay).map(|()| appended).boxed()
    }

    fn reader(&self, filter: Arc<Filter>) -> Box<dyn LogReader> {
        Box::new(LateReader { inner: self.inner.reader(filter), log: self.clone() })
    }

    fn remove(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        let log = self.clone();
        async move {
            step_back(log.delay()).await;
            let mut sum = Removed::default();
            for removal in &removals {
                let step = log.remove_one(removal)?;
                sum = Removed { more: sum.more || step.more, ..sum.and(step) };
            }
            step_back(log.delay()).await;
            Ok(sum)
        }
        .boxed()
    }

    fn removable(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        self.inner.removable(removals)
    }

    fn removals(&self) -> Removals {
        self.inner.removals()
    }

    fn count_after(&self, place: Position) -> u64 {
        self.inner.count_after(place)
    }

    fn tail(&self) -> TailWatch {
        self.inner.tail()
    }

    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    fn topics(&self, pattern: Option<&Pattern>) -> Vec<TopicStats> {
        self.inner.topics(pattern)
    }

    fn topic(&self, topic: &Topic) -> Option<TopicStats> {
        self.inner.topic(topic)
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.inner.close()
    }
}

struct LateReader {
    inner: Box<dyn LogReader>,
    log: LateLog,
}

impl LogReader for LateReader {
    fn read(&mut self, after: Cursor, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>> {
        async move {
            step_back(self.log.delay()).await;
            let page = self.inner.read(after, limit).await;
            step_back(self.log.delay()).await;
            page
        }
        .boxed()
    }

    fn resume(&mut self, cursor: Cursor) -> BoxFuture<'_, Result<Resumed, ReadError>> {
        async move {
            step_back(self.log.delay()).await;
            let resumed = self.inner.resume(cursor).await;
            step_back(self.log.delay()).await;
            resumed
        }
        .boxed()
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Cursor, ReadError>> {
        async move {
            step_back(self.log.delay()).await;
            self.inner.seek(to).await
        }
        .boxed()
    }
}

/// What a seed came to: a trace of every turn, to compare two runs, and what was seen on the way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) steps: Vec<String>,
    pub(crate) received: usize,
    pub(crate) gaps: usize,
    pub(crate) events: usize,
}

struct World {
    numbers: Numbers,
    clock: Arc<ManualClock>,
    log: LateLog,
    broker: Broker,
    tasks: Tasks,
    readers: Vec<(Shared<Reader>, u64)>,
    /// Batches whose answer was lost or is to be asked for again.
    retries: Vec<Batch>,
    published: u64,
    trace: Vec<String>,
}

/// Runs a seed. What goes wrong is the error.
pub(crate) fn run(seed: u64) -> Result<Trace, String> {
    catch_unwind(AssertUnwindSafe(|| live(seed))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

fn live(seed: u64) -> Trace {
    let numbers = Numbers::new(seed, &[1 << 41]);
    let clock = clock();
    let inner = MemoryLog::new(Arc::<ManualClock>::clone(&clock), WINDOW);
    let log = LateLog {
        inner,
        truth: Shared::default(),
        numbers: Arc::new(Mutex::new(Numbers::new(seed, &[1 << 42]))),
    };
    let (broker, turns) = start(&log, &clock);
    let (tasks, readers, retries) = (Tasks::default(), Vec::new(), Vec::new());
    let mut world =
        World { numbers, clock, log, broker, tasks, readers, retries, published: 0, trace: Vec::new() };
    world.give_turns(turns);
    for _ in 0..STEPS {
        world.step();
    }
    world.finish()
}

fn start(log: &LateLog, clock: &Arc<ManualClock>) -> (Broker, Turns) {
    let options = Options { tombstone_retention: Duration::from_secs(30), ..Options::default() };
    let started = Broker::start_in_turns(Arc::new(log.clone()), Arc::<ManualClock>::clone(clock), options);
    started.expect("the policies can be read")
}

impl World {
    /// The broker's own work goes on as tasks beside the others.
    fn give_turns(&mut self, mut turns: Turns) {
        self.tasks.spawn(turns.take_feed());
        let numbers = Arc::clone(&self.log.numbers);
        self.tasks.spawn(async move {
            loop {
                let rest = lock(&numbers).below(400);
                step_back(rest).await;
                turns.retain().await;
            }
        });
    }

    fn step(&mut self) {
        if self.numbers.percent(85) {
            if let Some(task) = self.tasks.turn(&mut self.numbers) {
                self.trace.push(format!("turn {task}"));
            }
            return;
        }
        let act = self.numbers.below(100);
        self.trace.push(format!("act {act}"));
        match act {
            0..45 => self.publish(),
            45..55 => self.retry(),
            55..65 => self.read(),
            65..82 => self.cut(),
            // All of it together stays within the window of idempotency keys, so that a retry is one.
            82..90 => self.clock.advance(Duration::from_millis(self.numbers.below(1_000))),
            90..94 => self.purge(),
            94..98 => self.set_policy(),
            _ => self.crash(),
        }
    }

    fn publish(&mut self) {
        let count = 1 + self.numbers.below(6);
        let events = (0..count).map(|_| self.event()).collect();
        self.send(Batch::new(events));
    }

    fn event(&mut self) -> NewEvent {
        self.published += 1;
        let number = self.published;
        let topic = self.numbers.one_of(&TOPICS);
        let mut new = keyed(event(topic, &format!("{number}")), &format!("once-{number}"));
        if topic == "states" {
            new.key = Key::parse(format!("k{}", self.numbers.below(5))).ok();
            if self.numbers.percent(20) {
                new.event_type = Some(EventType::delete());
            }
        }
        new
    }

    /// Publishes; now and then the answer is lost, and the same is sent again later.
    fn send(&mut self, batch: Batch) {
        let publish = self.broker.publish(batch.clone());
        if self.numbers.percent(30) {
            drop(publish);
            self.retries.push(batch);
            return;
        }
        let truth = Arc::clone(&self.log.truth);
        self.tasks.spawn(async move {
            let receipt = publish.await.expect("the log is open");
            let truth = lock(&truth);
            for (event, place) in batch.events.iter().zip(&receipt.events) {
                let (topic, data, _) = &truth.events[&place.position];
                assert_eq!((topic, data.as_str()), (&event.topic, event.data.as_str()), "a wrong answer");
            }
        });
    }

    fn retry(&mut self) {
        if !self.retries.is_empty() {
            let at = self.numbers.index(self.retries.len());
            let batch = self.retries.swap_remove(at);
            self.send(batch);
        }
    }

    /// A new reader, from any place.
    fn read(&mut self) {
        if self.readers.len() >= 8 {
            return;
        }
        let wanted = Arc::new(filter(self.numbers.one_of(&PATTERNS)));
        let start = match self.numbers.below(3) {
            0 => Start::Latest,
            1 => Start::Earliest,
            _ => Start::Last(NonZeroU64::new(1 + self.numbers.below(9)).expect("more than zero")),
        };
        let reader = Arc::new(Mutex::new(Reader::new(Arc::clone(&wanted), Position::ORIGIN)));
        let task = self.connect(&reader, start, true);
        self.readers.push((reader, task));
    }

    fn connect(&mut self, reader: &Shared<Reader>, start: Start, is_first: bool) -> u64 {
        let (broker, reader) = (self.broker.clone(), Arc::clone(reader));
        let (truth, numbers) = (Arc::clone(&self.log.truth), Arc::clone(&self.log.numbers));
        self.tasks.spawn(async move {
            let wanted = Arc::clone(&lock(&reader).filter);
            let opened = broker.open(&wanted, &start, OnGap::Earliest).await.expect("the log is open");
            let mut subscription = broker.subscribe(wanted, &opened, Arc::new(Verbatim));
            // What a client is told comes in pieces, and between two of them the connection may be cut.
            // Not in one expression: the lock would be held while others have their turn.
            let rest = lock(&numbers).below(3);
            step_back(rest).await;
            match (&opened.gap, is_first) {
                (Some(gap), _) => lock(&reader).gap(gap.resumed_after, &lock(&truth)),
                (None, true) => lock(&reader).cursor = opened.from.position,
                (None, false) => assert_eq!(opened.from.position, lock(&reader).cursor, "another place"),
            }
            loop {
                let step = subscription.next().await.expect("the log is open");
                match step {
                    Step::Events(events) => {
                        let events: Vec<Arc<Event>> = match events {
                            Events::Recent(events) => {
                                events.iter().map(|recent| Arc::clone(&recent.event)).collect()
                            }
                            Events::Replayed(events) => decoded(events),
                        };
                        for event in &events {
                            lock(&reader).take(event.position, event.data.as_str(), &lock(&truth));
                            if lock(&numbers).percent(20) {
                                step_back(1).await;
                            }
                        }
                    }
                    Step::Gap(gap) => lock(&reader).gap(gap.resumed_after, &lock(&truth)),
                    Step::Live(place) => lock(&reader).pass(place, &lock(&truth)),
                    Step::Ended => return,
                }
                let settled = subscription.settle().position;
                lock(&reader).pass(settled, &lock(&truth));
            }
        })
    }

    /// A connection is cut wherever it is, and its reader comes back with the last id that it got.
    fn cut(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.numbers.index(self.readers.len());
        let (reader, task) = self.readers[at].clone();
        self.tasks.cut(task);
        self.readers[at].1 = self.come_back(&reader);
    }

    fn come_back(&mut self, reader: &Shared<Reader>) -> u64 {
        lock(reader).come_back();
        let cursor = lock(reader).cursor;
        let is_first = cursor == Position::ORIGIN && lock(reader).received == 0;
        let id = EventId::new(cursor, self.broker.epochs().current()).to_string();
        let start = if is_first { Start::Latest } else { Start::Cursor(id.into_bytes()) };
        self.connect(reader, start, is_first)
    }

    fn purge(&mut self) {
        let (broker, topic) = (self.broker.clone(), self.numbers.one_of(&TOPICS));
        let topic = Topic::parse(topic.to_owned()).expect("a topic");
        self.tasks.spawn(async move {
            broker.purge(&topic).await.expect("the log is open");
        });
    }

    fn set_policy(&mut self) {
        let pattern = self.numbers.one_of(&["stocks.*", "states", "news.x", "**"]);
        let few = self.numbers.below(20);
        let policy = match self.numbers.below(4) {
            0 => format!(r#"{{"max_events":{few}}}"#),
            1 => format!(r#"{{"max_age":"{few}s"}}"#),
            2 => r#"{"compact":"key"}"#.to_owned(),
            _ => format!(r#"{{"compact":"key","max_events":{}}}"#, few * 4),
        };
        let policy = Policy::parse(&policy).expect("a policy");
        let pattern = Pattern::parse(pattern.to_owned()).expect("a pattern");
        let broker = self.broker.clone();
        self.tasks.spawn(async move { broker.set_policy(&pattern, &policy).await.expect("the log is open") });
    }

    /// Everything in memory is gone; the log is what it was.
    fn crash(&mut self) {
        self.tasks = Tasks::default();
        self.log.inner = self.log.inner.reopened();
        let (broker, turns) = start(&self.log, &self.clock);
        self.broker = broker;
        self.give_turns(turns);
        for at in 0..self.readers.len() {
            let reader = Arc::clone(&self.readers[at].0);
            self.readers[at].1 = self.come_back(&reader);
        }
    }

    /// Nothing happens any more: every reader comes to the head, and nothing was published twice.
    fn finish(mut self) -> Trace {
        while let Some(batch) = self.retries.pop() {
            let publish = self.broker.publish(batch);
            self.tasks.spawn(async move { drop(publish.await.expect("the log is open")) });
        }
        for _ in 0..20_000 {
            self.tasks.turn(&mut self.numbers);
        }
        let truth = lock(&self.log.truth);
        let app = truth.events.values().filter(|(topic, ..)| !topic.is_reserved());
        let data: Vec<&String> = app.map(|(_, data, _)| data).collect();
        let distinct: BTreeSet<&&String> = data.iter().collect();
        assert_eq!(distinct.len(), data.len(), "something was published twice");
        let mut trace = Trace { steps: self.trace.clone(), events: truth.events.len(), ..Trace::default() };
        for (reader, _) in &self.readers {
            let mut reader = lock(reader);
            // It is at the head, whatever it was told last.
            reader.pass(self.log.bounds().head, &truth);
            trace.received += reader.received;
            trace.gaps += reader.gaps;
        }
        trace.steps.push(format!("{:?}", truth.events));
        trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_run_step_by_step() {
        for seed in 0..5 {
            assert_eq!(run(seed), run(seed));
        }
        assert_ne!(run(0), run(1));
    }

    #[test]
    fn a_few_seeds_keep_the_promises_and_there_is_something_to_keep() {
        let mut sum = Trace::default();
        for seed in 0..60 {
            let trace = run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            sum.received += trace.received;
            sum.gaps += trace.gaps;
            sum.events += trace.events;
        }
        assert!(sum.received > sum.events && sum.gaps > 60, "{sum:?}");
    }
}
