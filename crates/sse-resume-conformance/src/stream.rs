//! One open event stream.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::http::{Connection, Head, request};
use crate::hub::Hub;
use crate::payload::published;
use crate::sse::{Block, Parser, SseEvent};

/// A connection on which events come.
pub(crate) struct Stream {
    /// Whether data comes as a JSON string.
    data_is_json: bool,
    connection: Connection,
    parser: Parser,
    blocks: VecDeque<Block>,
    /// The id after what was taken of the stream, which its parser may be ahead of.
    id: String,
    ended: bool,
    last_byte: Instant,
    silence: Duration,
}

/// What an attempt to open a stream gave.
pub(crate) enum Opened {
    Stream(Box<Stream>),
    /// An answer that is no event stream, after which an `EventSource` never comes back.
    Refused(Head),
}

impl Stream {
    /// Opens a stream at a path, with the id that its reader has.
    pub(crate) fn open(hub: &Hub, path: &str, id: &str, receive_bytes: Option<usize>) -> io::Result<Opened> {
        let mut headers = vec!["Accept: text/event-stream".to_owned()];
        headers.extend(hub.adapter.subscribe.headers.iter().cloned());
        if !id.is_empty() {
            headers.push(format!("Last-Event-ID: {id}"));
        }
        let patience = hub.adapter.patience();
        let mut connection = Connection::open(hub.port(), receive_bytes)?;
        connection.send(&request("GET", path, hub.port(), &headers, b""), patience)?;
        let head = connection.head(Instant::now() + patience)?;
        let is_stream = head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        if head.status != 200 || !is_stream {
            return Ok(Opened::Refused(head));
        }
        Ok(Opened::Stream(Box::new(Stream {
            data_is_json: hub.adapter.subscribe.data_is_json,
            connection,
            parser: Parser::after(id),
            blocks: VecDeque::new(),
            id: id.to_owned(),
            ended: false,
            last_byte: Instant::now(),
            silence: Duration::ZERO,
        })))
    }

    /// The id that a browser would come back with now.
    pub(crate) fn last_event_id(&self) -> &str {
        &self.id
    }

    /// The longest time without a byte so far.
    pub(crate) fn silence(&self) -> Duration {
        self.silence.max(self.last_byte.elapsed())
    }

    /// The next event; none when the stream has properly ended.
    pub(crate) fn next(&mut self, deadline: Instant) -> io::Result<Option<SseEvent>> {
        loop {
            if let Some(event) = self.take() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            match self.connection.piece(deadline)? {
                Some(piece) => {
                    self.silence = self.silence.max(self.last_byte.elapsed());
                    self.last_byte = Instant::now();
                    self.parser.feed(&piece, &mut self.blocks);
                }
                None => self.ended = true,
            }
        }
    }

    /// Takes the next event that has come, with the ids before it and those that came right behind it.
    fn take(&mut self) -> Option<SseEvent> {
        let mut taken = None;
        while let Some(block) = self.blocks.pop_front() {
            match block {
                Block::Id(id) => self.id = id,
                Block::Event(mut event) if taken.is_none() => {
                    event.id.clone_into(&mut self.id);
                    event.data = published(event.data, self.data_is_json);
                    taken = Some(event);
                }
                Block::Event(event) => {
                    self.blocks.push_front(Block::Event(event));
                    break;
                }
            }
        }
        taken
    }

    /// The next piece of the body as it is, for readers that are cut off in the middle of an event.
    pub(crate) fn piece(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        let ended = || io::Error::new(ErrorKind::UnexpectedEof, "the stream ended");
        self.connection.piece(deadline)?.ok_or_else(ended)
    }
}
