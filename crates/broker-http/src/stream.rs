//! An event stream that is open: what it says, and when. Which bytes these become on a connection is not its matter.
//!
//! A stream holds a cursor and at most one page that it is writing. It is asked for the next bytes when the last ones are on
//! their way, so a slow reader reads the log slowly and nothing piles up.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use broker::{Events, Gap, Opened, Step, Subscription};
use bytes::Bytes;
use event_log::limits::FRAME_PIECE_BYTES_MAX;
use event_log::{EventId, Position, ReadError};
use futures_util::{Stream, stream};
use rand::RngExt;
use serde_json::json;
use tokio::time::Instant;

use crate::connections::Listed;
use crate::gap::gap_data;
use crate::pulse::{Alarm, Pulse};
use crate::reading::Reading;
use crate::sse::{self, Framer, Pieces};
use crate::state::State;
use crate::subscribe::StreamPlace;
use crate::turns::Turn;

/// How long a client waits before it comes back, in milliseconds: spread, so that not all come at once.
const CLOSING_RETRY_MS: std::ops::RangeInclusive<u64> = 500..=5_000;

/// A stream that is open.
pub(crate) struct EventStream {
    subscription: Subscription,
    framer: Framer,
    quiet: bool,
    heartbeat: Duration,
    /// In the first block, whichever it is.
    first_retry_ms: Option<u64>,
    saying: Saying,
    /// The last cursor that the client was told.
    told: Position,
    silent_since: Instant,
    alarm: Alarm,
    turn: Turn,
    ended: bool,
    listed: Listed,
    _place: StreamPlace,
}

/// What is to be written next.
enum Saying {
    Nothing,
    /// A block of the broker's own.
    Block(Vec<u8>),
    /// A page of events.
    Page {
        events: Events,
        next: usize,
        large: Option<Box<Pieces>>,
    },
}

impl EventStream {
    pub(crate) fn new(
        place: StreamPlace,
        listed: Listed,
        pulse: &Rc<Pulse>,
        state: &State,
        reading: &Reading,
        opened: &Opened,
    ) -> Self {
        let retry_ms = u64::try_from(state.options.retry.as_millis()).unwrap_or(u64::MAX);
        let opening = opening_blocks(state, &listed.id(), reading, opened, retry_ms);
        EventStream {
            subscription: state.broker.subscribe(Arc::clone(&reading.filter), opened),
            framer: Framer { epoch: state.broker.epochs().current(), envelope: reading.envelope },
            quiet: reading.quiet,
            heartbeat: state.options.heartbeat,
            first_retry_ms: opening.is_empty().then_some(retry_ms),
            saying: if opening.is_empty() { Saying::Nothing } else { Saying::Block(opening) },
            told: opened.from.position,
            silent_since: Instant::now(),
            alarm: Alarm::new(Rc::clone(pulse)),
            turn: Turn::new(pulse.turns()),
            ended: false,
            listed,
            _place: place,
        }
    }

    /// Whether it has said its last word.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && matches!(self.saying, Saying::Nothing)
    }

    /// Ready when there is something to write, or it is over.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while matches!(self.saying, Saying::Nothing) && !self.ended {
            if self.listed.poll_ended(context).is_ready() {
                self.close("ended");
                continue;
            }
            // A wait for what comes next may be dropped and begun again.
            let step = pin!(self.subscription.next()).poll(context);
            match step {
                Poll::Ready(step) => self.take(step),
                Poll::Pending => {
                    ready!(self.alarm.poll_due(context, self.silent_since + self.heartbeat));
                    self.beat();
                }
            }
        }
        match self.saying {
            // The beginning of a page of history.
            Saying::Page { events: Events::Replayed(_), next: 0, .. } => self.turn.poll(context),
            _ => Poll::Ready(()),
        }
    }

    fn take(&mut self, step: Result<Step, ReadError>) {
        match step {
            Ok(Step::Events(events)) => self.saying = Saying::Page { events, next: 0, large: None },
            Ok(Step::Gap(gap)) => self.gap(&gap),
            Ok(Step::Live(head)) => self.live(head),
            Ok(Step::Ended) => self.close("shutdown"),
            Err(error) => self.fail(&error),
        }
    }

    /// Writes what is to be said next: a block, or as much of a page as makes one piece. Nothing if it has to be waited for.
    pub(crate) fn write(&mut self, buffer: &mut Vec<u8>) {
        let before = buffer.len();
        match &mut self.saying {
            Saying::Nothing => return,
            Saying::Block(block) => {
                buffer.append(block);
                self.saying = Saying::Nothing;
            }
            Saying::Page { .. } => self.write_page(buffer),
        }
        if buffer.len() > before {
            self.silent_since = Instant::now();
        }
    }

    fn write_page(&mut self, buffer: &mut Vec<u8>) {
        let full = buffer.len() + FRAME_PIECE_BYTES_MAX;
        let Saying::Page { events, next, large } = &mut self.saying else { return };
        if let Some(pieces) = large {
            buffer.extend_from_slice(&pieces.next_piece());
            if pieces.is_done() {
                *large = None;
            }
        }
        while large.is_none() && buffer.len() < full {
            let Some(event) = events.get(*next) else { break };
            *next += 1;
            self.told = event.position();
            *large = self.framer.write(event, self.first_retry_ms.take(), buffer).map(Box::new);
        }
        self.listed.note(self.told);
        if large.is_none() && events.get(*next).is_none() {
            self.saying = Saying::Nothing;
        }
    }

    /// What comes next was removed. It stands between two events like any block, and also in a quiet stream.
    fn gap(&mut self, gap: &Gap) {
        self.told = gap.resumed_after;
        self.listed.note(gap.resumed_after);
        let id = EventId::new(gap.resumed_after, self.framer.epoch);
        let mut block = Vec::new();
        sse::write_block(&mut block, "$gap", self.first_retry_ms.take(), &gap_data(gap, id), Some(id));
        self.saying = Saying::Block(block);
    }

    fn live(&mut self, head: Position) {
        self.listed.note(head);
        if self.quiet {
            return;
        }
        self.told = head;
        let id = EventId::new(head, self.framer.epoch);
        let mut block = Vec::new();
        sse::write_block(&mut block, "$live", None, &json!({ "head": id.to_string() }), Some(id));
        self.saying = Saying::Block(block);
    }

    /// It was silent for long enough: a comment, and how far it is if that is news.
    fn beat(&mut self) {
        let mut block = sse::HEARTBEAT.to_vec();
        let cursor = self.subscription.settle().position;
        self.listed.note(cursor);
        if cursor > self.told && !self.quiet {
            self.told = cursor;
            let id = EventId::new(cursor, self.framer.epoch);
            sse::write_block(&mut block, "$cursor", None, &json!({ "cursor": id.to_string() }), Some(id));
        }
        self.saying = Saying::Block(block);
    }

    fn close(&mut self, reason: &str) {
        self.ended = true;
        let cursor = self.subscription.settle().position;
        let mut block = Vec::new();
        write_closing(&mut block, reason, Some(EventId::new(cursor, self.framer.epoch)));
        self.saying = Saying::Block(block);
    }

    fn fail(&mut self, error: &ReadError) {
        tracing::error!(%error, code = error.code(), "an event stream ends because the log cannot be read");
        self.close("overloaded");
    }

    /// The same as a body for a connection that is not the stream's own.
    pub(crate) fn into_body(mut self) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        stream::poll_fn(move |context| {
            ready!(self.poll_ready(context));
            let mut buffer = Vec::new();
            self.write(&mut buffer);
            Poll::Ready((!buffer.is_empty()).then(|| Ok(buffer.into())))
        })
    }
}

/// `$gap`, when there is one, and `$open`, unless the reader wants it quiet.
fn opening_blocks(
    state: &State,
    connection: &str,
    reading: &Reading,
    opened: &Opened,
    retry_ms: u64,
) -> Vec<u8> {
    let epochs = state.broker.epochs();
    let mut buffer = Vec::new();
    if let Some(gap) = &opened.gap {
        let id = epochs.id(gap.resumed_after);
        sse::write_block(&mut buffer, "$gap", Some(retry_ms), &gap_data(gap, id), Some(id));
    }
    if !reading.quiet {
        let (from, head) = (epochs.id(opened.from.position), epochs.id(opened.head));
        let data = json!({ "connection": connection, "from": from.to_string(), "head": head.to_string() });
        sse::write_block(&mut buffer, "$open", Some(retry_ms), &data, Some(from));
    }
    buffer
}

/// The last word of a stream, and when to come back.
pub(crate) fn write_closing(buffer: &mut Vec<u8>, reason: &str, id: Option<EventId>) {
    let retry_ms = rand::rng().random_range(CLOSING_RETRY_MS);
    sse::write_block(buffer, "$closing", Some(retry_ms), &json!({ "reason": reason }), id);
}
