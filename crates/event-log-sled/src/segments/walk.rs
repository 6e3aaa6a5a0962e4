//! Reading chunks out of segments: along the files, with a buffer, so that small chunks do not cost a system call each.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use event_log::{Position, ReadError};
use rustix::buffer::spare_capacity;

use crate::at_once::would_wait;
use crate::chunk::{Chunk, HEADER_BYTES, Header};
use crate::segments::Segments;
use crate::segments::segment::Segment;

/// Bytes that one read brings, if the chunk is not larger and nobody says how many are wanted.
const READ_BYTES: usize = 64 * 1_024;

/// How a file is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Bytes that one read brings, if the chunk is not larger.
    pub(crate) bytes: usize,
    /// Whether the disk may be waited for; if not, only what the system has in memory is read.
    pub(crate) may_wait: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { bytes: READ_BYTES, may_wait: true }
    }
}

/// One file that is being read, from some chunk on.
pub(crate) struct FileWalk {
    segment: Arc<Segment>,
    file: Arc<File>,
    offset: u64,
    /// Where it stops.
    end: u64,
    /// How far the file can be read.
    readable: u64,
    buffer: Bytes,
    buffer_at: u64,
    reading: Reading,
}

impl FileWalk {
    /// Reads a file of so many bytes from a chunk's offset on.
    pub(crate) fn new(segment: Arc<Segment>, file: Arc<File>, offset: u64, end: u64) -> Self {
        let reading = Reading::default();
        FileWalk { segment, file, offset, end, readable: end, buffer: Bytes::new(), buffer_at: 0, reading }
    }

    /// Goes to the last chunk of the file that begins at a place or before it, if there is one.
    pub(crate) fn to(
        segment: Arc<Segment>,
        file: Arc<File>,
        place: Position,
        reading: Reading,
    ) -> Result<Option<Self>, ReadError> {
        let (span, bytes) = {
            let extent = segment.extent.read();
            (extent.span(place), extent.bytes)
        };
        let Some((start, end)) = span else { return Ok(None) };
        let mut walk = FileWalk::new(segment, file, start, bytes);
        (walk.reading, walk.end) = (reading, end);
        let mut found = start;
        while let Some(header) = walk.header()?.filter(|header| header.first <= place) {
            found = walk.offset;
            walk.skip(header);
        }
        (walk.offset, walk.end) = (found, bytes);
        Ok(Some(walk))
    }

    /// The header of the next chunk; none at the end of the file.
    pub(crate) fn header(&mut self) -> Result<Option<Header>, ReadError> {
        if self.offset == self.end {
            return Ok(None);
        }
        let bytes = self.bytes(HEADER_BYTES)?;
        let header = bytes.first_chunk().ok_or_else(|| self.damaged("it is cut off"))?;
        let header = Header::decode(header).map_err(|what| self.damaged(&what))?;
        match header.chunk_bytes() as u64 > self.end - self.offset {
            true => Err(self.damaged("it is longer than its file")),
            false => Ok(Some(header)),
        }
    }

    /// The chunk with this header, which comes next.
    pub(crate) fn take(&mut self, header: Header) -> Result<Chunk, ReadError> {
        let bytes = self.bytes(header.chunk_bytes())?;
        let held = self.buffer.len();
        let chunk = Chunk::read(header, bytes, held).map_err(|error| self.placed(error))?;
        self.skip(header);
        Ok(chunk)
    }

    /// The first place that the file stands for.
    pub(crate) fn first(&self) -> Position {
        self.segment.first
    }

    /// Goes past the chunk with this header.
    pub(crate) fn skip(&mut self, header: Header) {
        self.offset += header.chunk_bytes() as u64;
    }

    /// So many bytes from the offset on, or fewer if the file ends.
    fn bytes(&mut self, count: usize) -> Result<Bytes, ReadError> {
        let count = (self.end - self.offset).min(count as u64) as usize;
        let held = self.offset >= self.buffer_at
            && self.offset + count as u64 <= self.buffer_at + self.buffer.len() as u64;
        if !held {
            let length = (self.readable - self.offset).min(count.max(self.reading.bytes) as u64) as usize;
            let read = match self.reading.may_wait {
                true => read_exact_at(&self.file, length, self.offset),
                false => read_in_memory(&self.file, length, self.offset),
            };
            let buffer = read.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.damaged("its file is cut off"),
                io::ErrorKind::WouldBlock => would_wait(),
                _ => ReadError::Engine(format!("events/{}: {error}", self.segment.name()).into()),
            })?;
            let before = std::mem::replace(&mut self.buffer, Bytes::from(buffer));
            self.buffer_at = self.offset;
            self.give_back(before);
        }
        let start = (self.offset - self.buffer_at) as usize;
        Ok(self.buffer.slice(start..start + count))
    }

    /// Lets go of a buffer that was read into.
    fn give_back(&self, buffer: Bytes) {
        if !self.reading.may_wait && buffer.is_unique() {
            keep_larger(buffer.into());
        }
    }

    fn damaged(&self, what: &str) -> ReadError {
        ReadError::Damaged(format!(
            "the chunk at byte {} of events/{}: {what}",
            self.offset,
            self.segment.name()
        ))
    }

    fn placed(&self, error: ReadError) -> ReadError {
        match error {
            ReadError::Damaged(what) => self.damaged(&what),
            other => other,
        }
    }
}

impl Drop for FileWalk {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.give_back(buffer);
    }
}

thread_local! {
    /// Memory that [`read_in_memory`] read into before, so that it need not be cleared each time.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A page may end with a small read, after which the next one wants a large one again.
fn keep_larger(buffer: Vec<u8>) {
    let spare = SPARE.take();
    SPARE.set(if buffer.capacity() > spare.capacity() { buffer } else { spare });
}

/// Reads so many bytes of a file into memory that nobody has to clear before.
fn read_exact_at(file: &File, length: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(length);
    while buffer.len() < length {
        let at = offset + buffer.len() as u64;
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, spare_capacity(&mut buffer), at))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    // There may have been room for more.
    buffer.truncate(length);
    Ok(buffer)
}

/// The same, if the system has all of it in memory.
#[cfg(target_os = "linux")]
fn read_in_memory(file: &File, length: usize, offset: u64) -> io::Result<Vec<u8>> {
    use rustix::io::{IoSliceMut, ReadWriteFlags, preadv2};

    let mut buffer = SPARE.take();
    buffer.resize(length, 0);
    match preadv2(file, &mut [IoSliceMut::new(&mut buffer)], offset, ReadWriteFlags::NOWAIT) {
        Ok(read) if read == length => Ok(buffer),
        // Some file systems do not know how.
        Ok(_) | Err(_) => {
            SPARE.set(buffer);
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn read_in_memory(_: &File, _: usize, _: u64) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// The chunks from a place on, through all segments, in order.
pub(crate) struct Chunks<'a> {
    segments: &'a Segments,
    through: Position,
    walk: Option<FileWalk>,
    reading: Reading,
    /// The last segment that was begun.
    at: Option<Position>,
    is_over: bool,
}

impl<'a> Chunks<'a> {
    /// Those that may hold an event at or after `from`, up to that which begins at `through`.
    pub(crate) fn new(
        segments: &'a Segments,
        from: Position,
        through: Position,
        reading: Reading,
    ) -> Result<Self, ReadError> {
        let walk = segments.walk_to(from, reading)?;
        let at = walk.as_ref().map(|walk| walk.segment.first);
        Ok(Chunks { segments, through, walk, reading, at, is_over: false })
    }

    /// So many bytes of chunks are wanted yet: the next read brings them at once.
    pub(crate) fn want(&mut self, bytes: usize) {
        self.reading.bytes = bytes;
        if let Some(walk) = &mut self.walk {
            walk.reading.bytes = bytes;
        }
    }

    fn step(&mut self) -> Result<Option<Chunk>, ReadError> {
        loop {
            if let Some(walk) = &mut self.walk
                && let Some(header) = walk.header()?
            {
                // The chunk says that the header is right; a damaged one is not the end.
                let chunk = walk.take(header)?;
                return Ok((header.first <= self.through).then_some(chunk));
            }
            let Some(next) = self.segments.after(self.at) else { return Ok(None) };
            if next.first > self.through {
                return Ok(None);
            }
            self.at = Some(next.first);
            self.walk = self.segments.walk(&next)?;
            if let Some(walk) = &mut self.walk {
                walk.reading = self.reading;
            }
        }
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Chunk, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let step = self.step().transpose();
        self.is_over = !matches!(step, Some(Ok(_)));
        step
    }
}
