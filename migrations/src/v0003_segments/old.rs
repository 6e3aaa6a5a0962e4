//! The rows of version 2 that version 3 does not have, and how its chunks are read.

use crate::Error;

/// The kind of the rows of chunks.
pub(super) const CHUNK: u8 = 0x01;
/// The kind of the rows of idempotency keys, and of those that say when they expire.
pub(super) const IDEMPOTENCY: u8 = 0x04;
pub(super) const EXPIRY: u8 = 0x05;
const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;
const HEADER_BYTES: usize = 16;
const VALUE_BYTES_MAX: usize = 32 * 1_024;
/// sled forgets leaves only as they are accessed, and a walk through large values accesses each leaf a few times only: it
/// would keep gigabytes in memory, whatever its cache's bound. So a value is accessed once more for so many of its bytes.
const BYTES_PER_ACCESS: usize = 4 * 1_024;

/// Whether there are no rows of a kind.
pub(super) fn is_empty(db: &sled::Db, kind: u8) -> Result<bool, Error> {
    Ok(db.scan_prefix([kind]).next().transpose()?.is_none())
}

/// A chunk with all its parts.
pub(super) struct Chunk {
    pub(super) first: u64,
    pub(super) is_compressed: bool,
    pub(super) records: u32,
    pub(super) body: Vec<u8>,
}

/// All chunks, in order. They are checked on the way.
pub(super) struct Chunks<'a>(Rows<'a>);

impl<'a> Chunks<'a> {
    pub(super) fn of(db: &'a sled::Db) -> Self {
        Chunks(Rows::of(db, CHUNK))
    }

    /// The next one.
    pub(super) fn read(&mut self) -> Result<Option<Chunk>, Error> {
        let Some(row) = self.row()? else { return Ok(None) };
        let Row { first, part, parts, flags, records, mut body } = row;
        if part != 0 {
            return Err(damaged(first, part, "the parts before it are missing"));
        }
        for part in 1..parts {
            match self.row()? {
                Some(next) if (next.first, next.part, next.parts) == (first, part, parts) => {
                    body.extend(next.body);
                }
                _ => return Err(damaged(first, part, "it is missing")),
            }
        }
        Ok(Some(Chunk { first, is_compressed: flags == COMPRESSED, records, body }))
    }

    fn row(&mut self) -> Result<Option<Row>, Error> {
        let Some((key, value)) = self.0.read()? else { return Ok(None) };
        Row::decode(&key, &value).map(Some)
    }
}

/// All rows of a kind, in order.
pub(super) struct Rows<'a> {
    db: &'a sled::Db,
    rows: sled::Iter,
}

impl<'a> Rows<'a> {
    pub(super) fn of(db: &'a sled::Db, kind: u8) -> Self {
        Rows { db, rows: db.scan_prefix([kind]) }
    }

    /// The key and the value of the next one.
    pub(super) fn read(&mut self) -> Result<Option<(sled::IVec, sled::IVec)>, Error> {
        let Some(row) = self.rows.next() else { return Ok(None) };
        let (key, value) = row?;
        for _ in 0..value.len() / BYTES_PER_ACCESS {
            self.db.contains_key(&key)?;
        }
        Ok(Some((key, value)))
    }
}

/// One row: a whole chunk, or a part of one.
struct Row {
    first: u64,
    part: u16,
    parts: u16,
    flags: u8,
    records: u32,
    body: Vec<u8>,
}

impl Row {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, Error> {
        let Ok([CHUNK, f0, f1, f2, f3, f4, f5, f6, f7, p0, p1]) = <[u8; 11]>::try_from(key) else {
            return Err(Error::UnknownRow(key.to_vec()));
        };
        let first = u64::from_be_bytes([f0, f1, f2, f3, f4, f5, f6, f7]);
        let part = u16::from_be_bytes([p0, p1]);
        let damaged = |what: &str| damaged(first, part, what);
        let (header, body) =
            value.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| damaged("its header is cut off"))?;
        let [version, flags, n0, n1, r0, r1, r2, r3, l0, l1, l2, l3, checked @ ..] = *header;
        if u32::from_be_bytes(checked) != super::checksum(&[key, &header[..12], body]) {
            return Err(damaged("its checksum is wrong"));
        }
        let (parts, records) = (u16::from_be_bytes([n0, n1]), u32::from_be_bytes([r0, r1, r2, r3]));
        let is_known = version == VERSION && (flags == PLAIN || flags == COMPRESSED && parts == 1);
        if !is_known {
            return Err(damaged(&format!(
                "version {version}, flags {flags}, parts {parts} is no known form"
            )));
        }
        if u32::from_be_bytes([l0, l1, l2, l3]) as usize != body.len() || value.len() > VALUE_BYTES_MAX {
            return Err(damaged(&format!(
                "it has {} bytes, not as many as it says or may have",
                value.len()
            )));
        }
        Ok(Row { first, part, parts, flags, records, body: body.to_vec() })
    }
}

fn damaged(first: u64, part: u16, what: &str) -> Error {
    Error::DamagedChunk { first, part, what: what.to_owned() }
}
