//! The topic that revocations of tokens are kept on: each is an event, and its time is the revocation's.

use auth::{Revocation, Revocations, StatedRevocation, Target};
use bytestring::ByteString;
use event_log::{Data, Event, Key, NewEvent, Timestamp, Topic};

use crate::own::event_type;
use crate::told::{OwnTopic, Told};

pub(crate) const NAME: &str = "$broker.revocations";

pub(crate) type RevocationTopic = OwnTopic<Revocations>;

impl Told for Revocations {
    fn after<'a>(&self, events: impl Iterator<Item = &'a Event>) -> Self {
        let mut all = self.clone();
        events.filter_map(revocation).for_each(|revocation| all.add(revocation));
        all
    }
}

/// That tokens are taken back.
pub(crate) fn event(topic: Topic, target: &Target, until: Option<Timestamp>) -> NewEvent {
    let stated = serde_json::to_string(&StatedRevocation::of(target, until));
    let key = match target {
        Target::Token(id) => format!("jti:{id}"),
        Target::Subject(subject) => format!("subject:{subject}"),
    };
    NewEvent {
        event_type: Some(event_type("revocation")),
        key: Some(Key::parse(key).expect("a name in a token is shorter than a key and has no NUL")),
        ..NewEvent::new(topic, Data::from(ByteString::from(stated.expect("texts have a JSON"))))
    }
}

fn revocation(event: &Event) -> Option<Revocation> {
    let read = serde_json::from_str::<StatedRevocation>(event.data.as_str())
        .map_err(|error| error.to_string())
        .and_then(|stated| stated.read().map_err(|(_, why)| why));
    match read {
        Ok((target, until)) => Some(Revocation { target, at: event.time, until }),
        Err(reason) => {
            tracing::error!(event = %event.position, reason, "a revocation cannot be read; it does not hold");
            None
        }
    }
}
