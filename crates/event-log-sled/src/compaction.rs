//! Compaction: of each key the newest event stays.
//!
//! A topic that is compacted has a row for each of its keys, with the newest event of it up to the place that compaction has
//! come to. A step takes the events behind that place in order: an event supersedes the one that its key's row names. So
//! the work follows what is new, however much the topic holds. Tombstones are listed by their time as well; one that is
//! old enough and still the newest of its key goes too.

use std::collections::{BTreeMap, HashMap};

use event_log::{Event, EventType, Filter, PageLimit, Pattern, Position, ReadError, Timestamp, limits};

use crate::blocks::{self, BlockNumber};
use crate::cold::{PageOfKept, Read};
use crate::keys::{self, Hash, TopicNumber};
use crate::plan::{Planner, Walk};
use crate::reader::Resolved;
use crate::removal::{DeadPlan, TopicPlan};
use crate::rows::{self, NewestRow, TopicRow};
use crate::store::{Store, index_damaged};

/// Events, or old tombstones, that one step takes.
const COMPACTED_AT_ONCE: usize = 2_048;

/// A compaction of one topic under construction.
struct Compaction<'p, 'a> {
    planner: &'p mut Planner<'a>,
    plan: TopicPlan,
    /// The rows of keys that this step changes; `None` removes one.
    newest: HashMap<Hash, Option<NewestRow>>,
    tombstones: BTreeMap<(Timestamp, Position), Option<Hash>>,
    dead: BTreeMap<BlockNumber, Vec<u16>>,
}

/// What one step of a topic's compaction would do.
pub(crate) fn plan(
    planner: &mut Planner<'_>,
    number: TopicNumber,
    row: TopicRow,
    tombstones_before: Timestamp,
) -> Result<TopicPlan, ReadError> {
    let plan = TopicPlan::new(number, row);
    let (newest, tombstones, dead) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut compaction = Compaction { planner, plan, newest, tombstones, dead };
    compaction.supersede()?;
    if !compaction.plan.more {
        compaction.expire(tombstones_before)?;
    }
    compaction.finish()
}

impl Compaction<'_, '_> {
    /// Takes the events behind the place that compaction has come to.
    fn supersede(&mut self) -> Result<(), ReadError> {
        let after = self.plan.compacted_through.max(self.plan.base.removed_through);
        if after >= self.plan.base.last {
            return Ok(());
        }
        let filter = Filter::new(vec![Pattern::from(self.plan.base.topic.clone())]);
        let read = Read { shared: self.planner.shared, store: self.planner.store, filter: &filter };
        let limit = PageLimit { events: COMPACTED_AT_ONCE, bytes: limits::PAGE_SCAN_BYTES_MAX };
        let page: PageOfKept = read.kept_page(&mut Resolved::default(), after, limit, Vec::new())?;
        for event in &page.events {
            self.take(event)?;
        }
        self.plan.compacted_through = page.next;
        self.plan.more = !page.at_head;
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), ReadError> {
        let Some(key) = &event.key else { return Ok(()) };
        let hash = keys::key_hash(key);
        if let Some(older) = self.newest(&hash)?
            && older.position > self.plan.base.removed_through
        {
            self.kill(older)?;
        }
        let weight = u32::try_from(event.weight()).unwrap_or(u32::MAX);
        self.newest.insert(hash, Some(NewestRow { position: event.position, weight }));
        if event.type_name() == EventType::DELETE {
            self.tombstones.insert((event.time, event.position), Some(hash));
        }
        Ok(())
    }

    fn newest(&self, hash: &Hash) -> Result<Option<NewestRow>, ReadError> {
        match self.newest.get(hash) {
            Some(row) => Ok(*row),
            None => read_newest(self.planner.store, self.plan.number, hash),
        }
    }

    fn kill(&mut self, row: NewestRow) -> Result<(), ReadError> {
        let number = blocks::number_of(row.position);
        let offset = blocks::offset_in(row.position);
        let listed = self.planner.dead.of(number)?;
        let dead = self.dead.entry(number).or_default();
        if listed.binary_search(&offset).is_ok() || dead.contains(&offset) {
            return Ok(());
        }
        dead.push(offset);
        self.plan.count(row.position, row.weight);
        Ok(())
    }

    /// Takes the tombstones that are old enough.
    fn expire(&mut self, before: Timestamp) -> Result<(), ReadError> {
        let number = self.plan.number;
        let first = keys::tombstone(number, Timestamp::default(), Position::ORIGIN);
        let end = keys::tombstone(number, before, Position::ORIGIN);
        // Those that this very step met, then those that are listed.
        let met = self.tombstones.range(..(before, Position::ORIGIN));
        let mut old: Vec<_> = met.filter_map(|(at, hash)| Some((*at, (*hash)?))).collect();
        for row in self.planner.store.range(&first, &end) {
            if old.len() >= COMPACTED_AT_ONCE {
                self.plan.more = true;
                break;
            }
            let (key, value) = row?;
            let found = keys::read_tombstone(&key).zip(hash_in(&key, &value).ok());
            let Some(((_, time, place), hash)) = found else {
                return Err(index_damaged(format!("the row {key:02x?} is no tombstone")));
            };
            old.push(((time, place), hash));
        }
        for (at, hash) in old {
            self.tombstones.insert(at, None);
            let Some(newest) = self.newest(&hash)?.filter(|newest| newest.position == at.1) else { continue };
            self.newest.insert(hash, None);
            if at.1 > self.plan.base.removed_through {
                self.kill(newest)?;
                self.plan.missing_through = self.plan.missing_through.max(at.1);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<TopicPlan, ReadError> {
        let number = self.plan.number;
        for (hash, row) in &self.newest {
            let key = keys::newest(number, hash);
            let value = row.map(|row| rows::seal(&key, &row.encode()));
            self.plan.rows.push((key.to_vec(), value));
        }
        for ((time, place), hash) in &self.tombstones {
            let key = keys::tombstone(number, *time, *place);
            self.plan.rows.push((key.to_vec(), hash.map(|hash| rows::seal(&key, &hash))));
        }
        for (block, mut added) in std::mem::take(&mut self.dead) {
            let listed = self.planner.dead.of(block)?.to_vec();
            added.sort_unstable();
            self.plan.dead.insert(block, DeadPlan { listed, added });
        }
        self.find_first()?;
        Ok(self.plan)
    }

    /// The oldest event that stays, if the one that was it dies.
    fn find_first(&mut self) -> Result<(), ReadError> {
        let Some(first) = self.plan.base.first else { return Ok(()) };
        let is_dead = |plan: &TopicPlan, place: Position| {
            let dead = plan.dead.get(&blocks::number_of(place));
            dead.is_some_and(|dead| dead.has(blocks::offset_in(place)))
        };
        if !is_dead(&self.plan, first) {
            return Ok(());
        }
        let mut walk = Walk::begin(&self.planner.shared.view(), self.plan.number, first);
        while let Some(posting) = walk.next(self.planner.store)? {
            if !is_dead(&self.plan, posting.position) && !self.planner.dead.has(posting.position)? {
                self.plan.first = Some(posting.position);
                return Ok(());
            }
        }
        self.plan.first = None;
        Ok(())
    }
}

/// Lets the rows of keys go whose newest events are trimmed.
pub(crate) fn forget(
    planner: &Planner<'_>,
    plan: &mut TopicPlan,
    gone: &[Position],
) -> Result<(), ReadError> {
    let store = planner.store;
    let mut gone = gone.iter().copied().peekable();
    while let Some(place) = gone.peek().copied() {
        let Some(chunk) = store.chunk_at(place)? else { return Ok(()) };
        for record in chunk.records() {
            let record = record?;
            while gone.next_if(|place| *place < record.position()).is_some() {}
            if gone.next_if(|place| *place == record.position()).is_none() {
                continue;
            }
            let event = record.event(record.texts_in(chunk.body()), None).map_err(ReadError::Damaged)?;
            let Some(key) = &event.key else { continue };
            let hash = keys::key_hash(key);
            let newest = read_newest(store, plan.number, &hash)?;
            if newest.is_some_and(|newest| newest.position == event.position) {
                plan.rows.push((keys::newest(plan.number, &hash).to_vec(), None));
            }
            if event.type_name() == EventType::DELETE {
                let key = keys::tombstone(plan.number, event.time, event.position);
                plan.rows.push((key.to_vec(), None));
            }
        }
        // The chunk ended before this place, which was given back already.
        while gone.next_if(|other| *other <= place).is_some() {}
    }
    Ok(())
}

fn read_newest(store: &Store, number: TopicNumber, hash: &Hash) -> Result<Option<NewestRow>, ReadError> {
    let body = store.get_sealed(&keys::newest(number, hash))?;
    body.map(|body| body.and_then(|body| NewestRow::decode(&body)).map_err(index_damaged)).transpose()
}

fn hash_in(key: &[u8], value: &[u8]) -> Result<Hash, String> {
    let body = rows::unseal(key, value)?;
    body.try_into().map_err(|_| "a hash has 16 bytes".to_owned())
}
