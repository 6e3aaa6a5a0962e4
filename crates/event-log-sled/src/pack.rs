//! Giving bytes back: the chunks of one block are written anew without the records of removed events, as few and as small
//! as they can be.
//!
//! Nobody who reads can tell: what is left out was removed before. A step is one batch: new chunks, the old ones gone, and
//! with the dead records their places in the list of the dead and in the index. It never touches the newest blocks, so the
//! log always ends in the record of its head.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use event_log::{Position, ReadError};

use crate::blocks::{self, Block, BlockNumber};
use crate::chunk::{Chunk, ChunkWriter};
use crate::dead::DeadPlaces;
use crate::keys::{self, TopicNumber};
use crate::postings;
use crate::record::Record;
use crate::removal::{PackPlan, RowChange};
use crate::rows;
use crate::shared::Shared;
use crate::store::{Store, index_damaged};

/// Bytes of chunks that one step reads.
const READ_AT_ONCE: usize = 2 << 20;
/// Bytes of records that one step writes.
const WRITTEN_AT_ONCE: usize = 512 << 10;

/// A step that was planned.
pub(crate) struct Step {
    /// `None` if there is nothing to write.
    pub(crate) plan: Option<PackPlan>,
    /// The blocks go on behind this place; `None` at their end.
    pub(crate) rest_after: Option<Position>,
}

/// Plans the step of neighbouring blocks that begins behind a place.
pub(crate) fn plan(
    shared: &Shared,
    store: &Store,
    blocks: RangeInclusive<BlockNumber>,
    after: Position,
) -> Result<Step, ReadError> {
    let end = blocks::first_of(blocks::number_of(shared.view().catalog.indexed_through()));
    let mut packing = Packing::new(shared, store);
    let begin = blocks::first_of(*blocks.start()).max(Position::new(after.get().saturating_add(1)));
    let mut rest_after = None;
    for number in blocks::number_of(begin)..=*blocks.end() {
        packing.look_at(number);
    }
    for chunk in store.chunks(begin, blocks::last_of(*blocks.end()))? {
        let chunk = chunk?;
        let Some(last) = chunk.last()?.filter(|last| *last < end) else { break };
        if last < begin {
            continue;
        }
        packing.take(&chunk)?;
        if packing.read >= READ_AT_ONCE || packing.written >= WRITTEN_AT_ONCE {
            rest_after = (last < blocks::last_of(*blocks.end())).then_some(last);
            break;
        }
    }
    let packed_through = rest_after.unwrap_or_else(|| blocks::last_of(*blocks.end()));
    let plan = packing.finish(begin, packed_through)?;
    Ok(Step { plan, rest_after })
}

/// A step under construction.
struct Packing<'a> {
    shared: &'a Shared,
    store: &'a Store,
    dead: DeadPlaces<'a>,
    /// Each block as it was before anything of it was looked at: if it is not so any more when the writer comes to the
    /// plan, a removal came in between.
    before: BTreeMap<BlockNumber, Block>,
    writer: ChunkWriter,
    old: Vec<(Position, u32)>,
    read: usize,
    written: usize,
    dropped: Vec<Dropped>,
}

/// A record that is left out.
struct Dropped {
    position: Position,
    weight: u64,
    topic: TopicNumber,
    /// It is listed as dead, and the index still has it.
    is_dead: bool,
}

impl<'a> Packing<'a> {
    fn new(shared: &'a Shared, store: &'a Store) -> Self {
        Packing {
            shared,
            store,
            dead: DeadPlaces::new(shared, store),
            before: BTreeMap::new(),
            writer: ChunkWriter::packing(),
            old: Vec::new(),
            read: 0,
            written: 0,
            dropped: Vec::new(),
        }
    }

    fn look_at(&mut self, number: BlockNumber) {
        self.before.entry(number).or_insert_with(|| self.shared.view().catalog.blocks.get(number));
    }

    fn take(&mut self, chunk: &Chunk) -> Result<(), ReadError> {
        self.old.push((chunk.first(), chunk.parts()));
        self.read += chunk.body().len();
        for record in chunk.records() {
            let record = record?;
            record.check().map_err(ReadError::Damaged)?;
            match self.judge(&record)? {
                Some(dropped) => self.dropped.push(dropped),
                None => {
                    self.written += record.whole().len();
                    self.writer.push_record(&record);
                }
            }
        }
        Ok(())
    }

    /// Whether a record's event was removed.
    fn judge(&mut self, record: &Record<'_>) -> Result<Option<Dropped>, ReadError> {
        let position = record.position();
        self.look_at(blocks::number_of(position));
        let (topic, removed_through) = {
            let topics = &self.shared.view().catalog.topics;
            let number = std::str::from_utf8(record.topic()).ok().and_then(|name| topics.number(name));
            let number = number.ok_or_else(|| {
                index_damaged(format!("the event at {position} is of a topic that is not in it"))
            })?;
            (number, topics.row(number).removed_through)
        };
        let is_dead = self.dead.has(position)?;
        let weight = record.weight() as u64;
        let is_gone = is_dead || position <= removed_through;
        Ok(is_gone.then_some(Dropped { position, weight, topic, is_dead }))
    }

    /// The plan, unless it would change nothing. The blocks between two places are then packed.
    fn finish(mut self, from: Position, through: Position) -> Result<Option<PackPlan>, ReadError> {
        // A block that was begun in an earlier step ends in this one.
        let is_done = |number: &BlockNumber| (from..=through).contains(&blocks::last_of(*number));
        let packed: Vec<BlockNumber> = self.before.keys().copied().filter(is_done).collect();
        if self.dropped.is_empty() && self.before.values().all(|block| block.packed) {
            return Ok(None);
        }
        let new = std::mem::take(&mut self.writer).finish();
        let mut changed = self.before.clone();
        // Every chunk begins with a record, and every record's block was looked at.
        let mut change =
            |number: BlockNumber, apply: &dyn Fn(&mut Block)| apply(changed.entry(number).or_default());
        for (first, parts) in &self.old {
            change(blocks::number_of(*first), &|block| block.chunks = block.chunks.saturating_sub(*parts));
        }
        let mut rows: Vec<RowChange> = Vec::new();
        for (key, value) in &new {
            let first = keys::read_chunk(key).map(|(first, _)| first).unwrap_or_default();
            change(blocks::number_of(first), &|block| block.chunks += 1);
            rows.push((key.to_vec(), Some(value.clone())));
        }
        for dropped in &self.dropped {
            // Where more is dead than the block says, a removal came in between, and the writer will refuse the plan.
            change(blocks::number_of(dropped.position), &|block| {
                block.stored_events = block.stored_events.saturating_sub(1);
                block.stored_bytes = block.stored_bytes.saturating_sub(dropped.weight);
                block.dead = block.dead.saturating_sub(u32::from(dropped.is_dead));
            });
        }
        packed.into_iter().for_each(|number| change(number, &|block| block.packed = true));
        self.put_removed_chunks(&new, &mut rows);
        self.put_dead(&mut rows)?;
        self.put_postings(&mut rows)?;
        let blocks = self.before.into_iter().map(|(number, before)| (number, before, changed[&number]));
        Ok(Some(PackPlan { blocks: blocks.collect(), rows }))
    }

    /// The rows of old chunks that no new one replaces.
    fn put_removed_chunks(&self, new: &[([u8; 11], Vec<u8>)], rows: &mut Vec<RowChange>) {
        let kept: BTreeSet<&[u8; 11]> = new.iter().map(|(key, _)| key).collect();
        for (first, parts) in &self.old {
            let parts = u16::try_from(*parts).unwrap_or(u16::MAX);
            let keys = (0..parts).map(|part| keys::chunk(*first, part));
            rows.extend(keys.filter(|key| !kept.contains(key)).map(|key| (key.to_vec(), None)));
        }
    }

    /// The lists of dead places, without those whose records go.
    fn put_dead(&mut self, rows: &mut Vec<RowChange>) -> Result<(), ReadError> {
        let mut gone: BTreeMap<BlockNumber, BTreeSet<u16>> = BTreeMap::new();
        for dropped in self.dropped.iter().filter(|dropped| dropped.is_dead) {
            let offsets = gone.entry(blocks::number_of(dropped.position)).or_default();
            offsets.insert(blocks::offset_in(dropped.position));
        }
        for (number, gone) in gone {
            let listed = self.dead.of(number)?;
            let left: Vec<u16> = listed.iter().filter(|offset| !gone.contains(offset)).copied().collect();
            let key = keys::dead(number);
            let value = (!left.is_empty()).then(|| rows::seal(&key, &rows::encode_dead(&left)));
            rows.push((key.to_vec(), value));
        }
        Ok(())
    }

    /// The rows of the index, without the dead places whose records go.
    fn put_postings(&self, rows: &mut Vec<RowChange>) -> Result<(), ReadError> {
        let mut gone: BTreeMap<TopicNumber, BTreeSet<Position>> = BTreeMap::new();
        for dropped in self.dropped.iter().filter(|dropped| dropped.is_dead) {
            gone.entry(dropped.topic).or_default().insert(dropped.position);
        }
        for (topic, mut places) in gone {
            while let Some(last) = places.last().copied() {
                let row = self.store.postings_row(topic, last)?;
                places.remove(&last);
                let Some((key, mut row)) = row else { continue };
                let (first, held) = (row[0].position, row.len());
                row.retain(|posting| posting.position != last && !places.contains(&posting.position));
                if row.len() == held {
                    continue;
                }
                places.retain(|place| *place < first);
                let mut replaced = None;
                for (first, body) in postings::encode(&row) {
                    let new = keys::postings(topic, first);
                    replaced = replaced.or((new[..] == key).then_some(()));
                    rows.push((new.to_vec(), Some(rows::seal(&new, &body))));
                }
                if replaced.is_none() {
                    rows.push((key, None));
                }
            }
        }
        Ok(())
    }
}
