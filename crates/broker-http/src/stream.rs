//! An event stream that is open: what it says, and when. Which bytes these become on a connection is not its matter.
//!
//! A stream holds a cursor and at most one page that it is writing. It is asked for the next bytes when the last ones are on
//! their way, so a slow reader reads the log slowly and nothing piles up.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use broker::{Events, Gap, Opened, Recent, Step, Subscription};
use bytes::Bytes;
use event_log::limits::FRAME_PIECE_BYTES_MAX;
use event_log::{EventId, Piece, Position, ReadError};
use futures_util::{Stream, stream};
use rand::RngExt;
use serde_json::json;
use tokio::time::Instant;

use crate::connections::{Listed, TOKEN_EXPIRED};
use crate::gap::gap_data;
use crate::pulse::{Alarm, Pulse};
use crate::reading::Reading;
use crate::replay::Replay;
use crate::sse::{self, FRONT_BYTES, Framer, Pieces};
use crate::state::State;
use crate::subscribe::StreamPlace;
use crate::turns::Turn;

/// How long a client waits before it comes back, in milliseconds: spread, so that not all come at once.
const CLOSING_RETRY_MS: std::ops::RangeInclusive<u64> = 500..=5_000;

/// Why streams end by themselves.
const SHUTDOWN: &str = "shutdown";
const LIFETIME: &str = "lifetime";
/// How far lifetimes are spread to each side, as a share.
const LIFETIME_JITTER: f64 = 0.1;

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
    replay: Replay,
    /// A comment goes before what is to be written next.
    is_comment_due: bool,
    /// When it ends by itself, and why.
    ends: Option<(Instant, &'static str)>,
    /// The broker stops, and its end is laid out.
    is_draining: bool,
    ended: bool,
    listed: Listed,
    place: StreamPlace,
}

/// What is to be written next.
enum Saying {
    Nothing,
    /// A block of the broker's own.
    Block(Vec<u8>),
    /// The rest of a large frame, then what follows it.
    Large(Box<Pieces>, Following),
    /// Events.
    Events(Following),
}

/// Events that are to be written.
enum Following {
    /// Of the last moments, from an index on.
    Recent(Vec<Arc<Recent>>, usize),
    /// Of history, framed already.
    Replayed(std::vec::IntoIter<Piece>),
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
        let framer = Framer { epoch: state.broker.epochs().current(), envelope: reading.envelope };
        place.stats().opened();
        let opening = opening_blocks(state, &listed.id(), reading, opened, retry_ms);
        EventStream {
            subscription: state.broker.subscribe(Arc::clone(&reading.filter), opened, Arc::new(framer)),
            framer,
            quiet: reading.quiet,
            heartbeat: state.options.heartbeat,
            first_retry_ms: opening.is_empty().then_some(retry_ms),
            saying: if opening.is_empty() { Saying::Nothing } else { Saying::Block(opening) },
            told: opened.from.position,
            silent_since: Instant::now(),
            alarm: Alarm::new(Rc::clone(pulse)),
            turn: Turn::new(pulse.turns()),
            replay: Replay::new(state.replays.as_ref()),
            is_comment_due: false,
            ends: state
                .options
                .limits
                .lifetime
                .map(|lifetime| (Instant::now() + jittered(lifetime), LIFETIME)),
            is_draining: false,
            ended: false,
            listed,
            place,
        }
    }

    /// Whether it has said its last word.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && matches!(self.saying, Saying::Nothing)
    }

    /// Ready when there is something to write, or it is over.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while matches!(self.saying, Saying::Nothing) && !self.ended {
            if let Poll::Ready(reason) = self.poll_end(context) {
                self.close(reason);
                continue;
            }
            match self.poll_step(context) {
                Poll::Ready(step) => self.take(step),
                Poll::Pending => {
                    self.listed.note_waiting(!self.subscription.is_replaying());
                    ready!(self.poll_alarm(context));
                    if Instant::now() >= self.beats() {
                        self.beat();
                    }
                }
            }
        }
        if !matches!(self.saying, Saying::Events(Following::Replayed(_))) {
            self.turn.end();
            return Poll::Ready(());
        }
        if self.turn.poll_begun(context).is_pending() {
            ready!(self.alarm.poll_due(context, self.beats()));
            self.is_comment_due = true;
        }
        Poll::Ready(())
    }

    /// Ready when it is to end, with why.
    fn poll_end(&mut self, context: &Context<'_>) -> Poll<&'static str> {
        if let Poll::Ready(reason) = self.listed.poll_ended(context) {
            return Poll::Ready(reason);
        }
        if self.listed.token_left().is_some_and(|left| left.is_zero()) {
            return Poll::Ready(TOKEN_EXPIRED);
        }
        if self.alarm.pulse().is_over() && !self.is_draining {
            self.drain();
        }
        match self.ends {
            Some((moment, reason)) if Instant::now() >= moment => Poll::Ready(reason),
            _ => Poll::Pending,
        }
    }

    /// The broker stops: it will end at a moment of its own.
    fn drain(&mut self) {
        self.is_draining = true;
        let state = self.listed.state();
        let moment = Instant::now() + state.drain.moment(state.streams.load(Ordering::Relaxed));
        if self.ends.is_none_or(|(ends, _)| ends > moment) {
            self.ends = Some((moment, SHUTDOWN));
        }
    }

    /// What comes next, once it may be read.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<Step, ReadError>> {
        ready!(self.replay.poll_allowed(context, &self.subscription));
        if self.subscription.is_replaying() {
            ready!(self.turn.poll_begun(context));
        }
        // A wait for what comes next may be dropped and begun again.
        let step = pin!(self.subscription.next()).poll(context);
        if step.is_pending() {
            // Somebody else can have it while this one waits for the disk.
            self.turn.end();
        }
        if step.is_ready() || !self.subscription.is_replaying() {
            self.replay.end();
        }
        step
    }

    /// Ready when a heartbeat is due, or an end.
    fn poll_alarm(&mut self, context: &Context<'_>) -> Poll<()> {
        let ends = self.ends.map(|(moment, _)| moment);
        let token = self.listed.token_left().map(|left| Instant::now() + left);
        let due = [ends, token].into_iter().flatten().fold(self.beats(), Instant::min);
        self.alarm.poll_due(context, due)
    }

    /// When it will have been silent for long enough.
    fn beats(&self) -> Instant {
        self.silent_since + self.heartbeat
    }

    fn take(&mut self, step: Result<Step, ReadError>) {
        self.listed.note_waiting(false);
        match step {
            Ok(Step::Events(events)) => {
                let of_history = matches!(events, Events::Replayed(_));
                self.place.stats().given(events.len(), of_history);
                self.saying = Saying::Events(match events {
                    Events::Recent(events) => Following::Recent(events, 0),
                    Events::Replayed(events) => Following::Replayed(events.into_pieces().into_iter()),
                });
            }
            Ok(Step::Gap(gap)) => self.gap(&gap),
            Ok(Step::Live(head)) => self.live(head),
            Ok(Step::Ended) => self.close(SHUTDOWN),
            Err(error) => self.fail(&error),
        }
    }

    /// Writes what is to be said next: a block, or as many events as make one piece. Nothing if it has to be waited for. It is
    /// written behind the front of a buffer ([`FRONT_BYTES`] that are not looked at), or takes the buffer's place.
    pub(crate) fn write(&mut self, buffer: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_comment_due) {
            buffer.extend_from_slice(sse::HEARTBEAT);
            self.silent_since = Instant::now();
            return;
        }
        let before = buffer.len();
        let of_history = self.saying.is_of_history();
        self.saying = match std::mem::replace(&mut self.saying, Saying::Nothing) {
            Saying::Nothing => return,
            Saying::Block(mut block) => {
                buffer.append(&mut block);
                Saying::Nothing
            }
            Saying::Large(mut pieces, following) => {
                buffer.extend_from_slice(&pieces.next_piece());
                match pieces.is_done() {
                    true => following.saying(),
                    false => Saying::Large(pieces, following),
                }
            }
            Saying::Events(following) => self.write_events(following, buffer),
        };
        if buffer.len() > before {
            self.place.stats().said(buffer.len() - before, of_history);
            self.silent_since = Instant::now();
        }
    }

    fn write_events(&mut self, mut following: Following, buffer: &mut Vec<u8>) -> Saying {
        let large = match &mut following {
            Following::Recent(events, next) => self.write_recent(events, next, buffer),
            Following::Replayed(pieces) => {
                self.turn.end();
                match pieces.next() {
                    Some(Piece::Encoded { bytes, last }) => {
                        self.told = last;
                        self.write_frames(bytes, buffer);
                        None
                    }
                    Some(Piece::Large(event)) => {
                        self.told = event.position;
                        self.framer.write_first(&event, self.first_retry_ms.take(), buffer)
                    }
                    None => None,
                }
            }
        };
        self.listed.note(self.told);
        match large {
            Some(pieces) => Saying::Large(Box::new(pieces), following),
            None => following.saying(),
        }
    }

    fn write_recent(
        &mut self,
        events: &[Arc<Recent>],
        next: &mut usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Pieces> {
        let full = buffer.len() + FRAME_PIECE_BYTES_MAX;
        if let Some(oldest) = events.get(*next) {
            self.place.stats().delivered(self.listed.age(oldest.event.time));
        }
        let mut large = None;
        while large.is_none() && buffer.len() < full {
            let Some(recent) = events.get(*next) else { break };
            *next += 1;
            self.told = recent.event.position;
            large = self.framer.write(recent, self.first_retry_ms.take(), buffer);
        }
        large
    }

    /// Writes frames that have a front of their own.
    fn write_frames(&mut self, mut frames: Vec<u8>, buffer: &mut Vec<u8>) {
        if let Some(retry_ms) = self.first_retry_ms.take() {
            sse::insert_retry(&mut frames, FRONT_BYTES, retry_ms);
        }
        match buffer.len() == FRONT_BYTES {
            true => *buffer = frames,
            false => buffer.extend_from_slice(&frames[FRONT_BYTES..]),
        }
    }

    /// What comes next was removed. It stands between two events like any block, and also in a quiet stream.
    fn gap(&mut self, gap: &Gap) {
        self.place.stats().gap();
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
            let mut buffer = vec![0; FRONT_BYTES];
            self.write(&mut buffer);
            let written = Bytes::from(buffer).split_off(FRONT_BYTES);
            Poll::Ready((!written.is_empty()).then_some(Ok(written)))
        })
    }
}

impl Following {
    /// What is to be said: the events, if any are left.
    fn saying(self) -> Saying {
        let left = match &self {
            Following::Recent(events, next) => events.len() - next,
            Following::Replayed(pieces) => pieces.len(),
        };
        if left > 0 { Saying::Events(self) } else { Saying::Nothing }
    }
}

impl Saying {
    fn is_of_history(&self) -> bool {
        matches!(self, Saying::Events(Following::Replayed(_)) | Saying::Large(_, Following::Replayed(_)))
    }
}

/// A lifetime of one stream: streams that began together do not end together.
fn jittered(lifetime: Duration) -> Duration {
    lifetime.mul_f64(rand::rng().random_range(1.0 - LIFETIME_JITTER..=1.0 + LIFETIME_JITTER))
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
