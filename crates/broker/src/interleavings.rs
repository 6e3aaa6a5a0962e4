//! Every order in which a reader, the feeder and a removal may come to what they share, on small models.
//!
//! The hub, the signals, the followers and the reader's loop are the real ones; only their locks and atomics are
//! [loom](https://docs.rs/loom)'s (`sync.rs`), which runs a model again for each order of accesses that can make a difference. A
//! wake-up that is lost leaves the reader waiting for ever, which loom finds; what a reader is given is compared with
//! what was published. The log is the in-memory model, each of whose acts is one step.
//!
//! `cargo test --release -p broker --features interleavings --lib interleavings::`

use std::sync::Arc;

use event_log::contract::{Verbatim, WINDOW, clock, decoded, event, filter};
use event_log::memory::MemoryLog;
use event_log::{
    AppendError, Batch, Bounds, Cursor, EventLog, Filter, Keep, LogCounts, LogReader, Page, PageLimit,
    Pattern, Position, ReadError, Receipt, Removal, Removals, Removed, Resumed, Seek, TailWatch, Topic,
    TopicStats,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use loom::thread;

use crate::feeder::route_page;
use crate::hub::Hub;
use crate::remover::Remover;
use crate::subscription::{Events, Step, Subscription};
use crate::{OnGap, Start};

/// Preemptions in one run of a model: most faults of this kind need two (Musuvathi and Qadeer, "Iterative context bounding",
/// PLDI 2007), and each more multiplies the runs.
const PREEMPTIONS_MAX: usize = 3;
/// The same for the largest model.
const PREEMPTIONS_MAX_OF_TRIM: usize = 2;

/// The model of a log, to whose acts threads come one after the other, in any order.
struct Stepped {
    log: MemoryLog,
    step: Arc<loom::sync::Mutex<()>>,
}

struct SteppedReader {
    reader: Box<dyn LogReader>,
    step: Arc<loom::sync::Mutex<()>>,
}

impl Stepped {
    fn act<T>(&self, act: impl FnOnce(&MemoryLog) -> T) -> T {
        let _step = self.step.lock().expect("nobody panics");
        act(&self.log)
    }
}

impl EventLog for Stepped {
    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Receipt, AppendError>> {
        let done = self.act(|log| at_once(log.append(batch)));
        std::future::ready(done).boxed()
    }

    fn reader(&self, filter: Arc<Filter>) -> Box<dyn LogReader> {
        Box::new(SteppedReader { reader: self.log.reader(filter), step: Arc::clone(&self.step) })
    }

    fn remove(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        let done = self.act(|log| at_once(log.remove(removals)));
        std::future::ready(done).boxed()
    }

    fn removable(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        self.log.removable(removals)
    }

    fn removals(&self) -> Removals {
        self.act(EventLog::removals)
    }

    fn count_after(&self, place: Position) -> u64 {
        self.log.count_after(place)
    }

    fn tail(&self) -> TailWatch {
        self.log.tail()
    }

    fn bounds(&self) -> Bounds {
        self.act(EventLog::bounds)
    }

    fn counts(&self) -> LogCounts {
        self.act(EventLog::counts)
    }

    fn topics(&self, pattern: Option<&Pattern>) -> Vec<TopicStats> {
        self.log.topics(pattern)
    }

    fn topic(&self, topic: &Topic) -> Option<TopicStats> {
        self.log.topic(topic)
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.log.close()
    }
}

impl LogReader for SteppedReader {
    fn read(&mut self, after: Cursor, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>> {
        let _step = self.step.lock().expect("nobody panics");
        std::future::ready(at_once(self.reader.read(after, limit))).boxed()
    }

    fn resume(&mut self, cursor: Cursor) -> BoxFuture<'_, Result<Resumed, ReadError>> {
        let _step = self.step.lock().expect("nobody panics");
        std::future::ready(at_once(self.reader.resume(cursor))).boxed()
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Cursor, ReadError>> {
        let _step = self.step.lock().expect("nobody panics");
        std::future::ready(at_once(self.reader.seek(to))).boxed()
    }
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the model never waits")
}

/// A broker without threads of its own.
#[derive(Clone)]
struct Small {
    log: Arc<dyn EventLog>,
    hub: Arc<Hub>,
}

impl Small {
    fn new() -> Self {
        let log = MemoryLog::new(clock(), WINDOW);
        let hub = Arc::new(Hub::new(log.tail().head(), log.removals()));
        Small { log: Arc::new(Stepped { log, step: Arc::default() }), hub }
    }

    fn publish(&self, topic: &str, data: &str) {
        at_once(self.log.append(Batch::new(vec![event(topic, data)]))).expect("the model takes it");
    }

    fn feeder(&self) -> Feeding {
        let from = Cursor { position: self.log.tail().head(), removals: self.log.removals() };
        Feeding { small: self.clone(), reader: self.log.reader(Arc::new(Filter::everything())), routed: from }
    }

    /// Takes all of a topic away that was published so far.
    fn trim(&self, topic: &str) {
        let topic = Topic::parse(topic.to_owned()).expect("a topic");
        let all =
            Removal::Trim { topic, keep: Keep { after: Some(self.log.tail().head()), ..Keep::default() } };
        at_once(Remover::new(Arc::clone(&self.log), Arc::clone(&self.hub)).step(vec![all])).expect("it does");
    }

    fn subscribe(&self, topic: &str, start: &Start) -> Subscription {
        let filter = Arc::new(filter(&[topic]));
        let epochs = self.log.bounds().epochs;
        let opening = crate::start::open(&*self.log, &epochs, &filter, start, OnGap::Earliest);
        let opened = at_once(opening).expect("it opens");
        let (log, hub) = (Arc::clone(&self.log), Arc::clone(&self.hub));
        Subscription::new(log, epochs.current(), hub, filter, &opened, Arc::new(Verbatim))
    }
}

/// The feeder's turns.
struct Feeding {
    small: Small,
    reader: Box<dyn LogReader>,
    routed: Cursor,
}

impl Feeding {
    /// Routes all that is durable, as the feeder does when the tail has moved.
    fn feed(&mut self) {
        while !at_once(route_page(&mut *self.reader, &self.small.hub, &mut self.routed)).expect("a page") {}
    }
}

/// What a reader was told.
#[derive(Debug, Default)]
struct Told {
    events: Vec<String>,
    gaps: usize,
    /// That it has caught up.
    live: bool,
    ended: bool,
}

impl Told {
    /// Whether it was these events and no gap.
    fn is_just(&self, events: &[&str]) -> bool {
        self.events == events && self.gaps == 0 && !self.ended
    }

    /// Reads until enough was told, or the broker ended.
    fn read(subscription: &mut Subscription, is_enough: impl Fn(&Told) -> bool) -> Self {
        let mut told = Told::default();
        while !is_enough(&told) && !told.ended {
            match loom::future::block_on(subscription.next()).expect("a step") {
                Step::Events(Events::Recent(events)) => {
                    told.events.extend(events.iter().map(|recent| recent.event.data.as_str().to_owned()));
                }
                Step::Events(Events::Replayed(events)) => {
                    told.events.extend(decoded(events).iter().map(|event| event.data.as_str().to_owned()));
                }
                Step::Gap(_) => told.gaps += 1,
                Step::Live(_) => told.live = true,
                Step::Ended => told.ended = true,
            }
        }
        told
    }
}

/// Goes through the orders of a model, all of them or those with so many preemptions.
fn explore(preemptions_max: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    builder.max_branches = 20_000;
    builder.check(model);
}

#[test]
fn a_reader_that_waits_gets_every_event_once() {
    explore(Some(PREEMPTIONS_MAX), || {
        let small = Small::new();
        let mut subscription = small.subscribe("a", &Start::Latest);
        let mut feeder = small.feeder();
        let publisher = thread::spawn(move || {
            for data in ["1", "2"] {
                small.publish("a", data);
                feeder.feed();
            }
        });
        let told = Told::read(&mut subscription, |told| told.events.len() >= 2);
        publisher.join().expect("it ends");
        assert!(told.is_just(&["1", "2"]), "{told:?}");
    });
}

#[test]
fn a_reader_that_comes_while_an_event_is_published_gets_it_once() {
    explore(Some(PREEMPTIONS_MAX), || {
        let small = Small::new();
        let mut feeder = small.feeder();
        small.publish("a", "1");
        feeder.feed();
        let publishing = small.clone();
        let publisher = thread::spawn(move || {
            publishing.publish("a", "2");
            feeder.feed();
        });
        let mut subscription = small.subscribe("a", &Start::Earliest);
        let told = Told::read(&mut subscription, |told| told.events.len() >= 2);
        publisher.join().expect("it ends");
        assert!(told.is_just(&["1", "2"]), "{told:?}");
    });
}

#[test]
fn a_reader_is_not_called_live_before_it_has_what_was_durable_when_it_came() {
    explore(Some(PREEMPTIONS_MAX), || {
        let small = Small::new();
        let mut feeder = small.feeder();
        small.publish("a", "1");
        // Durable, and routed now or later.
        let feeding = thread::spawn(move || feeder.feed());
        let mut subscription = small.subscribe("a", &Start::Earliest);
        let told = Told::read(&mut subscription, |told| told.live);
        feeding.join().expect("it ends");
        assert!(told.is_just(&["1"]), "{told:?}");
    });
}

#[test]
fn a_reader_that_waits_is_told_of_what_was_trimmed_before_it_was_routed() {
    explore(Some(PREEMPTIONS_MAX_OF_TRIM), || {
        let small = Small::new();
        let mut subscription = small.subscribe("a", &Start::Latest);
        let mut feeder = small.feeder();
        let publisher = thread::spawn(move || {
            small.publish("a", "1");
            small.trim("a");
            feeder.feed();
        });
        // Nothing comes after it that would wake the reader.
        let told = Told::read(&mut subscription, |told| told.gaps > 0);
        publisher.join().expect("it ends");
        assert!(told.gaps == 1 && told.events.is_empty(), "{told:?}");
    });
}

#[test]
fn a_reader_is_given_what_is_trimmed_or_told_of_it_and_goes_on() {
    explore(Some(PREEMPTIONS_MAX_OF_TRIM), || {
        let small = Small::new();
        let mut subscription = small.subscribe("a", &Start::Latest);
        let mut feeder = small.feeder();
        small.publish("a", "1");
        let trimming = small.clone();
        let trimmer = thread::spawn(move || trimming.trim("a"));
        let publisher = thread::spawn(move || {
            feeder.feed();
            small.publish("a", "2");
            feeder.feed();
            trimmer.join().expect("it ends");
            small.publish("a", "3");
            feeder.feed();
        });
        let told = Told::read(&mut subscription, |told| told.events.iter().any(|data| data == "3"));
        publisher.join().expect("it ends");
        let all: Vec<&str> = told.events.iter().map(String::as_str).collect();
        // The trim took the first one, or both, and the reader had seen them before or not.
        let is_right = match told.gaps {
            0 => all == ["1", "2", "3"],
            1 => [&["3"][..], &["1", "3"], &["2", "3"]].contains(&&all[..]),
            _ => false,
        };
        assert!(is_right, "{told:?}");
    });
}

#[test]
fn a_reader_that_leaves_takes_nothing_from_another_one() {
    explore(Some(PREEMPTIONS_MAX), || {
        let small = Small::new();
        let mut stays = small.subscribe("a", &Start::Latest);
        let leaves = small.subscribe("a", &Start::Latest);
        let mut feeder = small.feeder();
        let leaving = thread::spawn(move || drop(leaves));
        let publisher = thread::spawn(move || {
            small.publish("a", "1");
            feeder.feed();
        });
        let told = Told::read(&mut stays, |told| !told.events.is_empty());
        leaving.join().expect("it ends");
        publisher.join().expect("it ends");
        assert!(told.is_just(&["1"]), "{told:?}");
    });
}

#[test]
fn a_reader_that_waits_is_told_that_the_broker_ends() {
    explore(None, || {
        let small = Small::new();
        let mut subscription = small.subscribe("a", &Start::Latest);
        let ending = thread::spawn(move || small.hub.end());
        let told = Told::read(&mut subscription, |_| false);
        ending.join().expect("it ends");
        assert!(told.ended && told.events.is_empty(), "{told:?}");
    });
}

#[test]
fn a_signal_that_is_raised_behind_a_look_ends_the_wait() {
    use loom::sync::atomic::{AtomicUsize, Ordering};

    use crate::signal::Signal;

    explore(Some(PREEMPTIONS_MAX), || {
        let shared = Arc::new((Signal::default(), AtomicUsize::new(0)));
        let raising: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::AcqRel);
                    shared.0.raise();
                })
            })
            .collect();
        loom::future::block_on(async {
            loop {
                shared.0.lower();
                if shared.1.load(Ordering::Acquire) == 2 {
                    break;
                }
                std::future::poll_fn(|context| shared.0.poll_raised(context)).await;
            }
        });
        raising.into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
}
