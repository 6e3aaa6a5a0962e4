//! Reads `text/event-stream` as the HTML standard says: CR, LF and CRLF end a line, also when they come in two reads.
//!
//! An id counts only once the blank line after it has come: a connection that is cut inside a block leaves no trace of it.

use std::time::Duration;

/// One block of a stream. Comments give none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frame {
    /// The name of the event; empty for `message`.
    pub(crate) event: String,
    /// The lines of data, joined by LF; absent if the block had none.
    pub(crate) data: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<Duration>,
}

/// The reader of one connection.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// A line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line, which a byte order mark may precede, was read.
    begun: bool,
    frame: Frame,
}

impl Parser {
    /// The blocks that these bytes complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Vec<Frame> {
        let mut complete = Vec::new();
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
                self.line.extend_from_slice(bytes);
                break;
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            complete.extend(self.line_ended());
        }
        complete
    }

    fn line_ended(&mut self) -> Option<Frame> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let first = !std::mem::replace(&mut self.begun, true);
        let text = if first { text.strip_prefix('\u{feff}').unwrap_or(&text) } else { &text };
        if text.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            return (frame != Frame::default()).then_some(frame);
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        self.field(field, value.strip_prefix(' ').unwrap_or(value));
        None
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.frame.event),
            "data" => match &mut self.frame.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.frame.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => {
                self.frame.retry = value.parse().ok().map(Duration::from_millis);
            }
            _ => {}
        }
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
