//! The one loop of every reader that follows.

use std::future::poll_fn;
use std::sync::Arc;

use event_log::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX, REPLAY_PAGE_BYTES_MAX, REPLAY_PAGE_EVENTS_MAX};
use event_log::{
    Cursor, Encoder, Epoch, EventId, EventLog, Filter, LogReader, PageLimit, Position, ReadError, ReplayPage,
    Replayed,
};
use futures_util::future::BoxFuture;

use crate::hub::{Follow, Found, Hub, Recent};
use crate::start::{Gap, GapReason, Opened};

const LIMIT: PageLimit = PageLimit { events: PAGE_EVENTS_MAX, bytes: PAGE_BYTES_MAX };
const REPLAY_LIMIT: PageLimit = PageLimit { events: REPLAY_PAGE_EVENTS_MAX, bytes: REPLAY_PAGE_BYTES_MAX };

/// Everything that a filter wants after a place, for ever. It holds a cursor and no events.
pub struct Subscription {
    log: Arc<dyn EventLog>,
    epoch: Epoch,
    hub: Arc<Hub>,
    filter: Arc<Filter>,
    follow: Follow,
    encoder: Arc<dyn Encoder>,
    cursor: Cursor,
    /// The head when it was opened: before this is reached, nothing is called live.
    head_at_open: Position,
    live: bool,
    /// Only while the memory of recent events is not enough.
    reading: Reading,
}

/// A reader of the log, and whether it is at work. Work that has begun is kept when the wait for it is dropped: somebody
/// who looks at a clock now and then would otherwise throw away every read that takes longer.
enum Reading {
    Not,
    Idle(Box<dyn LogReader>),
    Begun(Asked, Cursor, Answer),
}

/// What a reader was asked about a cursor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The page after it.
    Page,
    /// Whether it is still good. The answer is a page without events.
    Judgement,
}

/// The answer to what was asked; it gives the reader back.
type Answer = BoxFuture<'static, (Box<dyn LogReader>, Result<ReplayPage, ReadError>)>;

impl Reading {
    /// Keeps work where it outlives the wait for it, and returns what to wait for.
    fn keep(&mut self, asked: Asked, cursor: Cursor, answer: Answer) -> &mut Answer {
        *self = Reading::Begun(asked, cursor, answer);
        match self {
            Reading::Begun(_, _, answer) => answer,
            Reading::Not | Reading::Idle(_) => unreachable!("it was set just above"),
        }
    }
}

/// What comes next.
pub enum Step {
    /// Events, at least one, in order.
    Events(Events),
    /// What it wanted was removed before it got there; it goes on behind the gap.
    Gap(Gap),
    /// The subscription has caught up with the head for the first time; this is the cursor, and the head.
    Live(Position),
    /// The broker stops.
    Ended,
}

/// Events of one step.
pub enum Events {
    /// From the log, as the encoder made them.
    Replayed(Replayed),
    /// From the memory of recent events, shared with all who follow them.
    Recent(Vec<Arc<Recent>>),
}

impl Events {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Events::Replayed(events) => events.len(),
            Events::Recent(events) => events.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Subscription {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        epoch: Epoch,
        hub: Arc<Hub>,
        filter: Arc<Filter>,
        opened: &Opened,
        encoder: Arc<dyn Encoder>,
    ) -> Self {
        let follow = hub.follow(&filter);
        Subscription {
            log,
            epoch,
            hub,
            filter,
            follow,
            encoder,
            cursor: opened.from,
            head_at_open: opened.head,
            live: false,
            reading: Reading::Not,
        }
    }

    /// The place up to which the reader has seen everything that it wants, or was told of a gap.
    pub fn cursor(&self) -> Cursor {
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
            // The order matters: first what is remembered, then whether anything was removed. What was trimmed before it
            // was routed is missing in the memory of recent events; the removal was counted before it was missed.
            let found = self.follow.after(self.cursor, LIMIT);
            let is_removed_from = self.log.removals() != self.cursor.removals;
            let step = match found {
                // A read of the log judges the cursor by itself.
                Found::Behind => self.ask(Asked::Page).await?,
                // What is durable is not routed yet.
                Found::CaughtUp(place) if !self.live && place < self.head_at_open => {
                    self.ask(Asked::Page).await?
                }
                Found::Events(_) | Found::CaughtUp(_) if is_removed_from => {
                    self.ask(Asked::Judgement).await?
                }
                Found::Events(events) => self.take_recent(events),
                Found::CaughtUp(place) => {
                    self.cursor.position = place;
                    self.reading = Reading::Not;
                    if !std::mem::replace(&mut self.live, true) {
                        return Ok(Step::Live(place));
                    }
                    poll_fn(|context| self.follow.signal().poll_raised(context)).await;
                    None
                }
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Whether it reads history: what comes next is taken from the log.
    pub fn is_replaying(&self) -> bool {
        !matches!(self.reading, Reading::Not)
    }

    /// Whether what comes next has to be read from the log.
    pub fn is_behind(&self) -> bool {
        self.is_replaying()
            || match self.follow.after(self.cursor, LIMIT) {
                Found::Behind => true,
                Found::CaughtUp(place) => !self.live && place < self.head_at_open,
                Found::Events(_) => false,
            }
    }

    /// Moves the cursor past what did not match, as far as that is known without a wait, and returns it. After a removal it
    /// stays: whether the reader missed something is judged by [`Subscription::next`].
    pub fn settle(&mut self) -> Cursor {
        if self.live
            && let Found::CaughtUp(place) = self.follow.after(self.cursor, LIMIT)
            && self.log.removals() == self.cursor.removals
        {
            self.cursor.position = place;
        }
        self.cursor
    }

    fn take_recent(&mut self, mut events: Vec<Arc<Recent>>) -> Option<Step> {
        self.cursor.position = events.last().map_or(self.cursor.position, |last| last.event.position);
        if !self.filter.is_by_topic_only() {
            events.retain(|recent| self.filter.wants_of_topic(&recent.event));
        }
        (!events.is_empty()).then_some(Step::Events(Events::Recent(events)))
    }

    /// Asks the log, and goes on from its answer.
    async fn ask(&mut self, asked: Asked) -> Result<Option<Step>, ReadError> {
        let cursor = self.cursor;
        let answer = match std::mem::replace(&mut self.reading, Reading::Not) {
            // An answer about another cursor would be out of order: recent events have moved it meanwhile.
            Reading::Begun(begun, about, answer) if begun == asked && about == cursor => answer,
            Reading::Idle(reader) => begin(reader, asked, cursor, &self.encoder),
            _ => begin(self.log.reader(Arc::clone(&self.filter)), asked, cursor, &self.encoder),
        };
        let (reader, page) = self.reading.keep(asked, cursor, answer).await;
        self.reading = Reading::Idle(reader);
        let page = page?;
        self.cursor = page.next;
        if page.gap {
            let requested = EventId::new(cursor.position, self.epoch).to_string();
            let resumed_after = page.next.position;
            return Ok(Some(Step::Gap(Gap { reason: GapReason::Trimmed, requested, resumed_after })));
        }
        Ok((!page.events.is_empty()).then_some(Step::Events(Events::Replayed(page.events))))
    }
}

fn begin(mut reader: Box<dyn LogReader>, asked: Asked, cursor: Cursor, encoder: &Arc<dyn Encoder>) -> Answer {
    let encoder = Arc::clone(encoder);
    Box::pin(async move {
        let page = match asked {
            Asked::Page => reader.replay(cursor, REPLAY_LIMIT, &encoder).await,
            Asked::Judgement => reader.resume(cursor).await.map(|resumed| ReplayPage {
                events: Replayed::new(Arc::clone(&encoder)),
                next: resumed.cursor,
                at_head: false,
                gap: resumed.gap,
            }),
        };
        (reader, page)
    })
}
