//! What is removed from a log, and how a reader knows of it.
//!
//! Two kinds of removal mean different things to a reader. What is *trimmed* (retention, a purge, an old tombstone) is a
//! loss: a reader that had not got to it is told. What is *superseded* is none: the newest event of its key is still
//! there, and comes later.

use crate::{Position, Timestamp, Topic};

/// How many removals a log has carried out since it was opened: a level that only grows, so that a reader can tell
/// whether anything was removed since it last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Removals(u64);

impl Removals {
    /// None yet.
    pub const NONE: Removals = Removals(0);

    /// One more.
    pub fn next(self) -> Self {
        Removals(self.0 + 1)
    }
}

/// A reader's place: it has seen everything that it wants up to here, and it knows of these removals.
///
/// What was trimmed after the position by a removal that it does not know of is a gap for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Everything up to here was seen.
    pub position: Position,
    /// The removals that the reader was told of, or that came before it asked.
    pub removals: Removals,
}

impl Cursor {
    /// The place of a reader that comes back: it knows of no removal, so that each one that concerns it is a gap.
    pub fn resumed(position: Position) -> Self {
        Cursor { position, removals: Removals::NONE }
    }
}

/// What may go. An event goes if any of these says so; the default keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// The newest so many events stay.
    pub events: Option<u64>,
    /// The newest events stay that have at most so many bytes together, as [`crate::Event::weight`] counts them.
    pub bytes: Option<u64>,
    /// What is older than this goes.
    pub since: Option<Timestamp>,
    /// What lies up to this place goes.
    pub after: Option<Position>,
}

/// Something to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The oldest events of a topic, up to the first one that stays. A loss for readers behind it.
    Trim {
        /// The topic.
        topic: Topic,
        /// What stays.
        keep: Keep,
    },
    /// The events of a topic that carry a key and are not the newest of it: no loss. Tombstones that are the newest of
    /// their key and of before a time go too, and those are a loss: a reader that knows an older state of the key would
    /// never learn that it is gone.
    Superseded {
        /// The topic.
        topic: Topic,
        /// Older tombstones go.
        tombstones_before: Timestamp,
    },
}

impl Removal {
    /// The topic that it is about.
    pub fn topic(&self) -> &Topic {
        match self {
            Removal::Trim { topic, .. } | Removal::Superseded { topic, .. } => topic,
        }
    }
}

/// What was removed, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Events.
    pub events: u64,
    /// Their bytes, as [`crate::Event::weight`] counts them.
    pub bytes: u64,
    /// The newest place that was removed; the origin if there is none.
    pub through: Position,
    /// There is more to remove: a removal works in bounded steps, and this was one.
    pub more: bool,
}

impl Removed {
    /// This step and a later one together.
    #[must_use]
    pub fn and(self, later: Removed) -> Self {
        Removed {
            events: self.events + later.events,
            bytes: self.bytes + later.bytes,
            through: self.through.max(later.through),
            more: later.more,
        }
    }
}
