//! The places of several topics' events, merged into one order, forwards or backwards.
//!
//! A topic's places up to the last checkpoint are in rows of the index, the later ones in memory. The memory's part is
//! taken when the merge begins, together with where it begins, so a checkpoint in between changes nothing.

use std::collections::BinaryHeap;
use std::time::Instant;

use event_log::{Position, ReadError};

use crate::dead::{WAIT, WAIT_MAX};
use crate::keys::{self, TopicNumber};
use crate::postings::Posting;
use crate::rows::RemovalRow;
use crate::shared::{Shared, View};
use crate::store::{Store, index_damaged};

/// Where a merge begins, and which way it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// The places after this one, oldest first, up to the head.
    After(Position),
    /// The places up to this one, newest first.
    Through(Position),
}

/// One topic's places that were fetched; the last one comes next.
struct Source {
    topic: TopicNumber,
    /// What lies up to here is removed.
    removed_through: Position,
    /// In memory, after all rows.
    recent: Vec<Position>,
    recent_taken: bool,
    fetched: Vec<Position>,
    /// How far the rows were fetched.
    edge: Position,
}

pub(crate) struct Merge<'a> {
    store: &'a Store,
    way: Way,
    indexed_through: Position,
    sources: Vec<Source>,
    /// The next place of each source that has one; the greatest rank comes first.
    next: BinaryHeap<(u64, usize)>,
}

impl<'a> Merge<'a> {
    /// The places of these topics, as far as the view shows them.
    pub(crate) fn new(store: &'a Store, view: &View, topics: &[TopicNumber], way: Way) -> Self {
        let (after, through) = match way {
            Way::After(after) => (after, Position::new(u64::MAX)),
            Way::Through(through) => (Position::ORIGIN, through),
        };
        let catalog = &view.catalog;
        let wanted = topics.iter().filter(|topic| catalog.topics.row(**topic).last > after);
        let sources = wanted.map(|topic| {
            let removed_through = catalog.topics.row(*topic).removed_through;
            let after = after.max(removed_through);
            let recent = catalog.unindexed(*topic);
            let from = recent.partition_point(|posting| posting.position <= after);
            let recent = places(&recent[from..]).take_while(|place| *place <= through).collect();
            let edge = match way {
                Way::After(_) => after,
                Way::Through(through) => {
                    Position::new(catalog.indexed_through().min(through).get().saturating_add(1))
                }
            };
            let (recent_taken, fetched) = (false, Vec::new());
            Source { topic: *topic, removed_through, recent, recent_taken, fetched, edge }
        });
        let sources: Vec<Source> = sources.collect();
        Merge { store, way, indexed_through: catalog.indexed_through(), sources, next: BinaryHeap::new() }
    }

    /// Looks at the first place of every topic. Apart from [`Merge::new`], so that no lock is held while sled reads.
    pub(crate) fn begin(&mut self) -> Result<(), ReadError> {
        (0..self.sources.len()).try_for_each(|source| self.refill(source))
    }

    /// The next place.
    pub(crate) fn next(&mut self) -> Result<Option<Position>, ReadError> {
        let Some((rank, source)) = self.next.pop() else { return Ok(None) };
        self.refill(source)?;
        Ok(Some(self.place(rank)))
    }

    /// The topic whose rows have a place now.
    pub(crate) fn topic_at(&self, place: Position) -> Result<Option<TopicNumber>, ReadError> {
        for source in &self.sources {
            let row = self.store.postings_row(source.topic, place)?;
            if row.is_some_and(|(_, row)| row.iter().any(|posting| posting.position == place)) {
                return Ok(Some(source.topic));
            }
        }
        Ok(None)
    }

    /// How many topics it merges.
    pub(crate) fn topics(&self) -> usize {
        self.sources.len()
    }

    /// Waits until what was read is shown. A trim takes rows of the index in a batch that is in the store before it is durable and
    /// shown, so what was read meanwhile lacks events that the view still has: a reader that took that for all there is would
    /// go on behind them, and not be told. The same batch says of the topic how far it is trimmed; when that is shown, a barrier
    /// later, it is seen who missed something.
    pub(crate) fn settle(&self, shared: &Shared) -> Result<(), ReadError> {
        for source in &self.sources {
            let key = keys::removal(&shared.view().catalog.topics.row(source.topic).topic);
            let Some(row) = self.store.get_sealed(&key)? else { continue };
            let removal = row.and_then(|body| RemovalRow::decode(&body)).map_err(ReadError::Damaged)?;
            let begun = Instant::now();
            while shared.view().catalog.topics.row(source.topic).removed_through < removal.removed_through {
                shared.is_open().map_err(|_| ReadError::Closed)?;
                if begun.elapsed() > WAIT_MAX {
                    let (topic, through) = (removal.topic, removal.removed_through);
                    return Err(index_damaged(format!(
                        "{topic} is trimmed up to {through}, which is not shown"
                    )));
                }
                std::thread::sleep(WAIT);
            }
        }
        Ok(())
    }

    fn rank(&self, place: Position) -> u64 {
        match self.way {
            Way::After(_) => !place.get(),
            Way::Through(_) => place.get(),
        }
    }

    fn place(&self, rank: u64) -> Position {
        match self.way {
            Way::After(_) => Position::new(!rank),
            Way::Through(_) => Position::new(rank),
        }
    }

    /// Puts a source's next place among those to choose from.
    fn refill(&mut self, source: usize) -> Result<(), ReadError> {
        if self.sources[source].fetched.is_empty() {
            self.fetch(source)?;
        }
        if let Some(place) = self.sources[source].fetched.pop() {
            self.next.push((self.rank(place), source));
        }
        Ok(())
    }

    fn fetch(&mut self, source: usize) -> Result<(), ReadError> {
        let (store, indexed_through) = (self.store, self.indexed_through);
        let source = &mut self.sources[source];
        match self.way {
            Way::After(_) => {
                if source.edge < indexed_through
                    && let Some(row) = store.postings_after(source.topic, source.edge)?
                {
                    source.edge = row.last().map_or(indexed_through, |last| last.position);
                    // A checkpoint may have written rows since; those places are in `recent`.
                    source.fetched = places(&row).filter(|place| *place <= indexed_through).rev().collect();
                }
                if source.fetched.is_empty() && !source.recent_taken {
                    source.recent_taken = true;
                    source.edge = Position::new(u64::MAX);
                    source.recent.reverse();
                    source.fetched = std::mem::take(&mut source.recent);
                }
            }
            Way::Through(_) => {
                if !source.recent_taken {
                    source.recent_taken = true;
                    source.fetched = std::mem::take(&mut source.recent);
                }
                if source.fetched.is_empty()
                    && let Some(row) = store.postings_before(source.topic, source.edge)?
                {
                    source.edge = row.first().map_or(Position::ORIGIN, |first| first.position);
                    source.fetched = places(&row).filter(|place| *place > source.removed_through).collect();
                }
            }
        }
        Ok(())
    }
}

fn places(postings: &[Posting]) -> impl DoubleEndedIterator<Item = Position> {
    postings.iter().map(|posting| posting.position)
}
