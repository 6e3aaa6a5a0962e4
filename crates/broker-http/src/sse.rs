//! Events as `text/event-stream`, by the [WHATWG's rules](https://html.spec.whatwg.org/multipage/server-sent-events.html).
//!
//! Inside a block the order is event, retry, data, id: a client that takes an id as soon as its line arrives must have the
//! data already. CR, LF and CRLF inside data each end a line, so nothing that a publisher sends can forge a field; types
//! cannot hold a line end, and ids are ours. A frame is made once for all its readers; one that is large is made a piece
//! at a time, so that a slow reader of it costs a piece and not the frame.

use std::sync::Arc;

use broker::{Memo, Recent};
use bytes::Bytes;
use event_log::limits::{FRAME_PIECE_BYTES_MAX, KIB};
use event_log::{Encoder, Epoch, Event, EventId, EventView};

use crate::envelope;

/// Text that is escaped at a time.
const ESCAPED_BYTES: usize = 4 * KIB;
/// Room for what a frame has beside its data, in most cases.
const HEAD_BYTES: usize = 512;

/// Bytes in front of a page of frames that are left free for the head of a chunk: eight digits and a line end.
pub(crate) const FRONT_BYTES: usize = 10;

/// How a stream's events are framed.
#[derive(Debug, Clone, Copy)]
pub struct Framer {
    /// The history that the ids belong to.
    pub epoch: Epoch,
    /// Each data is one line of JSON with all the event's fields.
    pub envelope: bool,
}

/// An event ready to be written.
pub(crate) enum Frame {
    Whole(Bytes),
    /// The first piece, and what makes the others.
    Large(Bytes, Pieces),
}

impl Framer {
    /// Frames an event of the last moments behind what a buffer holds already, or copies the frame that was made for another
    /// reader. Of a large frame the first piece is written, and what makes the others is returned. Only the first block of
    /// a quiet stream has a `retry`.
    pub(crate) fn write(
        &self,
        recent: &Recent,
        retry_ms: Option<u64>,
        buffer: &mut Vec<u8>,
    ) -> Option<Pieces> {
        match self.frame(&recent.event, &recent.memo, retry_ms) {
            Frame::Whole(frame) => {
                buffer.extend_from_slice(&frame);
                None
            }
            Frame::Large(first, pieces) => {
                buffer.extend_from_slice(&first);
                Some(pieces)
            }
        }
    }

    /// Frames an event that others read as well, or takes the frame that was made for another reader.
    pub(crate) fn frame(&self, event: &Arc<Event>, memo: &Memo, retry_ms: Option<u64>) -> Frame {
        let kept = if self.envelope { &memo.envelope } else { &memo.plain };
        if retry_ms.is_none()
            && let Some(frame) = kept.get()
        {
            return Frame::Whole(frame.clone());
        }
        let mut first = Vec::with_capacity(event.data.as_str().len().min(FRAME_PIECE_BYTES_MAX) + HEAD_BYTES);
        let pieces = self.write_first(event, retry_ms, &mut first);
        let first = Bytes::from(first);
        match (pieces, retry_ms) {
            (Some(pieces), _) => Frame::Large(first, pieces),
            (None, None) => Frame::Whole(kept.get_or_init(|| first).clone()),
            (None, Some(_)) => Frame::Whole(first),
        }
    }

    /// Writes the first piece of an event's frame, and returns what makes the others.
    pub(crate) fn write_first(
        &self,
        event: &Arc<Event>,
        retry_ms: Option<u64>,
        buffer: &mut Vec<u8>,
    ) -> Option<Pieces> {
        let mut progress = Progress::default();
        match self.write_piece(&event.view(), retry_ms, &mut progress, buffer) {
            true => None,
            false => Some(Pieces { event: Arc::clone(event), framer: *self, progress, done: false }),
        }
    }

    /// Writes on in a frame until it ends, or a piece of it is full; whether it ended.
    fn write_piece(
        &self,
        event: &EventView<'_>,
        retry_ms: Option<u64>,
        progress: &mut Progress,
        buffer: &mut Vec<u8>,
    ) -> bool {
        let full = buffer.len() + FRAME_PIECE_BYTES_MAX;
        let data = event.data;
        if !progress.begun {
            progress.begun = true;
            progress.embedded = self.envelope && envelope::is_embedded(data);
            self.write_head(event, retry_ms, progress.embedded, buffer);
        }
        let ended = match self.envelope {
            true => write_value(data, progress, full, buffer),
            false => write_lines(data, &mut progress.written, full, buffer),
        };
        if ended {
            write_id(buffer, EventId::new(event.position, self.epoch));
        }
        ended
    }

    fn write_head(&self, event: &EventView<'_>, retry_ms: Option<u64>, embedded: bool, buffer: &mut Vec<u8>) {
        if let Some(event_type) = event.event_type {
            write_field(buffer, b"event: ", event_type.as_bytes());
        }
        if let Some(retry_ms) = retry_ms {
            write_retry(buffer, retry_ms);
        }
        buffer.extend_from_slice(b"data: ");
        if self.envelope {
            envelope::write_before_data(buffer, event, self.epoch);
            buffer.extend_from_slice(if embedded { b"" } else { b"\"" });
        }
    }
}

impl Encoder for Framer {
    fn encode(&self, event: &EventView<'_>, bytes: &mut Vec<u8>) {
        let ended = self.write_piece(event, None, &mut Progress::default(), bytes);
        assert!(ended, "the frame of a small event is one piece");
    }

    fn front_bytes(&self) -> usize {
        FRONT_BYTES
    }
}

/// Gives the first of some frames a `retry`, where it stands in a block.
pub(crate) fn insert_retry(frames: &mut Vec<u8>, start: usize, retry_ms: u64) {
    let behind_type = match frames[start..].starts_with(b"event: ") {
        true => memchr::memchr(b'\n', &frames[start..]).map_or(start, |end| start + end + 1),
        false => start,
    };
    let mut retry = Vec::new();
    write_retry(&mut retry, retry_ms);
    frames.splice(behind_type..behind_type, retry);
}

/// How much of a frame is written.
#[derive(Default)]
struct Progress {
    begun: bool,
    /// Bytes of the data.
    written: usize,
    /// The data stands in its envelope as it is.
    embedded: bool,
}

/// Makes a large frame's other pieces, one at a time.
pub struct Pieces {
    event: Arc<Event>,
    framer: Framer,
    progress: Progress,
    done: bool,
}

impl Pieces {
    /// Whether the frame is written.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The next piece; the last one ends with the id and the blank line.
    pub fn next_piece(&mut self) -> Bytes {
        let data_left = self.event.data.as_str().len() - self.progress.written;
        let mut buffer = Vec::with_capacity(data_left.min(FRAME_PIECE_BYTES_MAX) + HEAD_BYTES);
        self.done = self.framer.write_piece(&self.event.view(), None, &mut self.progress, &mut buffer);
        Bytes::from(buffer)
    }
}

/// Writes on in an envelope's data until the buffer is full; whether it is complete.
fn write_value(data: &str, progress: &mut Progress, full: usize, buffer: &mut Vec<u8>) -> bool {
    while progress.written < data.len() {
        if buffer.len() >= full {
            return false;
        }
        let end = data.floor_char_boundary(progress.written + ESCAPED_BYTES);
        let part = &data[progress.written..end];
        match progress.embedded {
            true => buffer.extend_from_slice(part.as_bytes()),
            false => envelope::write_escaped(buffer, part),
        }
        progress.written = end;
    }
    buffer.extend_from_slice(if progress.embedded { b"}\n" } else { b"\"}\n" });
    true
}

/// Writes on in plain data until the buffer is full; whether it is complete. `data: ` of the first line is written already.
fn write_lines(data: &str, written: &mut usize, full: usize, buffer: &mut Vec<u8>) -> bool {
    let bytes = data.as_bytes();
    while *written < bytes.len() {
        let Some(room) = full.checked_sub(buffer.len()).filter(|room| *room > 0) else {
            return false;
        };
        let rest = &bytes[*written..];
        let rest = &rest[..rest.len().min(room)];
        let line = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        buffer.extend_from_slice(&rest[..line]);
        *written += line;
        if line < rest.len() {
            let is_crlf = bytes[*written..].starts_with(b"\r\n");
            *written += if is_crlf { 2 } else { 1 };
            buffer.extend_from_slice(b"\ndata: ");
        }
    }
    buffer.push(b'\n');
    true
}

/// A block of the broker's own: `$open`, `$live`, `$gap`, `$cursor`, `$closing`. `data` is JSON without a line end.
pub(crate) fn write_block(
    buffer: &mut Vec<u8>,
    name: &str,
    retry_ms: Option<u64>,
    data: &serde_json::Value,
    id: Option<EventId>,
) {
    write_field(buffer, b"event: ", name.as_bytes());
    if let Some(retry_ms) = retry_ms {
        write_retry(buffer, retry_ms);
    }
    write_field(buffer, b"data: ", data.to_string().as_bytes());
    match id {
        Some(id) => write_id(buffer, id),
        None => buffer.push(b'\n'),
    }
}

/// A comment line alone: a blank line after it would make an empty event in some clients.
pub(crate) const HEARTBEAT: &[u8] = b":\n";

/// `name` ends with the colon and the blank.
fn write_field(buffer: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    buffer.extend_from_slice(name);
    buffer.extend_from_slice(value);
    buffer.push(b'\n');
}

fn write_retry(buffer: &mut Vec<u8>, retry_ms: u64) {
    write_field(buffer, b"retry: ", itoa::Buffer::new().format(retry_ms).as_bytes());
}

fn write_id(buffer: &mut Vec<u8>, id: EventId) {
    buffer.extend_from_slice(b"id: ");
    envelope::write_event_id(buffer, id);
    buffer.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
