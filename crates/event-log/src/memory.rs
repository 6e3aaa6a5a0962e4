//! The model: a log in memory, as plain as it can be. Engines are compared with it, and the broker is tested on it.
//!
//! Its positions leave gaps between batches, so that code which counts with positions fails here first. It is durable
//! for as long as it is not dropped: "reopening" it is [`MemoryLog::reopened`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    AppendError, Appended, Batch, Bounds, Clock, Epoch, Epochs, Event, EventLog, Filter, IdempotencyKey,
    LogReader, NewEvent, Page, PageLimit, Pattern, Position, ReadError, Receipt, Seek, Tail, TailWatch,
    Timestamp, Topic, TopicStats,
};

/// A log in memory. A clone is another handle on the same log.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    window: Duration,
    state: Mutex<State>,
}

struct State {
    epochs: Epochs,
    events: Vec<Arc<Event>>,
    last_of_topic: BTreeMap<Topic, Position>,
    accepted_keys: HashMap<(Topic, IdempotencyKey), (NewEvent, Appended)>,
    /// `None` once closed.
    tail: Option<Tail>,
    closed_tail: TailWatch,
}

impl MemoryLog {
    /// An empty log. Idempotency keys are kept for `window`.
    pub fn new(clock: Arc<dyn Clock>, window: Duration) -> Self {
        let tail = Tail::new(Position::ORIGIN);
        let state = State {
            epochs: Epochs::first(Epoch::new(0x7f3a_9c1e)),
            events: Vec::new(),
            last_of_topic: BTreeMap::new(),
            accepted_keys: HashMap::new(),
            closed_tail: tail.watch(),
            tail: Some(tail),
        };
        MemoryLog { shared: Arc::new(Shared { clock, window, state: Mutex::new(state) }) }
    }

    /// A log that holds what this one holds, open again.
    pub fn reopened(&self) -> Self {
        let state = self.shared.state.lock();
        let tail = Tail::new(state.head());
        let state = State {
            epochs: state.epochs.clone(),
            events: state.events.clone(),
            last_of_topic: state.last_of_topic.clone(),
            accepted_keys: state.accepted_keys.clone(),
            closed_tail: tail.watch(),
            tail: Some(tail),
        };
        MemoryLog {
            shared: Arc::new(Shared {
                clock: Arc::clone(&self.shared.clock),
                window: self.shared.window,
                state: Mutex::new(state),
            }),
        }
    }
}

impl State {
    fn head(&self) -> Position {
        self.events.last().map_or(Position::ORIGIN, |event| event.position)
    }

    fn stats(&self, topic: &Topic, last: Position) -> TopicStats {
        let of_topic = || self.events.iter().filter(|event| event.topic == *topic);
        TopicStats {
            topic: topic.clone(),
            first: of_topic().next().map(|event| event.position),
            last,
            events: of_topic().count() as u64,
            bytes: of_topic().map(|event| event.weight() as u64).sum(),
        }
    }
}

impl Shared {
    fn append(&self, batch: Batch) -> Result<Receipt, AppendError> {
        assert!(!batch.events.is_empty(), "a batch has at least one event");
        let mut state = self.state.lock();
        if state.tail.is_none() {
            return Err(AppendError::Closed);
        }
        let newest = state.events.last().map_or(Timestamp::default(), |event| event.time);
        let now = self.clock.now().max(newest);

        // First judged, then done: after an error nothing has changed.
        let mut seen: HashMap<(Topic, IdempotencyKey), (NewEvent, Appended)> = HashMap::new();
        let mut new = Vec::new();
        let mut answers = Vec::new();
        // A gap of 1 to 3 places before each batch; a batch's own places are neighbours.
        let mut next = state.head().get() + 1 + state.events.len() as u64 % 3;
        for (index, event) in batch.events.into_iter().enumerate() {
            let name = event.idempotency_key.clone().map(|key| (event.topic.clone(), key));
            let earlier =
                name.as_ref().and_then(|name| seen.get(name).or_else(|| state.accepted_keys.get(name)));
            match earlier.filter(|(_, first)| first.time > now.saturating_sub(self.window)) {
                Some((same, first)) if *same == event => answers.push(Appended { duplicate: true, ..*first }),
                Some((_, first)) => {
                    let of_batch = name.as_ref().is_some_and(|name| seen.contains_key(name));
                    let first = (!of_batch).then_some(first.position);
                    return Err(AppendError::IdempotencyConflict { index, first });
                }
                None => {
                    let appended = Appended {
                        position: Position::new(next),
                        time: now,
                        uuid: Uuid::from_u128(u128::from(next) << 64 | u128::from(now.as_micros())),
                        duplicate: false,
                    };
                    next += 1;
                    if let Some(name) = name {
                        seen.insert(name, (event.clone(), appended));
                    }
                    answers.push(appended);
                    new.push(Arc::new(Event::place(event, appended.position, now, appended.uuid)));
                }
            }
        }
        if let (Some(expected), Some(first)) = (batch.expected, new.first()) {
            let last = state.last_of_topic.get(&first.topic).copied();
            if !expected.is_met(last, &state.epochs) {
                return Err(AppendError::ExpectedMismatch { last });
            }
        }
        for event in &new {
            state.last_of_topic.insert(event.topic.clone(), event.position);
        }
        state.accepted_keys.extend(seen);
        state.events.extend(new);
        let head = state.head();
        if let Some(tail) = &state.tail
            && head > tail.head()
        {
            tail.advance(head);
        }
        Ok(Receipt { events: answers, head })
    }
}

impl EventLog for MemoryLog {
    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Receipt, AppendError>> {
        std::future::ready(self.shared.append(batch)).boxed()
    }

    fn reader(&self, filter: Arc<Filter>) -> Box<dyn LogReader> {
        Box::new(MemoryReader { shared: Arc::clone(&self.shared), filter })
    }

    fn tail(&self) -> TailWatch {
        let state = self.shared.state.lock();
        state.tail.as_ref().map_or_else(|| state.closed_tail.clone(), Tail::watch)
    }

    fn bounds(&self) -> Bounds {
        let state = self.shared.state.lock();
        Bounds {
            epochs: state.epochs.clone(),
            oldest: state.events.first().map(|event| event.position),
            head: state.head(),
            events: state.events.len() as u64,
            bytes: state.events.iter().map(|event| event.weight() as u64).sum(),
            bytes_on_disk: 0,
        }
    }

    fn topics(&self, pattern: Option<&Pattern>) -> Vec<TopicStats> {
        let state = self.shared.state.lock();
        let wanted = |topic: &Topic| pattern.is_none_or(|pattern| pattern.matches(topic));
        let topics = state.last_of_topic.iter().filter(|(topic, _)| wanted(topic));
        topics.map(|(topic, last)| state.stats(topic, *last)).collect()
    }

    fn topic(&self, topic: &Topic) -> Option<TopicStats> {
        let state = self.shared.state.lock();
        state.last_of_topic.get(topic).map(|last| state.stats(topic, *last))
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.shared.state.lock().tail = None;
        std::future::ready(()).boxed()
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    filter: Arc<Filter>,
}

impl MemoryReader {
    fn page(&self, after: Position, limit: PageLimit) -> Page {
        let state = self.shared.state.lock();
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut bytes = 0;
        for event in state.events.iter().filter(|event| event.position > after && self.filter.wants(event)) {
            if events.len() >= limit.events || bytes >= limit.bytes {
                let next = events.last().map_or(after, |event| event.position);
                return Page { events, next, at_head: false };
            }
            bytes += event.weight();
            events.push(Arc::clone(event));
        }
        Page { events, next: state.head().max(after), at_head: true }
    }

    fn place(&self, to: Seek) -> Position {
        let state = self.shared.state.lock();
        let mut events = state.events.iter();
        let found = match to {
            Seek::FirstOfTopicsAfter(after) => {
                events.find(|event| event.position > after && self.filter.wants_topic(&event.topic))
            }
            Seek::Time(time) => events.find(|event| event.time >= time),
            Seek::Last(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                events.rev().filter(|event| self.filter.wants(event)).take(count).last()
            }
        };
        found.map_or(state.head(), |event| event.position.just_before())
    }
}

impl LogReader for MemoryReader {
    fn read(&mut self, after: Position, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>> {
        std::future::ready(Ok(self.page(after, limit))).boxed()
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Position, ReadError>> {
        std::future::ready(Ok(self.place(to))).boxed()
    }
}
