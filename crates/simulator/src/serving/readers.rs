//! What the log was really given, what became of it, and what a reader makes of what it is told.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use event_log::{Cursor, Filter, Position, Removals, Topic};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    /// By this removal: a loss for who had not got to it.
    Trimmed(Removals),
    Superseded,
}

/// An event as it was published.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) topic: Topic,
    pub(crate) data: String,
    pub(crate) fate: Fate,
    /// A purge that took it was answered: nobody finds it in the memory of recent events any more.
    pub(crate) purged: bool,
}

/// All events that ever were, by their place.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) events: BTreeMap<Position, Published>,
}

/// One reader over all its connections.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) number: usize,
    pub(crate) filter: Arc<Filter>,
    /// Up to here it has everything, or was told that it has not.
    pub(crate) cursor: Position,
    pub(crate) received: usize,
    pub(crate) gaps: usize,
    /// The removals that came before it asked, or that its last gap told it of. What they trimmed is no news.
    told: Removals,
}

impl Reader {
    pub(crate) fn new(number: usize, filter: Arc<Filter>) -> Self {
        Reader { number, filter, cursor: Position::ORIGIN, received: 0, gaps: 0, told: Removals::NONE }
    }

    /// It comes back with an id: nobody knows any more what it was told before.
    pub(crate) fn come_back(&mut self) {
        self.told = Removals::NONE;
    }

    /// It asked for what is kept, and begins here.
    pub(crate) fn begin(&mut self, from: Cursor) {
        (self.cursor, self.told) = (from.position, from.removals);
    }

    /// It got an event.
    pub(crate) fn take(&mut self, position: Position, data: &str, truth: &Truth) {
        assert!(position > self.cursor, "{position} comes after {}", self.cursor);
        let event = truth.events.get(&position).expect("an event that nobody published");
        assert_eq!(event.data, data, "{position} is not what was published");
        assert!(self.filter.wants_topic(&event.topic), "{position} of {} is not wanted", event.topic);
        let is_missing = matches!(event.fate, Fate::Trimmed(by) if by <= self.told);
        assert!(!is_missing, "{position} comes after it was said to be missing");
        self.pass(position.just_before(), truth);
        self.cursor = position;
        self.received += 1;
    }

    /// It was told that it is at a place: nothing that it wants lies in between, or it was told of that.
    pub(crate) fn pass(&mut self, place: Position, truth: &Truth) {
        for (position, fate) in self.after_cursor(truth).take_while(|(position, _)| *position <= place) {
            match fate {
                Fate::Kept => panic!("{position} is kept, and was passed over on the way to {place}"),
                Fate::Trimmed(by) => {
                    assert!(by <= self.told, "{position} was trimmed by {by:?}, and nobody said so");
                }
                Fate::Superseded => {}
            }
        }
        self.cursor = self.cursor.max(place);
    }

    /// It was told that something is missing, and goes on from a cursor. How far that is told is what the cursor knows: the
    /// log may have removed more since it was asked, and that is told by another gap.
    pub(crate) fn gap(&mut self, to: Cursor, now: Removals, truth: &Truth) {
        assert!(to.position >= self.cursor, "a gap leads back to {} from {}", to.position, self.cursor);
        assert!(to.removals <= now, "{:?} are not carried out, but {now:?}", to.removals);
        let mut new = self.after_cursor(truth).filter_map(|(position, fate)| match fate {
            Fate::Trimmed(by) if by > self.told && by <= to.removals => Some(position),
            _ => None,
        });
        assert!(new.next().is_some(), "a gap after {} where nothing new is missing", self.cursor);
        self.told = to.removals;
        self.gaps += 1;
        self.pass(to.position, truth);
    }

    /// What it wants after its cursor, in order.
    fn after_cursor<'a>(&self, truth: &'a Truth) -> impl Iterator<Item = (Position, Fate)> + use<'a> {
        let filter = Arc::clone(&self.filter);
        let after = truth.events.range((Bound::Excluded(self.cursor), Bound::Unbounded));
        let wanted = after.filter(move |(_, event)| filter.wants_topic(&event.topic));
        wanted.map(|(position, event)| (*position, event.fate))
    }
}
