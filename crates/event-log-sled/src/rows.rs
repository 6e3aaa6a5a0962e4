//! The values of all rows: a version byte, a checksum over version, key and body, then the body in fixed
//! big-endian fields. The key is in the checksum, so a value that came to lie under another key is seen too.
//!
//! Reading returns what is wrong as text; whoever reads knows whether the row is a projection, which is made anew, or
//! damage.

use event_log::{Epoch, EpochStart, Epochs, Position, Removals, Timestamp, Topic};
use uuid::Uuid;

use crate::blocks::Block;
use crate::keys::Hash;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

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
    /// Of the events up to here, the superseded ones are dead.
    pub(crate) compacted_through: Position,
    /// Everything up to here is removed.
    pub(crate) removed_through: Position,
    /// A reader whose cursor lies before this missed something.
    pub(crate) missing_through: Position,
    /// By which removal `missing_through` came to be.
    pub(crate) missing_by: Removals,
}

/// What was removed of a topic: no projection, since the events no longer tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemovalRow {
    pub(crate) topic: Topic,
    pub(crate) last: Position,
    pub(crate) removed_through: Position,
    pub(crate) missing_through: Position,
}

/// The newest event of a compaction key, as far as its topic was compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewestRow {
    pub(crate) position: Position,
    pub(crate) weight: u32,
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

    /// The rest, which is a topic's name.
    fn topic(&mut self) -> Result<Topic, String> {
        let name = std::str::from_utf8(self.0).map_err(|error| format!("a topic is not UTF-8: {error}"))?;
        Topic::parse(name.to_owned()).map_err(|error| error.to_string())
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
    /// A topic that nothing is known of but an event that it has or had.
    pub(crate) fn new(topic: Topic, last: Position) -> Self {
        TopicRow {
            topic,
            first: None,
            last,
            events: 0,
            bytes: 0,
            compacted_through: Position::ORIGIN,
            removed_through: Position::ORIGIN,
            missing_through: Position::ORIGIN,
            missing_by: Removals::NONE,
        }
    }

    /// What was removed stands in a row of its own.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Events begin at 1, so 0 says that nothing is kept.
        let first = self.first.map_or(0, Position::get);
        let fields = [first, self.last.get(), self.events, self.bytes, self.compacted_through.get()];
        let mut body: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
        body.extend(self.topic.as_str().as_bytes());
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(body);
        let first = Some(fields.u64()?).filter(|first| *first > 0).map(Position::new);
        let last = Position::new(fields.u64()?);
        let (events, bytes) = (fields.u64()?, fields.u64()?);
        let compacted_through = Position::new(fields.u64()?);
        let topic = fields.topic()?;
        if (events > 0) != first.is_some() {
            return Err(format!("topic {topic} has {events} events, and its first one is {first:?}"));
        }
        Ok(TopicRow { first, events, bytes, compacted_through, ..TopicRow::new(topic, last) })
    }

    /// The row that keeps what was removed, if anything ever was.
    pub(crate) fn removal(&self) -> Option<RemovalRow> {
        let &TopicRow { last, removed_through, missing_through, .. } = self;
        let topic = self.topic.clone();
        (missing_through > Position::ORIGIN).then_some(RemovalRow {
            topic,
            last,
            removed_through,
            missing_through,
        })
    }
}

/// Used idempotency keys of one row, at most.
pub(crate) const USED_KEYS_AT_ONCE: usize = 64;

/// The body of a row of used idempotency keys, in the order of their places.
pub(crate) fn encode_used(entries: &[(Hash, IdempotencyRow)]) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 * entries.len());
    for (hash, row) in entries {
        body.extend(hash);
        body.extend(row.position.get().to_be_bytes());
        body.extend(row.time.as_micros().to_be_bytes());
        body.extend(row.uuid.as_bytes());
        body.extend(row.content);
    }
    body
}

pub(crate) fn decode_used(body: &[u8]) -> Result<Vec<(Hash, IdempotencyRow)>, String> {
    let mut fields = Fields(body);
    let mut entries: Vec<(Hash, IdempotencyRow)> = Vec::with_capacity(body.len() / 64);
    while !fields.0.is_empty() {
        let hash = fields.array()?;
        let row = IdempotencyRow {
            position: Position::new(fields.u64()?),
            time: Timestamp::from_micros(fields.u64()?),
            uuid: Uuid::from_bytes(fields.array()?),
            content: fields.array()?,
        };
        if entries.last().is_some_and(|(_, before)| before.position >= row.position) {
            return Err("used keys are out of order".to_owned());
        }
        entries.push((hash, row));
    }
    Ok(entries)
}

impl RemovalRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let fields = [self.removed_through.get(), self.missing_through.get(), self.last.get()];
        let mut body: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
        body.extend(self.topic.as_str().as_bytes());
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(body);
        let removed_through = Position::new(fields.u64()?);
        let missing_through = Position::new(fields.u64()?);
        let last = Position::new(fields.u64()?);
        let topic = fields.topic()?;
        if removed_through > missing_through || missing_through > last {
            return Err(format!("what was removed of topic {topic} is out of order"));
        }
        Ok(RemovalRow { topic, last, removed_through, missing_through })
    }
}

impl NewestRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.position.get().to_be_bytes()[..], &self.weight.to_be_bytes()].concat()
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(body);
        let row = NewestRow { position: Position::new(fields.u64()?), weight: fields.u32()? };
        fields.end(row)
    }
}

pub(crate) fn encode_block(block: &Block) -> Vec<u8> {
    let Block { stored_events, live_events, dead, stored_bytes, live_bytes } = *block;
    let counts = [stored_events, live_events, dead];
    let mut body: Vec<u8> = counts.iter().flat_map(|count| count.to_be_bytes()).collect();
    body.extend(stored_bytes.to_be_bytes());
    body.extend(live_bytes.to_be_bytes());
    body
}

pub(crate) fn decode_block(body: &[u8]) -> Result<Block, String> {
    let mut fields = Fields(body);
    let block = Block {
        stored_events: fields.u32()?,
        live_events: fields.u32()?,
        dead: fields.u32()?,
        stored_bytes: fields.u64()?,
        live_bytes: fields.u64()?,
    };
    if block.live_events > block.stored_events || block.live_bytes > block.stored_bytes {
        return Err("a block says that more of it is alive than is stored".to_owned());
    }
    fields.end(block)
}

/// The body of a list of dead places: the offset of each in its block, in order.
pub(crate) fn encode_dead(offsets: &[u16]) -> Vec<u8> {
    debug_assert!(offsets.is_sorted_by(|a, b| a < b), "each dead place once, in order");
    offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect()
}

pub(crate) fn decode_dead(body: &[u8]) -> Result<Vec<u16>, String> {
    let (pairs, rest) = body.as_chunks::<2>();
    let offsets: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
    match rest.is_empty()
        && offsets.is_sorted_by(|a, b| a < b)
        && offsets.last().is_none_or(|last| *last < 1_024)
    {
        true => Ok(offsets),
        false => Err("a list of dead places is out of order".to_owned()),
    }
}

#[cfg(test)]
mod tests {
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
            let (events, compacted_through) = (2 * u64::from(first.is_some()), Position::new(8));
            let row = TopicRow::new(topic, Position::new(9));
            let row = TopicRow { first, events, bytes: 70, compacted_through, ..row };
            assert_eq!(TopicRow::decode(&row.encode()), Ok(row.clone()));
            assert!(TopicRow::decode(&TopicRow { events: 2 - events, ..row }.encode()).is_err());
        }
        let removal = RemovalRow {
            topic: Topic::parse("a").unwrap(),
            last: Position::new(9),
            removed_through: Position::new(6),
            missing_through: Position::new(7),
        };
        assert_eq!(RemovalRow::decode(&removal.encode()), Ok(removal.clone()));
        assert!(RemovalRow::decode(&RemovalRow { last: Position::new(6), ..removal }.encode()).is_err());
        let newest = NewestRow { position: Position::new(3), weight: 400 };
        assert_eq!(NewestRow::decode(&newest.encode()), Ok(newest));
        let block =
            Block { stored_events: 900, live_events: 30, dead: 7, stored_bytes: 1 << 33, live_bytes: 5 };
        assert_eq!(decode_block(&encode_block(&block)), Ok(block));
        assert!(decode_block(&encode_block(&Block { live_events: 901, ..block })).is_err());
        assert_eq!(decode_dead(&encode_dead(&[0, 7, 1_023])), Ok(vec![0, 7, 1_023]));
        for damaged in [&[0, 7, 0, 7][..], &[0], &[4, 0]] {
            assert!(decode_dead(damaged).is_err(), "{damaged:?}");
        }
        let row = IdempotencyRow {
            position: Position::new(4),
            time: Timestamp::from_micros(5),
            uuid: Uuid::from_u128(6),
            content: [7; 16],
        };
        let later = IdempotencyRow { position: Position::new(9), ..row };
        let used = vec![([1; 16], row), ([2; 16], later)];
        assert_eq!(decode_used(&encode_used(&used)), Ok(used.clone()));
        assert!(decode_used(&[encode_used(&used), vec![0]].concat()).is_err());
        assert!(decode_used(&encode_used(&[used[1], used[0]])).is_err());
    }
}
