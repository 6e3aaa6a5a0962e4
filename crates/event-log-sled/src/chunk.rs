//! A chunk: the neighbouring records that are written and read together.
//!
//! ```text
//! version u8 | flags u8 | nth u16 | records u32 | first place u64 | body length u32 | crc32 u32 | body
//! ```
//!
//! A commit makes as many chunks as it needs; `nth` counts them from 0, and a flag marks the last one, so that after a crash
//! it is seen whether all of a commit is there. A body has at most 32 KiB, so that reading one event does not read much more,
//! unless it is that of one large event. The checksum covers the header too. Positions strictly increase within a
//! chunk, and the first one is in the header.
//!
//! A chunk is written plain, so that a commit is not held up. When it is packed later, its body is compressed if that pays:
//! then it is the length of the plain body u32, and an LZ4 block.

use bytes::Bytes;
use event_log::{Event, IdempotencyKey, Position, ReadError};

use crate::record::{self, Record};

const VERSION: u8 = 1;
/// The body is compressed.
const LZ4: u8 = 1;
/// The chunk is the last one of its commit.
const ENDS_COMMIT: u8 = 2;
/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 24;
/// What the checksum covers of the header.
const CHECKED_BYTES: usize = 20;
/// Longest chunk, but for one of a large event.
pub(crate) const CHUNK_BYTES_MAX: usize = 32 * 1_024;
const BODY_BYTES_MAX: usize = CHUNK_BYTES_MAX - HEADER_BYTES;

/// Makes the chunks of a commit from events, in order.
#[derive(Debug, Default)]
pub(crate) struct ChunkWriter {
    compress: bool,
    /// Whole chunks, then the one that is being filled, with room for its header.
    bytes: Vec<u8>,
    firsts: Vec<(Position, usize)>,
    /// Records of the chunk that is being filled.
    records: u32,
    last: Position,
}

/// The chunks of a commit, as they lie in the file.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    pub(crate) bytes: Vec<u8>,
    /// The first place of each, and where in these bytes it begins.
    pub(crate) firsts: Vec<(Position, usize)>,
    /// The last place of all.
    pub(crate) last: Position,
}

impl ChunkWriter {
    /// One that makes chunks as small as they can be.
    pub(crate) fn packing() -> Self {
        ChunkWriter { compress: true, ..ChunkWriter::default() }
    }

    /// One that writes into memory that was used before.
    pub(crate) fn reusing(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        ChunkWriter { bytes, ..ChunkWriter::default() }
    }

    pub(crate) fn push(&mut self, event: &Event, idempotency_key: Option<&IdempotencyKey>) {
        let start = self.begin(event.position);
        record::encode(event, idempotency_key, &mut self.bytes);
        self.pushed(start, event.position);
    }

    /// Takes a record as it is.
    pub(crate) fn push_record(&mut self, record: &Record<'_>) {
        let start = self.begin(record.position());
        self.bytes.extend_from_slice(record.whole());
        self.pushed(start, record.position());
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where the next record begins.
    fn begin(&mut self, position: Position) -> usize {
        if self.records == 0 {
            self.firsts.push((position, self.bytes.len()));
            self.bytes.extend([0; HEADER_BYTES]);
        }
        self.bytes.len()
    }

    /// The record at the end, from `start` on, is new. One that does not fit begins the next chunk.
    fn pushed(&mut self, start: usize, position: Position) {
        let body = self.firsts.last().map_or(0, |(_, chunk)| chunk + HEADER_BYTES);
        if self.records > 0 && self.bytes.len() - body > BODY_BYTES_MAX {
            let record = self.bytes.split_off(start);
            self.seal(0);
            self.begin(position);
            self.bytes.extend(record);
        }
        self.records += 1;
        self.last = position;
    }

    /// Completes the chunk that was being filled.
    fn seal(&mut self, mut flags: u8) {
        let Some((first, chunk)) = self.firsts.last().copied() else { return };
        let body = chunk + HEADER_BYTES;
        if let Some(compressed) = self.compressed(&self.bytes[body..]) {
            self.bytes.truncate(body);
            self.bytes.extend(compressed);
            flags |= LZ4;
        }
        let nth = u16::try_from(self.firsts.len() - 1).unwrap_or(u16::MAX);
        let length = u32::try_from(self.bytes.len() - body).expect("an event is far smaller than 4 GiB");
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&[VERSION, flags]);
        header[2..4].copy_from_slice(&nth.to_be_bytes());
        header[4..8].copy_from_slice(&self.records.to_be_bytes());
        header[8..16].copy_from_slice(&first.get().to_be_bytes());
        header[16..20].copy_from_slice(&length.to_be_bytes());
        let checksum = checksum(&header[..CHECKED_BYTES], &self.bytes[body..]);
        header[20..].copy_from_slice(&checksum.to_be_bytes());
        self.bytes[chunk..body].copy_from_slice(&header);
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

    /// The whole commit.
    pub(crate) fn finish(mut self) -> Chunks {
        if self.records > 0 {
            self.seal(ENDS_COMMIT);
        }
        Chunks { bytes: self.bytes, firsts: self.firsts, last: self.last }
    }
}

fn checksum(fields: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(fields);
    hasher.update(body);
    hasher.finalize()
}

/// The header of a chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    flags: u8,
    nth: u16,
    records: u32,
    pub(crate) first: Position,
    length: u32,
    checksum: u32,
}

impl Header {
    /// What the fields say. Whether they are what was written is known once the body was read.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        let [
            version,
            flags,
            n0,
            n1,
            r0,
            r1,
            r2,
            r3,
            f0,
            f1,
            f2,
            f3,
            f4,
            f5,
            f6,
            f7,
            l0,
            l1,
            l2,
            l3,
            checked @ ..,
        ] = *bytes;
        if version != VERSION || flags & !(LZ4 | ENDS_COMMIT) != 0 {
            return Err(format!(
                "it has version {version} and flags {flags}, and version {VERSION} with flags up to 3 is known"
            ));
        }
        Ok(Header {
            flags,
            nth: u16::from_be_bytes([n0, n1]),
            records: u32::from_be_bytes([r0, r1, r2, r3]),
            first: Position::new(u64::from_be_bytes([f0, f1, f2, f3, f4, f5, f6, f7])),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            checksum: u32::from_be_bytes(checked),
        })
    }

    /// Puts the checksums of a chunk's bytes right, and of its records if it is plain.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn seal_any(&self, chunk: &mut [u8]) {
        let (header, body) = chunk.split_at_mut(HEADER_BYTES);
        let mut rest = if self.flags & LZ4 == 0 { &mut *body } else { &mut [] };
        while let Ok(bytes) = Record::take(rest).map(|(record, _)| record.whole().len()) {
            let (record, behind) = rest.split_at_mut(bytes);
            record::seal_any(record);
            rest = behind;
        }
        let checksum = checksum(&header[..CHECKED_BYTES], body);
        header[CHECKED_BYTES..].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Bytes of the whole chunk.
    pub(crate) fn chunk_bytes(&self) -> usize {
        HEADER_BYTES + self.length as usize
    }

    /// Whether a commit begins with the chunk.
    pub(crate) fn begins_commit(&self) -> bool {
        self.nth == 0
    }

    /// Whether a commit ends with the chunk.
    pub(crate) fn ends_commit(&self) -> bool {
        self.flags & ENDS_COMMIT != 0
    }
}

/// A chunk that was read, and that is what was written.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    first: Position,
    records: u32,
    body: Bytes,
    held: usize,
}

impl Chunk {
    /// Reads a chunk from its bytes, which are a piece of `held` bytes of memory.
    pub(crate) fn read(header: Header, bytes: Bytes, held: usize) -> Result<Self, ReadError> {
        Self::checked(header, bytes, held).map_err(|what| damaged(header.first, &what))
    }

    fn checked(header: Header, bytes: Bytes, held: usize) -> Result<Self, String> {
        let (fields, body) = (&bytes[..CHECKED_BYTES], bytes.slice(HEADER_BYTES..));
        if header.checksum != checksum(fields, &body) {
            return Err("its checksum is wrong".to_owned());
        }
        let Header { first, records, flags, .. } = header;
        if flags & LZ4 == 0 {
            return Ok(Chunk { first, records, body, held });
        }
        let body = decompressed(&body)?;
        Ok(Chunk { first, records, held: body.len(), body })
    }

    /// The place of its first event.
    pub(crate) fn first(&self) -> Position {
        self.first
    }

    /// The place of its last event.
    pub(crate) fn last(&self) -> Result<Option<Position>, ReadError> {
        self.records().last().transpose().map(|last| last.map(|record| record.position()))
    }

    /// Bytes of its records.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes of memory that a piece of its body keeps.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Its records, in order. Their order and their count are checked on the way.
    pub(crate) fn records(&self) -> Records<'_> {
        Records { chunk: self, rest: &self.body, before: None, left: self.records }
    }
}

fn decompressed(body: &[u8]) -> Result<Bytes, String> {
    let (length, block) = body.split_first_chunk::<4>().ok_or("its compressed body is cut off")?;
    let length = u32::from_be_bytes(*length) as usize;
    // A chunk that was moved from an older format may be a little longer than those that are written now.
    if length > CHUNK_BYTES_MAX {
        return Err(format!(
            "its body would have {length} bytes, and at most {CHUNK_BYTES_MAX} are compressed"
        ));
    }
    let mut body = vec![0; length];
    match lz4_flex::block::decompress_into(block, &mut body) {
        Ok(written) if written == length => Ok(Bytes::from(body)),
        Ok(written) => Err(format!("its body has {written} bytes, and {length} are promised")),
        Err(error) => Err(format!("its body cannot be decompressed: {error}")),
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
    // Inlined into its few callers: to hand a record up through two results takes longer than to read it.
    #[inline(always)]
    fn take(&mut self) -> Result<Record<'a>, ReadError> {
        if self.left == 0 || self.rest.is_empty() {
            return Err(damaged(self.chunk.first, "the count of its records is wrong"));
        }
        let (record, rest) = Record::take(self.rest).map_err(|what| self.unreadable(&what))?;
        let position = record.position();
        let in_order = self.before.map_or(position == self.chunk.first, |before| position > before);
        if !in_order {
            return Err(self.out_of_order(position));
        }
        self.before = Some(position);
        (self.rest, self.left) = (rest, self.left - 1);
        Ok(record)
    }

    #[cold]
    fn unreadable(&self, what: &str) -> ReadError {
        match self.before {
            Some(before) => damaged(self.chunk.first, &format!("after the event at {before}: {what}")),
            None => damaged(self.chunk.first, what),
        }
    }

    #[cold]
    fn out_of_order(&self, position: Position) -> ReadError {
        damaged(self.chunk.first, &format!("the event at {position} stands out of order"))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, ReadError>;

    #[inline(always)]
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

    fn write(sizes: &[usize]) -> (Vec<Event>, Chunks) {
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

    /// The chunks, one after the other.
    fn chunks(bytes: &[u8]) -> Result<Vec<(Header, Chunk)>, ReadError> {
        let (mut rest, mut chunks) = (Bytes::copy_from_slice(bytes), Vec::new());
        while !rest.is_empty() {
            let header = rest.first_chunk().ok_or_else(|| ReadError::Damaged("cut off".to_owned()))?;
            let header = Header::decode(header).map_err(ReadError::Damaged)?;
            if header.chunk_bytes() > rest.len() {
                return Err(ReadError::Damaged("too long".to_owned()));
            }
            let chunk = rest.split_to(header.chunk_bytes());
            chunks.push((header, Chunk::read(header, chunk, 0)?));
        }
        Ok(chunks)
    }

    fn read(bytes: &[u8]) -> Result<Vec<Event>, ReadError> {
        let mut events = Vec::new();
        for (_, chunk) in chunks(bytes)? {
            for record in chunk.records() {
                let record = record?;
                events.push(record.event(record.texts_in(chunk.body()), None).unwrap());
            }
        }
        Ok(events)
    }

    #[test]
    fn events_of_all_sizes_come_back_and_only_a_large_one_makes_a_large_chunk() {
        let max = BODY_BYTES_MAX;
        for sizes in [&[0][..], &[1; 1_000], &[max - 200, 1, max, max + 1, 5, 3 * max, 1], &[1_000_000, 1]] {
            let (events, written) = write(sizes);
            let chunks = chunks(&written.bytes).unwrap();
            for (header, chunk) in &chunks {
                assert!(header.chunk_bytes() <= CHUNK_BYTES_MAX || chunk.records().count() == 1);
            }
            let firsts: Vec<Position> = chunks.iter().map(|(header, _)| header.first).collect();
            assert_eq!(firsts, written.firsts.iter().map(|(first, _)| *first).collect::<Vec<_>>());
            assert_eq!(read(&written.bytes).unwrap(), events);
            assert_eq!(written.last, events.last().unwrap().position);
        }
        assert_eq!(write(&[1; 100]).1.firsts.len(), 1, "small events share a chunk");
    }

    #[test]
    fn the_chunks_of_a_commit_are_counted_and_the_last_one_says_so() {
        for sizes in [&[1][..], &[20_000; 5], &[1, 100_000], &[100_000]] {
            let chunks = chunks(&write(sizes).1.bytes).unwrap();
            for (index, (header, _)) in chunks.iter().enumerate() {
                assert_eq!(header.nth as usize, index);
                assert_eq!(header.begins_commit(), index == 0);
                assert_eq!(header.ends_commit(), index == chunks.len() - 1);
            }
        }
        assert!(ChunkWriter::default().finish().bytes.is_empty());
    }

    #[test]
    fn a_chunk_that_is_packed_is_small_and_reads_back_the_same() {
        let (events, plain) = write(&[300; 60]);
        let mut packing = ChunkWriter::packing();
        for (_, chunk) in chunks(&plain.bytes).unwrap() {
            chunk.records().for_each(|record| packing.push_record(&record.unwrap()));
        }
        let packed = packing.finish().bytes;
        assert_eq!(read(&packed).unwrap(), events);
        assert!(packed.len() * 2 < plain.bytes.len(), "{} of {}", packed.len(), plain.bytes.len());
        for index in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[index] ^= 0x10;
            assert!(read(&damaged).is_err(), "byte {index}");
        }
        assert_eq!(packed[1], LZ4 | ENDS_COMMIT);
        let noise: String = (0..9_000u32).map(|n| char::from(b'!' + (n * n % 7_919 % 90) as u8)).collect();
        let noisy = Event { data: Data::from(ByteString::from(noise)), ..full().0 };
        let mut packing = ChunkWriter::packing();
        packing.push(&noisy, None);
        assert_eq!(read(&packing.finish().bytes).unwrap(), [noisy]);
    }

    #[test]
    fn a_chunk_has_these_bytes_for_ever() {
        let (_, written) = write(&[1]);
        assert_eq!(hex(&written.bytes[..HEADER_BYTES]), HEADER);
    }

    const HEADER: &str = "0102000000000001000000000000000700000040c93c1472";

    #[test]
    fn every_flipped_byte_of_a_chunk_is_seen() {
        let (_, written) = write(&[3, 4]);
        for index in 0..written.bytes.len() {
            let mut damaged = written.bytes.clone();
            damaged[index] ^= 0x04;
            assert!(read(&damaged).is_err(), "byte {index}");
            damaged.truncate(index);
            assert!(index == 0 || read(&damaged).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn records_that_are_out_of_order_or_miscounted_are_damage() {
        let (events, _) = write(&[3, 4]);
        let mut writer = ChunkWriter::default();
        writer.push(&events[1], None);
        writer.push(&events[0], None);
        let error = read(&writer.finish().bytes).unwrap_err().to_string();
        assert!(error.contains("begins at 8") && error.contains("out of order"), "{error}");
        let mut writer = ChunkWriter::default();
        writer.push(&events[0], None);
        writer.records = 2;
        assert!(read(&writer.finish().bytes).is_err());
    }
}
