//! Reads all there is, and compares every index with the log.

use std::collections::HashMap;

use event_log::{Position, ReadError};

use crate::idempotency;
use crate::keys::{self, Hash, TopicNumber};
use crate::merge::{Merge, Way};
use crate::rows;
use crate::shared::Shared;
use crate::store::{Store, index_damaged};

/// What was read and found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Events, each with its own checksum.
    pub events: u64,
    /// Chunks, each with its checksum.
    pub chunks: u64,
    /// Topics, each with its counts and its index.
    pub topics: u64,
    /// Idempotency keys, each with its event.
    pub keys: u64,
}

/// What the log says of one topic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    first: Option<Position>,
    last: Position,
    events: u64,
    bytes: u64,
    places: Places,
}

/// Places in their order, as one number: as good as the list, in little memory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places(u64);

impl Places {
    fn add(&mut self, place: Position) {
        // FNV's multiplication makes the order count.
        self.0 = (self.0 ^ place.get()).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }
}

/// Compares what is durable as of now; what is appended meanwhile is left out.
pub(crate) fn verify(shared: &Shared, store: &Store) -> Result<Verified, ReadError> {
    let (tallies, mut verified) = read_chunks(shared, store)?;
    let mut tallies = tallies;
    let numbers: Vec<TopicNumber> = shared.view().catalog.topics.since(0).map(|(number, _)| number).collect();
    for number in numbers {
        let (name, merge) = {
            let view = shared.view();
            let row = view.catalog.topics.row(number);
            let merge = Merge::new(store, &view, &[number], Way::After(Position::ORIGIN));
            (row.topic.clone(), merge)
        };
        let Some(tally) = tallies.remove(name.as_str()) else { continue };
        compare(shared, number, merge, &tally)
            .map_err(|what| index_damaged(format!("topic {name}: {what}")))?;
        verified.topics += 1;
    }
    if let Some(name) = tallies.keys().next() {
        return Err(index_damaged(format!("topic {name} is not in it")));
    }
    verified.keys = check_keys(store)?;
    Ok(verified)
}

fn read_chunks(shared: &Shared, store: &Store) -> Result<(HashMap<String, Tally>, Verified), ReadError> {
    let head = shared.view().catalog.head;
    let mut tallies: HashMap<String, Tally> = HashMap::new();
    let (mut verified, mut before) = (Verified::default(), Position::ORIGIN);
    for chunk in store.chunks(Position::ORIGIN, head)? {
        let chunk = chunk?;
        for record in chunk.records() {
            let record = record?;
            record.check().map_err(ReadError::Damaged)?;
            let event = record.event(record.texts_in(chunk.body()), None).map_err(ReadError::Damaged)?;
            if event.position <= before {
                return Err(ReadError::Damaged(format!(
                    "the event at {} comes after {before}",
                    event.position
                )));
            }
            before = event.position;
            let tally = tallies.entry(event.topic.as_str().to_owned()).or_default();
            tally.first.get_or_insert(event.position);
            tally.last = event.position;
            tally.events += 1;
            tally.bytes += event.weight() as u64;
            tally.places.add(event.position);
            verified.events += 1;
        }
        verified.chunks += 1;
    }
    Ok((tallies, verified))
}

fn compare(shared: &Shared, number: TopicNumber, mut merge: Merge<'_>, log: &Tally) -> Result<(), String> {
    let mut places = Places::default();
    merge.begin().map_err(|error| error.to_string())?;
    while let Some(place) = merge.next().map_err(|error| error.to_string())? {
        if place <= log.last {
            places.add(place);
        }
    }
    if places != log.places {
        return Err("its places are not those of its events".to_owned());
    }
    let view = shared.view();
    let row = view.catalog.topics.row(number);
    // Events that came since the log was read are counted in the row only.
    let same = row.last > log.last
        || (row.first, row.last, row.events, row.bytes) == (log.first, log.last, log.events, log.bytes);
    if same { Ok(()) } else { Err("its counts are not those of its events".to_owned()) }
}

/// Every row of a key belongs to an event with that key, and every expiry to such a row.
fn check_keys(store: &Store) -> Result<u64, ReadError> {
    let mut checked = 0;
    for row in store.rows(keys::IDEMPOTENCY) {
        let (key, value) = row?;
        let hash = keys::read_idempotency(&key);
        let row = rows::unseal(&key, &value).and_then(rows::IdempotencyRow::decode).map_err(index_damaged)?;
        if let Some(found) = key_of(store, row.position)?
            && found != hash.map(|hash| (hash, row))
        {
            return Err(index_damaged(format!("the key of the event at {} is not its key", row.position)));
        }
        checked += 1;
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
