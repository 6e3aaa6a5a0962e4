//! The one loop of every reader that follows.

use std::future::poll_fn;
use std::sync::Arc;

use event_log::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use event_log::{Event, EventLog, Filter, LogReader, Page, PageLimit, Position, ReadError};
use futures_util::future::BoxFuture;

use crate::hub::{Follow, Found, Hub, Memo, Recent};
use crate::start::Opened;

const LIMIT: PageLimit = PageLimit { events: PAGE_EVENTS_MAX, bytes: PAGE_BYTES_MAX };

/// Everything that a filter wants after a place, for ever. It holds a cursor and no events.
pub struct Subscription {
    log: Arc<dyn EventLog>,
    hub: Arc<Hub>,
    filter: Arc<Filter>,
    follow: Follow,
    cursor: Position,
    /// The head when it was opened: before this is reached, nothing is called live.
    head_at_open: Position,
    live: bool,
    /// Only while it is behind the memory of recent events.
    reading: Reading,
}

/// A reader of the log, and whether it is at work. A read that has begun is kept when the wait for it is dropped:
/// somebody who looks at a clock now and then would otherwise throw away every read that takes longer.
enum Reading {
    Not,
    Idle(Box<dyn LogReader>),
    Begun(Position, ReadOfPage),
}

impl Reading {
    /// Keeps a read where it outlives the wait for it, and returns what to wait for.
    fn keep(&mut self, after: Position, read: ReadOfPage) -> &mut ReadOfPage {
        *self = Reading::Begun(after, read);
        match self {
            Reading::Begun(_, read) => read,
            Reading::Not | Reading::Idle(_) => unreachable!("it was set just above"),
        }
    }
}

/// A read of the page after a place; it gives the reader back.
type ReadOfPage = BoxFuture<'static, (Box<dyn LogReader>, Result<Page, ReadError>)>;

/// What comes next.
pub enum Step {
    /// Events, at least one, in order.
    Events(Events),
    /// The subscription has caught up with the head for the first time; this is the cursor, and the head.
    Live(Position),
    /// The broker stops.
    Ended,
}

/// Events of one step.
pub enum Events {
    /// From the log.
    Replayed(Vec<Arc<Event>>),
    /// From the memory of recent events, shared with all who follow them.
    Recent(Vec<Arc<Recent>>),
}

impl Events {
    /// The events in order, with the place where a protocol may keep what it makes of one that others read as well.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (&Arc<Event>, Option<&Memo>)> + '_> {
        match self {
            Events::Replayed(events) => Box::new(events.iter().map(|event| (event, None))),
            Events::Recent(events) => {
                Box::new(events.iter().map(|recent| (&recent.event, Some(&recent.memo))))
            }
        }
    }
}

impl Subscription {
    pub(crate) fn new(log: Arc<dyn EventLog>, hub: Arc<Hub>, filter: Arc<Filter>, opened: &Opened) -> Self {
        let follow = hub.follow(&filter);
        Subscription {
            log,
            hub,
            filter,
            follow,
            cursor: opened.from,
            head_at_open: opened.head,
            live: false,
            reading: Reading::Not,
        }
    }

    /// The place up to which the reader has seen everything that it wants.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// Waits for what comes next. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<Step, ReadError> {
        loop {
            // Lowered before the look, so that what comes after the look raises it again.
            self.follow.signal().lower();
            if self.hub.is_ended() {
                return Ok(Step::Ended);
            }
            match self.follow.after(self.cursor, LIMIT) {
                Found::Events(events) => {
                    if let Some(events) = self.take_recent(events) {
                        return Ok(Step::Events(events));
                    }
                }
                Found::CaughtUp(place) if self.live || place >= self.head_at_open => {
                    self.cursor = place;
                    self.reading = Reading::Not;
                    if !std::mem::replace(&mut self.live, true) {
                        return Ok(Step::Live(place));
                    }
                    poll_fn(|context| self.follow.signal().poll_raised(context)).await;
                }
                // What is durable is not routed yet, or lies further back than the memory of recent events.
                Found::CaughtUp(_) | Found::Behind => {
                    if let Some(events) = self.replay().await? {
                        return Ok(Step::Events(events));
                    }
                }
            }
        }
    }

    /// Moves the cursor past what did not match, as far as that is known without a wait, and returns it.
    pub fn settle(&mut self) -> Position {
        if self.live
            && let Found::CaughtUp(place) = self.follow.after(self.cursor, LIMIT)
        {
            self.cursor = place;
        }
        self.cursor
    }

    fn take_recent(&mut self, mut events: Vec<Arc<Recent>>) -> Option<Events> {
        self.cursor = events.last().map_or(self.cursor, |last| last.event.position);
        if !self.filter.is_by_topic_only() {
            events.retain(|recent| self.filter.wants_of_topic(&recent.event));
        }
        (!events.is_empty()).then_some(Events::Recent(events))
    }

    async fn replay(&mut self) -> Result<Option<Events>, ReadError> {
        let after = self.cursor;
        let read = match std::mem::replace(&mut self.reading, Reading::Not) {
            // A page after another place would be out of order: the cursor was moved by recent events meanwhile.
            Reading::Begun(begun_after, read) if begun_after == after => read,
            Reading::Idle(reader) => begin(reader, after),
            _ => begin(self.log.reader(Arc::clone(&self.filter)), after),
        };
        let (reader, page) = self.reading.keep(after, read).await;
        self.reading = Reading::Idle(reader);
        let page = page?;
        self.cursor = page.next;
        Ok((!page.events.is_empty()).then_some(Events::Replayed(page.events)))
    }
}

fn begin(mut reader: Box<dyn LogReader>, after: Position) -> ReadOfPage {
    Box::pin(async move {
        let page = reader.read(after, LIMIT).await;
        (reader, page)
    })
}
