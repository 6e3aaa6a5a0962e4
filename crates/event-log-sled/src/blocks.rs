//! How much of each stretch of the log is still alive: 1,024 neighbouring places are a block.
//!
//! Removing is logical first: a trim moves a topic's mark, compaction lists dead places. The bytes of what was removed are
//! given back later, segment by segment, and this is where one sees which are worth it. It is a projection, a few
//! dozen bytes of memory for a thousand events.

use std::collections::{BTreeMap, BTreeSet};

use event_log::Position;

use crate::keys;
use crate::rows;
use crate::store::Writes;

/// Places of one block.
const PLACES: u64 = 1_024;
/// What a record takes beside what an event weighs, about.
pub(crate) const OVERHEAD_BYTES: u64 = 56;

/// The number of a block.
pub(crate) type BlockNumber = u64;

/// The block that a place belongs to.
pub(crate) fn number_of(position: Position) -> BlockNumber {
    position.get() / PLACES
}

/// The last place of a block.
pub(crate) fn last_of(block: BlockNumber) -> Position {
    Position::new(block.saturating_mul(PLACES).saturating_add(PLACES - 1))
}

/// Where in its block a place lies.
pub(crate) fn offset_in(position: Position) -> u16 {
    (position.get() % PLACES) as u16
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Block {
    /// Records that are stored, whether they were removed or not.
    pub(crate) stored_events: u32,
    /// Events that were not removed.
    pub(crate) live_events: u32,
    /// Dead places that are listed for it.
    pub(crate) dead: u32,
    /// The weight of the stored records.
    pub(crate) stored_bytes: u64,
    /// The weight of the live ones.
    pub(crate) live_bytes: u64,
}

impl Block {
    /// A record was stored.
    pub(crate) fn add(&mut self, weight: u32, is_live: bool) {
        self.stored_events += 1;
        self.stored_bytes += u64::from(weight);
        if is_live {
            self.live_events += 1;
            self.live_bytes += u64::from(weight);
        }
    }

    /// Events of it were removed.
    pub(crate) fn remove(&mut self, events: u32, bytes: u64) {
        self.live_events -= events;
        self.live_bytes -= bytes;
    }

    /// Records of removed events are stored no more; so many of them were listed as dead.
    pub(crate) fn drop_records(&mut self, events: u32, bytes: u64, dead: u32) {
        self.stored_events -= events;
        self.stored_bytes -= bytes;
        self.dead -= dead;
    }

    /// Bytes on disk, about, that stored records take.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.stored_bytes + u64::from(self.stored_events) * OVERHEAD_BYTES
    }

    /// Bytes on disk, about, that would be won by packing it.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let dead = u64::from(self.stored_events - self.live_events);
        self.stored_bytes - self.live_bytes + dead * OVERHEAD_BYTES
    }

    fn is_empty(&self) -> bool {
        self.stored_events == 0 && self.dead == 0
    }
}

/// All blocks that hold something.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: BTreeMap<BlockNumber, Block>,
    changed: BTreeSet<BlockNumber>,
    /// The sum over all of them.
    dead_bytes: u64,
}

impl Blocks {
    /// What was written down.
    pub(crate) fn from_rows(rows: impl IntoIterator<Item = (BlockNumber, Block)>) -> Self {
        let blocks: BTreeMap<BlockNumber, Block> = rows.into_iter().collect();
        let dead_bytes = blocks.values().map(Block::dead_bytes).sum();
        Blocks { blocks, changed: BTreeSet::new(), dead_bytes }
    }

    pub(crate) fn get(&self, block: BlockNumber) -> Block {
        self.blocks.get(&block).copied().unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (BlockNumber, &Block)> {
        self.blocks.iter().map(|(number, block)| (*number, block))
    }

    pub(crate) fn range(
        &self,
        numbers: std::ops::Range<BlockNumber>,
    ) -> impl Iterator<Item = (BlockNumber, &Block)> {
        let numbers = numbers.start..numbers.end.max(numbers.start);
        self.blocks.range(numbers).map(|(number, block)| (*number, block))
    }

    pub(crate) fn after(&self, block: BlockNumber) -> impl Iterator<Item = &Block> {
        self.blocks.range(block.saturating_add(1)..).map(|(_, block)| block)
    }

    /// Bytes on disk, about, that all removed events still take.
    pub(crate) fn dead_bytes(&self) -> u64 {
        self.dead_bytes
    }

    /// A record was stored.
    pub(crate) fn add(&mut self, position: Position, weight: u32, is_live: bool) {
        let number = number_of(position);
        let block = self.blocks.entry(number).or_default();
        let before = block.dead_bytes();
        block.add(weight, is_live);
        self.dead_bytes += block.dead_bytes() - before;
        self.changed.insert(number);
    }

    /// What a block holds now, which is written down already.
    pub(crate) fn set(&mut self, number: BlockNumber, block: Block) {
        let before = match block.is_empty() {
            true => self.blocks.remove(&number),
            false => self.blocks.insert(number, block),
        };
        self.dead_bytes += block.dead_bytes();
        self.dead_bytes -= before.unwrap_or_default().dead_bytes();
    }

    /// So many dead places are listed for a block, as the log itself says.
    pub(crate) fn set_dead(&mut self, number: BlockNumber, dead: u32) {
        self.blocks.entry(number).or_default().dead = dead;
        self.changed.insert(number);
    }

    /// Puts what changed since the last checkpoint into its batch.
    pub(crate) fn put_checkpoint(&self, writes: &mut Writes) {
        for number in &self.changed {
            put(*number, self.get(*number), writes);
        }
    }

    pub(crate) fn checkpointed(&mut self) {
        self.changed.clear();
    }
}

/// Puts the row of a block, or its removal if there is nothing left of it.
pub(crate) fn put(number: BlockNumber, block: Block, writes: &mut Writes) {
    match block.is_empty() {
        true => writes.remove(&keys::block(number)),
        false => writes.put_sealed(&keys::block(number), &rows::encode_block(&block)),
    }
}
