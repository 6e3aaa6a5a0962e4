//! A log in memory that answers late, and writes down what it was really given.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_log::contract::{filter, read_from};
use event_log::memory::MemoryLog;
use event_log::{
    AppendError, Batch, Bounds, Cursor, Event, EventLog, Filter, LogCounts, LogReader, Page, PageLimit,
    Pattern, Position, ReadError, Receipt, Removal, Removals, Removed, Resumed, Seek, TailWatch, Topic,
    TopicStats,
};
use futures_executor::block_on;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::numbers::Numbers;
use crate::serving::readers::{Fate, Published, Truth};
use crate::serving::turns::step_back;

const EVERYTHING: PageLimit = PageLimit { events: 4_096, bytes: 1 << 24 };

pub(crate) type Shared<T> = Arc<Mutex<T>>;

pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log and its witnesses. A clone is another handle on the same.
#[derive(Clone)]
pub(crate) struct LateLog {
    pub(crate) inner: MemoryLog,
    pub(crate) truth: Shared<Truth>,
    pub(crate) numbers: Shared<Numbers>,
    /// What happened, in order.
    pub(crate) diary: Shared<Vec<String>>,
    /// Removals that were asked for and have no answer yet.
    pub(crate) under_way: Arc<AtomicUsize>,
}

impl LateLog {
    pub(crate) fn write_down(&self, what: String) {
        lock(&self.diary).push(what);
    }

    /// Whether all removals that were asked for were answered, or given up.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) == 0
    }

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
        let by = self.inner.removals();
        let mut truth = lock(&self.truth);
        for gone in before.iter().filter(|event| !after.contains(&event.position)) {
            let newer = |other: &&Arc<Event>| {
                other.topic == gone.topic && other.key == gone.key && other.position > gone.position
            };
            let fate = match removal {
                Removal::Superseded { .. } if before.iter().any(|event| newer(&event)) => Fate::Superseded,
                _ => Fate::Trimmed(by),
            };
            self.write_down(format!("{} of {}: {fate:?}", gone.position, gone.topic));
            truth.events.get_mut(&gone.position).expect("it was published").fate = fate;
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
                let (topic, data) = (event.topic.clone(), event.data.as_str().to_owned());
                self.write_down(format!("{} of {topic}: {data}", place.position));
                let event = Published { topic, data, fate: Fate::Kept, purged: false };
                assert!(truth.events.insert(place.position, event).is_none(), "a place was given twice");
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
        let under_way = UnderWay::begin(&self.under_way);
        async move {
            let _under_way = under_way;
            // Now and then so late that others publish and read meanwhile.
            let late = lock(&log.numbers).one_of(&[0, 0, 0, 60]);
            let late = late + log.delay();
            step_back(late).await;
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

    fn counts(&self) -> LogCounts {
        self.inner.counts()
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

/// Counted as long as it is held.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        UnderWay(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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
