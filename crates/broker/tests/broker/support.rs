//! What the tests of the broker share: a broker on the in-memory model, and logs that stand in a test's way.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Events, Gap, OnGap, Opened, Options, Start, Step, Subscription};
use event_log::contract::{Verbatim, WINDOW, clock, decoded, event};
use event_log::memory::MemoryLog;
use event_log::{
    AppendError, Batch, Bounds, Epochs, Event, EventLog, Filter, LogCounts, LogReader, Pattern, Position,
    ReadError, Receipt, Removal, Removals, Removed, TailWatch, Topic, TopicStats,
};
use futures_util::future::BoxFuture;

pub(crate) fn memory() -> Arc<dyn EventLog> {
    Arc::new(MemoryLog::new(clock(), WINDOW))
}

/// A broker whose retention works only when it is woken.
pub(crate) fn start(log: Arc<dyn EventLog>) -> Broker {
    let options = Options { retention_interval: Duration::from_secs(3_600), ..Options::default() };
    Broker::start(log, clock(), options).unwrap()
}

pub(crate) fn broker() -> Broker {
    start(memory())
}

pub(crate) async fn publish(broker: &Broker, topic: &str, data: &str) -> Position {
    broker.publish(Batch::new(vec![event(topic, data)])).await.unwrap().events[0].position
}

pub(crate) async fn subscribe(broker: &Broker, filter: Filter, start: Start) -> (Opened, Subscription) {
    let filter = Arc::new(filter);
    let opened = broker.open(&filter, &start, OnGap::Earliest).await.unwrap();
    let subscription = broker.subscribe(filter, &opened, Arc::new(Verbatim));
    (opened, subscription)
}

pub(crate) fn cursor(text: &str) -> Start {
    Start::Cursor(text.as_bytes().to_vec())
}

/// The events of a step.
pub(crate) fn all(events: Events) -> Vec<Arc<Event>> {
    match events {
        Events::Recent(events) => events.iter().map(|recent| Arc::clone(&recent.event)).collect(),
        Events::Replayed(events) => decoded(events),
    }
}

/// What a subscription said, in its order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Event(String),
    Gap(Gap),
    Live(Position),
}

impl Said {
    pub(crate) fn event(data: impl ToString) -> Self {
        Said::Event(data.to_string())
    }
}

/// Takes one step. A test that waits for what never comes is a test that failed.
pub(crate) async fn step(subscription: &mut Subscription) -> Vec<Said> {
    let next = tokio::time::timeout(Duration::from_secs(20), subscription.next());
    match next.await.expect("a step").unwrap() {
        Step::Events(events) => all(events).iter().map(|event| Said::event(event.data.as_str())).collect(),
        Step::Gap(gap) => vec![Said::Gap(gap)],
        Step::Live(head) => vec![Said::Live(head)],
        Step::Ended => panic!("ended"),
    }
}

/// Reads events until a number of them have come; there is no gap.
pub(crate) async fn read(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        for said in step(subscription).await {
            match said {
                Said::Event(data) => all.push(data),
                Said::Gap(gap) => panic!("{gap:?}"),
                Said::Live(_) => {}
            }
        }
    }
    all
}

/// Reads events until the subscription is live; there is no gap.
pub(crate) async fn until_live(subscription: &mut Subscription) -> (Vec<String>, Position) {
    let mut all = Vec::new();
    loop {
        for said in step(subscription).await {
            match said {
                Said::Event(data) => all.push(data),
                Said::Gap(gap) => panic!("{gap:?}"),
                Said::Live(head) => return (all, head),
            }
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it came to be so");
}

type WrapReader = dyn Fn(&Filter, Box<dyn LogReader>) -> Box<dyn LogReader> + Send + Sync;
type WrapRemove = dyn Fn() -> Result<(), ReadError> + Send + Sync;

/// A log that is another one but for what a test does to its readers, removals or epochs.
pub(crate) struct Wrapped {
    log: Arc<dyn EventLog>,
    reader: Box<WrapReader>,
    remove: Box<WrapRemove>,
    epochs: Epochs,
}

impl Wrapped {
    fn new(log: Arc<dyn EventLog>) -> Self {
        let epochs = log.bounds().epochs;
        Wrapped { log, reader: Box::new(|_, reader| reader), remove: Box::new(|| Ok(())), epochs }
    }

    pub(crate) fn readers(
        log: Arc<dyn EventLog>,
        wrap: impl Fn(&Filter, Box<dyn LogReader>) -> Box<dyn LogReader> + Send + Sync + 'static,
    ) -> Self {
        Wrapped { reader: Box::new(wrap), ..Self::new(log) }
    }

    /// Before each removal `judge` is asked whether it fails.
    pub(crate) fn removals(
        log: Arc<dyn EventLog>,
        judge: impl Fn() -> Result<(), ReadError> + Send + Sync + 'static,
    ) -> Self {
        Wrapped { remove: Box::new(judge), ..Self::new(log) }
    }

    /// A log that was restored.
    pub(crate) fn with_epochs(log: Arc<dyn EventLog>, epochs: Epochs) -> Self {
        Wrapped { epochs, ..Self::new(log) }
    }
}

impl EventLog for Wrapped {
    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Receipt, AppendError>> {
        self.log.append(batch)
    }

    fn reader(&self, filter: Arc<Filter>) -> Box<dyn LogReader> {
        (self.reader)(&filter, self.log.reader(Arc::clone(&filter)))
    }

    fn remove(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        match (self.remove)() {
            Ok(()) => self.log.remove(removals),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn removable(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        self.log.removable(removals)
    }

    fn removals(&self) -> Removals {
        self.log.removals()
    }

    fn count_after(&self, place: Position) -> u64 {
        self.log.count_after(place)
    }

    fn tail(&self) -> TailWatch {
        self.log.tail()
    }

    fn bounds(&self) -> Bounds {
        Bounds { epochs: self.epochs.clone(), ..self.log.bounds() }
    }

    fn counts(&self) -> LogCounts {
        self.log.counts()
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
