//! The model: a log in memory, as plain as it can be. Engines are compared with it, and the broker is tested on it.
//!
//! Its positions leave gaps between batches, so that code which counts with positions fails here first. It is durable
//! for as long as it is not dropped: "reopening" it is [`MemoryLog::reopened`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    AppendError, Appended, Batch, Bounds, Clock, Commit, Cursor, Epoch, Epochs, Event, EventLog, EventType,
    Filter, IdempotencyKey, Keep, Key, LogCounts, LogReader, LogStats, NewEvent, Page, PageLimit, Pattern,
    Position, ReadError, Receipt, Removal, Removals, Removed, Resumed, Seek, Tail, TailWatch, Timestamp,
    Topic, TopicStats,
};

/// One step of a removal takes no more events than this, so that those who ask learn to go on.
const REMOVED_AT_ONCE: usize = 100;

/// A log in memory. A clone is another handle on the same log.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    window: Duration,
    state: Mutex<State>,
    stats: LogStats,
}

#[derive(Clone)]
struct State {
    epochs: Epochs,
    events: Vec<Arc<Event>>,
    head: Position,
    newest_time: Timestamp,
    topics: BTreeMap<Topic, Ever>,
    removals: Removals,
    accepted_keys: HashMap<(Topic, IdempotencyKey), (NewEvent, Appended)>,
    /// `None` once closed.
    tail: Option<Arc<Tail>>,
    closed_tail: TailWatch,
}

/// What a topic is remembered by, whatever is left of it.
#[derive(Clone, Copy, Default)]
struct Ever {
    last: Position,
    /// The newest event that was trimmed, and by which removal.
    trimmed: Option<(Position, Removals)>,
}

impl MemoryLog {
    /// An empty log. Idempotency keys are kept for `window`.
    pub fn new(clock: Arc<dyn Clock>, window: Duration) -> Self {
        let tail = Tail::new(Position::ORIGIN);
        let state = State {
            epochs: Epochs::first(Epoch::new(0x7f3a_9c1e)),
            events: Vec::new(),
            head: Position::ORIGIN,
            newest_time: Timestamp::default(),
            topics: BTreeMap::new(),
            removals: Removals::NONE,
            accepted_keys: HashMap::new(),
            closed_tail: tail.watch(),
            tail: Some(Arc::new(tail)),
        };
        let stats = LogStats::default();
        MemoryLog { shared: Arc::new(Shared { clock, window, state: Mutex::new(state), stats }) }
    }

    /// A log that holds what this one holds, open again.
    pub fn reopened(&self) -> Self {
        let state = self.shared.state.lock();
        let tail = Tail::new(state.head);
        let closed_tail = tail.watch();
        let state = State { closed_tail, tail: Some(Arc::new(tail)), ..state.clone() };
        MemoryLog {
            shared: Arc::new(Shared {
                clock: Arc::clone(&self.shared.clock),
                window: self.shared.window,
                state: Mutex::new(state),
                stats: LogStats::default(),
            }),
        }
    }
}

impl State {
    fn stats(&self, topic: &Topic, ever: &Ever) -> TopicStats {
        let of_topic = || self.events.iter().filter(|event| event.topic == *topic);
        TopicStats {
            topic: topic.clone(),
            first: of_topic().next().map(|event| event.position),
            last: ever.last,
            events: of_topic().count() as u64,
            bytes: of_topic().map(|event| event.weight() as u64).sum(),
        }
    }

    /// Takes one step of a removal.
    fn remove(&mut self, removal: &Removal) -> Removed {
        let (mut gone, lost) = match removal {
            Removal::Trim { topic, keep } => self.trimmed(topic, *keep),
            Removal::Superseded { topic, tombstones_before } => self.superseded(topic, *tombstones_before),
        };
        let more = gone.len() > REMOVED_AT_ONCE;
        gone.truncate(REMOVED_AT_ONCE);
        let Some(through) = gone.last().map(|event| event.position) else { return Removed::default() };
        self.removals = self.removals.next();
        let places: HashSet<Position> = gone.iter().map(|event| event.position).collect();
        self.events.retain(|event| !places.contains(&event.position));
        let lost = lost.into_iter().rfind(|place| places.contains(place));
        if let (Some(lost), Some(ever)) = (lost, self.topics.get_mut(removal.topic())) {
            let before = ever.trimmed.map_or(Position::ORIGIN, |(place, _)| place);
            ever.trimmed = Some((lost.max(before), self.removals));
        }
        let bytes = gone.iter().map(|event| event.weight() as u64).sum();
        Removed { events: gone.len() as u64, bytes, through, more }
    }

    /// The events that are to go, in order, and the places of those that are a loss.
    fn trimmed(&self, topic: &Topic, keep: Keep) -> (Vec<Arc<Event>>, Vec<Position>) {
        let all: Vec<_> = self.events.iter().filter(|event| event.topic == *topic).cloned().collect();
        let mut bytes: u64 = all.iter().map(|event| event.weight() as u64).sum();
        let mut left = all.len() as u64;
        let goes = |event: &&Arc<Event>| {
            let goes = keep.events.is_some_and(|most| left > most)
                || keep.bytes.is_some_and(|most| bytes > most)
                || keep.since.is_some_and(|since| event.time < since)
                || keep.after.is_some_and(|after| event.position <= after);
            left -= 1;
            bytes -= event.weight() as u64;
            goes
        };
        let gone: Vec<Arc<Event>> = all.iter().take_while(goes).cloned().collect();
        let places = gone.iter().map(|event| event.position).collect();
        (gone, places)
    }

    fn superseded(&self, topic: &Topic, before: Timestamp) -> (Vec<Arc<Event>>, Vec<Position>) {
        let of_topic = || self.events.iter().filter(|event| event.topic == *topic);
        let keyed = of_topic().filter_map(|event| Some((event.key.as_ref()?, event.position)));
        let newest: HashMap<&Key, Position> = keyed.collect();
        let is_newest = |event: &Event| event.key.as_ref().is_none_or(|key| newest[key] == event.position);
        let is_old_tombstone = |event: &Event| {
            event.key.is_some() && event.type_name() == EventType::DELETE && event.time < before
        };
        let gone = of_topic().filter(|event| !is_newest(event) || is_old_tombstone(event)).cloned().collect();
        let lost = of_topic().filter(|event| is_newest(event) && is_old_tombstone(event));
        (gone, lost.map(|event| event.position).collect())
    }

    /// Whether a filter's events after a cursor were trimmed of which it does not know, and where it then goes on.
    fn resume(&self, filter: &Filter, cursor: Cursor) -> Resumed {
        let is_lost = |ever: &Ever| {
            ever.trimmed.is_some_and(|(place, by)| place > cursor.position && by > cursor.removals)
        };
        let gap = self.topics.iter().any(|(topic, ever)| is_lost(ever) && filter.wants_topic(topic));
        let position = if gap { self.first_of_topics(filter, cursor.position) } else { cursor.position };
        Resumed { cursor: Cursor { position, removals: self.removals }, gap }
    }

    fn first_of_topics(&self, filter: &Filter, after: Position) -> Position {
        let mut later = self.events.iter().filter(|event| event.position > after);
        let found = later.find(|event| filter.wants_topic(&event.topic));
        found.map_or(self.head, |event| event.position.just_before())
    }
}

impl Shared {
    fn append(&self, batch: Batch) -> Result<Receipt, AppendError> {
        assert!(!batch.events.is_empty(), "a batch has at least one event");
        let mut state = self.state.lock();
        if state.tail.is_none() {
            return Err(AppendError::Closed);
        }
        let now = self.clock.now().max(state.newest_time);

        // First judged, then done: after an error nothing has changed.
        let mut seen: HashMap<(Topic, IdempotencyKey), (NewEvent, Appended)> = HashMap::new();
        let mut new = Vec::new();
        let mut answers = Vec::new();
        // A gap of 1 to 3 places before each batch; a batch's own places are neighbours.
        let mut next = state.head.get() + 1 + state.events.len() as u64 % 3;
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
            let last = state.topics.get(&first.topic).map(|ever| ever.last);
            if !expected.is_met(last, &state.epochs) {
                return Err(AppendError::ExpectedMismatch { last });
            }
        }
        for event in &new {
            state.topics.entry(event.topic.clone()).or_default().last = event.position;
            (state.head, state.newest_time) = (event.position, event.time);
        }
        self.stats.committed(Commit {
            publishes: 1,
            events: new.len() as u64,
            bytes: new.iter().map(|event| event.weight() as u64).sum(),
            duplicates: (answers.len() - new.len()) as u64,
        });
        state.accepted_keys.extend(seen);
        state.events.extend(new);
        let head = state.head;
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

    fn remove(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        let mut state = self.shared.state.lock();
        let removed = match state.tail {
            None => Err(ReadError::Closed),
            Some(_) => Ok(removals.iter().fold(Removed::default(), |sum, removal| {
                let step = state.remove(removal);
                Removed { more: sum.more || step.more, ..sum.and(step) }
            })),
        };
        std::future::ready(removed).boxed()
    }

    fn removable(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        let mut state = self.shared.state.lock().clone();
        let mut removed = Removed::default();
        for removal in &removals {
            loop {
                let step = state.remove(removal);
                removed = removed.and(step);
                if !step.more {
                    break;
                }
            }
        }
        std::future::ready(Ok(removed)).boxed()
    }

    fn removals(&self) -> Removals {
        self.shared.state.lock().removals
    }

    fn count_after(&self, place: Position) -> u64 {
        let state = self.shared.state.lock();
        state.events.iter().filter(|event| event.position > place).count() as u64
    }

    fn tail(&self) -> TailWatch {
        let state = self.shared.state.lock();
        state.tail.as_ref().map_or_else(|| state.closed_tail.clone(), |tail| tail.watch())
    }

    fn bounds(&self) -> Bounds {
        let state = self.shared.state.lock();
        Bounds {
            epochs: state.epochs.clone(),
            oldest: state.events.first().map(|event| event.position),
            head: state.head,
            events: state.events.len() as u64,
            bytes: state.events.iter().map(|event| event.weight() as u64).sum(),
            bytes_on_disk: 0,
        }
    }

    fn counts(&self) -> LogCounts {
        self.shared.stats.counts()
    }

    fn topics(&self, pattern: Option<&Pattern>) -> Vec<TopicStats> {
        let state = self.shared.state.lock();
        let wanted = |topic: &Topic| pattern.is_none_or(|pattern| pattern.matches(topic));
        let topics = state.topics.iter().filter(|(topic, _)| wanted(topic));
        topics.map(|(topic, ever)| state.stats(topic, ever)).collect()
    }

    fn topic(&self, topic: &Topic) -> Option<TopicStats> {
        let state = self.shared.state.lock();
        state.topics.get(topic).map(|ever| state.stats(topic, ever))
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
    fn page(&self, after: Cursor, limit: PageLimit) -> Page {
        let state = self.shared.state.lock();
        let Resumed { cursor, gap } = state.resume(&self.filter, after);
        let mut events: Vec<Arc<Event>> = Vec::new();
        if gap {
            return Page { events, next: cursor, at_head: cursor.position >= state.head, gap };
        }
        let mut bytes = 0;
        let wanted = |event: &&Arc<Event>| event.position > after.position && self.filter.wants(event);
        for event in state.events.iter().filter(wanted) {
            if events.len() >= limit.events || bytes >= limit.bytes {
                let position = events.last().map_or(after.position, |event| event.position);
                return Page { events, next: Cursor { position, ..cursor }, at_head: false, gap };
            }
            bytes += event.weight();
            events.push(Arc::clone(event));
        }
        let next = Cursor { position: state.head.max(after.position), ..cursor };
        Page { events, next, at_head: true, gap }
    }

    fn place(&self, to: Seek) -> Cursor {
        let state = self.shared.state.lock();
        let mut events = state.events.iter();
        let found = match to {
            Seek::FirstOfTopicsAfter(after) => {
                let position = state.first_of_topics(&self.filter, after);
                return Cursor { position, removals: state.removals };
            }
            Seek::Time(time) => {
                events.find(|event| event.time >= time && self.filter.wants_topic(&event.topic))
            }
            Seek::Last(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                events.rev().filter(|event| self.filter.wants(event)).take(count).last()
            }
        };
        let position = found.map_or(state.head, |event| event.position.just_before());
        Cursor { position, removals: state.removals }
    }
}

impl LogReader for MemoryReader {
    fn read(&mut self, after: Cursor, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>> {
        std::future::ready(Ok(self.page(after, limit))).boxed()
    }

    fn resume(&mut self, cursor: Cursor) -> BoxFuture<'_, Result<Resumed, ReadError>> {
        let resumed = self.shared.state.lock().resume(&self.filter, cursor);
        std::future::ready(Ok(resumed)).boxed()
    }

    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Cursor, ReadError>> {
        std::future::ready(Ok(self.place(to))).boxed()
    }
}
