//! The readings that end: a JSON page, with long polling, and NDJSON up to the head as it was.
//!
//! Both are written a little at a time, as their socket takes them: a page of ten thousand large events costs no more
//! memory than one of ten.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BodyStream;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use broker::{Gap, GapReason, Opened, Step};
use bytes::Bytes;
use event_log::limits::{JSON_PAGE_EVENTS_DEFAULT, PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use event_log::{Cursor, Epoch, Event, EventId, LogReader, PageLimit, Position, ReadError, Seek};
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::accept::Shape;
use crate::envelope;
use crate::gap::gap_data;
use crate::problem::Problem;
use crate::reading::Reading;
use crate::sse::Framer;
use crate::start::Until;
use crate::state::State;

/// How often a long poll with an end looks whether the log has passed that end.
const END_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The headers of a reading that ends.
pub(crate) fn headers(shape: Shape) -> HttpResponseBuilder {
    let content_type = if shape == Shape::Ndjson { "application/x-ndjson" } else { "application/json" };
    let mut response = HttpResponse::Ok();
    response.content_type(content_type).insert_header((CACHE_CONTROL, "no-store"));
    response
}

/// Events that are taken from the log a page at a time.
struct Pull {
    reader: Box<dyn LogReader>,
    epoch: Epoch,
    read: VecDeque<Arc<Event>>,
    /// What comes after the events that were read: a gap, and where to go on behind it.
    gap: Option<(Gap, Cursor)>,
    /// Everything that is wanted up to here was read.
    cursor: Cursor,
    stop: Position,
    left: usize,
    is_at_end: bool,
}

/// What is pulled.
enum Pulled {
    Event(Arc<Event>),
    Gap(Gap),
}

impl Pull {
    fn new(state: &State, reading: &Reading, after: Cursor, stop: Position, count: usize) -> Self {
        let reader = state.broker.log().reader(Arc::clone(&reading.filter));
        let epoch = state.broker.epochs().current();
        Pull {
            reader,
            epoch,
            read: VecDeque::new(),
            gap: None,
            cursor: after,
            stop,
            left: count,
            is_at_end: false,
        }
    }

    /// Reads until there is an event or a gap, or nothing more.
    async fn fill(&mut self) -> Result<(), ReadError> {
        while self.read.is_empty() && self.gap.is_none() && !self.is_at_end {
            if self.left == 0 || self.cursor.position >= self.stop {
                self.is_at_end = true;
                break;
            }
            let limit = PageLimit { events: PAGE_EVENTS_MAX.min(self.left), bytes: PAGE_BYTES_MAX };
            let page = self.reader.read(self.cursor, limit).await?;
            if page.gap {
                let requested = EventId::new(self.cursor.position, self.epoch).to_string();
                let resumed_after = page.next.position;
                self.gap = Some((Gap { reason: GapReason::Trimmed, requested, resumed_after }, page.next));
                break;
            }
            self.is_at_end = page.at_head;
            self.move_to(page.next);
            self.read.extend(page.events.into_iter().filter(|event| event.position <= self.stop));
            self.left -= self.read.len();
        }
        Ok(())
    }

    /// Moves the cursor on, but not past the end of what was asked for.
    fn move_to(&mut self, next: Cursor) {
        let position = next.position.min(self.stop).max(self.cursor.position);
        self.cursor = Cursor { position, ..next };
    }

    /// Goes on behind the gap that comes next, if one does.
    fn pass_gap(&mut self) -> Option<Gap> {
        let (gap, cursor) = self.gap.take_if(|_| self.read.is_empty())?;
        // Also past the end of what was asked for: nothing that is kept lies between.
        self.cursor = cursor;
        Some(gap)
    }

    async fn next(&mut self) -> Result<Option<Pulled>, ReadError> {
        self.fill().await?;
        match self.read.pop_front() {
            Some(event) => Ok(Some(Pulled::Event(event))),
            None => Ok(self.pass_gap().map(Pulled::Gap)),
        }
    }
}

/// The last place that the reading may reach, as things are now.
async fn stop(state: &State, reading: &Reading) -> Result<Position, Problem> {
    match reading.until {
        None => Ok(Position::new(u64::MAX)),
        Some(Until::Id(id)) if state.broker.epochs().knows(id) => Ok(id.position),
        Some(Until::Id(id)) => {
            let detail = format!("until is {id}, an id of a history that this log does not know");
            Err(Problem::bad_request("invalid-until", "until", detail))
        }
        Some(Until::Time(time)) => {
            Ok(state.broker.log().reader(Arc::clone(&reading.filter)).seek(Seek::Time(time)).await?.position)
        }
    }
}

/// `application/json`
pub(crate) async fn answer_json(state: web::Data<State>, reading: Reading) -> Result<HttpResponse, Problem> {
    let end = stop(&state, &reading).await?;
    let opened = reading.open(&state).await?;
    let count = reading.limit.unwrap_or(JSON_PAGE_EVENTS_DEFAULT);
    let mut gap = opened.gap.clone();
    let mut pull = Pull::new(&state, &reading, opened.from, end, count);
    begin(&mut pull, &mut gap).await?;
    // A gap is answered at once, whatever wait says.
    if let Some(wait) = reading.wait {
        let deadline = Instant::now() + wait;
        while pull.read.is_empty()
            && gap.is_none()
            && wait_for_match(&state, &reading, &opened, &mut pull, deadline).await?
        {
            let end = stop(&state, &reading).await?;
            pull = Pull::new(&state, &reading, pull.cursor, end, count);
            begin(&mut pull, &mut gap).await?;
        }
    }
    let mut page = JsonPage { pull, state, gap, part: Part::Begin };
    let first = page.next().await?.unwrap_or_default();
    if matches!(page.part, Part::Done) {
        return Ok(headers(Shape::Json).body(first));
    }
    let rest = stream::unfold(page, |mut page| async move {
        let bytes = page.next().await.transpose()?;
        Some((bytes.map_err(broken_off), page))
    });
    let body = stream::once(std::future::ready(Ok(first))).chain(rest);
    Ok(headers(Shape::Json).body(BodyStream::new(body)))
}

/// Reads the beginning of a page. A gap before its first event is the page's own.
async fn begin(pull: &mut Pull, gap: &mut Option<Gap>) -> Result<(), ReadError> {
    pull.fill().await?;
    if gap.is_none() {
        *gap = pull.pass_gap();
        pull.fill().await?;
    }
    Ok(())
}

/// Waits for an event that is wanted after the pull's cursor, which moves past what is not, or for a gap. False when the time is up, or
/// nothing that may come could belong to the page.
async fn wait_for_match(
    state: &State,
    reading: &Reading,
    opened: &Opened,
    pull: &mut Pull,
    deadline: Instant,
) -> Result<bool, Problem> {
    let from = Opened { gap: None, from: pull.cursor, head: opened.head };
    // What it is given is not looked at: whether anything comes is all that counts.
    let framer = Framer { epoch: state.broker.epochs().current(), envelope: false };
    let mut subscription = state.broker.subscribe(Arc::clone(&reading.filter), &from, Arc::new(framer));
    loop {
        let mut look = deadline;
        if reading.until.is_some() {
            if stop(state, reading).await? < state.broker.head() {
                return Ok(false);
            }
            look = deadline.min(Instant::now() + END_CHECK_INTERVAL);
        }
        match timeout_at(look, subscription.next()).await {
            Err(_) if look < deadline => {}
            Err(_) => {
                pull.move_to(subscription.settle());
                return Ok(false);
            }
            // The log has both, and is asked for them from the same cursor.
            Ok(Ok(Step::Events(_) | Step::Gap(_))) => return Ok(true),
            Ok(Ok(Step::Live(_))) => pull.move_to(subscription.cursor()),
            Ok(Ok(Step::Ended)) => return Ok(false),
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}

/// A JSON page that is being written.
struct JsonPage {
    pull: Pull,
    state: web::Data<State>,
    gap: Option<Gap>,
    part: Part,
}

enum Part {
    Begin,
    Events,
    Done,
}

impl JsonPage {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let epochs = self.state.broker.epochs();
        let mut body = Vec::new();
        let mut separator: &[u8] = match self.part {
            Part::Done => return Ok(None),
            Part::Events => b",",
            Part::Begin => b"{\"events\":[",
        };
        while body.len() < PAGE_BYTES_MAX {
            self.pull.fill().await?;
            // A gap in the middle ends the page: the next request begins before it, and is told of it.
            let Some(event) = self.pull.read.pop_front() else {
                body.extend_from_slice(if matches!(self.part, Part::Begin) { separator } else { b"" });
                self.part = Part::Done;
                body.extend_from_slice(&self.rest());
                break;
            };
            body.extend_from_slice(separator);
            envelope::write(&mut body, &event, epochs.current());
            (separator, self.part) = (b",", Part::Events);
        }
        Ok(Some(body.into()))
    }

    /// What follows the events.
    fn rest(&self) -> Vec<u8> {
        let epochs = self.state.broker.epochs();
        let gap = self.gap.as_ref().map(|gap| gap_data(gap, epochs.id(gap.resumed_after)));
        let rest = json!({
            "next": epochs.id(self.pull.cursor.position).to_string(),
            "head": epochs.id(self.state.broker.head()).to_string(),
            "gap": gap,
        });
        // The end of the array, and the object without its opening brace.
        [b"],", &rest.to_string().as_bytes()[1..]].concat()
    }
}

/// The connection breaks: a reader must not take half a history for the whole.
pub(crate) fn broken_off(error: ReadError) -> std::io::Error {
    tracing::error!(%error, code = error.code(), "a reading breaks off because the log cannot be read");
    std::io::Error::other(error)
}

/// `application/x-ndjson`
pub(crate) async fn answer_ndjson(
    state: web::Data<State>,
    reading: Reading,
) -> Result<HttpResponse, Problem> {
    let end = stop(&state, &reading).await?;
    let opened = reading.open(&state).await?;
    let epochs = state.broker.epochs();
    let epoch = epochs.current();
    let opening = opened.gap.as_ref().map(|gap| gap_line(gap, epoch));
    let count = reading.limit.unwrap_or(usize::MAX);
    let pull = Pull::new(&state, &reading, opened.from, end.min(opened.head), count);
    let body = stream::unfold((opening, pull), move |(opening, mut pull)| async move {
        let mut lines = opening.unwrap_or_default();
        while lines.len() < PAGE_BYTES_MAX {
            match pull.next().await {
                Ok(Some(Pulled::Event(event))) => {
                    envelope::write(&mut lines, &event, epoch);
                    lines.push(b'\n');
                }
                Ok(Some(Pulled::Gap(gap))) => lines.extend(gap_line(&gap, epoch)),
                Ok(None) => break,
                Err(error) => return Some((Err(broken_off(error)), (None, pull))),
            }
        }
        (!lines.is_empty()).then(|| (Ok(Bytes::from(lines)), (None, pull)))
    });
    Ok(headers(Shape::Ndjson).body(BodyStream::new(body)))
}

fn gap_line(gap: &Gap, epoch: Epoch) -> Vec<u8> {
    let id = EventId::new(gap.resumed_after, epoch);
    let mut line =
        json!({ "type": "$gap", "id": id.to_string(), "data": gap_data(gap, id) }).to_string().into_bytes();
    line.push(b'\n');
    line
}
