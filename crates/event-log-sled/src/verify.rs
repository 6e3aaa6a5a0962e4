//! Reads all there is, and compares every index with the log.

use std::collections::{BTreeMap, HashMap};

use event_log::{Event, Position, ReadError};

use crate::blocks::{self, Block, BlockNumber};
use crate::dead::DeadPlaces;
use crate::idempotency;
use crate::keys::{self, Hash, TopicNumber};
use crate::plan::Walk;
use crate::postings::Posting;
use crate::rows;
use crate::shared::Shared;
use crate::store::{Store, index_damaged};

/// What was read and found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Events that are kept.
    pub events: u64,
    /// Records, each with its own checksum: those of removed events too, until their bytes are given back.
    pub records: u64,
    /// Chunks, each with its checksum.
    pub chunks: u64,
    /// Topics, each with its counts and its index.
    pub topics: u64,
    /// Idempotency keys, each with its event, if that is still there.
    pub keys: u64,
    /// Compaction keys of the topics that were compacted, each with its newest event.
    pub compaction_keys: u64,
}

/// What the log says of one topic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    first: Option<Position>,
    last: Position,
    events: u64,
    bytes: u64,
    postings: Postings,
}

/// Postings in their order, as one number: as good as the list, in little memory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Postings(u64);

impl Postings {
    fn add(&mut self, posting: Posting) {
        for number in [posting.position.get(), u64::from(posting.weight)] {
            // FNV's multiplication makes the order count.
            self.0 = (self.0 ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
    }
}

/// How often a comparison is made again because something was removed while it was made.
const TRIES: usize = 5;

/// Compares what is durable as of now; what is appended meanwhile is left out. `progress` is told how many records were
/// read. While events are removed the parts cannot be compared, so it is tried a few times.
pub(crate) fn verify(
    shared: &Shared,
    store: &Store,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, ReadError> {
    let removals = || shared.view().catalog.removals;
    let _no_packs = shared.chunks_stay();
    for _ in 1..TRIES {
        let before = removals();
        let verified = verify_once(shared, store, progress);
        if verified.is_ok() || removals() == before {
            return verified;
        }
    }
    verify_once(shared, store, progress)
}

fn verify_once(shared: &Shared, store: &Store, progress: &mut dyn FnMut(u64)) -> Result<Verified, ReadError> {
    let Tallies { mut topics, blocks, mut verified } = read_chunks(shared, store, progress)?;
    let numbers: Vec<TopicNumber> = shared.view().catalog.topics.since(0).map(|(number, _)| number).collect();
    for number in numbers {
        let (name, walk) = {
            let view = shared.view();
            let row = view.catalog.topics.row(number);
            (row.topic.clone(), Walk::begin(&view, number, row.removed_through))
        };
        let tally = topics.remove(name.as_str()).unwrap_or_default();
        compare(shared, store, number, walk, &tally)
            .map_err(|what| index_damaged(format!("topic {name}: {what}")))?;
        verified.topics += 1;
    }
    if let Some(name) = topics.keys().next() {
        return Err(index_damaged(format!("topic {name} is not in it")));
    }
    compare_blocks(shared, &blocks)?;
    verified.keys = check_keys(store)?;
    verified.compaction_keys = check_newest(shared, store)?;
    Ok(verified)
}

/// What the chunks say.
#[derive(Default)]
struct Tallies {
    topics: HashMap<String, Tally>,
    blocks: BTreeMap<BlockNumber, Block>,
    verified: Verified,
}

fn read_chunks(shared: &Shared, store: &Store, progress: &mut dyn FnMut(u64)) -> Result<Tallies, ReadError> {
    let head = shared.view().catalog.head;
    store.segments.check_entries()?;
    let mut tallies = Tallies::default();
    let mut before = Position::ORIGIN;
    let mut dead = DeadPlaces::new(shared, store);
    for chunk in store.chunks(Position::ORIGIN, head)? {
        let chunk = chunk?;
        for record in chunk.records() {
            let record = record?;
            record.check().map_err(ReadError::Damaged)?;
            let event = record.event(record.texts_in(chunk.body()), None).map_err(ReadError::Damaged)?;
            if event.position <= before {
                let what = format!("the event at {} comes after {before}", event.position);
                return Err(ReadError::Damaged(what));
            }
            before = event.position;
            tallies.count(shared, &mut dead, &event)?;
        }
        tallies.verified.chunks += 1;
        progress(tallies.verified.records);
    }
    Ok(tallies)
}

impl Tallies {
    fn count(&mut self, shared: &Shared, dead: &mut DeadPlaces<'_>, event: &Event) -> Result<(), ReadError> {
        let view = shared.view();
        let Some(row) = view.catalog.topics.get(event.topic.as_str()) else {
            return Err(index_damaged(format!("topic {} is not in it", event.topic)));
        };
        let removed_through = row.removed_through;
        drop(view);
        let is_kept = event.position > removed_through && !dead.has(event.position)?;
        let weight = u32::try_from(event.weight()).unwrap_or(u32::MAX);
        let block = self.blocks.entry(blocks::number_of(event.position)).or_default();
        block.add(weight, is_kept);
        self.verified.records += 1;
        if is_kept {
            self.verified.events += 1;
            let tally = self.topics.entry(event.topic.as_str().to_owned()).or_default();
            tally.first.get_or_insert(event.position);
            tally.last = event.position;
            tally.events += 1;
            tally.bytes += u64::from(weight);
            tally.postings.add(Posting { position: event.position, weight });
        }
        Ok(())
    }
}

fn compare(
    shared: &Shared,
    store: &Store,
    number: TopicNumber,
    mut walk: Walk,
    log: &Tally,
) -> Result<(), String> {
    let mut dead = DeadPlaces::new(shared, store);
    let mut postings = Postings::default();
    while let Some(posting) = walk.next(store).map_err(|error| error.to_string())? {
        if !dead.has(posting.position).map_err(|error| error.to_string())? && posting.position <= log.last {
            postings.add(posting);
        }
    }
    if postings != log.postings {
        return Err("its places are not those of its events".to_owned());
    }
    let view = shared.view();
    let row = view.catalog.topics.row(number);
    // Events that came since the log was read are counted in the row only.
    let is_newer = row.last > log.last && row.events > 0;
    let counts = (row.first, row.events, row.bytes);
    let same = counts == (log.first, log.events, log.bytes) && row.last >= log.last;
    if same || is_newer { Ok(()) } else { Err("its counts are not those of its events".to_owned()) }
}

/// The blocks that were complete when the log was read.
fn compare_blocks(shared: &Shared, log: &BTreeMap<BlockNumber, Block>) -> Result<(), ReadError> {
    let view = shared.view();
    let known = &view.catalog.blocks;
    let newest = log.keys().next_back().copied().unwrap_or_default();
    let numbers = known.iter().map(|(number, _)| number).chain(log.keys().copied());
    for number in numbers.filter(|number| *number < newest) {
        let (block, found) = (known.get(number), log.get(&number).copied().unwrap_or_default());
        // What only the index knows is taken from it.
        let found = Block { dead: block.dead, ..found };
        if block != found {
            return Err(index_damaged(format!("block {number} holds {found:?}, and not {block:?}")));
        }
    }
    Ok(())
}

/// Every row of a compaction key names an event that is not dead.
fn check_newest(shared: &Shared, store: &Store) -> Result<u64, ReadError> {
    let mut dead = DeadPlaces::new(shared, store);
    let mut checked = 0;
    for row in store.rows(keys::NEWEST) {
        let (key, value) = row?;
        let newest = rows::unseal(&key, &value).and_then(rows::NewestRow::decode).map_err(index_damaged)?;
        if keys::read_newest(&key).is_none() || dead.has(newest.position)? {
            return Err(index_damaged(format!(
                "the row {key:02x?} names a dead event as the newest of its key"
            )));
        }
        checked += 1;
    }
    Ok(checked)
}

/// Every used key is that of its event.
fn check_keys(store: &Store) -> Result<u64, ReadError> {
    let mut checked = 0;
    for row in store.used_keys_after(Position::ORIGIN) {
        for (hash, row) in row?.1.map_err(index_damaged)? {
            // The record of an imported event has no key, only its row.
            if let Some(Some(found)) = key_of(store, row.position)?
                && found != (hash, row)
            {
                return Err(index_damaged(format!(
                    "the key of the event at {} is not its key",
                    row.position
                )));
            }
            checked += 1;
        }
    }
    Ok(checked)
}

/// The entry that an event's own record asks for; the outer `None` is that there is no such event any more.
fn key_of(
    store: &Store,
    position: Position,
) -> Result<Option<Option<(Hash, rows::IdempotencyRow)>>, ReadError> {
    let Some(chunk) = store.chunk_at(position)? else { return Ok(None) };
    for record in chunk.records() {
        let record = record?;
        if record.position() == position {
            let (event, key) =
                record.parts(record.texts_in(chunk.body()), None).map_err(ReadError::Damaged)?;
            return Ok(Some(key.map(|key| idempotency::entry(&event, &key))));
        }
    }
    Ok(None)
}
