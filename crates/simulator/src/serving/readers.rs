//! What the log was really given, what became of it, and what a reader makes of what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use event_log::{Filter, Position, Topic};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    /// A loss for who had not got to it.
    Trimmed,
    Superseded,
}

/// All events that ever were, by their place.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) events: BTreeMap<Position, (Topic, String, Fate)>,
}

/// One reader over all its connections.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) filter: Arc<Filter>,
    /// The last id that it got.
    pub(crate) cursor: Position,
    pub(crate) received: usize,
    pub(crate) gaps: usize,
    /// Up to here it was told of what is missing.
    told: Vec<Position>,
}

impl Reader {
    pub(crate) fn new(filter: Arc<Filter>, cursor: Position) -> Self {
        Reader { filter, cursor, received: 0, gaps: 0, told: Vec::new() }
    }

    /// It comes back: the broker does not know what it was told before.
    pub(crate) fn come_back(&mut self) {
        self.told.clear();
    }

    /// It got an event.
    pub(crate) fn take(&mut self, position: Position, data: &str, truth: &Truth) {
        assert!(position > self.cursor, "{position} comes after {}", self.cursor);
        let (topic, published, _) = truth.events.get(&position).expect("an event that nobody published");
        assert_eq!(published, data, "{position} is not what was published");
        assert!(self.filter.wants_topic(topic), "{position} of {topic} is not wanted");
        self.pass(position.just_before(), truth);
        self.cursor = position;
        self.received += 1;
    }

    /// It was told that it is at a place: nothing that it wants lies in between, or it was told of that.
    pub(crate) fn pass(&mut self, place: Position, truth: &Truth) {
        if place <= self.cursor {
            return;
        }
        for (position, fate) in self.between(self.cursor, place, truth) {
            let is_told = self.told.contains(&position);
            match fate {
                Fate::Kept => panic!("{position} is kept, and was passed over on the way to {place}"),
                Fate::Trimmed => assert!(is_told, "{position} was trimmed, and nobody said so"),
                Fate::Superseded => {}
            }
        }
        self.cursor = place;
    }

    /// It was told that something is missing, and goes on behind a place.
    pub(crate) fn gap(&mut self, resumed_after: Position, truth: &Truth) {
        assert!(resumed_after >= self.cursor, "a gap leads back to {resumed_after} from {}", self.cursor);
        let missing: Vec<Position> = self
            .between(self.cursor, Position::new(u64::MAX), truth)
            .filter(|(position, fate)| *fate == Fate::Trimmed && !self.told.contains(position))
            .map(|(position, _)| position)
            .collect();
        assert!(!missing.is_empty(), "a gap after {} where nothing new is missing", self.cursor);
        self.told.extend(missing);
        self.gaps += 1;
        self.pass(resumed_after, truth);
    }

    fn between<'a>(
        &'a self,
        after: Position,
        through: Position,
        truth: &'a Truth,
    ) -> impl Iterator<Item = (Position, Fate)> + use<'a> {
        let all =
            truth.events.iter().filter(move |(position, _)| **position > after && **position <= through);
        let wanted = all.filter(|(_, (topic, ..))| self.filter.wants_topic(topic));
        wanted.map(|(position, (_, _, fate))| (*position, *fate)).collect::<Vec<_>>().into_iter()
    }
}
