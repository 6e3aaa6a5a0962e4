//! Reading chunks out of segments: along the files, with a buffer, so that small chunks do not cost a system call each.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use event_log::{Position, ReadError};
use rustix::buffer::spare_capacity;

use crate::chunk::{Chunk, HEADER_BYTES, Header};
use crate::segments::Segments;
use crate::segments::segment::Segment;

/// Bytes that one read brings, if the chunk is not larger and nobody says how many are wanted.
const READ_BYTES: usize = 64 * 1_024;

/// One file that is being read, from some chunk on.
pub(crate) struct FileWalk {
    segment: Arc<Segment>,
    file: Arc<File>,
    offset: u64,
    end: u64,
    buffer: Bytes,
    buffer_at: u64,
    /// Bytes that the next read brings.
    read_bytes: usize,
}

impl FileWalk {
    /// Reads a file of so many bytes from a chunk's offset on.
    pub(crate) fn new(segment: Arc<Segment>, file: Arc<File>, offset: u64, end: u64) -> Self {
        FileWalk { segment, file, offset, end, buffer: Bytes::new(), buffer_at: 0, read_bytes: READ_BYTES }
    }

    /// Goes to the last chunk of the file that begins at a place or before it, if there is one.
    pub(crate) fn to(
        segment: Arc<Segment>,
        file: Arc<File>,
        place: Position,
    ) -> Result<Option<Self>, ReadError> {
        let (span, bytes) = {
            let extent = segment.extent.read();
            (extent.span(place), extent.bytes)
        };
        let Some((start, end)) = span else { return Ok(None) };
        let mut walk = FileWalk::new(segment, file, start, end);
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
            let length = (self.end - self.offset).min(count.max(self.read_bytes) as u64) as usize;
            let buffer =
                read_exact_at(&self.file, length, self.offset).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => self.damaged("its file is cut off"),
                    _ => ReadError::Engine(format!("events/{}: {error}", self.segment.name()).into()),
                })?;
            (self.buffer, self.buffer_at) = (Bytes::from(buffer), self.offset);
        }
        let start = (self.offset - self.buffer_at) as usize;
        Ok(self.buffer.slice(start..start + count))
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

/// The chunks from a place on, through all segments, in order.
pub(crate) struct Chunks<'a> {
    segments: &'a Segments,
    through: Position,
    walk: Option<FileWalk>,
    read_bytes: usize,
    /// The last segment that was begun.
    at: Option<Position>,
    is_over: bool,
}

impl<'a> Chunks<'a> {
    /// Those that may hold an event at or after `from`, up to that which begins at `through`.
    pub(crate) fn new(segments: &'a Segments, from: Position, through: Position) -> Result<Self, ReadError> {
        let walk = segments.walk_to(from)?;
        let at = walk.as_ref().map(|walk| walk.segment.first);
        Ok(Chunks { segments, through, walk, read_bytes: READ_BYTES, at, is_over: false })
    }

    /// So many bytes of chunks are wanted yet: the next read brings them at once.
    pub(crate) fn want(&mut self, bytes: usize) {
        self.read_bytes = bytes;
        if let Some(walk) = &mut self.walk {
            walk.read_bytes = bytes;
        }
    }

    fn step(&mut self) -> Result<Option<Chunk>, ReadError> {
        loop {
            if let Some(walk) = &mut self.walk
                && let Some(header) = walk.header()?
            {
                return match header.first > self.through {
                    true => Ok(None),
                    false => walk.take(header).map(Some),
                };
            }
            let Some(next) = self.segments.after(self.at) else { return Ok(None) };
            if next.first > self.through {
                return Ok(None);
            }
            self.at = Some(next.first);
            self.walk = self.segments.walk(&next)?;
            self.want(self.read_bytes);
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
