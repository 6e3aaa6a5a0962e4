//! Event streams as a browser reads them, and stricter: `Parser` follows the WHATWG rules to the letter, and `Block`
//! checks what the contract adds to them (the order of fields, the id last, no empty blocks, heartbeats of one line).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Connection, Head, Request};
use super::{Broker, PATIENCE};

/// One dispatched event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SseEvent {
    /// `lastEventId` as a page's script sees it.
    pub(crate) id: String,
    /// The type, `message` when the block names none.
    pub(crate) kind: String,
    pub(crate) data: String,
    /// The block as it came, with its blank line.
    pub(crate) raw: Vec<u8>,
    /// Whether this block itself carried an id.
    pub(crate) has_id: bool,
    pub(crate) retry: Option<u64>,
}

impl SseEvent {
    /// The data as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// What a stream consists of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Event(SseEvent),
    /// The text of a comment line.
    Comment(String),
}

/// The state of a stream's interpretation, fed with pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    begun: bool,
    after_cr: bool,
    line: Vec<u8>,
    raw: Vec<u8>,
    fields: Vec<String>,
    data: Option<String>,
    kind: String,
    pending_id: Option<String>,
    pending_retry: Option<u64>,
    last_event_id: String,
    /// Whether the contract's rules are checked beside the WHATWG ones.
    strict: bool,
}

impl Parser {
    /// A parser that also insists on what the contract says of every block.
    pub(crate) fn strict() -> Self {
        Parser { strict: true, ..Parser::default() }
    }

    /// The id that a browser would send when it reconnected now.
    pub(crate) fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The id whose line has arrived, whether or not its block is complete: some clients take it at once.
    pub(crate) fn eager_id(&self) -> &str {
        self.pending_id.as_deref().unwrap_or(&self.last_event_id)
    }

    /// Takes the next bytes and returns what they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for byte in bytes {
            self.take(*byte, &mut items);
        }
        items
    }

    fn take(&mut self, byte: u8, items: &mut Vec<Item>) {
        let second_of_crlf = std::mem::take(&mut self.after_cr) && byte == b'\n';
        assert!(!(self.strict && byte == b'\r'), "a CR in the stream after {:?}", lossy(&self.raw));
        self.raw.push(byte);
        match byte {
            b'\n' if second_of_crlf => {}
            b'\n' | b'\r' => {
                self.after_cr = byte == b'\r';
                let mut line = std::mem::take(&mut self.line);
                if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xEF\xBB\xBF") {
                    line.drain(..3);
                }
                self.end_line(&lossy(&line), items);
            }
            _ => self.line.push(byte),
        }
    }

    fn end_line(&mut self, line: &str, items: &mut Vec<Item>) {
        if line.is_empty() {
            self.dispatch(items);
        } else if let Some(comment) = line.strip_prefix(':') {
            if self.strict {
                assert!(self.fields.is_empty(), "a comment inside a block: {:?}", lossy(&self.raw));
                assert_eq!(comment, "", "a heartbeat is a bare colon");
            }
            items.push(Item::Comment(comment.to_owned()));
            if self.fields.is_empty() {
                self.raw.clear();
            }
        } else {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            self.field(field, value.strip_prefix(' ').unwrap_or(value));
        }
    }

    fn field(&mut self, field: &str, value: &str) {
        self.fields.push(field.to_owned());
        match field {
            "event" => self.kind = value.to_owned(),
            "data" => {
                let data = self.data.get_or_insert_default();
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => self.pending_id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.pending_retry = value.parse().ok();
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        let raw = std::mem::take(&mut self.raw);
        let fields = std::mem::take(&mut self.fields);
        let kind = std::mem::take(&mut self.kind);
        let retry = self.pending_retry.take();
        let has_id = self.pending_id.is_some();
        if self.strict {
            check_block(&fields, &kind, &raw);
        }
        if let Some(id) = self.pending_id.take() {
            self.last_event_id = id;
        }
        // A block without data is dropped, but its id counts.
        let Some(mut data) = self.data.take() else { return };
        data.pop();
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        items.push(Item::Event(SseEvent { id: self.last_event_id.clone(), kind, data, raw, has_id, retry }));
    }
}

/// The contract's rules for one block.
fn check_block(fields: &[String], kind: &str, raw: &[u8]) {
    let shown = lossy(raw);
    let rank = |field: &String| match field.as_str() {
        "event" => 0,
        "retry" => 1,
        "data" => 2,
        "id" => 3,
        other => panic!("an unknown field {other:?} in {shown:?}"),
    };
    let count = |name: &str| fields.iter().filter(|field| *field == name).count();
    assert!(!fields.is_empty(), "a blank line without a block");
    assert!(fields.is_sorted_by_key(rank), "the order is event, retry, data, id: {shown:?}");
    assert!(
        count("event") <= 1 && count("retry") <= 1 && count("id") <= 1,
        "a field stands twice: {shown:?}"
    );
    assert!(count("data") >= 1, "a block without data: {shown:?}");
    assert!(count("id") == 1 || kind == "$closing", "a block without an id: {shown:?}");
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One open event stream. Dropping it cuts the connection.
pub(crate) struct Reader {
    connection: Connection,
    pub(crate) head: Head,
    parser: Parser,
    items: VecDeque<Item>,
    /// Heartbeats taken off the stream so far.
    pub(crate) heartbeats: usize,
    ended: bool,
}

impl Reader {
    /// Opens a stream at a path with its query.
    pub(crate) fn open(broker: &Broker, target: &str) -> Self {
        Self::open_with(broker, target, &[])
    }

    /// Opens a stream as a browser does that comes back with an id.
    pub(crate) fn resume(broker: &Broker, target: &str, id: &str) -> Self {
        Self::open_with(broker, target, &[("Last-Event-ID", id)])
    }

    /// Opens a stream with further headers.
    pub(crate) fn open_with(broker: &Broker, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::new("GET", target).header("Accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Self::open_request(broker, &request)
    }

    /// Opens a stream with a request of any kind; it must be answered 200 as an event stream.
    pub(crate) fn open_request(broker: &Broker, request: &Request) -> Self {
        let mut connection = Connection::open(broker.port());
        connection.send(&request.bytes(broker.port()));
        let head = connection.head(false);
        if head.status != 200 {
            let body = connection.piece(PATIENCE).ok().flatten().unwrap_or_default();
            panic!("a stream was answered {head:?} {}", lossy(&body));
        }
        let content_type = head.header("content-type").unwrap_or_default();
        assert!(content_type.starts_with("text/event-stream"), "the content type is {content_type:?}");
        let parser = Parser::strict();
        Reader { connection, head, parser, items: VecDeque::new(), heartbeats: 0, ended: false }
    }

    /// The id that a browser would send when it reconnected now, if it has one.
    pub(crate) fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }

    /// The next event of any kind, or `None` when the stream has properly ended or nothing came in time.
    pub(crate) fn try_next(&mut self, timeout: Duration) -> Option<SseEvent> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.items.pop_front() {
                Some(Item::Event(event)) => return Some(event),
                Some(Item::Comment(_)) => self.heartbeats += 1,
                None if self.ended => return None,
                None => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match self.pull(left) {
                        Ok(()) => {}
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                            return None;
                        }
                        Err(error) => panic!("the stream broke: {error}"),
                    }
                }
            }
        }
    }

    /// The next event of any kind.
    pub(crate) fn next(&mut self) -> SseEvent {
        let event = self.try_next(PATIENCE);
        event.unwrap_or_else(|| {
            panic!("no event came (ended: {}, id: {:?})", self.ended, self.last_event_id())
        })
    }

    /// The next event, which must be of this type.
    pub(crate) fn expect(&mut self, kind: &str) -> SseEvent {
        let event = self.next();
        assert_eq!(event.kind, kind, "{event:?}");
        event
    }

    /// All events up to the first of this type, and that one last.
    pub(crate) fn until(&mut self, kind: &str) -> Vec<SseEvent> {
        let mut events = Vec::new();
        loop {
            events.push(self.next());
            if events.last().is_some_and(|event| event.kind == kind) {
                return events;
            }
        }
    }

    /// The next so many published events; `$open`, `$live` and `$cursor` between them are passed over, and a `$gap` or
    /// a `$closing` fails.
    pub(crate) fn collect(&mut self, count: usize) -> Vec<SseEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            let event = self.next();
            match event.kind.as_str() {
                "$open" | "$live" | "$cursor" => {}
                "$gap" | "$closing" => panic!("after {} events came {event:?}", events.len()),
                _ => events.push(event),
            }
        }
        events
    }

    /// Reads to the proper end of the stream and returns what was left; a connection that breaks fails.
    pub(crate) fn rest(&mut self) -> Vec<SseEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.try_next(PATIENCE) {
            events.push(event);
        }
        assert!(self.ended, "the stream did not end; last came {:?}", events.last());
        events
    }

    /// Reads exactly so many bytes of the stream's body, or fewer when it ends before, and cuts it there.
    pub(crate) fn cut_after(broker: &Broker, target: &str, id: Option<&str>, bytes_max: usize) -> Vec<u8> {
        let headers: Vec<(&str, &str)> = id.map(|id| ("Last-Event-ID", id)).into_iter().collect();
        let mut reader = Self::open_with(broker, target, &headers);
        let mut bytes = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while bytes.len() < bytes_max {
            // Heartbeats alone would keep it going.
            assert!(Instant::now() < deadline, "only {} of {bytes_max} bytes came", bytes.len());
            match reader.connection.piece(PATIENCE) {
                Ok(Some(piece)) => bytes.extend(piece),
                Ok(None) => break,
                Err(error) => panic!("the stream broke after {} bytes: {error}", bytes.len()),
            }
        }
        bytes.truncate(bytes_max);
        bytes
    }

    fn pull(&mut self, timeout: Duration) -> io::Result<()> {
        match self.connection.piece(timeout)? {
            Some(piece) => self.items.extend(self.parser.feed(&piece)),
            None => self.ended = true,
        }
        Ok(())
    }
}

#[test]
fn the_harness_reads_streams_as_a_browser_does() {
    let text = "\u{feff}:hello\rdata\rdata: a\r\ndata:b\n\nid: 1\nevent: x\n\ndata:  y\nid: 2\0\nretry: 1x\nretry: 25\n\r\
                event: x\ndata:z\n\ndata: cut off";
    let shown = |items: Vec<Item>| -> Vec<_> {
        let event = |item| match item {
            Item::Event(e) => (e.id, e.kind, e.data, e.retry),
            Item::Comment(text) => (String::new(), ":".to_owned(), text, None),
        };
        items.into_iter().map(event).collect()
    };
    let row = |id: &str, kind: &str, data: &str, retry| (id.into(), kind.into(), data.into(), retry);
    let expected = [
        row("", ":", "hello", None),
        row("", "message", "\na\nb", None),
        row("1", "message", " y", Some(25)),
        row("1", "x", "z", None),
    ];
    for size in 1..text.len() {
        let mut parser = Parser::default();
        let items = text.as_bytes().chunks(size).flat_map(|piece| parser.feed(piece)).collect();
        assert_eq!(shown(items), expected, "in pieces of {size}");
    }
}

#[test]
fn the_harness_refuses_streams_that_break_the_rules() {
    let refuses = |text: &str| std::panic::catch_unwind(|| Parser::strict().feed(text.as_bytes())).is_err();
    assert!(!refuses(
        ":\nevent: x\nretry: 1\ndata: a\ndata: b\nid: 1\n\n:\ndata:\nid: 2\n\nevent: $closing\ndata: {}\n\n"
    ));
    let broken = [
        "id: 1\ndata: a\n\n",
        "data: a\nevent: x\nid: 1\n\n",
        "event: x\ndata: a\nretry: 1\nid: 1\n\n",
        "data: a\n\n",
        "retry: 1\n\n",
        "id: 1\n\n",
        "event: x\nid: 1\n\n",
        ":\n\n",
        "\n",
        "data: a\nid: 1\n\n\n",
        ": text\n",
        "data: a\n:\nid: 1\n\n",
        "data: a\r\nid: 1\r\n\r\n",
        "data: a\nid: 1\nid: 2\n\n",
        "date: a\nid: 1\n\n",
    ];
    for text in broken {
        assert!(refuses(text), "{text:?} is not refused");
    }
}
