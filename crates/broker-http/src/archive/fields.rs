//! One line's object, and the event that it holds.

use bytestring::ByteString;
use event_log::limits::DATA_BYTES_CEILING;
use event_log::{Data, EventType, IdempotencyKey, Invalid, Key, NewEvent, Origin, Topic};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Why a line, or the whole text, cannot be taken: a sentence that says what was wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    pub(super) fn new(detail: impl Into<String>) -> Self {
        Unreadable(detail.into())
    }

    /// What serde says of a line, without the number that it gives to a single line.
    pub(super) fn json(what: &str, error: &serde_json::Error) -> Self {
        let full = error.to_string();
        let detail = full.rfind(" at line ").map_or(full.as_str(), |place| &full[..place]);
        Unreadable(format!("{what} cannot be read: {detail}, at its column {}", error.column()))
    }
}

impl From<Invalid> for Unreadable {
    fn from(invalid: Invalid) -> Self {
        Unreadable(invalid.detail)
    }
}

/// An object's fields as they stand; null is as if absent, but not for data.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields<'a> {
    pub(super) id: Option<String>,
    pub(super) topic: Option<String>,
    #[serde(rename = "type")]
    pub(super) event_type: Option<String>,
    pub(super) key: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) time: Option<String>,
    pub(super) uuid: Option<String>,
    pub(super) idempotency_key: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) data: Option<&'a RawValue>,
}

/// Any JSON, null too, which is the text `null`.
fn present<'de, D: Deserializer<'de>>(source: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(source).map(Some)
}

impl<'a> Fields<'a> {
    pub(super) fn parse(line: &'a str) -> Result<Self, Unreadable> {
        // An array would be read too, as the fields in their order.
        match line.starts_with('{') {
            true => serde_json::from_str(line).map_err(|error| Unreadable::json("the line", &error)),
            false => Err(Unreadable::new(
                r#"the line is no JSON object; each line is one, such as {"topic":"a.b","data":"text"}"#,
            )),
        }
    }

    /// The type, if the line is a fact: it has no topic.
    pub(super) fn fact(&self) -> Option<&str> {
        self.event_type.as_deref().filter(|name| self.topic.is_none() && name.starts_with('$'))
    }

    /// What the event is, without its place. The broker's own types are taken where only the broker could have published
    /// them.
    pub(super) fn event(self) -> Result<NewEvent, Unreadable> {
        let topic = Topic::parse(self.topic.ok_or_else(|| missing("topic"))?)?;
        let key = self.key.map(Key::parse).transpose()?;
        let event_type = match self.event_type {
            None => None,
            Some(name) => {
                let is_tombstone = name == EventType::DELETE && key.is_some();
                match name.starts_with('$') && (topic.is_reserved() || is_tombstone) {
                    true => Some(EventType::parse(name)?),
                    false => EventType::parse_published(name)?,
                }
            }
        };
        let data = text(self.data.ok_or_else(|| missing("data"))?.get())?;
        Ok(NewEvent {
            topic,
            event_type,
            key,
            origin: self.origin.map(Origin::parse).transpose()?,
            idempotency_key: self.idempotency_key.map(IdempotencyKey::parse).transpose()?,
            data: Data::parse(data, DATA_BYTES_CEILING)?,
        })
    }
}

/// The data as it was published: a JSON string is the text in it, any other JSON the text itself.
fn text(json: &str) -> Result<ByteString, Unreadable> {
    match json.starts_with('"') {
        true => serde_json::from_str(json)
            .map(|text: String| text.into())
            .map_err(|error| Unreadable::json("the data's string", &error)),
        false => Ok(json.into()),
    }
}

pub(super) fn missing(field: &str) -> Unreadable {
    Unreadable::new(format!("the line has no {field}; the line of an event has at least a topic and data"))
}
