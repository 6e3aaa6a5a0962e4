//! Pages from disk, on a thread that may block.
//!
//! There are two ways to what a filter wants: along the index of its topics, which touches only the chunks that hold one
//! of their events, or through all chunks. The index is taken when it promises to touch fewer events. Neither looks past
//! the head that was taken from the view when the read began. Records of removed events may still be in their chunks, and
//! the index may name places that are no longer there: both are passed by. Whether a reader has to be told of that is
//! judged above.

use std::collections::HashMap;
use std::sync::Arc;

use event_log::{Event, Filter, PageLimit, Position, ReadError, Replayed, Topic, limits};

use crate::at_once::would_wait;
use crate::chunk::Chunk;
use crate::dead::DeadPlaces;
use crate::keys::TopicNumber;
use crate::merge::{Merge, Way};
use crate::reader::Resolved;
use crate::record::Record;
use crate::segments::walk::Reading;
use crate::shared::Shared;
use crate::store::{Store, index_damaged};

/// What it costs to go to an event along the index, in events passed by when walking through chunks.
const INDEX_COST: u64 = 16;
/// Places that are looked up together along the index.
const PLACES_AT_ONCE: usize = 256;
/// Topics that one read finds again without the table; a power of two.
const SLOTS: usize = 64;

/// A page whose events have become so many times larger than they were is full earlier.
const GROWTH_MAX: usize = 2;

/// Bytes of chunks that are read at once, at least and at the most.
const READ_BYTES_MIN: usize = 32 * limits::KIB;
const READ_BYTES_MAX: usize = 256 * limits::KIB;

/// Who walks far past what it does not want offers its core to others each time it has walked so many bytes, which takes some 30
/// microseconds: the log's writer wants it for a moment only, and the scheduler would let a walk of a millisecond end first.
const WALK_BYTES_AT_ONCE: usize = 64 * limits::KIB;

/// One read, for one filter.
pub(crate) struct Read<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) store: &'a Store,
    pub(crate) filter: &'a Filter,
}

/// How far one read for a page goes.
#[derive(Debug, Clone, Copy)]
struct Reach {
    /// Bytes of chunks that it may walk past.
    bytes: usize,
    /// Whether it may wait for the disk, or for a commit.
    may_wait: bool,
}

/// Kept events that are wanted, and how far they go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageOfKept<S = Vec<Arc<Event>>> {
    pub(crate) events: S,
    pub(crate) next: Position,
    pub(crate) at_head: bool,
    /// It ended because the limit was reached.
    pub(crate) is_full: bool,
}

/// What the events of a page become.
pub(crate) trait Sink: Sized {
    /// It keeps no chunk in memory, so it does not matter how much is read at once.
    const LEAVES_CHUNKS: bool;

    /// Takes events that are values already.
    fn take_all(&mut self, events: Vec<Arc<Event>>);

    /// So many bytes of events come, if all that is read is wanted.
    fn expect(&mut self, _bytes: usize) {}

    /// Bytes that the events have become, if they are no longer what was counted.
    fn grown_to(&self) -> usize {
        0
    }

    /// The page is complete.
    fn complete(&mut self) {}

    /// The chosen records of one chunk, until all of them are known.
    type Chosen<'a>: Default;

    /// A record was chosen.
    fn choose<'a>(
        &mut self,
        chosen: &mut Self::Chosen<'a>,
        record: Record<'a>,
        topic: &Topic,
        chunk: &Chunk,
    ) -> Result<(), String>;

    /// No more records of the chunk are taken.
    fn end_chunk(&mut self, chosen: Self::Chosen<'_>, chunk: &Chunk) -> Result<(), String>;
}

impl Sink for Vec<Arc<Event>> {
    const LEAVES_CHUNKS: bool = false;

    fn take_all(&mut self, events: Vec<Arc<Event>>) {
        self.extend(events);
    }

    type Chosen<'a> = Vec<(Record<'a>, Topic)>;

    fn choose<'a>(
        &mut self,
        chosen: &mut Self::Chosen<'a>,
        record: Record<'a>,
        topic: &Topic,
        _: &Chunk,
    ) -> Result<(), String> {
        chosen.push((record, topic.clone()));
        Ok(())
    }

    fn end_chunk(&mut self, chosen: Self::Chosen<'_>, chunk: &Chunk) -> Result<(), String> {
        // A few events out of a chunk are copied out of it, so that they do not keep all of it in memory.
        let text_bytes: usize = chosen.iter().map(|(record, _)| record.text_bytes()).sum();
        let share = text_bytes * 2 >= chunk.held();
        for (record, topic) in chosen {
            let texts = if share { record.texts_in(chunk.body()) } else { record.texts_copied() };
            self.push(Arc::new(record.event(texts, Some(topic))?));
        }
        Ok(())
    }
}

impl Sink for Replayed {
    const LEAVES_CHUNKS: bool = true;

    fn take_all(&mut self, events: Vec<Arc<Event>>) {
        events.into_iter().for_each(|event| self.add(event));
    }

    fn expect(&mut self, bytes: usize) {
        // A frame has a little beside the texts of its event.
        self.reserve((bytes + bytes / 4).min(READ_BYTES_MAX) + limits::SMALL_EVENT_BYTES_MAX);
    }

    fn grown_to(&self) -> usize {
        self.encoded_bytes()
    }

    fn complete(&mut self) {
        self.shrink();
    }

    type Chosen<'a> = ();

    fn choose<'a>(
        &mut self,
        (): &mut Self::Chosen<'a>,
        record: Record<'a>,
        topic: &Topic,
        chunk: &Chunk,
    ) -> Result<(), String> {
        match Replayed::is_small(record.text_bytes()) {
            true => self.encode(&record.view()?),
            false => {
                let is_alone = record.text_bytes() * 2 >= chunk.held();
                let texts = if is_alone { record.texts_in(chunk.body()) } else { record.texts_copied() };
                self.add_large(Arc::new(record.event(texts, Some(topic.clone()))?));
            }
        }
        Ok(())
    }

    fn end_chunk(&mut self, (): (), _: &Chunk) -> Result<(), String> {
        Ok(())
    }
}

/// A page that is being filled.
struct Filling<S> {
    limit: PageLimit,
    events: S,
    count: usize,
    last: Position,
    bytes: usize,
    /// Bytes of chunks that were read for it.
    walked: usize,
}

impl<S: Sink> Filling<S> {
    fn new(limit: PageLimit, events: S) -> Self {
        Filling { limit, events, count: 0, last: Position::ORIGIN, bytes: 0, walked: 0 }
    }

    fn is_full(&self) -> bool {
        self.count >= self.limit.events
            || self.bytes >= self.limit.bytes
            || self.events.grown_to() / GROWTH_MAX >= self.limit.bytes
    }

    /// About how many bytes of chunks fill it, if all in them is wanted.
    fn bytes_wanted(&self) -> usize {
        let events = self.limit.bytes.saturating_sub(self.bytes);
        (events + events * 3 / 8).clamp(READ_BYTES_MIN, READ_BYTES_MAX)
    }

    fn page(mut self, next: Position, head: Position) -> PageOfKept<S> {
        self.events.complete();
        PageOfKept { is_full: self.is_full(), events: self.events, next, at_head: next >= head }
    }
}

impl Read<'_> {
    pub(crate) fn kept_page<S: Sink>(
        &self,
        resolved: &mut Resolved,
        after: Position,
        limit: PageLimit,
        events: S,
    ) -> Result<PageOfKept<S>, ReadError> {
        let (head, merge) = self.begin(resolved, Way::After(after));
        if after >= head {
            return Ok(PageOfKept { events, next: after, at_head: true, is_full: false });
        }
        match merge {
            Some(mut merge) => {
                let page = self.page_by_index(&mut merge, head, Filling::new(limit, events))?;
                merge.settle(self.shared)?;
                Ok(page)
            }
            None => {
                let reach = Reach { bytes: limits::PAGE_SCAN_BYTES_MAX, may_wait: true };
                self.page_by_chunks(after, head, Filling::new(limit, events), reach)
            }
        }
    }

    /// The same page, as far as the system has it in memory and it is found at once; otherwise the error is that of
    /// [`would_wait`].
    pub(crate) fn kept_page_at_once<S: Sink>(
        &self,
        resolved: &mut Resolved,
        after: Position,
        limit: PageLimit,
        events: S,
    ) -> Result<PageOfKept<S>, ReadError> {
        match self.begin(resolved, Way::After(after)) {
            (head, None) if after < head => {
                let reach = Reach { bytes: READ_BYTES_MAX, may_wait: false };
                self.page_by_chunks(after, head, Filling::new(limit, events), reach)
            }
            // Rows of the index lie on the disk.
            _ => Err(would_wait()),
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

    fn page_by_index<S: Sink>(
        &self,
        merge: &mut Merge<'_>,
        head: Position,
        mut filling: Filling<S>,
    ) -> Result<PageOfKept<S>, ReadError> {
        let limit = filling.limit;
        let bytes_max = seek_bytes_max(merge);
        merge.begin()?;
        loop {
            let mut places = Vec::new();
            while places.len() < limit.events - filling.count && places.len() < PLACES_AT_ONCE {
                match merge.next()? {
                    Some(place) if place <= head => places.push(place),
                    _ => break,
                }
            }
            let Some(last) = places.last().copied() else {
                return Ok(filling.page(head, head));
            };
            let through = self.fetch(merge, &places, &mut filling)?;
            if filling.is_full() {
                let next = filling.last;
                return Ok(filling.page(next, head));
            }
            if through < last || filling.walked >= bytes_max {
                return Ok(filling.page(through, head));
            }
        }
    }

    fn page_by_chunks<S: Sink>(
        &self,
        after: Position,
        head: Position,
        mut filling: Filling<S>,
        reach: Reach,
    ) -> Result<PageOfKept<S>, ReadError> {
        filling.events.expect(filling.limit.bytes);
        let mut topics = KnownTopics::new(self);
        topics.dead.may_wait = reach.may_wait;
        let mut reading = Reading { may_wait: reach.may_wait, ..Reading::default() };
        if S::LEAVES_CHUNKS {
            reading.bytes = filling.bytes_wanted();
        }
        let from = Position::new(after.get().saturating_add(1));
        let mut chunks = self.store.chunks_read(from, head, reading)?;
        let mut others_had_it = 0;
        loop {
            if reach.may_wait && filling.walked - others_had_it >= WALK_BYTES_AT_ONCE {
                others_had_it = filling.walked;
                std::thread::yield_now();
            }
            if S::LEAVES_CHUNKS {
                chunks.want(filling.bytes_wanted());
            }
            let Some(chunk) = chunks.next().transpose()? else { break };
            let mut through = after.max(chunk.first());
            self.take(&chunk, &mut filling, &mut topics, |record| {
                through = through.max(record.position());
                record.position() > after
            })?;
            if filling.is_full() {
                let next = filling.last;
                return Ok(filling.page(next, head));
            }
            if filling.walked >= reach.bytes {
                return Ok(filling.page(through, head));
            }
        }
        Ok(filling.page(head, head))
    }

    /// Takes the wanted ones of the events at these places, and returns the last place that was looked at.
    fn fetch<S: Sink>(
        &self,
        merge: &Merge<'_>,
        places: &[Position],
        filling: &mut Filling<S>,
    ) -> Result<Position, ReadError> {
        let mut topics = KnownTopics::new(self);
        let mut places = places.iter().copied().peekable();
        let mut through = Position::ORIGIN;
        while let Some(place) = places.peek().copied() {
            if filling.is_full() || filling.walked >= seek_bytes_max(merge) {
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
    fn take<S: Sink>(
        &self,
        chunk: &Chunk,
        filling: &mut Filling<S>,
        topics: &mut KnownTopics<'_>,
        mut choose: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<(), ReadError> {
        filling.walked += chunk.body().len();
        let by_topic_only = self.filter.is_by_topic_only();
        let mut records = chunk.records();
        let mut chosen = S::Chosen::default();
        while !filling.is_full()
            && let Some(record) = records.next().transpose()?
        {
            if !choose(&record) {
                continue;
            }
            let Some(topic) = topics.wanted(&record)? else { continue };
            if !by_topic_only {
                let event = record.view().map_err(ReadError::Damaged)?;
                if !self.filter.wants_named(event.type_name(), event.origin) {
                    continue;
                }
            }
            filling.count += 1;
            filling.bytes += record.weight();
            filling.last = record.position();
            filling.events.choose(&mut chosen, record, topic, chunk).map_err(ReadError::Damaged)?;
        }
        filling.events.end_chunk(chosen, chunk).map_err(ReadError::Damaged)
    }
}

/// Bytes of chunks that a read along the index may read. Of many topics, to begin costs so much that it pays only for more.
fn seek_bytes_max(merge: &Merge<'_>) -> usize {
    (limits::PAGE_SEEK_BYTES_MAX + merge.topics() * limits::KIB).min(limits::PAGE_SCAN_BYTES_MAX)
}

/// Whether a record's event is kept and of a wanted topic. Each topic that one read meets is asked once.
pub(crate) struct KnownTopics<'a> {
    read: &'a Read<'a>,
    known: Vec<Known>,
    /// Where in `known` a topic is.
    numbers: HashMap<TopicNumber, usize>,
    /// For each value of [`slot`], where in `known` the topic is that had it last: neighbours are often of few topics.
    slots: [Option<u32>; SLOTS],
    pub(crate) dead: DeadPlaces<'a>,
}

struct Known {
    topic: Topic,
    is_wanted: bool,
    removed_through: Position,
}

/// A number below [`SLOTS`] that most topics have alone: they differ near their ends.
fn slot(topic: &[u8]) -> usize {
    let end = topic.last_chunk().copied().unwrap_or_else(|| {
        let mut end = [0; 8];
        end[..topic.len()].copy_from_slice(topic);
        end
    });
    let mixed = (u64::from_le_bytes(end) ^ topic.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

impl<'a> KnownTopics<'a> {
    pub(crate) fn new(read: &'a Read<'a>) -> Self {
        let dead = DeadPlaces::new(read.shared, read.store);
        KnownTopics { read, known: Vec::new(), numbers: HashMap::new(), slots: [None; SLOTS], dead }
    }

    /// The record's topic, if it is wanted and the event was not removed.
    #[inline]
    pub(crate) fn wanted(&mut self, record: &Record<'_>) -> Result<Option<&Topic>, ReadError> {
        let known = self.known(record)?;
        let Known { is_wanted, removed_through, .. } = self.known[known];
        if !is_wanted || record.position() <= removed_through || self.dead.has(record.position())? {
            return Ok(None);
        }
        Ok(Some(&self.known[known].topic))
    }

    fn known(&mut self, record: &Record<'_>) -> Result<usize, ReadError> {
        let slot = slot(record.topic());
        if let Some(known) = self.slots[slot].map(|known| known as usize)
            && self.known[known].topic.as_str().as_bytes() == record.topic()
        {
            return Ok(known);
        }
        let view = self.read.shared.view();
        let topics = &view.catalog.topics;
        let number = std::str::from_utf8(record.topic()).ok().and_then(|name| topics.number(name));
        let Some(number) = number else {
            let what = format!("the event at {} is of a topic that is not in it", record.position());
            return Err(index_damaged(what));
        };
        let known = *self.numbers.entry(number).or_insert_with(|| {
            let row = topics.row(number);
            let (topic, is_wanted) = (row.topic.clone(), self.read.filter.wants_topic(&row.topic));
            self.known.push(Known { topic, is_wanted, removed_through: row.removed_through });
            self.known.len() - 1
        });
        self.slots[slot] = u32::try_from(known).ok();
        Ok(known)
    }
}
