//! The contract of a log.
//!
//! ```text
//!    removed        kept, durable, visible to every reader             not yet durable,
//!   (planned)                                                          visible to nobody
//! |- - - - - - -|==========================================|............|
//! origin        oldest                                     head         what the writer holds
//!                          ^ cursor: a reader has seen
//!                            all it wants up to here
//! ```
//!
//! Rules that hold for every engine, and that the suite `event_log::contract` (a feature) tests on every engine:
//!
//! 1. An append resolves only once the whole batch would survive a power cut; before that no read, no page, no tail and
//!    no count shows any of it. After an error nothing of it is in the log, ever.
//! 2. Positions strictly increase along the order of appends and are never reused; those of a batch are neighbours,
//!    **all others may leave gaps**. Times never decrease along the order.
//! 3. A read shows events in order, each once, and never one past the head; the page's `next` moves past what the
//!    filter skipped.
//! 4. Idempotency keys and expected ids are judged where the order is made, so that two publishers cannot both win.
//! 5. What is read after reopening is what was durable before, with the same positions, times and uuids.
//!
//! Left out on purpose: callbacks (a log that pushes needs a queue for each reader), transactions over several appends,
//! creation of topics, iterators with lifetimes, and arithmetic on positions.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::{
    AppendError, Epochs, Event, EventId, Filter, NewEvent, Pattern, Position, ReadError, TailWatch,
    Timestamp, Topic,
};

/// A durable log of events in one order. See [the module](crate::log) for the rules.
pub trait EventLog: Send + Sync + 'static {
    /// Appends a batch, all or nothing. Resolves once it is durable, with an entry for each event of the batch. An event
    /// whose idempotency key was used for the same content within the window is not appended again: its entry is the
    /// first one's. A dropped future does not take the append back. If the engine fails so that nobody can know whether the
    /// batch is in the log, the future never resolves: the process is about to stop.
    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Receipt, AppendError>>;

    /// A reader of the events that a filter wants. It costs little and holds no place in the log.
    fn reader(&self, filter: Arc<Filter>) -> Box<dyn LogReader>;

    /// The newest durable place, to wait for.
    fn tail(&self) -> TailWatch;

    /// What the log holds, as of its head.
    fn bounds(&self) -> Bounds;

    /// The topics that a pattern matches, with what they hold, sorted by name. `None` for the pattern is every topic,
    /// the broker's own too.
    fn topics(&self, pattern: Option<&Pattern>) -> Vec<TopicStats>;

    /// One topic, if it ever had an event.
    fn topic(&self, topic: &Topic) -> Option<TopicStats>;

    /// Takes no more appends, finishes those that were accepted, then lets go of what the log holds. Idempotent.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// Reads the events that one filter wants. What it learned of the filter (which topics match) it keeps between reads.
pub trait LogReader: Send {
    /// The events after a place, up to the head, as far as the limit allows. Never waits for new ones.
    fn read(&mut self, after: Position, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>>;

    /// The cursor from which a read begins as asked.
    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Position, ReadError>>;
}

/// What is appended at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The events, in order; at least one.
    pub events: Vec<NewEvent>,
    /// A condition on the first event's topic.
    pub expected: Option<Expected>,
}

impl Batch {
    /// Events without a condition.
    pub fn new(events: Vec<NewEvent>) -> Self {
        Batch { events, expected: None }
    }

    /// Bytes of all events.
    pub fn weight(&self) -> usize {
        self.events.iter().map(NewEvent::weight).sum()
    }
}

/// What the topic's newest event must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The topic never had one.
    Never,
    /// This one.
    Event(EventId),
}

impl Expected {
    /// Whether a topic whose newest event is `last` fulfils this.
    pub fn is_met(&self, last: Option<Position>, epochs: &Epochs) -> bool {
        match (self, last) {
            (Expected::Never, last) => last.is_none(),
            (Expected::Event(id), Some(last)) => id.position == last && epochs.knows(*id),
            (Expected::Event(_), None) => false,
        }
    }
}

/// The answer to an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// An entry for each event of the batch, in its order.
    pub events: Vec<Appended>,
    /// The newest durable place.
    pub head: Position,
}

/// Where an event came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its place.
    pub position: Position,
    /// When the log took it.
    pub time: Timestamp,
    /// Its identity.
    pub uuid: Uuid,
    /// It was there already: this is the entry of the first one.
    pub duplicate: bool,
}

/// How much one read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Events, at least 1.
    pub events: usize,
    /// Bytes of events; the page ends with the event that reaches it.
    pub bytes: usize,
}

/// What one read returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events, in order.
    pub events: Vec<Arc<Event>>,
    /// The reader has now seen all it wants up to here. It may lie past the last event of the page, and a page without
    /// events may still move it.
    pub next: Position,
    /// The read reached the head as it was at that moment, which is `next`.
    pub at_head: bool,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// Just before the first kept event after a place whose topic is wanted (its type and origin do not count here); the
    /// head if there is none.
    FirstOfTopicsAfter(Position),
    /// Just before the first event of the whole log at or after a time; the head if there is none.
    Time(Timestamp),
    /// Just before the last so many events that are wanted; before the first of them if there are fewer; the head if
    /// there is none.
    Last(u64),
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The histories it knows.
    pub epochs: Epochs,
    /// The oldest event that is kept.
    pub oldest: Option<Position>,
    /// The newest event; the origin if there was never one.
    pub head: Position,
    /// Events kept.
    pub events: u64,
    /// Their bytes, as [`Event::weight`] counts them.
    pub bytes: u64,
    /// What the log takes on disk.
    pub bytes_on_disk: u64,
}

/// What a topic holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStats {
    /// The topic.
    pub topic: Topic,
    /// The oldest event that is kept.
    pub first: Option<Position>,
    /// The newest event that it ever had.
    pub last: Position,
    /// Events kept.
    pub events: u64,
    /// Their bytes, as [`Event::weight`] counts them.
    pub bytes: u64,
}
