//! The segment that takes commits, and the room that is written ahead in its file.
//!
//! A barrier after a write that makes a file longer waits for two things: the bytes, and the file's new length, which the file system
//! keeps in a journal. A barrier after a write inside the file waits for the bytes alone, which takes about half as long. So a
//! commit that reaches the end of the file writes zeros behind itself, and those that follow are written over them. It
//! is as much again as the segment holds, up to a bound: a short segment is never mostly zeros.
//!
//! Where the chunks end, zeros may follow, then; `recover` takes them for the end, and a segment that takes no more commits is
//! cut off there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log::limits;

use crate::barrier;
use crate::chunk::Chunks;
use crate::segments::segment::Segment;

/// What zeros are written from.
static ZEROS: [u8; limits::SEGMENT_AHEAD_BYTES_MAX] = [0; limits::SEGMENT_AHEAD_BYTES_MAX];

/// Room is written ahead for so many commits like the last one, or not at all.
const COMMITS_AHEAD: usize = 8;

/// The newest segment, and its file. Only the writer touches it.
#[derive(Debug)]
pub(crate) struct Growing {
    pub(crate) segment: Arc<Segment>,
    file: File,
    /// Of the file, as far as it is known to be durable; behind the chunks it is zeros.
    length: u64,
}

impl Growing {
    /// One whose file ends where its chunks do.
    pub(crate) fn new(segment: Arc<Segment>, file: File) -> Self {
        let length = segment.bytes();
        Growing { segment, file, length }
    }

    /// Writes a commit behind the others, and returns once it is durable: how long the barrier took.
    pub(crate) fn append(&mut self, chunks: &Chunks) -> io::Result<Duration> {
        let start = self.segment.bytes();
        let end = start + chunks.bytes.len() as u64;
        self.file.write_all_at(&chunks.bytes, start)?;
        let length = match end > self.length {
            true => end + self.write_ahead(end, chunks.bytes.len()),
            false => self.length,
        };
        let begun = Instant::now();
        barrier::sync(&self.file)?;
        let took = begun.elapsed();
        self.length = length;
        self.segment.extent.write().extend(chunks);
        Ok(took)
    }

    /// Writes zeros behind a commit that ends here, and says how many. If the disk has no room for that, it is none: the commit itself
    /// is written already. Nor is it worth it for a commit that is large itself.
    fn write_ahead(&self, end: u64, commit_bytes: usize) -> u64 {
        let ahead = &ZEROS[..end.min(ZEROS.len() as u64) as usize];
        match ahead.len() >= COMMITS_AHEAD * commit_bytes && self.file.write_all_at(ahead, end).is_ok() {
            true => ahead.len() as u64,
            false => 0,
        }
    }

    /// Takes the room back that was written ahead. What a crash leaves of it is no harm.
    pub(crate) fn finish(&self) {
        let bytes = self.segment.bytes();
        if bytes < self.length
            && let Err(error) = self.file.set_len(bytes)
        {
            tracing::warn!(%error, segment = self.segment.name(), "its end cannot be cut off");
        }
    }
}

/// Whether a file holds nothing but zeros from one offset to another.
pub(crate) fn is_ahead(file: &File, from: u64, to: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1_024];
    let mut at = from;
    while at < to {
        let piece = &mut buffer[..(to - at).min(64 * 1_024) as usize];
        file.read_exact_at(piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += piece.len() as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use event_log::Position;

    use super::*;

    fn commit(place: u64, bytes: usize) -> Chunks {
        Chunks { bytes: vec![7; bytes], firsts: vec![(Position::new(place), 0)], last: Position::new(place) }
    }

    fn growing() -> (tempfile::NamedTempFile, Growing) {
        let place = tempfile::NamedTempFile::new().unwrap();
        let segment = Arc::new(Segment::new(Position::new(1), 0));
        let growing = Growing::new(segment, place.reopen().unwrap());
        (place, growing)
    }

    #[test]
    fn small_commits_are_written_inside_the_file_and_a_finished_one_ends_with_them() {
        let (place, mut growing) = growing();
        let length = || place.as_file().metadata().unwrap().len();
        let mut lengths = std::collections::BTreeSet::new();
        for number in 1..=2_000 {
            growing.append(&commit(number, 1_000)).unwrap();
            lengths.insert(length());
        }
        assert!(lengths.len() < 30, "the file became longer {} times", lengths.len());
        let bytes = 2_000 * 1_000;
        assert!(length() > bytes && length() <= bytes + ZEROS.len() as u64);
        let file = place.as_file();
        assert!(is_ahead(file, bytes, length()).unwrap());
        assert!(!is_ahead(file, bytes - 1, length()).unwrap());
        growing.finish();
        assert_eq!(length(), bytes);
        assert!(is_ahead(file, bytes, bytes).unwrap(), "nothing is nothing but zeros");
    }

    #[test]
    fn a_short_segment_is_not_mostly_zeros_and_large_commits_write_none() {
        let (place, mut growing) = growing();
        let length = || place.as_file().metadata().unwrap().len();
        for number in 1..=20 {
            growing.append(&commit(number, 100)).unwrap();
            assert!(length() <= 2 * growing.segment.bytes());
        }
        let large = ZEROS.len();
        let written = growing.segment.bytes().max(length());
        growing.append(&commit(21, large)).unwrap();
        assert_eq!(length(), growing.segment.bytes(), "{written} before");
    }
}
