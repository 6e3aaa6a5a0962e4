//! The witness: what the log held at its last checkpoint, in a small file of its own beside the store.
//!
//! A file can lose its end, and sled can open one that did silently, without its last rows, or empty. So the head is written
//! down here too, after it was durable, and a store that ends before its witness is refused. There are two slots, written in turn,
//! each with a counter and a checksum: a write that is torn costs the older news only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use event_log::{Epoch, Position};

const SLOT_BYTES: usize = 32;
/// The slots lie in different sectors, so that one write cannot tear both.
const SLOT_DISTANCE: u64 = 4_096;

/// What the log held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Testimony {
    pub(crate) epoch: Epoch,
    pub(crate) head: Position,
    pub(crate) events: u64,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    counter: u64,
}

impl Witness {
    /// Opens the witness of a directory, or begins one, and returns what it says.
    pub(crate) fn open(directory: &Path) -> io::Result<(Self, Option<Testimony>)> {
        let path = directory.join("witness");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        crate::directory::sync(directory)?;
        let newest = [0, 1].into_iter().filter_map(|slot| read_slot(&file, slot)).max_by_key(|read| read.0);
        if newest.is_none() && file.metadata()?.len() > 0 {
            tracing::warn!("the witness file is unreadable; it is written anew at the next checkpoint");
        }
        let counter = newest.map_or(0, |read| read.0);
        Ok((Witness { file, counter }, newest.map(|read| read.1)))
    }

    /// Writes down what the log holds, which is durable already, and makes it durable.
    pub(crate) fn write(&mut self, testimony: Testimony) -> io::Result<()> {
        self.counter += 1;
        let slot = encode(self.counter, testimony);
        self.file.write_all_at(&slot, self.counter % 2 * SLOT_DISTANCE)?;
        self.file.sync_data()
    }
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, Testimony)> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE).ok()?;
    decode(&bytes)
}

fn encode(counter: u64, testimony: Testimony) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&counter.to_be_bytes());
    bytes[8..12].copy_from_slice(&testimony.epoch.get().to_be_bytes());
    bytes[12..20].copy_from_slice(&testimony.head.get().to_be_bytes());
    bytes[20..28].copy_from_slice(&testimony.events.to_be_bytes());
    let checksum = crc32fast::hash(&bytes[..28]);
    bytes[28..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Testimony)> {
    let number = |from: usize| Some(u64::from_be_bytes(*bytes[from..].first_chunk()?));
    let half = |from: usize| Some(u32::from_be_bytes(*bytes[from..].first_chunk()?));
    let counter = number(0)?;
    // A slot that was never written is all zero, and so would be its counter.
    if counter == 0 || half(28)? != crc32fast::hash(&bytes[..28]) {
        return None;
    }
    let testimony =
        Testimony { epoch: Epoch::new(half(8)?), head: Position::new(number(12)?), events: number(20)? };
    Some((counter, testimony))
}

/// What is read of any bytes is written as the same bytes again.
#[cfg(feature = "fuzzing")]
pub(crate) fn reread(bytes: &[u8]) {
    let Some(slot) = bytes.first_chunk::<SLOT_BYTES>() else { return };
    let mut slot = *slot;
    let checksum = crc32fast::hash(&slot[..28]);
    slot[28..].copy_from_slice(&checksum.to_be_bytes());
    if let Some((counter, testimony)) = decode(&slot) {
        assert_eq!(encode(counter, testimony), slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(head: u64) -> Testimony {
        Testimony { epoch: Epoch::new(0xabc), head: Position::new(head), events: head }
    }

    #[test]
    fn the_newest_testimony_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let (mut witness, found) = Witness::open(directory.path()).unwrap();
        assert_eq!(found, None);
        for head in [5, 9, 12] {
            witness.write(at(head)).unwrap();
            assert_eq!(Witness::open(directory.path()).unwrap().1, Some(at(head)));
        }
    }

    #[test]
    fn a_torn_write_costs_only_the_newest_testimony() {
        let directory = tempfile::tempdir().unwrap();
        let (mut witness, _) = Witness::open(directory.path()).unwrap();
        witness.write(at(5)).unwrap();
        witness.write(at(9)).unwrap();
        witness.file.write_all_at(b"torn", 12).unwrap();
        let (mut again, found) = Witness::open(directory.path()).unwrap();
        assert_eq!(found, Some(at(5)));
        again.write(at(10)).unwrap();
        assert_eq!(Witness::open(directory.path()).unwrap().1, Some(at(10)));
    }

    #[test]
    fn every_flipped_byte_of_a_slot_is_seen() {
        let slot = encode(3, at(7));
        assert_eq!(decode(&slot), Some((3, at(7))));
        for index in 0..SLOT_BYTES {
            let mut damaged = slot;
            damaged[index] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {index}");
        }
    }
}
