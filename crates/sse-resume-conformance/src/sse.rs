//! Event streams by the rules of the WHATWG, to the letter: what a browser makes of the bytes.

use memchr::memchr2;

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// The id that a browser would come back with after this event.
    pub(crate) id: String,
    /// The type, `message` when the block names none.
    pub(crate) kind: String,
    pub(crate) data: String,
}

/// What a block of a stream comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    Event(SseEvent),
    /// A block without data is no event, but the id in it counts.
    Id(String),
}

impl Block {
    /// The event, if it is one.
    pub(crate) fn event(self) -> Option<SseEvent> {
        match self {
            Block::Event(event) => Some(event),
            Block::Id(_) => None,
        }
    }
}

/// The state of a stream's interpretation, fed with pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    begun: bool,
    after_cr: bool,
    line: Vec<u8>,
    data: Option<String>,
    kind: String,
    pending_id: Option<String>,
    last_event_id: String,
}

impl Parser {
    /// A parser of a stream that was opened with this id, which a browser keeps until another comes.
    pub(crate) fn after(id: &str) -> Self {
        Parser { last_event_id: id.to_owned(), ..Parser::default() }
    }

    /// The id that a browser would come back with now; empty when none came.
    pub(crate) fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Takes the next bytes and gives what they complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], blocks: &mut impl Extend<Block>) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\r', b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return;
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            blocks.extend(self.end_line(&line));
            self.line = line;
            self.line.clear();
        }
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Block> {
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
        if line.is_empty() {
            return self.dispatch();
        }
        let text = String::from_utf8_lossy(line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                let data = self.data.get_or_insert_default();
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => self.pending_id = Some(value.to_owned()),
            // A comment begins with a colon: its field has no name.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Block> {
        let kind = std::mem::take(&mut self.kind);
        let id = self.pending_id.take();
        let has_id = id.is_some();
        self.last_event_id = id.unwrap_or_else(|| std::mem::take(&mut self.last_event_id));
        let Some(mut data) = self.data.take() else {
            return has_id.then(|| Block::Id(self.last_event_id.clone()));
        };
        data.pop();
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        Some(Block::Event(SseEvent { id: self.last_event_id.clone(), kind, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_as_a_browser_reads_it_in_pieces_of_any_size() {
        let text = "\u{feff}:hello\rdata\rdata: a\r\ndata:b\n\nid: 1\nevent: x\n\ndata:  y\nid: 2\0\nretry: 25\n\r\
                    event: x\ndata:z\n\nid: 9\n\nid\ndata: no id\n\ndata: cut off";
        let event = |id: &str, kind: &str, data: &str| {
            Block::Event(SseEvent { id: id.to_owned(), kind: kind.to_owned(), data: data.to_owned() })
        };
        let expected = [
            event("", "message", "\na\nb"),
            Block::Id("1".to_owned()),
            event("1", "message", " y"),
            event("1", "x", "z"),
            Block::Id("9".to_owned()),
            event("", "message", "no id"),
        ];
        for size in 1..text.len() {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                parser.feed(piece, &mut events);
            }
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn other_line_ends_of_unicode_are_text() {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        parser.feed("data: a\u{2028}b\u{85}c\u{b}d\n\n".as_bytes(), &mut events);
        let event = events.remove(0).event().unwrap();
        assert_eq!(event.data, "a\u{2028}b\u{85}c\u{b}d");
    }
}
