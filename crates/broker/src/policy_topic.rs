//! The topic that policies are kept on: each change is an event.

use bytestring::ByteString;
use event_log::{Data, Event, EventType, Key, NewEvent, Pattern, Topic};
use serde_json::json;

use crate::own::event_type;
use crate::policies::Policies;
use crate::policy::{Policy, Stated};
use crate::told::{OwnTopic, Told};

pub(crate) const NAME: &str = "$broker.policies";

pub(crate) type PolicyTopic = OwnTopic<Policies>;

impl Told for Policies {
    fn after<'a>(&self, events: impl Iterator<Item = &'a Event>) -> Self {
        self.changed(events.filter_map(change))
    }
}

/// That a pattern has a policy, or none any more.
pub(crate) fn event(topic: Topic, pattern: &Pattern, policy: Option<&Policy>) -> NewEvent {
    let (event_type, data) = match policy {
        Some(policy) => {
            let stated = serde_json::to_string(&Stated { pattern, policy });
            (event_type("policy"), stated.expect("texts and numbers have a JSON"))
        }
        None => (EventType::delete(), json!({ "key": pattern.as_str() }).to_string()),
    };
    NewEvent {
        event_type: Some(event_type),
        key: Some(Key::parse(pattern.as_str()).expect("a pattern is as short as a key and has no NUL")),
        ..NewEvent::new(topic, Data::from(ByteString::from(data)))
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
