//! The contract of a log.
//!
//! ```text
//!    removed        kept, durable, visible to every reader             not yet durable,
//!                                                                      visible to nobody
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
//! 6. A removal resolves once it would survive a power cut; what it removed never comes back. A reader whose cursor lies
//!    before a trimmed event of a topic that it wants is told once, before it gets anything that lies behind; what was
//!    superseded is silent. A topic's last place and its idempotency keys outlive its events.
//!
//! Left out on purpose: callbacks (a log that pushes needs a queue for each reader), transactions over several appends,
//! creation of topics, iterators with lifetimes, and arithmetic on positions.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::{
    AppendError, Cursor, Encoder, Epochs, Event, EventId, Filter, LogCounts, NewEvent, Pattern, Position,
    ReadError, Removal, Removals, Removed, ReplayPage, TailWatch, Timestamp, Topic,
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

    /// Removes events, in one step of bounded work: whoever wants all of it gone calls again while there is
    /// [`Removed::more`]. Resolves once what was removed cannot come back; by then no read shows it. Topics that are not
    /// known, and what is gone already, are not an error. A dropped future does not take the step back.
    fn remove(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>>;

    /// What these removals would remove, one after the other, if each was carried out to its end.
    fn removable(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>>;

    /// How many removals were carried out. It has grown before any read misses what a removal took.
    fn removals(&self) -> Removals;

    /// How many events are kept after a place. Removed events that lie near the place may be counted.
    fn count_after(&self, place: Position) -> u64;

    /// The newest durable place, to wait for.
    fn tail(&self) -> TailWatch;

    /// What the log holds, as of its head.
    fn bounds(&self) -> Bounds;

    /// What the log has done since it was opened. A commit is counted before its answers leave.
    fn counts(&self) -> LogCounts;

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
    /// The events after a place, up to the head, as far as the limit allows. Never waits for new ones. If wanted events
    /// were trimmed of which the cursor does not know, the page is a gap: it holds no events, and its `next` is where to
    /// go on.
    fn read(&mut self, after: Cursor, limit: PageLimit) -> BoxFuture<'_, Result<Page, ReadError>>;

    /// The same page for one who only passes it on. An engine that has the events on disk need not make a value of each. The
    /// page may end a little earlier.
    fn replay(
        &mut self,
        after: Cursor,
        limit: PageLimit,
        encoder: &Arc<dyn Encoder>,
    ) -> BoxFuture<'_, Result<ReplayPage, ReadError>> {
        let encoder = Arc::clone(encoder);
        let page = self.read(after, limit);
        Box::pin(async move { page.await.map(|page| ReplayPage::new(page, encoder)) })
    }

    /// Judges a cursor without reading on: whether wanted events after it were trimmed of which it does not know. A gap is
    /// judged by topic; an event's type and origin do not count.
    fn resume(&mut self, cursor: Cursor) -> BoxFuture<'_, Result<Resumed, ReadError>>;

    /// The cursor from which a read begins as asked. It knows of all removals: who asks for what is kept misses nothing.
    fn seek(&mut self, to: Seek) -> BoxFuture<'_, Result<Cursor, ReadError>>;
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
    pub next: Cursor,
    /// The read reached the head as it was at that moment, which is `next`.
    pub at_head: bool,
    /// Wanted events between the cursor and `next`, or after it, were trimmed before the reader got to them. `next` is just
    /// before the oldest kept event after the cursor whose topic is wanted; the head if there is none.
    pub gap: bool,
}

/// What became of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Where to go on, with all removals known: the same place, or where a gap ends.
    pub cursor: Cursor,
    /// Wanted events were trimmed: see [`Page::gap`].
    pub gap: bool,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// Just before the first kept event after a place whose topic is wanted (its type and origin do not count here); the
    /// head if there is none.
    FirstOfTopicsAfter(Position),
    /// Just before the first kept event at or after a time whose topic is wanted (its type and origin do not count here);
    /// the head if there is none.
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
