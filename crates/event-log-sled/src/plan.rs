//! Plans of removals: what goes, found along the index, a bounded number of events at a time.
//!
//! A trim takes a topic's oldest events. It reads postings only, unless the topic was compacted: then the events tell which
//! rows of keys go with them.

use event_log::{Filter, Keep, Position, ReadError, Removal, Removed, Timestamp, Topic};

use crate::cold::Read;
use crate::compaction;
use crate::dead::DeadPlaces;
use crate::keys::TopicNumber;
use crate::postings::Posting;
use crate::removal::TopicPlan;
use crate::rows::TopicRow;
use crate::shared::{Shared, View};
use crate::store::Store;

/// Events that one step of a trim takes.
const TRIMMED_AT_ONCE: u64 = 65_536;
/// The same of a topic that was compacted, where each is read.
const TRIMMED_AT_ONCE_COMPACTED: u64 = 4_096;

/// Makes plans of removals, one after the other.
pub(crate) struct Planner<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) store: &'a Store,
    pub(crate) dead: DeadPlaces<'a>,
    /// The last time that was looked up: many topics are trimmed by the same.
    time: Option<(Timestamp, Position)>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(shared: &'a Shared, store: &'a Store) -> Self {
        Planner { shared, store, dead: DeadPlaces::new(shared, store), time: None }
    }

    /// What one step of a removal would do, if anything.
    pub(crate) fn plan(&mut self, removal: &Removal) -> Result<Option<TopicPlan>, ReadError> {
        let Some((number, row)) = self.known(removal.topic()) else { return Ok(None) };
        let plan = match removal {
            Removal::Trim { keep, .. } => self.trim(number, row, *keep)?,
            Removal::Superseded { tombstones_before, .. } => {
                Some(compaction::plan(self, number, row, *tombstones_before)?)
            }
        };
        Ok(plan.filter(|plan| !plan.is_idle()))
    }

    fn trim(
        &mut self,
        number: TopicNumber,
        row: TopicRow,
        keep: Keep,
    ) -> Result<Option<TopicPlan>, ReadError> {
        let Some(first) = row.first else { return Ok(None) };
        let bound = self.bound(&row, keep)?;
        if !bound.goes(0, 0, first) {
            return Ok(None);
        }
        let is_compacted = row.compacted_through > Position::ORIGIN;
        let at_once = if is_compacted { TRIMMED_AT_ONCE_COMPACTED } else { TRIMMED_AT_ONCE };
        let mut plan = TopicPlan::new(number, row);
        plan.first = None;
        let mut gone = Vec::new();
        let mut walk = Walk::begin(&self.shared.view(), number, plan.base.removed_through);
        while let Some(posting) = walk.next(self.store)? {
            if self.dead.has(posting.position)? {
                continue;
            }
            let goes = bound.goes(plan.events, plan.bytes, posting.position);
            if !goes || plan.events == at_once {
                plan.more = goes;
                plan.first = Some(posting.position);
                break;
            }
            plan.count(posting.position, posting.weight);
            if is_compacted {
                gone.push(posting.position);
            }
        }
        plan.removed_through = plan.through;
        plan.missing_through = plan.missing_through.max(plan.through);
        walk.passed_rows(self.store, plan.removed_through, &mut plan.rows)?;
        if is_compacted {
            compaction::forget(self, &mut plan, &gone)?;
        }
        Ok(Some(plan))
    }

    /// What all steps of a trim together would remove, and the last place of it.
    pub(crate) fn trimmable(&mut self, topic: &Topic, keep: Keep) -> Result<Removed, ReadError> {
        let mut removed = Removed::default();
        let Some((number, row)) = self.known(topic) else { return Ok(removed) };
        let bound = self.bound(&row, keep)?;
        let mut walk = Walk::begin(&self.shared.view(), number, row.removed_through);
        while let Some(posting) = walk.next(self.store)? {
            if self.dead.has(posting.position)? {
                continue;
            }
            if !bound.goes(removed.events, removed.bytes, posting.position) {
                break;
            }
            removed.events += 1;
            removed.bytes += u64::from(posting.weight);
            removed.through = posting.position;
        }
        Ok(removed)
    }

    fn known(&self, topic: &Topic) -> Option<(TopicNumber, TopicRow)> {
        let view = self.shared.view();
        let topics = &view.catalog.topics;
        topics.number(topic.as_str()).map(|number| (number, topics.row(number).clone()))
    }

    fn bound(&mut self, row: &TopicRow, keep: Keep) -> Result<Bound, ReadError> {
        let through = match keep.since {
            Some(since) => self.before(since)?,
            None => Position::ORIGIN,
        };
        let excess = |held: u64, kept: Option<u64>| kept.map_or(0, |kept| held.saturating_sub(kept));
        Ok(Bound {
            events: excess(row.events, keep.events),
            bytes: excess(row.bytes, keep.bytes),
            through: through.max(keep.after.unwrap_or_default()),
        })
    }

    /// The last place whose events are older than a time.
    fn before(&mut self, time: Timestamp) -> Result<Position, ReadError> {
        if let Some((known, place)) = self.time
            && known == time
        {
            return Ok(place);
        }
        let head = self.shared.view().catalog.head;
        let everything = Filter::everything();
        let read = Read { shared: self.shared, store: self.store, filter: &everything };
        let place = read.before_time(time, head)?;
        self.time = Some((time, place));
        Ok(place)
    }
}

/// Up to where a topic is trimmed.
struct Bound {
    /// So many events are too many.
    events: u64,
    /// So many bytes are too many.
    bytes: u64,
    through: Position,
}

impl Bound {
    /// Whether the next event goes, after so many went.
    fn goes(&self, events: u64, bytes: u64, position: Position) -> bool {
        events < self.events || bytes < self.bytes || position <= self.through
    }
}

/// The postings of one topic behind a place, in order: those in rows, then those in memory.
pub(crate) struct Walk {
    topic: TopicNumber,
    after: Position,
    indexed_through: Position,
    recent: Vec<Posting>,
    /// Rows are fetched from behind this place; `None` once those in memory were taken.
    edge: Option<Position>,
    /// The next one last.
    fetched: Vec<Posting>,
}

impl Walk {
    pub(crate) fn begin(view: &View, topic: TopicNumber, after: Position) -> Self {
        let catalog = &view.catalog;
        Walk {
            topic,
            after,
            indexed_through: catalog.indexed_through(),
            recent: catalog.unindexed(topic).to_vec(),
            edge: Some(after),
            fetched: Vec::new(),
        }
    }

    pub(crate) fn next(&mut self, store: &Store) -> Result<Option<Posting>, ReadError> {
        while self.fetched.is_empty() {
            let Some(edge) = self.edge else { return Ok(None) };
            let row =
                if edge < self.indexed_through { store.postings_after(self.topic, edge)? } else { None };
            match row {
                Some(mut row) => {
                    self.edge = Some(row.last().map_or(self.indexed_through, |last| last.position));
                    // A checkpoint may have written rows since; those are in memory here.
                    row.retain(|posting| posting.position <= self.indexed_through);
                    self.fetched = row;
                }
                None => {
                    self.edge = None;
                    self.fetched = std::mem::take(&mut self.recent);
                }
            }
            self.fetched.retain(|posting| posting.position > self.after);
            self.fetched.reverse();
        }
        Ok(self.fetched.pop())
    }

    /// The rows that hold nothing behind a place.
    fn passed_rows(
        &self,
        store: &Store,
        through: Position,
        rows: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), ReadError> {
        for row in store.posting_rows(self.topic, through) {
            let (key, postings) = row?;
            if postings.last().is_none_or(|last| last.position <= through) {
                rows.push((key, None));
            }
        }
        Ok(())
    }
}
