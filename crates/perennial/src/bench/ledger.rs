//! What one reader was given, held against what was published: every event once, in order, at the place that its publisher
//! was told.
//!
//! It costs a number for each publisher, however many events there are. A list of what is missing exists only once
//! something is.

use std::fmt;
use std::ops::{AddAssign, Range};

use event_log::Position;
use serde::Serialize;

use super::payload::{Stamp, Strange, mix};

/// Faults after which it is of no use to read on.
const FAULTS_MAX: u64 = 1_000;

/// A set of events with their places, as two numbers: sets that differ have different ones, but for a chance of 2^-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) events: u64,
    /// A sum over the events, each mixed with its publisher, its number and its place.
    places: u64,
}

impl Tally {
    /// One more event.
    pub(super) fn add(&mut self, position: Position, publisher: u16, number: u64) {
        self.events += 1;
        let event = mix(number << 16 | u64::from(publisher));
        self.places = self.places.wrapping_add(mix(event ^ mix(position.get())));
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.events += other.events;
        self.places = self.places.wrapping_add(other.places);
    }
}

/// All that was answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// Events of each publisher.
    pub(super) counts: Vec<u64>,
    pub(super) tally: Tally,
}

/// What readers were given that they should not have been, or the other way round; zeros are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Faults {
    /// Events that never came.
    pub(super) lost: u64,
    /// Events that came again.
    pub(super) doubled: u64,
    /// Events that came after one that stands behind them.
    pub(super) reordered: u64,
    /// Events that this run did not publish.
    pub(super) foreign: u64,
    /// Events whose data is not what was sent.
    pub(super) damaged: u64,
    /// Readers that were given other ids than the publishers.
    pub(super) misplaced: u64,
}

impl Faults {
    fn rows(&self) -> [(u64, &'static str); 6] {
        [
            (self.lost, "lost"),
            (self.doubled, "given twice"),
            (self.reordered, "out of order"),
            (self.foreign, "not published by this run"),
            (self.damaged, "damaged"),
            (self.misplaced, "under other ids than were answered"),
        ]
    }

    pub(super) fn total(&self) -> u64 {
        self.rows().iter().map(|(count, _)| count).sum()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Faults) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        self.damaged += other.damaged;
        self.misplaced += other.misplaced;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows().into_iter().filter(|(count, _)| *count > 0);
        let told: Vec<String> = rows.map(|(count, what)| format!("{count} {what}")).collect();
        write!(f, "{}", if told.is_empty() { "none".to_owned() } else { told.join(", ") })
    }
}

/// The record of one reader, over all its connections.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    /// The number that each publisher's next event must have.
    next: Box<[u64]>,
    /// Numbers that were passed over.
    missing: Vec<(u16, Range<u64>)>,
    /// The place of the newest event.
    newest: Position,
    tally: Tally,
    faults: Faults,
}

impl Ledger {
    /// Nothing was given yet; there are so many publishers.
    pub(super) fn new(publishers: usize) -> Self {
        Ledger {
            next: vec![0; publishers].into(),
            missing: Vec::new(),
            newest: Position::ORIGIN,
            tally: Tally::default(),
            faults: Faults::default(),
        }
    }

    /// Takes the next event; false if so much is wrong that it is of no use to read on.
    pub(super) fn take(&mut self, position: Position, data: Result<Stamp, Strange>) -> bool {
        match data {
            Ok(stamp) if usize::from(stamp.publisher) < self.next.len() => self.count(position, stamp),
            Ok(_) | Err(Strange::Foreign) => self.faults.foreign += 1,
            Err(Strange::Damaged) => self.faults.damaged += 1,
        }
        self.newest = self.newest.max(position);
        self.faults.total() + self.missing.len() as u64 <= FAULTS_MAX
    }

    fn count(&mut self, position: Position, Stamp { publisher, number, .. }: Stamp) {
        let next = self.next[usize::from(publisher)];
        let is_late = number < next;
        if is_late && !self.find(publisher, number) {
            self.faults.doubled += 1;
            return;
        }
        if number > next {
            self.missing.push((publisher, next..number));
        }
        self.next[usize::from(publisher)] = next.max(number + 1);
        if is_late || position <= self.newest {
            self.faults.reordered += 1;
        }
        self.tally.add(position, publisher, number);
    }

    /// Whether this one was missing, which it is no longer.
    fn find(&mut self, publisher: u16, number: u64) -> bool {
        let holds = |(who, numbers): &(u16, Range<u64>)| *who == publisher && numbers.contains(&number);
        let Some(place) = self.missing.iter().position(holds) else { return false };
        let (_, numbers) = self.missing.swap_remove(place);
        let rest = [numbers.start..number, number + 1..numbers.end];
        self.missing.extend(rest.into_iter().filter(|rest| !rest.is_empty()).map(|rest| (publisher, rest)));
        true
    }

    /// Different events that were given.
    pub(super) fn events(&self) -> u64 {
        self.tally.events
    }

    /// What is wrong, now that everything should have been given.
    pub(super) fn judge(&self, published: &Published) -> Faults {
        let mut faults = self.faults;
        faults.lost += self.missing.iter().map(|(_, numbers)| numbers.end - numbers.start).sum::<u64>();
        let ends = published.counts.iter().zip(&self.next);
        faults.lost += ends.map(|(published, next)| published.saturating_sub(*next)).sum::<u64>();
        // What is missing or damaged makes the tallies differ as well, and was counted.
        faults.misplaced += u64::from(faults.total() == 0 && self.tally != published.tally);
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two publishers published by turns, at the places 10, 20, 30 and so on.
    fn published(events: u64) -> Published {
        let mut published =
            Published { counts: vec![events.div_ceil(2), events / 2], ..Published::default() };
        (0..events).for_each(|event| published.tally.add(place(event), (event % 2) as u16, event / 2));
        published
    }

    fn place(event: u64) -> Position {
        Position::new(10 * (event + 1))
    }

    fn stamp(event: u64) -> Result<Stamp, Strange> {
        Ok(Stamp { publisher: (event % 2) as u16, number: event / 2, nanos: 0 })
    }

    /// What a reader that was given these events, of eight, is told to be wrong.
    fn judged(given: &[u64]) -> Faults {
        let mut ledger = Ledger::new(2);
        given.iter().for_each(|event| assert!(ledger.take(place(*event), stamp(*event))));
        ledger.judge(&published(8))
    }

    #[test]
    fn every_event_once_in_order_is_exact() {
        assert_eq!(judged(&[0, 1, 2, 3, 4, 5, 6, 7]), Faults::default());
        assert_eq!(Faults::default().to_string(), "none");
    }

    #[test]
    fn a_lost_event_is_found_wherever_it_stood() {
        let lost = |lost| Faults { lost, ..Faults::default() };
        assert_eq!(judged(&[0, 1, 2, 3, 5, 6, 7]), lost(1));
        assert_eq!(judged(&[2, 3, 4, 5, 6, 7]), lost(2), "at the beginning");
        assert_eq!(judged(&[0, 1, 2, 3, 4, 5]), lost(2), "at the end");
        assert_eq!(judged(&[0, 2, 4, 6]), lost(4), "all of one publisher");
        assert_eq!(judged(&[]), lost(8), "all");
    }

    #[test]
    fn a_doubled_event_is_found_at_once_and_later() {
        let doubled = |doubled| Faults { doubled, ..Faults::default() };
        assert_eq!(judged(&[0, 1, 1, 2, 3, 4, 5, 6, 7]), doubled(1));
        assert_eq!(judged(&[0, 1, 2, 3, 4, 5, 6, 7, 0, 7]), doubled(2));
    }

    #[test]
    fn a_reordered_event_is_neither_lost_nor_doubled() {
        let reordered = |reordered| Faults { reordered, ..Faults::default() };
        assert_eq!(judged(&[0, 1, 4, 2, 3, 5, 6, 7]), reordered(2), "2 and 3 stand before 4");
        assert_eq!(judged(&[1, 0, 2, 3, 4, 5, 6, 7]), reordered(1), "of different publishers");
    }

    #[test]
    fn all_at_once_is_told_apart() {
        let faults = judged(&[0, 2, 1, 3, 3, 7, 6]);
        assert_eq!(faults, Faults { lost: 2, doubled: 1, reordered: 2, ..Faults::default() });
        assert_eq!(faults.to_string(), "2 lost, 1 given twice, 2 out of order");
    }

    #[test]
    fn an_event_at_another_place_than_was_answered_is_found() {
        let mut ledger = Ledger::new(2);
        for event in 0..8 {
            let moved = Position::new(place(event).get() + u64::from(event == 5));
            ledger.take(moved, stamp(event));
        }
        assert_eq!(ledger.judge(&published(8)), Faults { misplaced: 1, ..Faults::default() });
    }

    #[test]
    fn what_was_not_published_here_is_told_apart_from_what_was_damaged() {
        let mut ledger = Ledger::new(2);
        assert!((0..8).all(|event| ledger.take(place(event), stamp(event))));
        ledger.take(Position::new(90), Err(Strange::Foreign));
        ledger.take(Position::new(91), Ok(Stamp { publisher: 2, number: 0, nanos: 0 }));
        ledger.take(Position::new(92), Err(Strange::Damaged));
        assert_eq!(ledger.judge(&published(8)), Faults { foreign: 2, damaged: 1, ..Faults::default() });
    }

    #[test]
    fn a_reader_that_is_given_rubbish_stops() {
        let mut ledger = Ledger::new(1);
        let taken = (1..5_000).take_while(|n| ledger.take(Position::new(*n), Err(Strange::Foreign))).count();
        assert_eq!(taken as u64, FAULTS_MAX);
    }
}
