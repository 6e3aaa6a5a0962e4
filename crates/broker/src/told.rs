//! A topic of the broker's own, and what its events tell together.
//!
//! What holds is what the events say, in their order. So whoever changes it publishes first, and then everybody learns of it by
//! reading: two changes that race, an answer that comes late, and one that nobody waits for any more, all come out as the
//! log has them.

use std::sync::Arc;

use event_log::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use event_log::{AppendError, Batch, Cursor, Event, EventLog, Filter, NewEvent, PageLimit, ReadError, Topic};
use parking_lot::Mutex;

use crate::own::own_topic;

const LIMIT: PageLimit = PageLimit { events: PAGE_EVENTS_MAX, bytes: PAGE_BYTES_MAX };

/// What the events of a topic tell together.
pub(crate) trait Told: Default {
    /// The same after more events, in their order.
    fn after<'a>(&self, events: impl Iterator<Item = &'a Event>) -> Self;
}

pub(crate) struct OwnTopic<T> {
    log: Arc<dyn EventLog>,
    topic: Topic,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// What was read up to here is in what is told.
    read: Cursor,
    told: Arc<T>,
}

impl<T: Told> OwnTopic<T> {
    /// The topic, of which nothing is read yet.
    pub(crate) fn new(log: Arc<dyn EventLog>, name: &'static str) -> Self {
        let state = State { read: Cursor::default(), told: Arc::default() };
        OwnTopic { log, topic: own_topic(name), state: Mutex::new(state) }
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// What was told when it was last read.
    pub(crate) fn known(&self) -> Arc<T> {
        Arc::clone(&self.state.lock().told)
    }

    /// What is told with every change that is durable now.
    pub(crate) async fn current(&self) -> Result<Arc<T>, ReadError> {
        let Some(stats) = self.log.topic(&self.topic) else { return Ok(self.known()) };
        let mut reader = None;
        loop {
            let after = self.state.lock().read;
            if after.position >= stats.last {
                return Ok(self.known());
            }
            let reader = reader.get_or_insert_with(|| {
                self.log.reader(Arc::new(Filter::new(vec![self.topic.clone().into()])))
            });
            let page = reader.read(after, LIMIT).await?;
            self.take_in(&page.events, page.next);
        }
    }

    /// Takes in a page that began at or before what was read. Several may read at the same time; what one of them has
    /// taken in already is left out.
    fn take_in(&self, events: &[Arc<Event>], next: Cursor) {
        let mut state = self.state.lock();
        let read = state.read;
        let mut new =
            events.iter().map(|event| &**event).filter(|event| event.position > read.position).peekable();
        if new.peek().is_some() {
            state.told = Arc::new(state.told.after(new));
        }
        if next.position > state.read.position {
            state.read = next;
        }
    }

    /// Publishes a change.
    pub(crate) async fn publish(&self, event: NewEvent) -> Result<(), AppendError> {
        self.log.append(Batch::new(vec![event])).await.map(|_| ())
    }
}
