//! Names of the broker's own topics and types, which are constants and known to be good.

use event_log::{EventType, Topic};

pub(crate) fn own_topic(name: &'static str) -> Topic {
    Topic::parse(name).expect("a name of the broker's own is a topic")
}

pub(crate) fn event_type(name: &'static str) -> EventType {
    EventType::parse(name).expect("a name of the broker's own is a type")
}
