//! Events as `text/event-stream`, by the [WHATWG's rules](https://html.spec.whatwg.org/multipage/server-sent-events.html).
//!
//! Inside a block the order is event, retry, data, id: a client that takes an id as soon as its line arrives must have the
//! data already. CR, LF and CRLF inside data each end a line, so nothing that a publisher sends can forge a field; types
//! cannot hold a line end, and ids are ours. A frame is made once for all its readers; one that is large is made a piece
//! at a time, so that a slow reader of it costs a piece and not the frame.

use std::io::Write;
use std::sync::Arc;

use broker::Memo;
use bytes::Bytes;
use event_log::limits::{FRAME_PIECE_BYTES_MAX, KIB};
use event_log::{Epoch, Event, EventId};

use crate::envelope;

/// Text that is escaped at a time.
const ESCAPED_BYTES: usize = 4 * KIB;

/// How a stream's events are framed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framer {
    pub(crate) epoch: Epoch,
    /// Each data is one line of JSON with all the event's fields.
    pub(crate) envelope: bool,
}

/// An event ready to be written.
pub(crate) enum Frame {
    Whole(Bytes),
    /// The first piece, and what makes the others.
    Large(Bytes, Pieces),
}

impl Framer {
    /// Frames an event, or takes the frame that was made for another reader. Only the first block of a quiet stream has a
    /// `retry`.
    pub(crate) fn frame(&self, event: &Arc<Event>, memo: Option<&Memo>, retry_ms: Option<u64>) -> Frame {
        let memo = memo.filter(|_| retry_ms.is_none());
        let kept = memo.map(|memo| if self.envelope { &memo.envelope } else { &memo.plain });
        if let Some(frame) = kept.and_then(|kept| kept.get()) {
            return Frame::Whole(frame.clone());
        }
        let mut pieces = Pieces::new(Arc::clone(event), *self, retry_ms);
        let first = pieces.next_piece();
        if !pieces.is_done() {
            return Frame::Large(first, pieces);
        }
        match kept {
            Some(kept) => Frame::Whole(kept.get_or_init(|| first).clone()),
            None => Frame::Whole(first),
        }
    }
}

/// Makes an event's frame a piece at a time.
pub(crate) struct Pieces {
    event: Arc<Event>,
    framer: Framer,
    retry_ms: Option<u64>,
    /// How much of the data is written; `None` before the head of the frame is.
    written: Option<usize>,
    embedded: bool,
    done: bool,
}

impl Pieces {
    fn new(event: Arc<Event>, framer: Framer, retry_ms: Option<u64>) -> Self {
        Pieces { event, framer, retry_ms, written: None, embedded: false, done: false }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The next piece; the last one ends with the id and the blank line.
    pub(crate) fn next_piece(&mut self) -> Bytes {
        let data_left = self.event.data.as_str().len() - self.written.unwrap_or(0);
        let mut buffer = Vec::with_capacity(data_left.min(FRAME_PIECE_BYTES_MAX) + 512);
        let mut written = self.written.unwrap_or_else(|| {
            self.write_head(&mut buffer);
            0
        });
        let event = Arc::clone(&self.event);
        let data = event.data.as_str();
        let complete = match self.framer.envelope {
            true => self.write_value(&mut buffer, data, &mut written),
            false => write_lines(&mut buffer, data, &mut written),
        };
        self.written = Some(written);
        if complete {
            write_id(&mut buffer, EventId::new(self.event.position, self.framer.epoch));
            self.done = true;
        }
        Bytes::from(buffer)
    }

    fn write_head(&mut self, buffer: &mut Vec<u8>) {
        if let Some(event_type) = &self.event.event_type {
            write_field(buffer, "event", event_type.as_str());
        }
        if let Some(retry_ms) = self.retry_ms {
            write_field(buffer, "retry", retry_ms);
        }
        buffer.extend_from_slice(b"data: ");
        if self.framer.envelope {
            envelope::write_before_data(buffer, &self.event, self.framer.epoch);
            self.embedded = envelope::is_embedded(self.event.data.as_str());
            buffer.extend_from_slice(if self.embedded { b"" } else { b"\"" });
        }
    }

    /// Writes on in an envelope's data; whether it is complete.
    fn write_value(&self, buffer: &mut Vec<u8>, data: &str, written: &mut usize) -> bool {
        while *written < data.len() {
            if buffer.len() >= FRAME_PIECE_BYTES_MAX {
                return false;
            }
            let end = data.floor_char_boundary(*written + ESCAPED_BYTES);
            let part = &data[*written..end];
            match self.embedded {
                true => buffer.extend_from_slice(part.as_bytes()),
                false => envelope::write_escaped(buffer, part),
            }
            *written = end;
        }
        buffer.extend_from_slice(if self.embedded { b"}\n" } else { b"\"}\n" });
        true
    }
}

/// Writes on in plain data; whether it is complete. `data: ` of the first line is written already.
fn write_lines(buffer: &mut Vec<u8>, data: &str, written: &mut usize) -> bool {
    let bytes = data.as_bytes();
    while *written < bytes.len() {
        let Some(room) = FRAME_PIECE_BYTES_MAX.checked_sub(buffer.len()).filter(|room| *room > 0) else {
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
    write_field(buffer, "event", name);
    if let Some(retry_ms) = retry_ms {
        write_field(buffer, "retry", retry_ms);
    }
    write_field(buffer, "data", data);
    match id {
        Some(id) => write_id(buffer, id),
        None => buffer.push(b'\n'),
    }
}

/// A comment line alone: a blank line after it would make an empty event in some clients.
pub(crate) const HEARTBEAT: &[u8] = b":\n";

fn write_field(buffer: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    // Writing to memory cannot fail.
    let _ = writeln!(buffer, "{name}: {value}");
}

fn write_id(buffer: &mut Vec<u8>, id: EventId) {
    let _ = write!(buffer, "id: {id}\n\n");
}

#[cfg(test)]
mod tests;
