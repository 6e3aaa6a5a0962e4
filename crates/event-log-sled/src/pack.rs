//! Giving bytes back: neighbouring segments are written anew as one, without the records of removed events, as few and as small
//! as it can be.
//!
//! Nobody who reads can tell: what is left out was removed before. The new file is whole and durable before one batch puts it
//! in the place of the old ones, and takes with the dead records their places in the list of the dead and in the index.
//! It never touches the segment that grows, nor what is not in the index yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use event_log::{Position, ReadError};

use crate::blocks::{self, BlockNumber};
use crate::chunk::{Chunk, ChunkWriter};
use crate::dead::DeadPlaces;
use crate::keys::{self, TopicNumber};
use crate::postings;
use crate::record::Record;
use crate::removal::{PackLoss, PackPlan, RowChange};
use crate::rows;
use crate::segments::Draft;
use crate::segments::segment::Segment;
use crate::shared::Shared;
use crate::store::{Store, index_damaged};

/// Bytes that are written, and made durable, at once.
const WRITTEN_AT_ONCE: usize = 512 << 10;

/// Makes a new file out of neighbouring segments. `go_on` is asked now and then; without it there is no plan.
pub(crate) fn plan(
    shared: &Shared,
    store: &Store,
    old: &[Arc<Segment>],
    go_on: &dyn Fn() -> bool,
) -> Result<Option<PackPlan>, ReadError> {
    let Some((from, through)) = old.first().zip(old.last()).map(|(a, b)| (a.first, b.through())) else {
        return Ok(None);
    };
    let mut packing = Packing::new(shared, store, old);
    for chunk in store.chunks(from, through)? {
        let chunk = chunk?;
        if chunk.first() < from {
            continue;
        }
        packing.take(&chunk)?;
        if packing.writer.len() >= WRITTEN_AT_ONCE {
            packing.write()?;
            if !go_on() {
                return Ok(None);
            }
        }
    }
    packing.write()?;
    packing.finish(old, through).map(Some)
}

/// A new file under construction.
struct Packing<'a> {
    shared: &'a Shared,
    store: &'a Store,
    /// Up to where each topic was trimmed, as of before any dead place was looked up: what is gone by then is gone by this.
    trimmed: Vec<Position>,
    dead: DeadPlaces<'a>,
    draft: Draft,
    writer: ChunkWriter,
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
    fn new(shared: &'a Shared, store: &'a Store, old: &[Arc<Segment>]) -> Self {
        let trimmed = shared.view().catalog.topics.since(0).map(|(_, row)| row.removed_through).collect();
        Packing {
            shared,
            store,
            trimmed,
            dead: DeadPlaces::new(shared, store),
            draft: Draft::new(&store.segments, old),
            writer: ChunkWriter::packing(),
            dropped: Vec::new(),
        }
    }

    fn take(&mut self, chunk: &Chunk) -> Result<(), ReadError> {
        for record in chunk.records() {
            let record = record?;
            record.check().map_err(ReadError::Damaged)?;
            match self.judge(&record)? {
                Some(dropped) => self.dropped.push(dropped),
                None => self.writer.push_record(&record),
            }
        }
        Ok(())
    }

    /// Whether a record's event was removed.
    fn judge(&mut self, record: &Record<'_>) -> Result<Option<Dropped>, ReadError> {
        let position = record.position();
        let name = std::str::from_utf8(record.topic()).ok();
        let topic = name.and_then(|name| self.shared.view().catalog.topics.number(name));
        let topic = topic.ok_or_else(|| {
            index_damaged(format!("the event at {position} is of a topic that is not in it"))
        })?;
        let removed_through = self.trimmed.get(topic as usize).copied().unwrap_or_default();
        let is_dead = self.dead.has(position)?;
        let weight = record.weight() as u64;
        let is_gone = is_dead || position <= removed_through;
        Ok(is_gone.then_some(Dropped { position, weight, topic, is_dead }))
    }

    fn write(&mut self) -> Result<(), ReadError> {
        let chunks = std::mem::replace(&mut self.writer, ChunkWriter::packing()).finish();
        self.draft.add(&chunks).map_err(|error| ReadError::Engine(error.into()))
    }

    fn finish(self, old: &[Arc<Segment>], through: Position) -> Result<PackPlan, ReadError> {
        let mut rows = Vec::new();
        let topics = self.put_postings(&mut rows)?;
        let mut losses: BTreeMap<BlockNumber, PackLoss> = BTreeMap::new();
        for dropped in &self.dropped {
            let loss = losses.entry(blocks::number_of(dropped.position)).or_default();
            loss.events += 1;
            loss.bytes += dropped.weight;
            loss.dead.extend(dropped.is_dead.then(|| blocks::offset_in(dropped.position)));
        }
        let new = self.draft.finish(through).map_err(|error| ReadError::Engine(error.into()))?;
        Ok(PackPlan { losses, topics, rows, old: old.to_vec(), new })
    }

    /// Puts the rows of the index, without the dead places whose records go; returns up to where each topic was trimmed before
    /// they were read.
    fn put_postings(&self, rows: &mut Vec<RowChange>) -> Result<BTreeMap<TopicNumber, Position>, ReadError> {
        let mut gone: BTreeMap<TopicNumber, BTreeSet<Position>> = BTreeMap::new();
        for dropped in self.dropped.iter().filter(|dropped| dropped.is_dead) {
            gone.entry(dropped.topic).or_default().insert(dropped.position);
        }
        let mut trimmed = BTreeMap::new();
        for (topic, mut places) in gone {
            trimmed.insert(topic, self.trimmed.get(topic as usize).copied().unwrap_or_default());
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
        Ok(trimmed)
    }
}
