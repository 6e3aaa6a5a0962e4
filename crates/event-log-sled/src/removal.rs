//! What one commit changes beside the events that it appends: plans that were made elsewhere, taken if they still hold.
//!
//! A plan is made on a thread that may block, from what was durable then; the writer alone carries it out. In between
//! another plan may have come first. So a plan says what it was based on, and one whose ground has shifted is not taken:
//! whoever made it makes it anew. Everything of a plan is in one batch, behind one barrier, and only then shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use event_log::{Position, ReadError, Removed};

use crate::blocks::{self, Block, BlockNumber};
use crate::dead;
use crate::keys::{self, TopicNumber};
use crate::rows::{self, TopicRow};
use crate::segments::Segments;
use crate::segments::segment::Segment;
use crate::shared::View;
use crate::store::{Store, Writes};

/// A row of the store, and its new value unless it is removed. Its value is sealed already.
pub(crate) type RowChange = (Vec<u8>, Option<Vec<u8>>);

/// What is to be removed of one topic, in one step.
#[derive(Debug)]
pub(crate) struct TopicPlan {
    pub(crate) number: TopicNumber,
    /// The topic as it was when the plan was made.
    pub(crate) base: TopicRow,
    pub(crate) removed_through: Position,
    pub(crate) missing_through: Position,
    pub(crate) compacted_through: Position,
    /// The oldest event that stays; `None` if none of those that the plan knew.
    pub(crate) first: Option<Position>,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// The newest place that is removed.
    pub(crate) through: Position,
    /// What each block loses: events and their weight.
    pub(crate) losses: BTreeMap<BlockNumber, (u32, u64)>,
    /// Places that die without a mark of the topic: offsets in their block.
    pub(crate) dead: BTreeMap<BlockNumber, DeadPlan>,
    pub(crate) rows: Vec<RowChange>,
    /// There is more to remove than this.
    pub(crate) more: bool,
}

/// What is added to the list of a block's dead places.
#[derive(Debug)]
pub(crate) struct DeadPlan {
    /// The list as it was.
    pub(crate) listed: Vec<u16>,
    /// In order.
    pub(crate) added: Vec<u16>,
}

impl DeadPlan {
    /// Whether a place will be dead.
    pub(crate) fn has(&self, offset: u16) -> bool {
        [&self.listed, &self.added].iter().any(|list| list.binary_search(&offset).is_ok())
    }
}

impl TopicPlan {
    /// Nothing yet.
    pub(crate) fn new(number: TopicNumber, base: TopicRow) -> Self {
        TopicPlan {
            number,
            removed_through: base.removed_through,
            missing_through: base.missing_through,
            compacted_through: base.compacted_through,
            first: base.first,
            base,
            events: 0,
            bytes: 0,
            through: Position::ORIGIN,
            losses: BTreeMap::new(),
            dead: BTreeMap::new(),
            rows: Vec::new(),
            more: false,
        }
    }

    /// Counts an event that goes.
    pub(crate) fn count(&mut self, position: Position, weight: u32) {
        self.events += 1;
        self.bytes += u64::from(weight);
        self.through = self.through.max(position);
        let loss = self.losses.entry(blocks::number_of(position)).or_default();
        *loss = (loss.0 + 1, loss.1 + u64::from(weight));
    }

    /// Whether it changes anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.events == 0 && self.rows.is_empty() && self.compacted_through == self.base.compacted_through
    }

    fn holds(&self, row: &TopicRow) -> bool {
        let base = &self.base;
        let same = (row.removed_through, row.missing_through, row.compacted_through, row.first)
            == (base.removed_through, base.missing_through, base.compacted_through, base.first);
        // Where all goes, the first that stays would be an event that the plan does not know.
        same && (self.first.is_some() || row.last == base.last)
    }
}

/// Neighbouring segments, and a file that takes their place, without what was removed of them.
#[derive(Debug)]
pub(crate) struct PackPlan {
    /// What each block loses of its stored records.
    pub(crate) losses: BTreeMap<BlockNumber, PackLoss>,
    /// Up to where each topic was trimmed whose postings have a row below.
    pub(crate) topics: BTreeMap<TopicNumber, Position>,
    /// Rows of postings.
    pub(crate) rows: Vec<RowChange>,
    pub(crate) old: Vec<Arc<Segment>>,
    pub(crate) new: Segment,
}

impl PackPlan {
    /// Whether the new file would be what the old one is.
    pub(crate) fn is_in_vain(&self) -> bool {
        self.losses.is_empty() && self.old.iter().all(|segment| segment.packed) && self.old.len() == 1
    }
}

/// Records of removed events that are left out.
#[derive(Debug, Default)]
pub(crate) struct PackLoss {
    pub(crate) events: u32,
    pub(crate) bytes: u64,
    /// Those of them that are listed as dead.
    pub(crate) dead: BTreeSet<u16>,
}

/// What one commit changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    topics: HashMap<TopicNumber, TopicRow>,
    blocks: BTreeMap<BlockNumber, Block>,
    dead: BTreeMap<BlockNumber, Vec<u16>>,
    rows: Vec<RowChange>,
    events: u64,
    bytes: u64,
    through: Position,
    is_removal: bool,
    packs: Vec<(Vec<Arc<Segment>>, Segment)>,
}

impl Changes {
    /// Takes a plan, or refuses it because its ground has shifted.
    pub(crate) fn take_topic(&mut self, plan: TopicPlan, view: &View) -> Removed {
        let row = self.topics.get(&plan.number).unwrap_or_else(|| view.catalog.topics.row(plan.number));
        let listed = |number: &BlockNumber| view.catalog.blocks.get(*number).dead as usize;
        let dead_hold = plan.dead.iter().all(|(number, dead)| listed(number) == dead.listed.len());
        if !plan.holds(row) || !dead_hold {
            return Removed { more: true, ..Removed::default() };
        }
        let mut row = row.clone();
        (row.removed_through, row.missing_through) = (plan.removed_through, plan.missing_through);
        (row.compacted_through, row.first) = (plan.compacted_through, plan.first);
        row.events -= plan.events;
        row.bytes -= plan.bytes;
        for (number, (events, bytes)) in plan.losses {
            let mut block = self.block(number, view);
            block.remove(events, bytes);
            self.blocks.insert(number, block);
        }
        for (number, dead) in plan.dead {
            // Another topic's plan of this commit may have added to the same list.
            let offsets = self.dead.entry(number).or_insert(dead.listed);
            offsets.extend(dead.added);
            offsets.sort_unstable();
            let count = u32::try_from(offsets.len()).expect("a block has 1,024 places");
            let block = Block { dead: count, ..self.block(number, view) };
            self.blocks.insert(number, block);
        }
        self.topics.insert(plan.number, row);
        self.rows.extend(plan.rows);
        self.events += plan.events;
        self.bytes += plan.bytes;
        self.through = self.through.max(plan.through);
        self.is_removal = true;
        Removed { events: plan.events, bytes: plan.bytes, through: plan.through, more: plan.more }
    }

    /// Takes a plan, or gives it back because its ground has shifted. After those of topics. What was removed since it was made
    /// does not matter: its records stay for the next time. But rows of postings were removed by a trim.
    pub(crate) fn take_pack(
        &mut self,
        plan: PackPlan,
        view: &View,
        store: &Store,
    ) -> Result<Result<(), Segment>, ReadError> {
        let trimmed = |number: &TopicNumber| {
            self.topics.get(number).unwrap_or_else(|| view.catalog.topics.row(*number)).removed_through
        };
        let is_as_it_was = plan.old.last().is_some_and(|last| last.through() == plan.new.through());
        if !is_as_it_was || plan.topics.iter().any(|(number, through)| trimmed(number) != *through) {
            return Ok(Err(plan.new));
        }
        for (number, loss) in plan.losses {
            let mut block = self.block(number, view);
            let dead = u32::try_from(loss.dead.len()).expect("a block has 1,024 places");
            block.drop_records(loss.events, loss.bytes, dead);
            self.blocks.insert(number, block);
            if !loss.dead.is_empty() {
                let listed = match self.dead.remove(&number) {
                    Some(listed) => listed,
                    None => dead::read(store, number)?,
                };
                let left = listed.into_iter().filter(|offset| !loss.dead.contains(offset));
                self.dead.insert(number, left.collect());
            }
        }
        self.rows.extend(plan.rows);
        self.packs.push((plan.old, plan.new));
        Ok(Ok(()))
    }

    fn block(&self, number: BlockNumber, view: &View) -> Block {
        self.blocks.get(&number).copied().unwrap_or_else(|| view.catalog.blocks.get(number))
    }

    /// Whether nothing was taken.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_removal && self.packs.is_empty()
    }

    /// Whether topics are changed: then their rows must be those of the head, so a checkpoint goes with it.
    pub(crate) fn is_removal(&self) -> bool {
        self.is_removal
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The newest place that is removed.
    pub(crate) fn through(&self) -> Position {
        self.through
    }

    /// A topic's row as it will be.
    pub(crate) fn topic(&self, number: TopicNumber) -> Option<&TopicRow> {
        self.topics.get(&number)
    }

    /// Puts everything into the commit's batch, behind the checkpoint, whose rows these replace.
    pub(crate) fn put(&self, writes: &mut Writes) {
        for (number, row) in &self.topics {
            writes.put_sealed(&keys::topic(*number), &row.encode());
            if let Some(removal) = row.removal() {
                writes.put_sealed(&keys::removal(&row.topic), &removal.encode());
            }
        }
        for (number, block) in &self.blocks {
            blocks::put(*number, *block, writes);
        }
        for (number, offsets) in &self.dead {
            match offsets.is_empty() {
                true => writes.remove(&keys::dead(*number)),
                false => writes.put_sealed(&keys::dead(*number), &rows::encode_dead(offsets)),
            }
        }
        for (key, value) in &self.rows {
            match value {
                Some(value) => writes.put(key, value.clone()),
                None => writes.remove(key),
            }
        }
        for (old, new) in &self.packs {
            Segments::put_replaced(old, new, writes);
        }
    }

    /// The segments that take the place of others.
    pub(crate) fn take_packs(&mut self) -> Vec<(Vec<Arc<Segment>>, Segment)> {
        std::mem::take(&mut self.packs)
    }

    pub(crate) fn into_parts(self) -> (HashMap<TopicNumber, TopicRow>, BTreeMap<BlockNumber, Block>) {
        (self.topics, self.blocks)
    }
}
