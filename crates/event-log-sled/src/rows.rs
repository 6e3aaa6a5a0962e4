//! The values of all rows but the chunks: a version byte, a checksum over version, key and body, then the body in fixed
//! big-endian fields. The key is in the checksum, so a value that came to lie under another key is seen too.
//!
//! Reading returns what is wrong as text; whoever reads knows whether the row is a projection, which is made anew, or
//! damage.

use event_log::{Epoch, EpochStart, Epochs, Position, Timestamp, Topic};
use uuid::Uuid;

use crate::keys::Hash;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;
/// A longer list of positions is split into several rows.
const POSTINGS_BYTES_MAX: usize = 32 * 1_024;

/// How far the projections go, and what the log held there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    pub(crate) indexed_through: Position,
    pub(crate) newest_time: Timestamp,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// A topic and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicRow {
    pub(crate) topic: Topic,
    pub(crate) first: Option<Position>,
    pub(crate) last: Position,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// The event that carries an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdempotencyRow {
    pub(crate) position: Position,
    pub(crate) time: Timestamp,
    pub(crate) uuid: Uuid,
    pub(crate) content: Hash,
}

pub(crate) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + body.len());
    value.push(VERSION);
    value.extend(checksum(key, body).to_be_bytes());
    value.extend(body);
    value
}

pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], String> {
    let Some((header, body)) = value.split_first_chunk::<HEADER_BYTES>() else {
        return Err(format!("the row {key:02x?} has only {} bytes", value.len()));
    };
    if header[0] != VERSION {
        return Err(format!("the row {key:02x?} has version {}, and {VERSION} is known", header[0]));
    }
    match header[1..] == checksum(key, body).to_be_bytes() {
        true => Ok(body),
        false => Err(format!("the checksum of the row {key:02x?} is wrong")),
    }
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION]);
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// Takes fixed fields from the front of a body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("a row is too short")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_be_bytes)
    }

    fn end<T>(self, value: T) -> Result<T, String> {
        if self.0.is_empty() { Ok(value) } else { Err("a row is too long".to_owned()) }
    }
}

pub(crate) fn encode_epochs(epochs: &Epochs) -> Vec<u8> {
    let starts = epochs.starts().iter();
    let body = starts.flat_map(|start| {
        let mut entry = [0; 12];
        entry[..4].copy_from_slice(&start.epoch.get().to_be_bytes());
        entry[4..].copy_from_slice(&start.after.get().to_be_bytes());
        entry
    });
    body.collect()
}

pub(crate) fn decode_epochs(body: &[u8]) -> Result<Epochs, String> {
    let mut fields = Fields(body);
    let mut starts = Vec::new();
    while !fields.0.is_empty() {
        let epoch = Epoch::new(fields.u32()?);
        starts.push(EpochStart { epoch, after: Position::new(fields.u64()?) });
    }
    Epochs::from_starts(starts).ok_or_else(|| "the list of epochs is empty or out of order".to_owned())
}

pub(crate) fn decode_starts(body: &[u8]) -> Option<u64> {
    body.try_into().map(u64::from_be_bytes).ok()
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let fields = [self.indexed_through.get(), self.newest_time.as_micros(), self.events, self.bytes];
        fields.iter().flat_map(|field| field.to_be_bytes()).collect()
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(body);
        let checkpoint = Checkpoint {
            indexed_through: Position::new(fields.u64()?),
            newest_time: Timestamp::from_micros(fields.u64()?),
            events: fields.u64()?,
            bytes: fields.u64()?,
        };
        fields.end(checkpoint)
    }
}

impl TopicRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Events begin at 1, so 0 says that nothing is kept.
        let first = self.first.map_or(0, Position::get);
        let fields = [first, self.last.get(), self.events, self.bytes];
        let mut body: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
        body.extend(self.topic.as_str().as_bytes());
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(body);
        let first = Some(fields.u64()?).filter(|first| *first > 0).map(Position::new);
        let last = Position::new(fields.u64()?);
        let (events, bytes) = (fields.u64()?, fields.u64()?);
        let name = std::str::from_utf8(fields.0).map_err(|error| format!("a topic is not UTF-8: {error}"))?;
        let topic = Topic::parse(name.to_owned()).map_err(|error| error.to_string())?;
        Ok(TopicRow { topic, first, last, events, bytes })
    }
}

impl IdempotencyRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(48);
        body.extend(self.position.get().to_be_bytes());
        body.extend(self.time.as_micros().to_be_bytes());
        body.extend(self.uuid.as_bytes());
        body.extend(self.content);
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(body);
        let row = IdempotencyRow {
            position: Position::new(fields.u64()?),
            time: Timestamp::from_micros(fields.u64()?),
            uuid: Uuid::from_bytes(fields.array()?),
            content: fields.array()?,
        };
        fields.end(row)
    }
}

/// Splits positions into rows of bounded size: for each the first position, which is in the key, and the body: the
/// count, then the distance from each position to the next as a variable-length number.
pub(crate) fn encode_postings(positions: &[Position]) -> Vec<(Position, Vec<u8>)> {
    let mut rows: Vec<(Position, u32, Vec<u8>)> = Vec::new();
    let mut before = Position::ORIGIN;
    for position in positions {
        debug_assert!(*position > before, "postings are in order");
        match rows.last_mut() {
            Some((_, count, deltas)) if deltas.len() < POSTINGS_BYTES_MAX => {
                *count += 1;
                push_varint(deltas, position.get() - before.get());
            }
            _ => rows.push((*position, 1, Vec::new())),
        }
        before = *position;
    }
    let whole =
        rows.into_iter().map(|(first, count, deltas)| (first, [&count.to_be_bytes()[..], &deltas].concat()));
    whole.collect()
}

pub(crate) fn decode_postings(first: Position, body: &[u8]) -> Result<Vec<Position>, String> {
    let mut fields = Fields(body);
    let count = fields.u32()? as usize;
    // Each position but the first takes at least a byte: a count beyond that is damage, not a size to allocate.
    if count == 0 || count - 1 > fields.0.len() {
        return Err(format!("a list of positions says that it has {count}"));
    }
    let mut positions = Vec::with_capacity(count);
    let mut position = first.get();
    positions.push(first);
    for _ in 1..count {
        let delta = take_varint(&mut fields)?;
        position = position.checked_add(delta).filter(|_| delta > 0).ok_or("positions are out of order")?;
        positions.push(Position::new(position));
    }
    fields.end(positions)
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(fields: &mut Fields<'_>) -> Result<u64, String> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = fields.array::<1>()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("a variable-length number is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_flipped_byte_of_a_row_is_seen() {
        let sealed = seal(b"key", b"some body");
        assert_eq!(unseal(b"key", &sealed), Ok(&b"some body"[..]));
        assert!(unseal(b"kez", &sealed).is_err());
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 0x10;
            assert!(unseal(b"key", &damaged).is_err(), "byte {index}");
            assert!(unseal(b"key", &sealed[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn rows_read_back_what_was_written() {
        let mut epochs = Epochs::first(Epoch::new(0xdead_beef));
        epochs.begin(Epoch::new(7), Position::new(300));
        assert_eq!(decode_epochs(&encode_epochs(&epochs)), Ok(epochs));
        assert!(decode_epochs(&[]).is_err());

        let checkpoint = Checkpoint {
            indexed_through: Position::new(1),
            newest_time: Timestamp::from_micros(2),
            events: 3,
            bytes: u64::MAX,
        };
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        assert!(Checkpoint::decode(&checkpoint.encode()[1..]).is_err());

        for first in [None, Some(Position::new(4))] {
            let topic = Topic::parse("é.日本").unwrap();
            let row = TopicRow { topic, first, last: Position::new(9), events: 2, bytes: 70 };
            assert_eq!(TopicRow::decode(&row.encode()), Ok(row));
        }
        let row = IdempotencyRow {
            position: Position::new(4),
            time: Timestamp::from_micros(5),
            uuid: Uuid::from_u128(6),
            content: [7; 16],
        };
        assert_eq!(IdempotencyRow::decode(&row.encode()), Ok(row));
        assert!(IdempotencyRow::decode(&[row.encode(), vec![0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn postings_read_back_in_rows_of_bounded_size(
            numbers in proptest::collection::btree_set(prop_oneof![1u64..100_000, 1u64..=u64::MAX], 1..3_000)
        ) {
            let positions: Vec<Position> = numbers.into_iter().map(Position::new).collect();
            let mut read = Vec::new();
            for (first, body) in encode_postings(&positions) {
                prop_assert!(body.len() < POSTINGS_BYTES_MAX + 20);
                read.extend(decode_postings(first, &body).unwrap());
            }
            prop_assert_eq!(read, positions);
        }
    }

    #[test]
    fn long_postings_are_split() {
        let positions: Vec<Position> = (1..=100_000).map(|n| Position::new(n * 300)).collect();
        let rows = encode_postings(&positions);
        assert!(rows.len() > 5);
        let read: Vec<Position> =
            rows.iter().flat_map(|(first, body)| decode_postings(*first, body).unwrap()).collect();
        assert_eq!(read, positions);
    }

    #[test]
    fn damaged_postings_are_refused() {
        let first = Position::new(5);
        for body in [&[0, 0, 0, 0][..], &[0, 0, 0, 2], &[0, 0, 0, 2, 0], &[0, 0, 0, 1, 1], &[0xff; 9]] {
            assert!(decode_postings(first, body).is_err(), "{body:?}");
        }
        assert!(decode_postings(first, &[&[0, 0, 0, 2][..], &[0xff; 10], &[1]].concat()).is_err());
    }
}
