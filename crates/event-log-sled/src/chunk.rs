//! A chunk: the neighbouring records that one stored value holds.
//!
//! ```text
//! version u8 | flags u8 | parts u16 | records u32 | body length u32 | crc32 u32 | body
//! ```
//!
//! A value is at most 32 KiB. sled moves leaves of more than 4 MiB to files that it never syncs, and a leaf has some 16
//! values; and it keeps at least 256 leaves in memory, whatever its cache's bound is. So a commit that is larger
//! makes several chunks, and an event that is larger lies alone in a chunk of several parts, each a row of its own with
//! all these fields; its records are counted in the first part. The checksum covers the row's key too. Positions
//! strictly increase within a chunk, and the first one is in the key.
//!
//! A chunk is written plain, so that a commit is not held up. When it is packed later, its body is compressed if that pays:
//! then it is the length of the plain body u32, and an LZ4 block.

use bytes::Bytes;
use event_log::{Event, IdempotencyKey, Position, ReadError};

use crate::keys::{self, Part};
use crate::record::{self, Record};

const VERSION: u8 = 1;
/// The body is as it is.
const PLAIN: u8 = 0;
/// The body is compressed.
const LZ4: u8 = 1;
const HEADER_BYTES: usize = 16;
/// Longest stored value.
pub(crate) const VALUE_BYTES_MAX: usize = 32 * 1_024;
const BODY_BYTES_MAX: usize = VALUE_BYTES_MAX - HEADER_BYTES;

/// Makes rows from events, in order.
#[derive(Debug, Default)]
pub(crate) struct ChunkWriter {
    compress: bool,
    rows: Vec<([u8; 11], Vec<u8>)>,
    first: Position,
    records: u32,
    body: Vec<u8>,
}

impl ChunkWriter {
    /// One that makes chunks as small as they can be.
    pub(crate) fn packing() -> Self {
        ChunkWriter { compress: true, ..ChunkWriter::default() }
    }

    pub(crate) fn push(&mut self, event: &Event, idempotency_key: Option<&IdempotencyKey>) {
        let start = self.body.len();
        record::encode(event, idempotency_key, &mut self.body);
        self.pushed(start, event.position);
    }

    /// Takes a record as it is.
    pub(crate) fn push_record(&mut self, record: &Record<'_>) {
        let start = self.body.len();
        self.body.extend_from_slice(record.whole());
        self.pushed(start, record.position());
    }

    /// The record at the end of the body, from `start` on, is new.
    fn pushed(&mut self, start: usize, position: Position) {
        if self.body.len() > BODY_BYTES_MAX && start > 0 {
            let record = self.body.split_off(start);
            self.seal();
            self.body = record;
        }
        if self.records == 0 {
            self.first = position;
        }
        self.records += 1;
        if self.body.len() > BODY_BYTES_MAX {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let body = std::mem::take(&mut self.body);
        if let Some(compressed) = self.compressed(&body) {
            let key = keys::chunk(self.first, 0);
            self.rows.push((key, encode(&key, LZ4, 1, self.records, &compressed)));
            self.records = 0;
            return;
        }
        let pieces = body.chunks(BODY_BYTES_MAX);
        let parts = Part::try_from(pieces.len()).expect("the largest event has fewer parts");
        for (piece, part) in pieces.zip(0..) {
            let key = keys::chunk(self.first, part);
            let records = if part == 0 { self.records } else { 0 };
            self.rows.push((key, encode(&key, PLAIN, parts, records, piece)));
        }
        self.records = 0;
    }

    /// The body in its compressed form, if that pays: less is read, but it has to be unpacked.
    fn compressed(&self, body: &[u8]) -> Option<Vec<u8>> {
        if !self.compress || body.len() > BODY_BYTES_MAX {
            return None;
        }
        let mut compressed = u32::try_from(body.len()).ok()?.to_be_bytes().to_vec();
        compressed.extend(lz4_flex::block::compress(body));
        (compressed.len() < body.len() / 8 * 7).then_some(compressed)
    }

    /// The rows, keys and values.
    pub(crate) fn finish(mut self) -> Vec<([u8; 11], Vec<u8>)> {
        if self.records > 0 {
            self.seal();
        }
        self.rows
    }
}

fn encode(key: &[u8], flags: u8, parts: Part, records: u32, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + body.len());
    value.extend([VERSION, flags]);
    value.extend(parts.to_be_bytes());
    value.extend(records.to_be_bytes());
    value.extend(u32::try_from(body.len()).expect("a body is at most 32 KiB").to_be_bytes());
    value.extend(checksum(key, &value, body).to_be_bytes());
    value.extend(body);
    value
}

fn checksum(key: &[u8], fields: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(fields);
    hasher.update(body);
    hasher.finalize()
}

/// One row: a whole chunk, or a part of one.
#[derive(Debug)]
struct Row {
    flags: u8,
    parts: Part,
    records: u32,
    body: Bytes,
}

impl Row {
    fn decode(key: &[u8], value: Bytes) -> Result<Self, String> {
        let header = value.first_chunk::<HEADER_BYTES>().ok_or("its header is cut off")?;
        let [version, flags, p0, p1, r0, r1, r2, r3, l0, l1, l2, l3, checked @ ..] = *header;
        if version != VERSION || !matches!(flags, PLAIN | LZ4) {
            return Err(format!(
                "it has version {version} and flags {flags}, and {VERSION} with {PLAIN} or {LZ4} are known"
            ));
        }
        if u32::from_be_bytes([l0, l1, l2, l3]) as usize != value.len() - HEADER_BYTES {
            return Err(format!("it has {} bytes, not as many as it says", value.len()));
        }
        if u32::from_be_bytes(checked) != checksum(key, &header[..12], &value[HEADER_BYTES..]) {
            return Err("its checksum is wrong".to_owned());
        }
        let (parts, records) = (u16::from_be_bytes([p0, p1]), u32::from_be_bytes([r0, r1, r2, r3]));
        Ok(Row { flags, parts, records, body: value.slice(HEADER_BYTES..) })
    }

    /// The records of a chunk of one row.
    fn into_body(self) -> Result<Bytes, String> {
        if self.flags == PLAIN {
            return Ok(self.body);
        }
        let (length, block) = self.body.split_first_chunk::<4>().ok_or("its compressed body is cut off")?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > BODY_BYTES_MAX {
            return Err(format!(
                "its body would have {length} bytes, and at most {BODY_BYTES_MAX} are written"
            ));
        }
        let mut body = vec![0; length];
        match lz4_flex::block::decompress_into(block, &mut body) {
            Ok(written) if written == length => Ok(Bytes::from(body)),
            Ok(written) => Err(format!("its body has {written} bytes, and {length} are promised")),
            Err(error) => Err(format!("its body cannot be decompressed: {error}")),
        }
    }
}

/// A chunk that was read, with all its parts, and that is what was written.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    first: Position,
    parts: u32,
    records: u32,
    body: Bytes,
}

impl Chunk {
    /// Reads the chunk that begins with this row. `next_row` is asked for the value of each further part.
    pub(crate) fn read(
        first: Position,
        value: Bytes,
        mut part: impl FnMut(Part) -> Result<Option<Bytes>, ReadError>,
    ) -> Result<Self, ReadError> {
        let row = Row::decode(&keys::chunk(first, 0), value).map_err(|what| damaged(first, &what))?;
        if row.parts <= 1 {
            let records = row.records;
            let body = row.into_body().map_err(|what| damaged(first, &what))?;
            return Ok(Chunk { first, parts: 1, records, body });
        }
        let mut body = row.body.to_vec();
        for number in 1..row.parts {
            let value =
                part(number)?.ok_or_else(|| damaged(first, &format!("its part {number} is missing")))?;
            let next = Row::decode(&keys::chunk(first, number), value)
                .map_err(|what| damaged(first, &format!("in its part {number}, {what}")))?;
            body.extend_from_slice(&next.body);
        }
        Ok(Chunk { first, parts: u32::from(row.parts), records: row.records, body: Bytes::from(body) })
    }

    /// The place of its first event.
    pub(crate) fn first(&self) -> Position {
        self.first
    }

    /// The place of its last event.
    pub(crate) fn last(&self) -> Result<Option<Position>, ReadError> {
        self.records().last().transpose().map(|last| last.map(|record| record.position()))
    }

    /// How many rows it takes.
    pub(crate) fn parts(&self) -> u32 {
        self.parts
    }

    /// Bytes of its records.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Its records, in order. Their order and their count are checked on the way.
    pub(crate) fn records(&self) -> Records<'_> {
        Records { chunk: self, rest: &self.body, before: None, left: self.records }
    }
}

/// The records of a chunk.
pub(crate) struct Records<'a> {
    chunk: &'a Chunk,
    rest: &'a [u8],
    before: Option<Position>,
    left: u32,
}

impl<'a> Records<'a> {
    fn take(&mut self) -> Result<Record<'a>, ReadError> {
        let first = self.chunk.first;
        if self.left == 0 || self.rest.is_empty() {
            return Err(damaged(first, "the count of its records is wrong"));
        }
        let (record, rest) = Record::take(self.rest).map_err(|what| match self.before {
            Some(before) => damaged(first, &format!("after the event at {before}: {what}")),
            None => damaged(first, &what),
        })?;
        let in_order = self.before.map_or(record.position() == first, |before| record.position() > before);
        if !in_order {
            let what = format!("the event at {} stands out of order", record.position());
            return Err(damaged(first, &what));
        }
        self.before = Some(record.position());
        (self.rest, self.left) = (rest, self.left - 1);
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() && self.left == 0 {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            (self.rest, self.left) = (&[], 0);
        }
        Some(taken)
    }
}

fn damaged(first: Position, what: &str) -> ReadError {
    ReadError::Damaged(format!("the chunk of events that begins at {first}: {what}"))
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;
    use event_log::Data;

    use super::*;
    use crate::record::tests::{full, hex};

    type Rows = Vec<([u8; 11], Vec<u8>)>;

    fn write(sizes: &[usize]) -> (Vec<Event>, Rows) {
        let mut writer = ChunkWriter::default();
        let events: Vec<Event> = sizes
            .iter()
            .zip(7..)
            .map(|(size, position)| Event {
                position: Position::new(position),
                data: Data::from(ByteString::from("x".repeat(*size))),
                ..full().0
            })
            .collect();
        events.iter().for_each(|event| writer.push(event, None));
        (events, writer.finish())
    }

    fn read(rows: &[([u8; 11], Vec<u8>)]) -> Result<Vec<Event>, ReadError> {
        let value = |key| rows.iter().find(|row| row.0 == key).map(|row| Bytes::from(row.1.clone()));
        let mut events = Vec::new();
        for (key, _) in rows {
            let (first, part) = keys::read_chunk(key).unwrap();
            if part > 0 {
                continue;
            }
            let chunk = Chunk::read(first, value(*key).unwrap(), |part| Ok(value(keys::chunk(first, part))))?;
            for record in chunk.records() {
                let record = record?;
                events.push(record.event(record.texts_in(chunk.body()), None).unwrap());
            }
        }
        Ok(events)
    }

    #[test]
    fn events_of_all_sizes_come_back_and_no_value_is_too_long() {
        let max = BODY_BYTES_MAX;
        for sizes in [&[0][..], &[1; 1_000], &[max - 200, 1, max, max + 1, 5, 3 * max, 1], &[1_000_000, 1]] {
            let (events, rows) = write(sizes);
            assert!(rows.iter().all(|row| row.1.len() <= VALUE_BYTES_MAX));
            assert!(rows.is_sorted_by_key(|row| row.0));
            assert_eq!(read(&rows).unwrap(), events);
        }
        assert_eq!(write(&[1; 100]).1.len(), 1, "small events share a chunk");
    }

    #[test]
    fn a_chunk_that_is_packed_is_small_and_reads_back_the_same() {
        let (events, plain) = write(&[300; 60]);
        let mut packing = ChunkWriter::packing();
        for (key, value) in &plain {
            let (first, _) = keys::read_chunk(key).unwrap();
            let chunk = Chunk::read(first, Bytes::from(value.clone()), |_| Ok(None)).unwrap();
            chunk.records().for_each(|record| packing.push_record(&record.unwrap()));
        }
        let packed = packing.finish();
        assert_eq!(read(&packed).unwrap(), events);
        let bytes = |rows: &Rows| rows.iter().map(|row| row.1.len()).sum::<usize>();
        assert!(bytes(&packed) * 2 < bytes(&plain), "{} of {}", bytes(&packed), bytes(&plain));
        for index in 0..packed[0].1.len() {
            let mut damaged = packed.clone();
            damaged[0].1[index] ^= 0x10;
            assert!(read(&damaged).is_err(), "byte {index}");
        }
        assert_eq!(packed[0].1[1], LZ4);
        let noise: String = (0..9_000u32).map(|n| char::from(b'!' + (n * n % 7_919 % 90) as u8)).collect();
        let noisy = Event { data: Data::from(ByteString::from(noise)), ..full().0 };
        let mut packing = ChunkWriter::packing();
        packing.push(&noisy, None);
        assert_eq!(read(&packing.finish()).unwrap(), [noisy]);
    }

    #[test]
    fn a_chunk_has_these_bytes_for_ever() {
        let (_, rows) = write(&[1]);
        assert_eq!((hex(&rows[0].0), hex(&rows[0].1[..16])), (KEY.to_owned(), HEADER.to_owned()));
    }

    const KEY: &str = "0100000000000000070000";
    const HEADER: &str = "010000010000000100000040dcfd602d";

    #[test]
    fn every_flipped_byte_of_a_chunk_is_seen_and_named() {
        let (_, rows) = write(&[3, 4]);
        for index in 0..rows[0].1.len() {
            let mut damaged = rows.clone();
            damaged[0].1[index] ^= 0x04;
            let error = read(&damaged).unwrap_err();
            assert!(error.to_string().contains("begins at 7"), "byte {index}: {error}");
            damaged[0].1.truncate(index);
            assert!(read(&damaged).is_err(), "cut at {index}");
        }
        let mut moved = rows.clone();
        moved[0].0 = keys::chunk(Position::new(8), 0);
        assert!(read(&moved).is_err(), "under another key");
    }

    #[test]
    fn a_large_event_without_one_of_its_parts_is_damaged() {
        let (_, rows) = write(&[200_000]);
        assert_eq!(rows.len(), 7);
        for part in 1..rows.len() {
            let mut damaged = rows.clone();
            damaged.remove(part);
            assert!(read(&damaged).unwrap_err().to_string().contains(&format!("part {part} is missing")));
            let mut damaged = rows.clone();
            damaged[part].1[20] ^= 1;
            assert!(read(&damaged).unwrap_err().to_string().contains(&format!("part {part}")));
        }
    }
}
