//! The idempotency keys: each row of version 2 becomes a row of used keys.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ROWS_PER_BATCH, VERSION, checksum, old, sealed, sync_store};
use crate::Error;

/// The kind of the rows of used keys.
const USED: u8 = 0x0c;
/// How many keys are held in memory at once. They need some 50 MB.
pub(super) const HELD: usize = 512 * 1_024;

/// What a row of used keys says of one: hash, place, time, UUID, hash of the content.
type Entry = [u8; 64];

/// Writes the rows of used keys, which are durable when this returns. The old rows are only read.
///
/// They lie in the order of their hashes. The new ones are written in that of their places, so that those that expire
/// together lie together in the store: each walk over all old rows picks the next `held`.
pub(crate) fn copy(db: &sled::Db, data: &Path, held: usize) -> Result<(), Error> {
    if old::is_empty(db, old::IDEMPOTENCY)? {
        return Ok(());
    }
    let mut after = None;
    loop {
        let entries = pick(db, after, held)?;
        write(db, &entries)?;
        db.flush()?;
        if entries.len() < held {
            break;
        }
        after = entries.last_key_value().map(|(place, _)| *place);
    }
    // Some of them may lie on what a killed process wrote and did not sync.
    sync_store(data)
}

/// The first `held` of those that lie after a place.
fn pick(db: &sled::Db, after: Option<u64>, held: usize) -> Result<BTreeMap<u64, Entry>, Error> {
    let mut rows = old::Rows::of(db, old::IDEMPOTENCY);
    let mut picked = BTreeMap::new();
    while let Some((key, value)) = rows.read()? {
        // A damaged one is of no use; the engine makes the keys of the events that it has.
        let Some((place, entry)) = decode(&key, &value) else { continue };
        if Some(place) > after {
            picked.insert(place, entry);
        }
        if picked.len() > held {
            picked.pop_last();
        }
    }
    Ok(picked)
}

fn write(db: &sled::Db, entries: &BTreeMap<u64, Entry>) -> Result<(), Error> {
    let mut entries = entries.iter().peekable();
    while entries.peek().is_some() {
        let mut batch = sled::Batch::default();
        for (place, entry) in entries.by_ref().take(ROWS_PER_BATCH) {
            let mut key = [USED; 9];
            key[1..].copy_from_slice(&place.to_be_bytes());
            batch.insert(&key, sealed(&key, entry));
        }
        db.apply_batch(batch)?;
    }
    Ok(())
}

/// The place of an old row, and its entry: the hash of its key, then its body.
fn decode(key: &[u8], value: &[u8]) -> Option<(u64, Entry)> {
    let hash: &[u8; 16] = key.strip_prefix(&[old::IDEMPOTENCY])?.try_into().ok()?;
    let ([version, checked @ ..], body) = value.split_first_chunk::<5>()?;
    let body: &[u8; 48] = body.try_into().ok()?;
    if *version != VERSION || u32::from_be_bytes(*checked) != checksum(&[&[VERSION], key, body]) {
        return None;
    }
    let mut entry = [0; 64];
    entry[..16].copy_from_slice(hash);
    entry[16..].copy_from_slice(body);
    let place = u64::from_be_bytes(*body.first_chunk()?);
    Some((place, entry))
}
