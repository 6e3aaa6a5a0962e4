//! Which idempotency keys were used, by which event, within the window.
//!
//! The key lies in its event's record, so a key is as durable as its event. Checkpoints write the entries down in the order of
//! their events, in rows that go again in that order once they are past the window. (Rows under the hash of the key would
//! be spread over all of the engine's file, which then could not use any part of it again.) To find one by its hash
//! there are the newest entries in memory, and for older ones buckets, a few bytes of memory for each.

use std::collections::{HashMap, VecDeque};

use event_log::{Event, EventType, IdempotencyKey, Key, Origin, Position, ReadError, Timestamp, Topic};

use crate::keys::{self, Hash};
use crate::rows::{self, IdempotencyRow};
use crate::store::{Store, Writes, index_damaged};

mod bucket;

pub(crate) use bucket::Bucket;

/// Rows past the window that one checkpoint removes at least, if there are as many.
const ROWS_REMOVED_AT_ONCE: usize = 512;

/// What stands for a key in its topic. A topic has no NUL, so the two cannot run into each other.
pub(crate) fn key_hash(topic: &Topic, key: &IdempotencyKey) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(topic.as_str().as_bytes()).update(&[0]).update(key.as_str().as_bytes());
    shortened(&hasher)
}

/// What stands for the content that a retry must repeat: type, key, origin and data.
pub(crate) fn content_hash(
    event_type: Option<&EventType>,
    key: Option<&Key>,
    origin: Option<&Origin>,
    data: &str,
) -> Hash {
    let mut hasher = blake3::Hasher::new();
    let texts = [event_type.map(EventType::as_str), key.map(Key::as_str), origin.map(Origin::as_str)];
    for text in texts.into_iter().flatten().chain([data]) {
        // Lengths first, so that no text can end in another place.
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    }
    // Which of the three are present.
    hasher.update(&texts.map(|text| u8::from(text.is_some())));
    shortened(&hasher)
}

fn shortened(hasher: &blake3::Hasher) -> Hash {
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// The entry of an event that was published with a key.
pub(crate) fn entry(event: &Event, key: &IdempotencyKey) -> (Hash, IdempotencyRow) {
    let content = content_hash(
        event.event_type.as_ref(),
        event.key.as_ref(),
        event.origin.as_ref(),
        event.data.as_str(),
    );
    let row = IdempotencyRow { position: event.position, time: event.time, uuid: event.uuid, content };
    (key_hash(&event.topic, key), row)
}

/// All keys that were used within the window, and some that are past it.
#[derive(Debug)]
pub(crate) struct Used {
    /// Since the last checkpoint: their events alone tell of them.
    unsaved: HashMap<Hash, IdempotencyRow>,
    /// Those that are in rows, but in no bucket yet.
    saved: HashMap<Hash, IdempotencyRow>,
    /// The oldest one first.
    buckets: VecDeque<Bucket>,
    /// Entries of one bucket.
    bucket_entries: usize,
    /// What is saved may lie between what was saved before, so each entry gets a row of its own.
    pub(crate) is_rebuild: bool,
}

impl Used {
    /// No keys yet.
    pub(crate) fn new(bucket_entries: usize) -> Self {
        let (unsaved, saved, buckets) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Used { unsaved, saved, buckets, bucket_entries, is_rebuild: false }
    }

    /// Reads what was saved. The inner error says which row of a bucket cannot be used.
    pub(crate) fn load(store: &Store, bucket_entries: usize) -> Result<Result<Self, String>, ReadError> {
        let mut used = Used::new(bucket_entries);
        for row in store.rows(keys::BUCKET) {
            let (key, value) = row?;
            let Some((first, part)) = keys::read_bucket(&key) else {
                return Ok(Err(format!("the row {key:02x?} is no bucket")));
            };
            if part == 0 {
                used.buckets.push_back(Bucket::begin(first));
            }
            let added = match used.buckets.back_mut().filter(|bucket| bucket.first == first) {
                Some(bucket) => rows::unseal(&key, &value).and_then(|body| bucket.add(body)),
                None => Err(format!("the bucket of {first} has no first part")),
            };
            if let Err(why) = added {
                return Ok(Err(why));
            }
        }
        let bucketed = used.buckets.iter().map(|bucket| bucket.last).max().unwrap_or_default();
        for row in store.used_keys_after(bucketed) {
            let mut entries = match row?.1 {
                Ok(entries) => entries,
                Err(why) => return Ok(Err(why)),
            };
            entries.retain(|(_, row)| row.position > bucketed);
            used.saved.extend(entries);
            // Where buckets are missing they are made anew as far as possible, so that this takes little memory.
            let mut writes = Writes::default();
            if used.fill_bucket(&mut writes) {
                store.write(writes)?;
            }
        }
        Ok(Ok(used))
    }

    pub(crate) fn insert(&mut self, hash: Hash, row: IdempotencyRow) {
        self.unsaved.insert(hash, row);
    }

    pub(crate) fn extend(&mut self, entries: HashMap<Hash, IdempotencyRow>) {
        self.unsaved.extend(entries);
    }

    /// The newest entry of a key, whether within the window or not.
    pub(crate) fn find(&self, store: &Store, hash: &Hash) -> Result<Option<IdempotencyRow>, ReadError> {
        if let Some(row) = self.unsaved.get(hash).or_else(|| self.saved.get(hash)) {
            return Ok(Some(*row));
        }
        for bucket in self.buckets.iter().rev() {
            for place in bucket.candidates(hash) {
                if let Some((found, row)) = read(store, place)?
                    && found == *hash
                {
                    return Ok(Some(row));
                }
            }
        }
        Ok(None)
    }

    /// Puts what is new, and the removal of what is past the window, into a checkpoint's batch. If that fails, nothing is
    /// written any more.
    pub(crate) fn put_checkpoint(
        &mut self,
        store: &Store,
        forgotten: Timestamp,
        writes: &mut Writes,
    ) -> Result<(), ReadError> {
        self.forget(store, forgotten, writes)?;
        let mut entries: Vec<(Hash, IdempotencyRow)> = self.unsaved.drain().collect();
        entries.sort_unstable_by_key(|(_, row)| row.position);
        let at_once = if self.is_rebuild { 1 } else { rows::USED_KEYS_AT_ONCE };
        for entries in entries.chunks(at_once) {
            writes.put_sealed(&keys::used(entries[0].1.position), &rows::encode_used(entries));
        }
        self.saved.extend(entries);
        self.fill_bucket(writes);
        Ok(())
    }

    /// Removes rows that are wholly past the window, and then the buckets that lead to nothing.
    fn forget(&mut self, store: &Store, forgotten: Timestamp, writes: &mut Writes) -> Result<(), ReadError> {
        let mut through = Position::ORIGIN;
        // More than are added, so that removing keeps up.
        for row in store.used_keys_after(Position::ORIGIN).take(ROWS_REMOVED_AT_ONCE + self.unsaved.len()) {
            let (key, entries) = row?;
            let entries = entries.map_err(index_damaged)?;
            let Some((_, last)) = entries.last().filter(|(_, last)| last.time <= forgotten) else { break };
            through = last.position;
            writes.remove(&key);
            for (hash, row) in &entries {
                if self.saved.get(hash).is_some_and(|newest| newest.position == row.position) {
                    self.saved.remove(hash);
                }
            }
        }
        while let Some(bucket) = self.buckets.pop_front_if(|bucket| bucket.last <= through) {
            (0..bucket.parts()).for_each(|part| writes.remove(&keys::bucket(bucket.first, part)));
        }
        Ok(())
    }

    /// The rows are made anew. What was saved lies anywhere between them, so it goes into a bucket, however little it is: a
    /// start looks for more only behind the buckets.
    pub(crate) fn end_rebuild(&mut self, writes: &mut Writes) {
        self.is_rebuild = false;
        self.put_bucket(writes);
    }

    /// Puts the saved entries into a bucket if there are enough; whether there were.
    fn fill_bucket(&mut self, writes: &mut Writes) -> bool {
        self.saved.len() >= self.bucket_entries && self.put_bucket(writes)
    }

    fn put_bucket(&mut self, writes: &mut Writes) -> bool {
        let keys = self.saved.iter().map(|(hash, row)| (hash, row.position));
        // Places that are billions apart do not fit together; then these stay in memory.
        let Some(bucket) = Bucket::new(keys) else { return false };
        for (body, part) in bucket.encode().iter().zip(0..) {
            writes.put_sealed(&keys::bucket(bucket.first, part), body);
        }
        self.buckets.push_back(bucket);
        self.saved.clear();
        true
    }
}

/// The used key at a place, if it is still known.
pub(crate) fn read(store: &Store, place: Position) -> Result<Option<(Hash, IdempotencyRow)>, ReadError> {
    let Some(entries) = store.used_keys_at(place)? else { return Ok(None) };
    let entries = entries.map_err(index_damaged)?;
    Ok(entries.into_iter().find(|(_, row)| row.position == place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_content_counts_and_no_two_contents_run_into_each_other() {
        let kind = |text: &str| Some(EventType::parse(text.to_owned()).unwrap());
        let key = |text: &str| Some(Key::parse(text.to_owned()).unwrap());
        let origin = |text: &str| Some(Origin::parse(text.to_owned()).unwrap());
        let hashes = [
            content_hash(None, None, None, "a"),
            content_hash(kind("a").as_ref(), None, None, "a"),
            content_hash(None, key("a").as_ref(), None, "a"),
            content_hash(None, None, origin("a").as_ref(), "a"),
            content_hash(kind("a").as_ref(), key("a").as_ref(), None, ""),
            content_hash(kind("aa").as_ref(), None, None, ""),
            content_hash(None, None, None, "aa"),
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert_eq!(hashes.iter().position(|other| other == hash), Some(index));
        }
    }

    #[test]
    fn a_key_belongs_to_its_topic() {
        let topic = |text: &str| Topic::parse(text.to_owned()).unwrap();
        let key = |text: &str| IdempotencyKey::parse(text.to_owned()).unwrap();
        assert_ne!(key_hash(&topic("a"), &key("bc")), key_hash(&topic("ab"), &key("c")));
        assert_eq!(key_hash(&topic("a"), &key("b")), key_hash(&topic("a"), &key("b")));
    }
}
