//! The world around a broker: a log that answers late, publishers, readers, upkeep and crashes.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{Broker, Events, OnGap, Options, Policy, Start, Step, Turns};
use event_log::contract::{Verbatim, WINDOW, clock, decoded, event, filter, keyed};
use event_log::memory::MemoryLog;
use event_log::{
    Batch, Cursor, Event, EventId, EventLog, EventType, Key, ManualClock, NewEvent, Pattern, Position, Topic,
};

use crate::numbers::Numbers;
use crate::serving::log::{LateLog, Shared, lock};
use crate::serving::readers::{Fate, Published, Reader};
use crate::serving::turns::{Tasks, step_back};

const TOPICS: [&str; 4] = ["stocks.a", "stocks.b", "news.x", "states"];
const PATTERNS: [&[&str]; 5] =
    [&["**"], &["stocks.*"], &["news.x"], &["states", "news.**"], &["stocks.a", "stocks.*"]];
/// Turns and acts of one seed.
const STEPS: usize = 3_000;
/// So many lines of what happened are told of a seed that fails.
const LAST: usize = 60;

/// What a seed came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// What happened, in order.
    pub(crate) steps: Vec<String>,
    pub(crate) counts: Counts,
}

/// What there was to judge.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) events: usize,
    pub(crate) received: usize,
    pub(crate) gaps: usize,
    pub(crate) superseded: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.events += other.events;
        self.received += other.received;
        self.gaps += other.gaps;
        self.superseded += other.superseded;
    }
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
}

/// Runs a seed. What goes wrong is the error, with what happened before it.
pub(crate) fn run(seed: u64) -> Result<Trace, String> {
    let diary = Shared::<Vec<String>>::default();
    catch_unwind(AssertUnwindSafe(|| live(seed, &diary))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let diary = lock(&diary);
        let last = diary.len().saturating_sub(LAST);
        format!("{}\n{}", text.unwrap_or_default(), diary[last..].join("\n"))
    })
}

fn live(seed: u64, diary: &Shared<Vec<String>>) -> Trace {
    let numbers = Numbers::new(seed, &[1 << 41]);
    let clock = clock();
    let inner = MemoryLog::new(Arc::<ManualClock>::clone(&clock), WINDOW);
    let log = LateLog {
        inner,
        truth: Shared::default(),
        numbers: Arc::new(Mutex::new(Numbers::new(seed, &[1 << 42]))),
        diary: Arc::clone(diary),
        under_way: Arc::default(),
    };
    let (broker, turns) = start(&log, &clock);
    let (tasks, readers, retries) = (Tasks::default(), Vec::new(), Vec::new());
    let mut world = World { numbers, clock, log, broker, tasks, readers, retries, published: 0 };
    world.give_turns(turns);
    for _ in 0..STEPS {
        world.step();
    }
    world.finish()
}

fn start(log: &LateLog, clock: &Arc<ManualClock>) -> (Broker, Turns) {
    let options = Options { tombstone_retention: Duration::from_secs(3), ..Options::default() };
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
                let rest = lock(&numbers).below(100);
                step_back(rest).await;
                turns.retain().await;
            }
        });
    }

    fn step(&mut self) {
        if self.numbers.percent(85) {
            if let Some(task) = self.tasks.turn(&mut self.numbers) {
                self.log.write_down(format!("turn {task}"));
            }
            return;
        }
        let act = self.numbers.below(100);
        self.log.write_down(format!("act {act}"));
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
                let known = &truth.events[&place.position];
                assert_eq!(
                    (&known.topic, known.data.as_str()),
                    (&event.topic, event.data.as_str()),
                    "a wrong answer"
                );
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
        let reader = Arc::new(Mutex::new(Reader::new(self.readers.len(), wanted)));
        let task = self.connect(&reader, start, true);
        self.readers.push((reader, task));
    }

    fn connect(&mut self, reader: &Shared<Reader>, start: Start, is_first: bool) -> u64 {
        let (broker, log, reader) = (self.broker.clone(), self.log.clone(), Arc::clone(reader));
        self.tasks.spawn(follow(broker, log, reader, start, is_first))
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
        let truth = Arc::clone(&self.log.truth);
        let last = self.log.topic(&topic).map(|stats| stats.last);
        self.tasks.spawn(async move {
            broker.purge(&topic).await.expect("the log is open");
            for (_, event) in lock(&truth).events.iter_mut().filter(|(place, _)| Some(**place) <= last) {
                event.purged |= event.topic == topic;
            }
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
        let app = truth.events.values().filter(|event| !event.topic.is_reserved());
        let data: Vec<&String> = app.map(|event| &event.data).collect();
        let distinct: BTreeSet<&&String> = data.iter().collect();
        assert_eq!(distinct.len(), data.len(), "something was published twice");
        let mut counts = Counts { events: truth.events.len(), ..Counts::default() };
        for (reader, _) in &self.readers {
            let mut reader = lock(reader);
            // It is at the head, whatever it was told last.
            self.log.write_down(format!("reader {} is at {} in the end", reader.number, reader.cursor));
            reader.pass(self.log.bounds().head, &truth);
            counts.received += reader.received;
            counts.gaps += reader.gaps;
        }
        counts.superseded = truth.events.values().filter(|event| event.fate == Fate::Superseded).count();
        Trace { steps: lock(&self.log.diary).clone(), counts }
    }
}

/// One connection of a reader.
async fn follow(broker: Broker, log: LateLog, reader: Shared<Reader>, start: Start, is_first: bool) {
    let number = lock(&reader).number;
    let wanted = Arc::clone(&lock(&reader).filter);
    let opened = broker.open(&wanted, &start, OnGap::Earliest).await.expect("the log is open");
    let mut subscription = broker.subscribe(wanted, &opened, Arc::new(Verbatim));
    // What a client is told comes in pieces, and between two of them the connection may be cut.
    // Not in one expression: the lock would be held while others have their turn.
    let rest = lock(&log.numbers).below(3);
    step_back(rest).await;
    let told = |to: Cursor| {
        log.write_down(format!("reader {number} is told of a gap, and goes on at {to:?}"));
        lock(&reader).gap(to, log.removals(), &lock(&log.truth));
    };
    log.write_down(format!("reader {number} comes, and begins at {:?}", opened.from));
    match (&opened.gap, is_first) {
        (Some(_), _) => told(opened.from),
        (None, true) => lock(&reader).begin(opened.from),
        (None, false) => assert_eq!(opened.from.position, lock(&reader).cursor, "another place"),
    }
    loop {
        let step = subscription.next().await.expect("the log is open");
        match step {
            Step::Events(events) => {
                let events: Vec<Arc<Event>> = match events {
                    Events::Recent(events) => {
                        let events = events.iter().map(|recent| Arc::clone(&recent.event));
                        events.inspect(|event| assert_not_gone(event, &log)).collect()
                    }
                    Events::Replayed(events) => decoded(events),
                };
                for event in &events {
                    log.write_down(format!("reader {number} gets {}", event.position));
                    lock(&reader).take(event.position, event.data.as_str(), &lock(&log.truth));
                    if lock(&log.numbers).percent(20) {
                        step_back(1).await;
                    }
                }
            }
            Step::Gap(gap) => {
                assert_eq!(gap.resumed_after, subscription.cursor().position, "a gap leads elsewhere");
                told(subscription.cursor());
            }
            Step::Live(place) => {
                log.write_down(format!("reader {number} is live at {place}"));
                lock(&reader).pass(place, &lock(&log.truth));
            }
            Step::Ended => return,
        }
        let settled = subscription.settle().position;
        lock(&reader).pass(settled, &lock(&log.truth));
    }
}

/// What the broker has in its hand, it has from memory: nothing that a purge took before that was answered; and nothing that is
/// gone at all, unless it goes just now.
fn assert_not_gone(event: &Event, log: &LateLog) {
    let truth = lock(&log.truth);
    let Published { purged, fate, .. } = &truth.events[&event.position];
    assert!(!purged, "{} was purged, and is served from memory", event.position);
    let is_there = *fate == Fate::Kept || !log.is_at_rest();
    assert!(is_there, "{} is gone ({fate:?}), and is served from memory", event.position);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(seed: u64) -> Trace {
        run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"))
    }

    #[test]
    fn a_seed_is_one_run_step_by_step() {
        for seed in 0..5 {
            assert!(good(seed) == good(seed), "two runs of seed {seed} differ");
        }
        assert!(good(0) != good(1), "two seeds are the same run");
    }

    #[test]
    fn a_few_seeds_keep_the_promises_and_there_is_something_to_keep() {
        let mut sum = Counts::default();
        for seed in 0..60 {
            sum.add(good(seed).counts);
        }
        assert!(sum.received > sum.events && sum.gaps > 60 && sum.superseded > 60, "{sum:?}");
    }
}
