//! The keys of the one tree: a kind byte, then big-endian numbers, so that the order of keys is the order of events.
//!
//! ```text
//! 00 00                             the stamp, see the crate `migrations`
//! 00 01                             the epochs
//! 00 02                             the checkpoint: how far the projections go
//! 00 03                             how often the store was opened
//! 02 | topic u32 | first position   places and weights of a topic's events   (projection)
//! 03 | topic u32                    a topic and what it holds                (projection)
//! 06 | hash of a topic              what was removed of a topic
//! 07 | block u64                    places in a block that are dead
//! 08 | block u64                    how much a block holds                   (projection)
//! 09 | topic u32 | hash of a key    the newest event of a compaction key     (projection)
//! 0a | topic u32 | time u64 | place that event is a tombstone                (projection)
//! 0b | first place u64               a segment: which file of events counts, how far it goes
//! 0c | first place u64               idempotency keys that were used from there on
//! 0d | first place u64 | part u16    the same by their hashes                 (projection)
//! ```
//!
//! The rows of idempotency keys are made from the events too, but outlive them.

use event_log::{Key, Position, Timestamp, Topic};

use crate::blocks::BlockNumber;

/// A 128-bit hash that stands for an idempotency key in its topic, for an event's content, or for a compaction key.
pub(crate) type Hash = [u8; 16];

pub(crate) const EPOCHS: [u8; 2] = [0x00, 0x01];
pub(crate) const CHECKPOINT: [u8; 2] = [0x00, 0x02];
pub(crate) const STARTS: [u8; 2] = [0x00, 0x03];

pub(crate) const POSTINGS: u8 = 0x02;
pub(crate) const TOPIC: u8 = 0x03;
pub(crate) const REMOVAL: u8 = 0x06;
pub(crate) const DEAD: u8 = 0x07;
pub(crate) const BLOCK: u8 = 0x08;
pub(crate) const NEWEST: u8 = 0x09;
pub(crate) const TOMBSTONE: u8 = 0x0a;
pub(crate) const SEGMENT: u8 = 0x0b;
pub(crate) const USED: u8 = 0x0c;
pub(crate) const BUCKET: u8 = 0x0d;

/// The number of a topic: its place in the order in which topics first appeared.
pub(crate) type TopicNumber = u32;

pub(crate) fn segment(first: Position) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = SEGMENT;
    key[1..].copy_from_slice(&first.get().to_be_bytes());
    key
}

pub(crate) fn read_segment(key: &[u8]) -> Option<Position> {
    Some(Position::new(u64::from_be_bytes(key.strip_prefix(&[SEGMENT])?.try_into().ok()?)))
}

pub(crate) fn postings(topic: TopicNumber, first: Position) -> [u8; 13] {
    let mut key = [0; 13];
    key[0] = POSTINGS;
    key[1..5].copy_from_slice(&topic.to_be_bytes());
    key[5..].copy_from_slice(&first.get().to_be_bytes());
    key
}

pub(crate) fn read_postings(key: &[u8]) -> Option<(TopicNumber, Position)> {
    let rest: &[u8; 12] = key.strip_prefix(&[POSTINGS])?.try_into().ok()?;
    let (topic, first) = rest.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*topic), Position::new(u64::from_be_bytes(first.try_into().ok()?))))
}

pub(crate) fn topic(topic: TopicNumber) -> [u8; 5] {
    let mut key = [0; 5];
    key[0] = TOPIC;
    key[1..].copy_from_slice(&topic.to_be_bytes());
    key
}

pub(crate) fn read_topic(key: &[u8]) -> Option<TopicNumber> {
    Some(u32::from_be_bytes(key.strip_prefix(&[TOPIC])?.try_into().ok()?))
}

pub(crate) fn used(first: Position) -> [u8; 9] {
    numbered(USED, first.get())
}

pub(crate) fn bucket(first: Position, part: u16) -> [u8; 11] {
    let mut key = [0; 11];
    key[..9].copy_from_slice(&numbered(BUCKET, first.get()));
    key[9..].copy_from_slice(&part.to_be_bytes());
    key
}

pub(crate) fn read_bucket(key: &[u8]) -> Option<(Position, u16)> {
    let rest: &[u8; 10] = key.strip_prefix(&[BUCKET])?.try_into().ok()?;
    let (first, part) = rest.split_first_chunk::<8>()?;
    Some((Position::new(u64::from_be_bytes(*first)), u16::from_be_bytes(part.try_into().ok()?)))
}

/// A topic's own row by its name, since numbers are given anew when the projections are.
pub(crate) fn removal(topic: &Topic) -> [u8; 17] {
    let mut key = [0; 17];
    key[0] = REMOVAL;
    key[1..].copy_from_slice(&hash_of(topic.as_str()));
    key
}

pub(crate) fn dead(block: BlockNumber) -> [u8; 9] {
    numbered(DEAD, block)
}

pub(crate) fn block(block: BlockNumber) -> [u8; 9] {
    numbered(BLOCK, block)
}

/// The block of a row of [`DEAD`] or [`BLOCK`].
pub(crate) fn read_block(key: &[u8]) -> Option<BlockNumber> {
    let (kind, number) = key.split_first()?;
    [DEAD, BLOCK].contains(kind).then_some(u64::from_be_bytes(number.try_into().ok()?))
}

fn numbered(kind: u8, number: u64) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = kind;
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn newest(topic: TopicNumber, key: &Hash) -> [u8; 21] {
    let mut row = [0; 21];
    row[0] = NEWEST;
    row[1..5].copy_from_slice(&topic.to_be_bytes());
    row[5..].copy_from_slice(key);
    row
}

pub(crate) fn read_newest(key: &[u8]) -> Option<(TopicNumber, Hash)> {
    let rest: &[u8; 20] = key.strip_prefix(&[NEWEST])?.try_into().ok()?;
    let (topic, hash) = rest.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*topic), hash.try_into().ok()?))
}

pub(crate) fn tombstone(topic: TopicNumber, time: Timestamp, place: Position) -> [u8; 21] {
    let mut row = [0; 21];
    row[0] = TOMBSTONE;
    row[1..5].copy_from_slice(&topic.to_be_bytes());
    row[5..13].copy_from_slice(&time.as_micros().to_be_bytes());
    row[13..].copy_from_slice(&place.get().to_be_bytes());
    row
}

pub(crate) fn read_tombstone(key: &[u8]) -> Option<(TopicNumber, Timestamp, Position)> {
    let rest: &[u8; 20] = key.strip_prefix(&[TOMBSTONE])?.try_into().ok()?;
    let (topic, rest) = rest.split_first_chunk::<4>()?;
    let (time, place) = rest.split_first_chunk::<8>()?;
    let place = Position::new(u64::from_be_bytes(place.try_into().ok()?));
    Some((u32::from_be_bytes(*topic), Timestamp::from_micros(u64::from_be_bytes(*time)), place))
}

/// What stands for a compaction key within its topic.
pub(crate) fn key_hash(key: &Key) -> Hash {
    hash_of(key.as_str())
}

fn hash_of(text: &str) -> Hash {
    *blake3::hash(text.as_bytes()).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_read_back_what_they_were_made_of(
            number: u64, part: u16, number_of_topic: u32, hash: Hash, kind: u8,
        ) {
            let (place, time) = (Position::new(number), Timestamp::from_micros(number));
            prop_assert_eq!(read_segment(&segment(place)), Some(place));
            prop_assert_eq!(read_postings(&postings(number_of_topic, place)), Some((number_of_topic, place)));
            prop_assert_eq!(read_topic(&topic(number_of_topic)), Some(number_of_topic));
            prop_assert_eq!(read_bucket(&bucket(place, part)), Some((place, part)));
            prop_assert_eq!(read_block(&dead(number)), Some(number));
            prop_assert_eq!(read_block(&block(number)), Some(number));
            prop_assert_eq!(read_newest(&newest(number_of_topic, &hash)), Some((number_of_topic, hash)));
            let tombstone = tombstone(number_of_topic, time, place);
            prop_assert_eq!(read_tombstone(&tombstone), Some((number_of_topic, time, place)));
            prop_assert_eq!(read_segment(&segment(place)[..8]), None);
            if kind != SEGMENT {
                let mut other = segment(place);
                other[0] = kind;
                prop_assert_eq!(read_segment(&other), None);
            }
        }

        #[test]
        fn the_order_of_keys_is_the_order_of_what_they_stand_for(a: (u64, u32), b: (u64, u32)) {
            let segment_of = |x: (u64, u32)| segment(Position::new(x.0));
            prop_assert_eq!(segment_of(a).cmp(&segment_of(b)), a.0.cmp(&b.0));
            let postings_of = |x: (u64, u32)| postings(x.1, Position::new(x.0));
            prop_assert_eq!(postings_of(a).cmp(&postings_of(b)), (a.1, a.0).cmp(&(b.1, b.0)));
            let used_of = |x: (u64, u32)| used(Position::new(x.0));
            prop_assert_eq!(used_of(a).cmp(&used_of(b)), a.0.cmp(&b.0));
        }
    }
}
