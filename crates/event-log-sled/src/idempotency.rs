//! Which idempotency keys were used, by which event, within the window.
//!
//! The key lies in its event's record, so a key is as durable as its event. The entries since the last checkpoint are in
//! memory, older ones in rows; a row that is past the window counts as absent, and checkpoints remove such rows.

use std::collections::HashMap;

use event_log::{Event, EventType, IdempotencyKey, Key, Origin, ReadError, Timestamp, Topic};

use crate::keys::{self, Hash};
use crate::rows::IdempotencyRow;
use crate::store::{Store, Writes, index_damaged};

/// Rows past the window that one checkpoint removes at least, if there are as many.
const REMOVED_AT_ONCE: usize = 4_096;

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

/// The entries since the last checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Recent(HashMap<Hash, IdempotencyRow>);

impl Recent {
    pub(crate) fn insert(&mut self, hash: Hash, row: IdempotencyRow) {
        self.0.insert(hash, row);
    }

    pub(crate) fn extend(&mut self, entries: HashMap<Hash, IdempotencyRow>) {
        self.0.extend(entries);
    }

    /// The newest entry of a key, in memory or in its row, whether within the window or not.
    pub(crate) fn find(&self, store: &Store, hash: &Hash) -> Result<Option<IdempotencyRow>, ReadError> {
        match self.0.get(hash) {
            Some(row) => Ok(Some(*row)),
            None => read(store, hash),
        }
    }

    /// Puts the entries, and the removal of some that are past the window, into a checkpoint's batch.
    pub(crate) fn put_checkpoint(
        &self,
        store: &Store,
        forgotten: Timestamp,
        writes: &mut Writes,
    ) -> Result<(), ReadError> {
        // More than are added, so that removing keeps up.
        for row in store.rows(keys::EXPIRY).take(REMOVED_AT_ONCE + 2 * self.0.len()) {
            let (key, _) = row?;
            let (time, hash) = keys::read_expiry(&key)
                .ok_or_else(|| index_damaged(format!("the row {key:02x?} has a wrong key")))?;
            if time > forgotten {
                break;
            }
            writes.remove(&key);
            // The key may have been used anew since, and then the row is that of its newer event.
            if read(store, &hash)?.is_some_and(|row| row.time == time) {
                writes.remove(&keys::idempotency(&hash));
            }
        }
        for (hash, row) in &self.0 {
            writes.put_sealed(&keys::idempotency(hash), &row.encode());
            writes.put(&keys::expiry(row.time, hash), Vec::new());
        }
        Ok(())
    }

    pub(crate) fn checkpointed(&mut self) {
        self.0.clear();
    }
}

/// The row of a key.
pub(crate) fn read(store: &Store, hash: &Hash) -> Result<Option<IdempotencyRow>, ReadError> {
    let body = store.get_sealed(&keys::idempotency(hash))?;
    body.map(|body| body.and_then(|body| IdempotencyRow::decode(&body)).map_err(index_damaged)).transpose()
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
