//! The endless reading: replay, then what happens next, as `text/event-stream`.
//!
//! A stream holds a cursor and at most one page that it is writing; it is pulled by its socket, so a slow reader reads the
//! log slowly and nothing piles up. A heartbeat costs one look at a timer that is not moved at each event.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::body::BodyStream;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use broker::{Events, Gap, Opened, Step, Subscription};
use bytes::{Bytes, BytesMut};
use event_log::limits::FRAME_PIECE_BYTES_MAX;
use event_log::{EventId, Position, ReadError};
use futures_util::{Stream, stream};
use rand::RngExt;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::connections::Listed;
use crate::gap::gap_data;
use crate::problem::Problem;
use crate::reading::Reading;
use crate::sse::{self, Frame, Framer, Pieces};
use crate::state::State;

/// How long a client waits before it comes back, in milliseconds: spread, so that not all come at once.
const CLOSING_RETRY_MS: std::ops::RangeInclusive<u64> = 500..=5_000;

/// The headers of every event stream.
pub(crate) fn headers() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("X-Accel-Buffering", "no"));
    response
}

pub(crate) async fn answer(
    state: web::Data<State>,
    reading: Reading,
    remote: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let Some(place) = StreamPlace::take(&state) else {
        tracing::warn!(streams_max = state.options.streams_max, "an event stream was turned away");
        return Ok(overloaded());
    };
    let opened = match reading.open(&state).await {
        Ok(opened) => opened,
        Err(problem) => {
            // An EventSource is dead for good after any status but 200, and this may pass.
            tracing::error!(code = problem.code(), "an event stream could not be opened");
            return Ok(overloaded());
        }
    };
    let filter = Arc::clone(&reading.filter);
    let listed = Listed::new(web::Data::clone(&state), remote, filter, opened.from.position);
    Ok(headers().body(BodyStream::new(events(place, listed, &state, &reading, opened))))
}

/// What may pass is answered with 200, so that the client comes back.
fn overloaded() -> HttpResponse {
    let mut body = Vec::new();
    write_closing(&mut body, "overloaded", None);
    headers().body(body)
}

fn write_closing(buffer: &mut Vec<u8>, reason: &str, id: Option<EventId>) {
    let retry_ms = rand::rng().random_range(CLOSING_RETRY_MS);
    sse::write_block(buffer, "$closing", Some(retry_ms), &json!({ "reason": reason }), id);
}

/// One of the streams that may be open at a time; given back when dropped.
struct StreamPlace(web::Data<State>);

impl StreamPlace {
    fn take(state: &web::Data<State>) -> Option<Self> {
        let taken = state.streams.fetch_add(1, Ordering::Relaxed);
        let place = StreamPlace(web::Data::clone(state));
        (taken < place.0.options.streams_max).then_some(place)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that is open.
struct Open {
    subscription: Subscription,
    framer: Framer,
    quiet: bool,
    heartbeat: Duration,
    /// In the first block, whichever it is.
    first_retry_ms: Option<u64>,
    /// What is said before the first event.
    opening: Option<Bytes>,
    writing: Option<Writing>,
    /// The last cursor that the client was told.
    told: Position,
    silent_since: Instant,
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
    ended: bool,
    listed: Listed,
    _place: StreamPlace,
}

/// A page that is being written.
struct Writing {
    events: Events,
    next: usize,
    large: Option<Pieces>,
}

fn events(
    place: StreamPlace,
    listed: Listed,
    state: &State,
    reading: &Reading,
    opened: Opened,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + use<> {
    let subscription = state.broker.subscribe(Arc::clone(&reading.filter), &opened);
    let retry_ms = u64::try_from(state.options.retry.as_millis()).unwrap_or(u64::MAX);
    let epoch = state.broker.epochs().current();
    let opening = opening_blocks(state, &listed.id(), reading, &opened, retry_ms);
    let now = Instant::now();
    let heartbeat = state.options.heartbeat;
    let open = Open {
        subscription,
        framer: Framer { epoch, envelope: reading.envelope },
        quiet: reading.quiet,
        heartbeat,
        first_retry_ms: opening.is_none().then_some(retry_ms),
        opening,
        writing: None,
        told: opened.from.position,
        silent_since: now,
        timer: Box::pin(sleep_until(now + heartbeat)),
        ended: false,
        listed,
        _place: place,
    };
    stream::unfold(open, |mut open| async move {
        let bytes = open.next().await?;
        Some((Ok(bytes), open))
    })
}

/// `$gap`, when there is one, and `$open`, unless the reader wants it quiet.
fn opening_blocks(
    state: &State,
    connection: &str,
    reading: &Reading,
    opened: &Opened,
    retry_ms: u64,
) -> Option<Bytes> {
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
    (!buffer.is_empty()).then(|| buffer.into())
}

impl Open {
    /// The next bytes, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        let bytes = match self.opening.take() {
            Some(opening) => opening,
            None => self.wait().await?,
        };
        self.silent_since = Instant::now();
        Some(bytes)
    }

    async fn wait(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.write_on() {
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            let step = tokio::select! {
                biased;
                () = self.listed.ended() => return Some(self.close("ended")),
                step = self.subscription.next() => step,
                () = self.timer.as_mut() => {
                    if let Some(bytes) = self.beat() {
                        return Some(bytes);
                    }
                    continue;
                }
            };
            match step {
                Ok(Step::Events(events)) => self.writing = Some(Writing { events, next: 0, large: None }),
                Ok(Step::Gap(gap)) => return Some(self.gap(&gap)),
                Ok(Step::Live(head)) => {
                    if let Some(bytes) = self.live(head) {
                        return Some(bytes);
                    }
                }
                Ok(Step::Ended) => return Some(self.close("shutdown")),
                Err(error) => return Some(self.fail(&error)),
            }
        }
    }

    /// More of the page that is being written.
    fn write_on(&mut self) -> Option<Bytes> {
        let writing = self.writing.as_mut()?;
        if let Some(pieces) = &mut writing.large {
            let piece = pieces.next_piece();
            if pieces.is_done() {
                writing.large = None;
            }
            return Some(piece);
        }
        let mut frames: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for (event, memo) in writing.events.iter().skip(writing.next) {
            writing.next += 1;
            self.told = event.position;
            self.listed.note(event.position);
            let frame = match self.framer.frame(event, memo, self.first_retry_ms.take()) {
                Frame::Whole(frame) => frame,
                Frame::Large(first, pieces) => {
                    writing.large = Some(pieces);
                    first
                }
            };
            bytes += frame.len();
            frames.push(frame);
            if bytes >= FRAME_PIECE_BYTES_MAX || writing.large.is_some() {
                break;
            }
        }
        match frames.len() {
            0 => {
                self.writing = None;
                None
            }
            1 => frames.pop(),
            _ => {
                let mut joined = BytesMut::with_capacity(bytes);
                frames.iter().for_each(|frame| joined.extend_from_slice(frame));
                Some(joined.freeze())
            }
        }
    }

    /// What comes next was removed. It stands between two events like any block, and also in a quiet stream.
    fn gap(&mut self, gap: &Gap) -> Bytes {
        self.told = gap.resumed_after;
        self.listed.note(gap.resumed_after);
        let id = EventId::new(gap.resumed_after, self.framer.epoch);
        let mut buffer = Vec::new();
        sse::write_block(&mut buffer, "$gap", self.first_retry_ms.take(), &gap_data(gap, id), Some(id));
        buffer.into()
    }

    fn live(&mut self, head: Position) -> Option<Bytes> {
        self.listed.note(head);
        if self.quiet {
            return None;
        }
        self.told = head;
        let id = EventId::new(head, self.framer.epoch);
        let mut buffer = Vec::new();
        sse::write_block(&mut buffer, "$live", None, &json!({ "head": id.to_string() }), Some(id));
        Some(buffer.into())
    }

    /// The timer has run out: a heartbeat if nothing was written meanwhile; it is set anew in any case.
    fn beat(&mut self) -> Option<Bytes> {
        let now = Instant::now();
        let due = self.silent_since + self.heartbeat;
        if now < due {
            self.timer.as_mut().reset(due);
            return None;
        }
        self.timer.as_mut().reset(now + self.heartbeat);
        let mut buffer = sse::HEARTBEAT.to_vec();
        let cursor = self.subscription.settle().position;
        self.listed.note(cursor);
        if cursor > self.told && !self.quiet {
            self.told = cursor;
            let id = EventId::new(cursor, self.framer.epoch);
            sse::write_block(&mut buffer, "$cursor", None, &json!({ "cursor": id.to_string() }), Some(id));
        }
        Some(buffer.into())
    }

    fn close(&mut self, reason: &str) -> Bytes {
        self.ended = true;
        let mut buffer = Vec::new();
        let cursor = self.subscription.settle().position;
        write_closing(&mut buffer, reason, Some(EventId::new(cursor, self.framer.epoch)));
        buffer.into()
    }

    fn fail(&mut self, error: &ReadError) -> Bytes {
        tracing::error!(%error, code = error.code(), "an event stream ends because the log cannot be read");
        self.close("overloaded")
    }
}
