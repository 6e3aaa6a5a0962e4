//! Reads `text/event-stream` as the HTML standard says: CR, LF and CRLF end a line, also when they come in two reads.
//!
//! An id counts only once the blank line after it has come: a connection that is cut inside a block leaves no trace of it.
//! Blocks are lent, and their room is used again, so that whoever reads many streams at full rate allocates nothing for an
//! event.

use std::time::Duration;

use memchr::{memchr, memchr2};

/// One block of a stream, kept. Comments give none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frame {
    /// The name of the event; empty for `message`.
    pub(crate) event: String,
    /// The lines of data, joined by LF; absent if the block had none.
    pub(crate) data: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<Duration>,
}

/// One block of a stream, as it lies in the reader; the bytes are as they came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// The name of the event; empty for `message`.
    pub(crate) event: &'a [u8],
    /// The lines of data, joined by LF; absent if the block had none.
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) id: Option<&'a [u8]>,
    pub(crate) retry: Option<Duration>,
}

impl Block<'_> {
    fn to_frame(self) -> Frame {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Frame { event: text(self.event), data: self.data.map(text), id: self.id.map(text), retry: self.retry }
    }
}

/// The reader of one connection.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// A line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line, which a byte order mark may precede, was read.
    begun: bool,
    fields: Fields,
}

/// What the lines of a block have said so far.
#[derive(Debug, Default)]
struct Fields {
    event: Vec<u8>,
    data: Vec<u8>,
    id: Vec<u8>,
    has_data: bool,
    has_id: bool,
    retry: Option<Duration>,
}

impl Parser {
    /// The blocks that these bytes complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut complete = Vec::new();
        self.each(bytes, &mut |block| complete.push(block.to_frame()));
        complete
    }

    /// Lends every block that these bytes complete.
    pub(crate) fn each(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Block<'_>)) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\r', b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                break;
            };
            self.after_cr = bytes[end] == b'\r';
            if self.line.is_empty() {
                self.line_ended(&bytes[..end], take);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.line_ended(&line, take);
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
    }

    fn line_ended(&mut self, line: &[u8], take: &mut impl FnMut(Block<'_>)) {
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if !line.is_empty() {
            let (field, value) = match memchr(b':', line) {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (line, &line[..0]),
            };
            return self.fields.set(field, value.strip_prefix(b" ").unwrap_or(value));
        }
        if let Some(block) = self.fields.block() {
            take(block);
        }
        self.fields.clear();
    }
}

impl Fields {
    fn set(&mut self, field: &[u8], value: &[u8]) {
        match field {
            b"event" => value.clone_into(&mut self.event),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"id" if memchr(0, value).is_none() => {
                self.has_id = true;
                value.clone_into(&mut self.id);
            }
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                let millis = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                self.retry = millis.map(Duration::from_millis);
            }
            _ => {}
        }
    }

    /// The block, if any line said something.
    fn block(&self) -> Option<Block<'_>> {
        let says = self.has_data || self.has_id || self.retry.is_some() || !self.event.is_empty();
        says.then(|| Block {
            event: &self.event,
            data: self.has_data.then_some(&self.data),
            id: self.has_id.then_some(&self.id),
            retry: self.retry,
        })
    }

    /// Forgets what was said and keeps the room.
    fn clear(&mut self) {
        self.event.clear();
        self.data.clear();
        self.id.clear();
        (self.has_data, self.has_id, self.retry) = (false, false, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}event: $open\nretry: 2000\ndata: {\"from\":\"5\"}\nid: 5\n\n:\n\n: a comment\n\
        event: trade\ndata: one\ndata\ndata:  two\nid: 6\n\ndata: é\r\nid: 7\r\n\r\ndata: cr\rid: 8\r\rid: 9\n\n\
        data: cut off\nid: 10\n";

    fn expected() -> Vec<Frame> {
        let frame = |event: &str, data: Option<&str>, id: &str| Frame {
            event: event.to_owned(),
            data: data.map(str::to_owned),
            id: Some(id.to_owned()),
            retry: None,
        };
        let open = frame("$open", Some("{\"from\":\"5\"}"), "5");
        vec![
            Frame { retry: Some(Duration::from_secs(2)), ..open },
            frame("trade", Some("one\n\n two"), "6"),
            frame("", Some("é"), "7"),
            frame("", Some("cr"), "8"),
            frame("", None, "9"),
        ]
    }

    #[test]
    fn a_stream_reads_the_same_however_it_is_cut() {
        for size in [1, 2, 3, 7, 64, 4_096] {
            let mut parser = Parser::default();
            let frames: Vec<Frame> =
                STREAM.as_bytes().chunks(size).flat_map(|chunk| parser.feed(chunk)).collect();
            assert_eq!(frames, expected(), "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_number_is_no_retry_and_an_id_with_nul_is_none() {
        let frames = Parser::default().feed(b"retry: soon\nid: 1\0\nunknown: x\ndata: y\n\n");
        assert_eq!(frames, [Frame { data: Some("y".to_owned()), ..Frame::default() }]);
    }
}
