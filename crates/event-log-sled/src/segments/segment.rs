//! One segment: a file of chunks, how far it goes, and where in it some of them begin.
//!
//! The row of a segment says which generation of its file counts: packing writes a new file beside the old one, and the row
//! decides between them. Its body:
//!
//! ```text
//! generation u32 | bytes u64 | chunks u32 | through u64 | packed u8 | index
//! ```
//!
//! The index has an entry for the first chunk, and for each that begins far enough behind the one before: the distance of
//! its place and that of its offset, as LEB128. Of a segment of no bytes nothing is left.

use std::path::{Path, PathBuf};

use event_log::Position;
use parking_lot::RwLock;

use crate::chunk::Chunks;
use crate::varint;

/// Bytes between two entries of the index, at least.
const INDEX_DISTANCE: u64 = 32 * 1_024;
const FIXED_BYTES: usize = 25;

/// How far a segment goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    /// Of the file.
    pub(crate) bytes: u64,
    pub(crate) chunks: u32,
    /// The last place that it stands for.
    pub(crate) through: Position,
    /// Places and offsets of some chunks, the first one among them.
    index: Vec<(Position, u64)>,
}

impl Extent {
    /// A chunk was added behind the others.
    pub(crate) fn add(&mut self, first: Position, bytes: u64) {
        let is_due = self.index.last().is_none_or(|(_, offset)| self.bytes >= offset + INDEX_DISTANCE);
        if is_due {
            self.index.push((first, self.bytes));
        }
        self.bytes += bytes;
        self.chunks += 1;
    }

    /// These chunks were added behind the others.
    pub(crate) fn extend(&mut self, chunks: &Chunks) {
        let ends = chunks.firsts.iter().skip(1).map(|(_, offset)| *offset).chain([chunks.bytes.len()]);
        for ((first, offset), end) in chunks.firsts.iter().zip(ends) {
            self.add(*first, (end - offset) as u64);
        }
        self.through = chunks.last;
    }

    /// Where to look for the last chunk that begins at a place or before it: from an offset on, up to another.
    pub(crate) fn span(&self, place: Position) -> Option<(u64, u64)> {
        let behind = self.index.partition_point(|(first, _)| *first <= place);
        let start = self.index.get(behind.checked_sub(1)?)?.1;
        Some((start, self.index.get(behind).map_or(self.bytes, |(_, offset)| *offset)))
    }

    /// The entries of the index.
    pub(crate) fn entries(&self) -> &[(Position, u64)] {
        &self.index
    }
}

/// A segment. All but the newest one stay as they are until they are replaced.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The first place that it stands for.
    pub(crate) first: Position,
    pub(crate) generation: u32,
    /// Its chunks are as full as they can be.
    pub(crate) packed: bool,
    pub(crate) extent: RwLock<Extent>,
}

impl Segment {
    /// One that holds nothing yet.
    pub(crate) fn new(first: Position, generation: u32) -> Self {
        Segment { first, generation, packed: false, extent: RwLock::default() }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.extent.read().bytes
    }

    pub(crate) fn chunks(&self) -> u32 {
        self.extent.read().chunks
    }

    pub(crate) fn through(&self) -> Position {
        self.extent.read().through
    }

    /// The name of its file; [`parse_name`] reads it.
    pub(crate) fn name(&self) -> String {
        format!("{:020}.{}", self.first.get(), self.generation)
    }

    /// Its file.
    pub(crate) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }

    /// The body of its row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let extent = self.extent.read();
        let mut body = Vec::with_capacity(FIXED_BYTES + 4 * extent.index.len());
        body.extend(self.generation.to_be_bytes());
        body.extend(extent.bytes.to_be_bytes());
        body.extend(extent.chunks.to_be_bytes());
        body.extend(extent.through.get().to_be_bytes());
        body.push(u8::from(self.packed));
        let mut before = (self.first, 0);
        for (first, offset) in &extent.index {
            varint::push(&mut body, first.get() - before.0.get());
            varint::push(&mut body, offset - before.1);
            before = (*first, *offset);
        }
        body
    }

    /// Reads the body of a row.
    pub(crate) fn decode(first: Position, body: &[u8]) -> Result<Self, String> {
        let (fixed, mut rest) =
            body.split_first_chunk::<FIXED_BYTES>().ok_or("the row of a segment is too short")?;
        let [g0, g1, g2, g3, b0, b1, b2, b3, b4, b5, b6, b7, c0, c1, c2, c3, through @ .., packed] = *fixed;
        let mut extent = Extent {
            bytes: u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            chunks: u32::from_be_bytes([c0, c1, c2, c3]),
            through: Position::new(u64::from_be_bytes(through)),
            index: Vec::new(),
        };
        let mut before = (first, 0u64);
        while !rest.is_empty() {
            let mut next = |before: u64| {
                let distance = varint::take(&mut rest)?;
                before.checked_add(distance).ok_or_else(|| "an entry of a segment lies too far".to_owned())
            };
            before = (Position::new(next(before.0.get())?), next(before.1)?);
            extent.index.push(before);
        }
        if before.1 > extent.bytes || packed > 1 {
            return Err("the row of a segment does not fit together".to_owned());
        }
        let generation = u32::from_be_bytes([g0, g1, g2, g3]);
        Ok(Segment { first, generation, packed: packed == 1, extent: RwLock::new(extent) })
    }
}

/// What the name of a file says: the first place, and the generation.
pub(crate) fn parse_name(name: &str) -> Option<(Position, u32)> {
    let (first, generation) = name.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if first.len() != 20 || !is_number(first) || !is_number(generation) {
        return None;
    }
    Some((Position::new(first.parse().ok()?), generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(number: u64) -> Position {
        Position::new(number)
    }

    fn segment(first: u64, chunks: &[(u64, u64)]) -> Segment {
        let segment = Segment { packed: true, ..Segment::new(place(first), 3) };
        let mut extent = segment.extent.write();
        let mut next = first;
        for (distance, bytes) in chunks {
            next += distance;
            extent.add(place(next), *bytes);
            extent.through = place(next + 5);
            next += 1;
        }
        drop(extent);
        segment
    }

    proptest! {
        #[test]
        fn a_row_says_all_of_a_segment_and_the_index_leads_near_every_chunk(
            first in 0u64..1 << 40,
            chunks in proptest::collection::vec((0u64..1_000, 24u64..40_000), 0..60),
        ) {
            let written = segment(first, &chunks);
            let read = Segment::decode(place(first), &written.encode()).unwrap();
            prop_assert_eq!((read.first, read.generation, read.packed), (place(first), 3, true));
            prop_assert_eq!(&*read.extent.read(), &*written.extent.read());
            let (extent, mut offset, mut next) = (read.extent.read(), 0, first);
            for (distance, bytes) in chunks {
                next += distance;
                let (from, to) = extent.span(place(next)).unwrap();
                prop_assert!((from..to).contains(&offset) && offset - from < INDEX_DISTANCE + 40_000);
                (offset, next) = (offset + bytes, next + 1);
            }
        }
    }

    #[test]
    fn a_row_that_is_cut_off_or_does_not_fit_together_is_refused() {
        let body = segment(7, &[(0, 100), (3, 40_000), (1, 10)]).encode();
        assert!(Segment::decode(place(7), &body).is_ok());
        assert!(Segment::decode(place(7), &body[..FIXED_BYTES - 1]).is_err());
        assert!(Segment::decode(place(7), &body[..body.len() - 1]).is_err());
        assert!(Segment::decode(place(u64::MAX), &body).is_err(), "a place beyond all places");
        let mut damaged = body;
        damaged[FIXED_BYTES - 1] = 2;
        assert!(Segment::decode(place(7), &damaged).is_err());
    }

    #[test]
    fn the_name_of_a_file_says_which_it_is() {
        let segment = Segment::new(place(300), 12);
        let path = segment.path(Path::new("events"));
        assert_eq!(path, Path::new("events/00000000000000000300.12"));
        assert_eq!(parse_name(path.file_name().unwrap().to_str().unwrap()), Some((place(300), 12)));
        for name in
            ["", ".", "300.0", "00000000000000000300", "00000000000000000300.", "00000000000000000300.-1"]
        {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
