//! The readings that end: a JSON page, with long polling, and NDJSON up to the head as it was.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::body::BodyStream;
use actix_web::{HttpResponse, web};
use broker::{Gap, Opened, Step};
use bytes::Bytes;
use event_log::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use event_log::{Epoch, Event, EventId, LogReader, PageLimit, Position, ReadError, Seek};
use futures_util::stream;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::envelope;
use crate::gap::gap_data;
use crate::problem::Problem;
use crate::reading::Reading;
use crate::start::Until;
use crate::state::State;

/// A page that was read.
struct Page {
    events: Vec<Arc<Event>>,
    next: Position,
}

/// `application/json`
pub(crate) async fn answer_json(state: &State, reading: Reading) -> Result<HttpResponse, Problem> {
    let opened = reading.open(state).await?;
    let mut page = read_page(state, &reading, opened.from).await?;
    // A gap is answered at once, whatever wait says.
    if let Some(wait) = reading.wait.filter(|_| page.events.is_empty() && opened.gap.is_none()) {
        let deadline = Instant::now() + wait;
        while page.events.is_empty()
            && wait_for_match(state, &reading, &opened, &mut page.next, deadline).await?
        {
            page = read_page(state, &reading, page.next).await?;
        }
    }
    let body = write_page(state, &page, opened.gap.as_ref());
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

/// Waits for an event that is wanted after `place`, which moves past what is not. False when the time is up, or nothing
/// that may come could belong to the page.
async fn wait_for_match(
    state: &State,
    reading: &Reading,
    opened: &Opened,
    place: &mut Position,
    deadline: Instant,
) -> Result<bool, Problem> {
    if reading.until.is_some() && stop(state, reading).await? < state.broker.head() {
        return Ok(false);
    }
    let from = Opened { gap: None, from: *place, head: opened.head };
    let mut subscription = state.broker.subscribe(Arc::clone(&reading.filter), &from);
    loop {
        match timeout_at(deadline, subscription.next()).await {
            Err(_) => {
                *place = subscription.settle();
                return Ok(false);
            }
            Ok(Ok(Step::Events(_))) => return Ok(true),
            Ok(Ok(Step::Live(head))) => *place = head,
            Ok(Ok(Step::Ended)) => return Ok(false),
            Ok(Err(error)) => return Err(error.into()),
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
            Ok(state.broker.log().reader(Arc::clone(&reading.filter)).seek(Seek::Time(time)).await?)
        }
    }
}

async fn read_page(state: &State, reading: &Reading, after: Position) -> Result<Page, Problem> {
    let stop = stop(state, reading).await?;
    let limit = reading.json_limit();
    let mut reader = state.broker.log().reader(Arc::clone(&reading.filter));
    let mut page = Page { events: Vec::new(), next: after };
    let mut bytes = 0;
    while page.events.len() < limit.events && bytes < limit.bytes && page.next < stop {
        let left = PageLimit { events: limit.events - page.events.len(), bytes: limit.bytes - bytes };
        let read = reader.read(page.next, left).await?;
        page.next = read.next;
        bytes += read.events.iter().map(|event| event.weight()).sum::<usize>();
        page.events.extend(read.events.into_iter().filter(|event| event.position <= stop));
        if read.at_head {
            break;
        }
    }
    page.next = page.next.min(stop).max(after);
    Ok(page)
}

fn write_page(state: &State, page: &Page, gap: Option<&Gap>) -> Vec<u8> {
    let epochs = state.broker.epochs();
    let mut body = b"{\"events\":[".to_vec();
    for (index, event) in page.events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        envelope::write(&mut body, event, epochs.current());
    }
    let gap = gap.map(|gap| gap_data(gap, epochs.id(gap.resumed_after)));
    let rest = json!({
        "next": epochs.id(page.next).to_string(),
        "head": epochs.id(state.broker.head()).to_string(),
        "gap": gap,
    });
    body.extend_from_slice(b"],");
    // The rest of the object, without its opening brace.
    body.extend_from_slice(&rest.to_string().as_bytes()[1..]);
    body
}

/// A reading as NDJSON, written a page at a time as its socket takes it.
struct Lines {
    reader: Box<dyn LogReader>,
    epoch: Epoch,
    /// Lines before the first event.
    opening: Option<Vec<u8>>,
    read: VecDeque<Arc<Event>>,
    cursor: Position,
    stop: Position,
    left: usize,
}

/// `application/x-ndjson`
pub(crate) async fn answer_ndjson(
    state: web::Data<State>,
    reading: Reading,
) -> Result<HttpResponse, Problem> {
    let opened = reading.open(&state).await?;
    let lines = Lines {
        reader: state.broker.log().reader(Arc::clone(&reading.filter)),
        epoch: state.broker.epochs().current(),
        opening: opened.gap.as_ref().map(|gap| gap_line(gap, state.broker.epochs().id(gap.resumed_after))),
        read: VecDeque::new(),
        cursor: opened.from,
        stop: stop(&state, &reading).await?.min(opened.head),
        left: reading.limit.unwrap_or(usize::MAX),
    };
    let body = stream::unfold(lines, |mut lines| async move {
        match lines.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), lines)),
            Ok(None) => None,
            Err(error) => {
                // The connection breaks: a reader must not take half a history for the whole.
                tracing::error!(%error, code = error.code(), "a reading breaks off because the log cannot be read");
                Some((Err(std::io::Error::other(error)), lines))
            }
        }
    });
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(BodyStream::new(body)))
}

fn gap_line(gap: &Gap, id: EventId) -> Vec<u8> {
    let mut line =
        json!({ "type": "$gap", "id": id.to_string(), "data": gap_data(gap, id) }).to_string().into_bytes();
    line.push(b'\n');
    line
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let mut buffer = self.opening.take().unwrap_or_default();
        while buffer.len() < PAGE_BYTES_MAX {
            if self.read.is_empty() && !self.read_more().await? {
                break;
            }
            if let Some(event) = self.read.pop_front() {
                envelope::write(&mut buffer, &event, self.epoch);
                buffer.push(b'\n');
            }
        }
        Ok((!buffer.is_empty()).then(|| buffer.into()))
    }

    /// False when there is no more.
    async fn read_more(&mut self) -> Result<bool, ReadError> {
        if self.left == 0 || self.cursor >= self.stop {
            return Ok(false);
        }
        let limit = PageLimit { events: PAGE_EVENTS_MAX.min(self.left), bytes: PAGE_BYTES_MAX };
        let page = self.reader.read(self.cursor, limit).await?;
        self.cursor = page.next;
        self.read.extend(page.events.into_iter().filter(|event| event.position <= self.stop));
        self.left -= self.read.len();
        Ok(true)
    }
}
