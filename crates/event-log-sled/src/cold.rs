//! Pages from disk, on a thread that may block.
//!
//! There are two ways to what a filter wants: along the index of its topics, which touches only the chunks that hold one
//! of their events, or through all chunks. The index is taken when it promises to touch fewer events. Neither looks past
//! the head that was taken from the view when the read began. Records of removed events may still be in their chunks, and
//! the index may name places that are no longer there: both are passed by. Whether a reader has to be told of that is
//! judged above.

use std::collections::HashMap;
use std::sync::Arc;

use event_log::{Event, Filter, PageLimit, Position, ReadError, Topic, limits};

use crate::chunk::Chunk;
use crate::dead::DeadPlaces;
use crate::keys::TopicNumber;
use crate::merge::{Merge, Way};
use crate::reader::Resolved;
use crate::record::Record;
use crate::shared::Shared;
use crate::store::{Store, index_damaged};

/// What it costs to go to an event along the index, in events passed by when walking through chunks.
const INDEX_COST: u64 = 16;
/// Places that are looked up together along the index.
const PLACES_AT_ONCE: usize = 256;

/// One read, for one filter.
pub(crate) struct Read<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) store: &'a Store,
    pub(crate) filter: &'a Filter,
}

/// Kept events that are wanted, and how far they go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageOfKept {
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) next: Position,
    pub(crate) at_head: bool,
}

/// A page that is being filled.
struct Filling {
    limit: PageLimit,
    events: Vec<Arc<Event>>,
    bytes: usize,
    /// Bytes of chunks that were read for it.
    walked: usize,
}

impl Filling {
    fn new(limit: PageLimit) -> Self {
        Filling { limit, events: Vec::new(), bytes: 0, walked: 0 }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.limit.events || self.bytes >= self.limit.bytes
    }

    fn push(&mut self, event: Event) {
        self.bytes += event.weight();
        self.events.push(Arc::new(event));
    }

    fn last(&self) -> Position {
        self.events.last().map_or(Position::ORIGIN, |event| event.position)
    }

    fn page(self, next: Position, head: Position) -> PageOfKept {
        PageOfKept { events: self.events, next, at_head: next >= head }
    }
}

impl Read<'_> {
    pub(crate) fn kept_page(
        &self,
        resolved: &mut Resolved,
        after: Position,
        limit: PageLimit,
    ) -> Result<PageOfKept, ReadError> {
        let (head, merge) = self.begin(resolved, Way::After(after));
        if after >= head {
            return Ok(PageOfKept { events: Vec::new(), next: after, at_head: true });
        }
        match merge {
            Some(merge) => self.page_by_index(merge, head, limit),
            None => self.page_by_chunks(after, head, limit),
        }
    }

    /// The head, and the way along the index if that is the shorter one.
    pub(crate) fn begin(&self, resolved: &mut Resolved, way: Way) -> (Position, Option<Merge<'_>>) {
        let view = self.shared.view();
        let catalog = &view.catalog;
        resolved.update(self.filter, &catalog.topics);
        let merge = resolved.topics().and_then(|topics| {
            let events: u64 = topics.iter().map(|topic| catalog.topics.row(*topic).events).sum();
            let is_shorter = (events + topics.len() as u64) * INDEX_COST <= catalog.events;
            is_shorter.then(|| Merge::new(self.store, &view, topics, way))
        });
        (catalog.head, merge)
    }

    fn page_by_index(
        &self,
        mut merge: Merge<'_>,
        head: Position,
        limit: PageLimit,
    ) -> Result<PageOfKept, ReadError> {
        let mut filling = Filling::new(limit);
        merge.begin()?;
        loop {
            let mut places = Vec::new();
            while places.len() < limit.events - filling.events.len() && places.len() < PLACES_AT_ONCE {
                match merge.next()? {
                    Some(place) if place <= head => places.push(place),
                    _ => break,
                }
            }
            let Some(last) = places.last().copied() else {
                return Ok(filling.page(head, head));
            };
            let through = self.fetch(&merge, &places, &mut filling)?;
            if filling.is_full() {
                let next = filling.last();
                return Ok(filling.page(next, head));
            }
            if through < last || filling.walked >= limits::PAGE_SCAN_BYTES_MAX {
                return Ok(filling.page(through, head));
            }
        }
    }

    fn page_by_chunks(
        &self,
        after: Position,
        head: Position,
        limit: PageLimit,
    ) -> Result<PageOfKept, ReadError> {
        let mut filling = Filling::new(limit);
        let mut topics = KnownTopics::new(self);
        for chunk in self.store.chunks(Position::new(after.get().saturating_add(1)), head)? {
            let chunk = chunk?;
            let mut through = after.max(chunk.first());
            self.take(&chunk, &mut filling, &mut topics, |record| {
                through = through.max(record.position());
                record.position() > after
            })?;
            if filling.is_full() {
                let next = filling.last();
                return Ok(filling.page(next, head));
            }
            if filling.walked >= limits::PAGE_SCAN_BYTES_MAX {
                return Ok(filling.page(through, head));
            }
        }
        Ok(filling.page(head, head))
    }

    /// Takes the wanted ones of the events at these places, and returns the last place that was looked at.
    fn fetch(
        &self,
        merge: &Merge<'_>,
        places: &[Position],
        filling: &mut Filling,
    ) -> Result<Position, ReadError> {
        let mut topics = KnownTopics::new(self);
        let mut places = places.iter().copied().peekable();
        let mut through = Position::ORIGIN;
        while let Some(place) = places.peek().copied() {
            if filling.is_full() || filling.walked >= limits::PAGE_SCAN_BYTES_MAX {
                break;
            }
            if let Some(chunk) = self.store.chunk_at(place)? {
                self.take(&chunk, filling, &mut topics, |record| {
                    let is_next = places.peek() == Some(&record.position());
                    if is_next {
                        through = record.position();
                        places.next();
                    }
                    is_next
                })?;
            }
            if places.next_if_eq(&place).is_some() {
                if filling.is_full() {
                    break;
                }
                self.check_gone(merge, &mut topics, place)?;
                through = place;
            }
        }
        Ok(through)
    }

    /// The index named a place, and no chunk has it: its event was removed since, or the index is wrong.
    pub(crate) fn check_gone(
        &self,
        merge: &Merge<'_>,
        topics: &mut KnownTopics<'_>,
        place: Position,
    ) -> Result<(), ReadError> {
        let Some(topic) = merge.topic_at(place)? else { return Ok(()) };
        let removed_through = self.shared.view().catalog.topics.row(topic).removed_through;
        match place <= removed_through || topics.dead.has(place)? {
            true => Ok(()),
            false => Err(index_damaged(format!("it has the place {place}, which no event has"))),
        }
    }

    /// Takes the wanted events among those records of a chunk that `choose` chooses, until the page is full.
    fn take(
        &self,
        chunk: &Chunk,
        filling: &mut Filling,
        topics: &mut KnownTopics<'_>,
        mut choose: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<(), ReadError> {
        filling.walked += chunk.body().len();
        let mut records = chunk.records();
        let mut chosen = Vec::new();
        while !filling.is_full() {
            chosen.clear();
            let (mut bytes, mut text_bytes) = (filling.bytes, 0);
            while filling.events.len() + chosen.len() < filling.limit.events && bytes < filling.limit.bytes {
                let Some(record) = records.next() else { break };
                let record = record?;
                if choose(&record)
                    && let Some(topic) = topics.wanted(&record)?
                {
                    (bytes, text_bytes) = (bytes + record.weight(), text_bytes + record.text_bytes());
                    chosen.push((record, topic));
                }
            }
            if chosen.is_empty() {
                return Ok(());
            }
            // A few events out of a chunk are copied out of it, so that they do not keep all of it in memory.
            let share = text_bytes * 2 >= chunk.held();
            for (record, topic) in chosen.drain(..) {
                let texts = if share { record.texts_in(chunk.body()) } else { record.texts_copied() };
                let event = record.event(texts, Some(topic)).map_err(ReadError::Damaged)?;
                if self.filter.wants_of_topic(&event) {
                    filling.push(event);
                }
            }
        }
        Ok(())
    }
}

/// Whether a record's event is kept and of a wanted topic. Each topic that one read meets is asked once.
pub(crate) struct KnownTopics<'a> {
    read: &'a Read<'a>,
    known: HashMap<TopicNumber, Known>,
    pub(crate) dead: DeadPlaces<'a>,
}

struct Known {
    /// `None` if it is not wanted.
    topic: Option<Topic>,
    removed_through: Position,
}

impl<'a> KnownTopics<'a> {
    pub(crate) fn new(read: &'a Read<'a>) -> Self {
        KnownTopics { read, known: HashMap::new(), dead: DeadPlaces::new(read.shared, read.store) }
    }

    /// The record's topic, if it is wanted and the event was not removed.
    pub(crate) fn wanted(&mut self, record: &Record<'_>) -> Result<Option<Topic>, ReadError> {
        let number = self.number(record)?;
        let Known { topic, removed_through } = &self.known[&number];
        let Some(topic) = topic.as_ref().filter(|_| record.position() > *removed_through) else {
            return Ok(None);
        };
        Ok((!self.dead.has(record.position())?).then(|| topic.clone()))
    }

    fn number(&mut self, record: &Record<'_>) -> Result<TopicNumber, ReadError> {
        let view = self.read.shared.view();
        let topics = &view.catalog.topics;
        let number = std::str::from_utf8(record.topic()).ok().and_then(|name| topics.number(name));
        let Some(number) = number else {
            let what = format!("the event at {} is of a topic that is not in it", record.position());
            return Err(index_damaged(what));
        };
        self.known.entry(number).or_insert_with(|| {
            let row = topics.row(number);
            let topic = self.read.filter.wants_topic(&row.topic).then(|| row.topic.clone());
            Known { topic, removed_through: row.removed_through }
        });
        Ok(number)
    }
}
