//! What an exact copy of a log carries beside its events.
//!
//! An archive is a sequence of [`Item`]s: [`Item::Start`], then the events in order, then what is known of topics and of
//! idempotency keys, then [`Item::End`]; one that does not end in it was cut off. What is said of the topics is true as
//! of the end, so it stands behind the events: what was removed while the archive was made is told, not lost.

use std::sync::Arc;

use uuid::Uuid;

use crate::{EpochStart, Event, Position, Timestamp, Topic};

/// A piece of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The histories that the log knows, oldest first. Always the first item.
    Start {
        /// Where each epoch began.
        epochs: Vec<EpochStart>,
    },
    /// An event.
    Event(Arc<Event>),
    /// A topic that the log knows.
    Topic(ArchivedTopic),
    /// An idempotency key within its window.
    Key(ArchivedKey),
    /// Always the last item.
    End {
        /// The newest place; the origin if there was never an event.
        head: Position,
        /// When the newest event was taken.
        time: Timestamp,
        /// How many [`Item::Event`]s there are, to see that none is missing.
        events: u64,
    },
}

/// What a topic is remembered by, whatever is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedTopic {
    /// The topic.
    pub topic: Topic,
    /// The newest event that it ever had.
    pub last: Position,
    /// Everything of it up to here is removed, also if the archive has an event from before.
    pub removed_through: Position,
    /// A reader whose cursor lies before this place missed something; the origin if nothing was ever lost.
    pub missing_through: Position,
}

/// An idempotency key and the event that was published with it, which may be gone. Key and content are hashes, whose
/// meaning is the engine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivedKey {
    /// Stands for topic and key.
    pub key: [u8; 16],
    /// Stands for what was published.
    pub content: [u8; 16],
    /// The event's place.
    pub position: Position,
    /// When the log took it.
    pub time: Timestamp,
    /// Its identity.
    pub uuid: Uuid,
}
