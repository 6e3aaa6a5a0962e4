//! The topic that policies are kept on: each change is an event, and what holds is what its events say, in their order.
//!
//! So whoever changes a policy publishes first, and then everybody learns of it by reading: two changes that race, an
//! answer that comes late, and one that nobody waits for any more, all come out as the log has them.

use std::sync::Arc;

use bytestring::ByteString;
use event_log::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use event_log::{
    AppendError, Batch, Cursor, Data, Event, EventLog, EventType, Filter, Key, NewEvent, PageLimit, Pattern,
    ReadError, Topic,
};
use parking_lot::Mutex;
use serde_json::json;

use crate::own::{event_type, own_topic};
use crate::policies::Policies;
use crate::policy::{Policy, Stated};

const NAME: &str = "$broker.policies";
const LIMIT: PageLimit = PageLimit { events: PAGE_EVENTS_MAX, bytes: PAGE_BYTES_MAX };

pub(crate) struct PolicyTopic {
    log: Arc<dyn EventLog>,
    topic: Topic,
    state: Mutex<State>,
}

struct State {
    /// What was read up to here is in the set.
    read: Cursor,
    policies: Arc<Policies>,
}

impl PolicyTopic {
    /// The topic, of which nothing is read yet.
    pub(crate) fn new(log: Arc<dyn EventLog>) -> Self {
        let state = State { read: Cursor::default(), policies: Arc::default() };
        PolicyTopic { log, topic: own_topic(NAME), state: Mutex::new(state) }
    }

    /// The set as it was when it was last read.
    pub(crate) fn known(&self) -> Arc<Policies> {
        Arc::clone(&self.state.lock().policies)
    }

    /// The set with every change that is durable now.
    pub(crate) async fn current(&self) -> Result<Arc<Policies>, ReadError> {
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
        let new = events.iter().filter(|event| event.position > state.read.position);
        let changes: Vec<_> = new.filter_map(|event| change(event)).collect();
        if !changes.is_empty() {
            state.policies = Arc::new(state.policies.changed(changes));
        }
        if next.position > state.read.position {
            state.read = next;
        }
    }

    /// Publishes that a pattern has a policy, or none any more.
    pub(crate) async fn publish(
        &self,
        pattern: &Pattern,
        policy: Option<&Policy>,
    ) -> Result<(), AppendError> {
        let (event_type, data) = match policy {
            Some(policy) => {
                let stated = serde_json::to_string(&Stated { pattern, policy });
                (event_type("policy"), stated.expect("texts and numbers have a JSON"))
            }
            None => (EventType::delete(), json!({ "key": pattern.as_str() }).to_string()),
        };
        let event = NewEvent {
            event_type: Some(event_type),
            key: Some(Key::parse(pattern.as_str()).expect("a pattern is as short as a key and has no NUL")),
            ..NewEvent::new(self.topic.clone(), Data::from(ByteString::from(data)))
        };
        self.log.append(Batch::new(vec![event])).await.map(|_| ())
    }
}

/// What an event says. One that cannot be read keeps everything of what its pattern governs: to leave it out would let a
/// less specific policy remove what it was written to keep.
fn change(event: &Event) -> Option<(Pattern, Option<Policy>)> {
    let unreadable = |reason: String| {
        tracing::error!(event = %event.position, reason, "a policy cannot be read; what it governs is kept");
    };
    let pattern = event.key.as_ref().map(|key| Pattern::parse(key.as_str()));
    let pattern = match pattern {
        Some(Ok(pattern)) => pattern,
        Some(Err(invalid)) => {
            unreadable(invalid.detail);
            return None;
        }
        None => {
            unreadable("it has no key".to_owned());
            return None;
        }
    };
    if event.type_name() == EventType::DELETE {
        return Some((pattern, None));
    }
    let policy = Policy::parse_stated(event.data.as_str()).unwrap_or_else(|invalid| {
        unreadable(invalid.detail);
        Policy::default()
    });
    Some((pattern, Some(policy)))
}
