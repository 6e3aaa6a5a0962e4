//! What an archive says beside its events: one shape for each kind of line, which the writer and the reader share.

use event_log::{ArchivedKey, ArchivedTopic, Epoch, EpochStart, EventId, Position, Timestamp, Topic};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fields::Unreadable;

pub(super) const EXPORT: &str = "$export";
pub(super) const TOPIC: &str = "$topic";
pub(super) const KEY: &str = "$key";
pub(super) const END: &str = "$end";

/// The data of `$export`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Export {
    pub(super) version: u64,
    pub(super) epochs: Vec<Start>,
}

/// Only the version, to be looked at before anything that another version may say otherwise.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    epoch: String,
    after: u64,
}

impl From<&EpochStart> for Start {
    fn from(start: &EpochStart) -> Self {
        Start { epoch: start.epoch.to_string(), after: start.after.get() }
    }
}

impl Start {
    pub(super) fn read(&self) -> Result<EpochStart, Unreadable> {
        let epoch = epoch(&self.epoch).ok_or_else(|| {
            Unreadable::new(format!("{:?} is no epoch; one has 8 lower-case hexadecimal digits", self.epoch))
        })?;
        Ok(EpochStart { epoch, after: Position::new(self.after) })
    }
}

/// An epoch is read where an id is.
fn epoch(text: &str) -> Option<Epoch> {
    EventId::parse(format!("0-{text}").as_bytes()).ok()?.epoch
}

/// The data of `$topic`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicFact {
    topic: String,
    pub(super) last: u64,
    removed_through: u64,
    missing_through: u64,
}

impl From<&ArchivedTopic> for TopicFact {
    fn from(archived: &ArchivedTopic) -> Self {
        TopicFact {
            topic: archived.topic.as_str().to_owned(),
            last: archived.last.get(),
            removed_through: archived.removed_through.get(),
            missing_through: archived.missing_through.get(),
        }
    }
}

impl TopicFact {
    pub(super) fn read(self) -> Result<ArchivedTopic, Unreadable> {
        Ok(ArchivedTopic {
            topic: Topic::parse(self.topic)?,
            last: Position::new(self.last),
            removed_through: Position::new(self.removed_through),
            missing_through: Position::new(self.missing_through),
        })
    }
}

/// The data of `$key`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFact {
    key: String,
    content: String,
    time: String,
    uuid: String,
}

impl From<&ArchivedKey> for KeyFact {
    fn from(archived: &ArchivedKey) -> Self {
        KeyFact {
            key: digits(archived.key),
            content: digits(archived.content),
            time: archived.time.to_string(),
            uuid: archived.uuid.to_string(),
        }
    }
}

impl KeyFact {
    pub(super) fn read(&self, position: Position) -> Result<ArchivedKey, Unreadable> {
        Ok(ArchivedKey {
            key: hash(&self.key)?,
            content: hash(&self.content)?,
            position,
            time: time(&self.time)?,
            uuid: uuid(&self.uuid)?,
        })
    }
}

/// The data of `$end`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) events: u64,
    pub(super) time: String,
}

fn digits(hash: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(hash))
}

fn hash(text: &str) -> Result<[u8; 16], Unreadable> {
    let number = u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes);
    number.filter(|hash| digits(*hash) == text).ok_or_else(|| {
        Unreadable::new(format!("{text:?} is no hash; one has 32 lower-case hexadecimal digits"))
    })
}

/// A time as the broker writes it: with six digits of a second, in UTC. Another form would not come back the same.
pub(super) fn time(text: &str) -> Result<Timestamp, Unreadable> {
    let time = Timestamp::parse_rfc3339(text)?;
    match time.to_string() == text {
        true => Ok(time),
        false => {
            Err(Unreadable::new(format!("the time {text:?} is not in the broker's form, which is {time}")))
        }
    }
}

pub(super) fn uuid(text: &str) -> Result<Uuid, Unreadable> {
    let uuid = Uuid::try_parse(text).ok().filter(|uuid| uuid.to_string() == text);
    uuid.ok_or_else(|| {
        Unreadable::new(format!("{text:?} is no uuid; one looks like 0199d9a6-3a1c-7cc4-8d0e-3f1b5a7c9e21"))
    })
}
