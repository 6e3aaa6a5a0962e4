//! An event before and after it has its place.

use uuid::Uuid;

use crate::{Data, EventType, IdempotencyKey, Key, Origin, Position, Timestamp, Topic};

/// An event that nobody has ordered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Where it belongs.
    pub topic: Topic,
    /// Its type; `None` is the same as `message`.
    pub event_type: Option<EventType>,
    /// What it is the newest state of.
    pub key: Option<Key>,
    /// Who published it.
    pub origin: Option<Origin>,
    /// What makes a retry of it recognisable.
    pub idempotency_key: Option<IdempotencyKey>,
    /// What is published.
    pub data: Data,
}

impl NewEvent {
    /// An event with nothing but its topic and data.
    pub fn new(topic: Topic, data: Data) -> Self {
        NewEvent { topic, event_type: None, key: None, origin: None, idempotency_key: None, data }
    }

    /// What a queue and a policy count: bytes of data, topic, type and key.
    pub fn weight(&self) -> usize {
        weight(&self.topic, self.event_type.as_ref(), self.key.as_ref(), &self.data)
    }
}

/// An event that has its place: it is durable, and it never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the one order.
    pub position: Position,
    /// When the log took it; never decreases along the order.
    pub time: Timestamp,
    /// Its identity outside of this log.
    pub uuid: Uuid,
    /// Where it belongs.
    pub topic: Topic,
    /// Its type; `None` is the same as `message`.
    pub event_type: Option<EventType>,
    /// What it is the newest state of.
    pub key: Option<Key>,
    /// Who published it.
    pub origin: Option<Origin>,
    /// What was published.
    pub data: Data,
}

impl Event {
    /// Gives an event its place. Its idempotency key stays with the log.
    pub fn place(event: NewEvent, position: Position, time: Timestamp, uuid: Uuid) -> Self {
        let NewEvent { topic, event_type, key, origin, idempotency_key: _, data } = event;
        Event { position, time, uuid, topic, event_type, key, origin, data }
    }

    /// The name of the type, `message` if there is none.
    pub fn type_name(&self) -> &str {
        self.event_type.as_ref().map_or(EventType::MESSAGE, EventType::as_str)
    }

    /// What a policy counts: bytes of data, topic, type and key.
    pub fn weight(&self) -> usize {
        weight(&self.topic, self.event_type.as_ref(), self.key.as_ref(), &self.data)
    }
}

fn weight(topic: &Topic, event_type: Option<&EventType>, key: Option<&Key>, data: &Data) -> usize {
    let optional = event_type.map_or(0, |t| t.as_str().len()) + key.map_or(0, |k| k.as_str().len());
    data.as_str().len() + topic.as_str().len() + optional
}
