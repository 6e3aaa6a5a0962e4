//! The engine beside the in-memory model: the ledger is played to the model, and both must then agree in everything but the
//! positions, whose order they must agree in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use event_log::contract::{WINDOW, filter, read_from};
use event_log::memory::MemoryLog;
use event_log::{
    AppendError, Batch, Cursor, Data, Event, EventId, EventLog, EventType, Expected, Filter, IdempotencyKey,
    Keep, Key, ManualClock, NewEvent, Origin, PageLimit, Position, Receipt, Removal, Removed, Seek,
    Timestamp, Topic, TopicStats,
};
use event_log_sled::SledLog;
use futures_executor::block_on;

use crate::numbers::Numbers;
use crate::storage::history::{Answer, Condition, Kept, Kind, Ledger, Operation, Placed, Shape};

/// The topics of all events. The first is written to most.
pub(crate) const TOPICS: [&str; 5] = ["bulk", "rare.a", "rare.b", "states", "$broker.x"];
const PATTERNS: [&[&str]; 6] = [
    &["**", "$broker.**"],
    &["bulk"],
    &["rare.a"],
    &["rare.*", "$broker.**"],
    &["absent"],
    &["states", "rare.b"],
];
const EVERYTHING: PageLimit = PageLimit { events: 4_096, bytes: 1 << 22 };

/// An event in both logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    model: Position,
    placed: Placed,
}

/// The model, and where each event lies in both logs.
pub(crate) struct Twin {
    clock: Arc<ManualClock>,
    model: MemoryLog,
    places: Vec<Place>,
}

impl Twin {
    /// Plays a ledger to the model.
    pub(crate) fn new(clock: &Arc<ManualClock>, ledger: &Ledger) -> Self {
        let model = MemoryLog::new(Arc::<ManualClock>::clone(clock), WINDOW);
        let mut twin = Twin { clock: Arc::clone(clock), model, places: Vec::new() };
        for (operation, answer) in &ledger.done {
            if *answer != Answer::Never {
                twin.check(operation, answer);
            }
        }
        twin
    }

    /// How many events there ever were.
    pub(crate) fn events(&self) -> usize {
        self.places.len()
    }

    /// Does on the model what an operation did on the engine, and compares the answers.
    pub(crate) fn check(&mut self, operation: &Operation, answer: &Answer) {
        self.clock.set(Timestamp::from_micros(operation.now));
        match &operation.kind {
            Kind::Append { .. } => {
                let batch = self.batch(operation, |place| place.model);
                let model = block_on(self.model.append(batch));
                match (answer, model) {
                    (Answer::Appended(placed), Ok(receipt)) => self.take(placed, &receipt),
                    (Answer::Refused(code), Err(error)) => assert_eq!(code, error.code()),
                    (answer, model) => panic!("the log answered {answer:?}, the model {model:?}"),
                }
            }
            Kind::Trim { .. } | Kind::Compact { .. } => {
                let removed = self.remove_all(&self.removal(operation, |place| place.model));
                let Answer::Removed { events, bytes, through } = answer else {
                    panic!("a removal was answered {answer:?}");
                };
                assert_eq!((*events, *bytes), (removed.events, removed.bytes), "{operation:?}");
                let through = Position::new(*through);
                assert_eq!(self.order(through), self.model_order(removed.through), "{operation:?}");
            }
        }
    }

    /// Notes where the events of a batch came to lie.
    fn take(&mut self, placed: &[Placed], receipt: &Receipt) {
        assert_eq!(placed.len(), receipt.events.len());
        for (placed, model) in placed.iter().zip(&receipt.events) {
            assert_eq!(placed.duplicate, model.duplicate, "{placed:?}");
            assert_eq!(placed.time, model.time.as_micros(), "{placed:?}");
            match placed.duplicate {
                true => {
                    let first = self.places.iter().find(|place| place.model == model.position);
                    let first = first.expect("a duplicate has a first");
                    assert_eq!(
                        Placed { duplicate: true, ..first.placed },
                        *placed,
                        "a retry got another answer"
                    );
                }
                false => {
                    let last = self.places.last().map_or(0, |place| place.placed.position);
                    assert!(placed.position > last, "{} was given after {last}", placed.position);
                    self.places.push(Place { model: model.position, placed: *placed });
                }
            }
        }
    }

    fn remove_all(&self, removal: &Removal) -> Removed {
        let mut sum = Removed::default();
        loop {
            let step = block_on(self.model.remove(vec![removal.clone()])).expect("the model is open");
            sum = sum.and(step);
            if !step.more {
                return sum;
            }
        }
    }

    /// The batch of an operation, for the log whose places are given.
    pub(crate) fn batch(&self, operation: &Operation, at: fn(&Place) -> Position) -> Batch {
        let Kind::Append { seed, shape, condition } = &operation.kind else {
            panic!("no append: {operation:?}")
        };
        let expected = match condition {
            Condition::Nothing => None,
            Condition::Never => Some(Expected::Never),
            Condition::Place(number) => {
                let position = self.places.get(*number).map_or(Position::ORIGIN, at);
                Some(Expected::Event(EventId { position, epoch: None }))
            }
        };
        Batch { events: events(*seed, *shape), expected }
    }

    /// The removal of an operation.
    pub(crate) fn removal(&self, operation: &Operation, at: fn(&Place) -> Position) -> Removal {
        let now = Timestamp::from_micros(operation.now);
        let ago = |seconds: u64| now.saturating_sub(Duration::from_secs(seconds));
        match &operation.kind {
            Kind::Trim { topic, kept } => {
                let keep = match *kept {
                    Kept::Events(events) => Keep { events: Some(events), ..Keep::default() },
                    Kept::Bytes(bytes) => Keep { bytes: Some(bytes), ..Keep::default() },
                    Kept::Seconds(seconds) => Keep { since: Some(ago(seconds)), ..Keep::default() },
                    Kept::After(number) => {
                        let after = self.places.get(number).map_or(Position::ORIGIN, at);
                        Keep { after: Some(after), ..Keep::default() }
                    }
                };
                Removal::Trim { topic: parse(TOPICS[*topic]), keep }
            }
            Kind::Compact { topic, seconds } => {
                Removal::Superseded { topic: parse(TOPICS[*topic]), tombstones_before: ago(*seconds) }
            }
            Kind::Append { .. } => panic!("no removal: {operation:?}"),
        }
    }

    /// How many events lie at or before a place of the engine.
    fn order(&self, place: Position) -> usize {
        self.places.partition_point(|known| known.placed.position <= place.get())
    }

    fn model_order(&self, place: Position) -> usize {
        self.places.partition_point(|known| known.model <= place)
    }

    /// Finds out what became of operations that nobody was answered before a crash: a part of them from the first one on has
    /// happened, each of them wholly, and the others have not. Returns the answers that they would have got.
    pub(crate) fn resolve(&mut self, engine: &SledLog, in_flight: &[Operation]) -> Vec<Answer> {
        let last = self.places.last().map_or(Position::ORIGIN, |place| Position::new(place.placed.position));
        let (found, _) = read_from(engine, wanted(0), cursor_at(engine, last), EVERYTHING);
        let mut found = found.as_slice();
        let mut answers = Vec::new();
        let mut is_over = false;
        for operation in in_flight {
            let answer = match operation.kind {
                Kind::Append { .. } => self.resolve_append(operation, &mut found, is_over),
                Kind::Trim { .. } | Kind::Compact { .. } => self.resolve_removal(engine, operation),
            };
            is_over |= answer == Answer::Never;
            answers.push(answer);
        }
        assert!(found.is_empty(), "events that nobody published, or that come twice: {found:?}");
        answers
    }

    fn resolve_append(&mut self, operation: &Operation, found: &mut &[Arc<Event>], is_over: bool) -> Answer {
        self.clock.set(Timestamp::from_micros(operation.now));
        let tried = self.model.reopened();
        let batch = self.batch(operation, |place| place.model);
        let receipt = match block_on(tried.append(batch)) {
            Ok(receipt) => receipt,
            Err(error) => return Answer::Refused(error.code().to_owned()),
        };
        let new = receipt.events.iter().filter(|event| !event.duplicate).count();
        let is_there = new > 0 && !found.is_empty() && !is_over;
        if new > 0 && !is_there {
            return Answer::Never;
        }
        assert!(found.len() >= new, "of a batch of {new} events {} are there", found.len());
        let (own, rest) = found.split_at(new);
        *found = rest;
        let mut own = own.iter();
        let placed = receipt.events.iter().map(|model| match model.duplicate {
            true => {
                let first = self.places.iter().find(|place| place.model == model.position);
                let own = || Placed { duplicate: true, ..Placed::default_of(model.position) };
                first.map_or_else(own, |first| Placed { duplicate: true, ..first.placed })
            }
            false => Placed::of(own.next().expect("as many as are new")),
        });
        let mut placed: Vec<Placed> = placed.collect();
        // A key that comes twice in one batch: the second one has the place of the first.
        for at in 0..placed.len() {
            let model = receipt.events[at];
            if let Some(first) = (0..at).find(|n| receipt.events[*n].position == model.position) {
                placed[at] = Placed { duplicate: true, ..placed[first] };
            }
        }
        self.model = tried;
        self.take(&placed, &receipt);
        Answer::Appended(placed)
    }

    fn resolve_removal(&mut self, engine: &SledLog, operation: &Operation) -> Answer {
        self.clock.set(Timestamp::from_micros(operation.now));
        let before = self.model.reopened();
        let removed = self.remove_all(&self.removal(operation, |place| place.model));
        if removed.events == 0 || self.has_same_topics(engine) {
            let through = match self.model_order(removed.through) {
                0 => 0,
                order => self.places[order - 1].placed.position,
            };
            return Answer::Removed { events: removed.events, bytes: removed.bytes, through };
        }
        self.model = before;
        Answer::Never
    }

    fn has_same_topics(&self, engine: &SledLog) -> bool {
        self.topics(&engine.topics(None), |twin, place| twin.order(place))
            == self.topics(&self.model.topics(None), |twin, place| twin.model_order(place))
    }

    fn topics(&self, stats: &[TopicStats], order: fn(&Self, Position) -> usize) -> Vec<(String, [u64; 4])> {
        let row = |stats: &TopicStats| {
            let first = stats.first.map_or(0, |first| order(self, first) as u64);
            let last = order(self, stats.last) as u64;
            (stats.topic.to_string(), [first, last, stats.events, stats.bytes])
        };
        stats.iter().map(row).collect()
    }

    /// Compares everything that can be asked, some of it at places that the numbers choose.
    pub(crate) fn compare(&self, engine: &SledLog, numbers: &mut Numbers) {
        self.compare_everything(engine);
        assert!(self.has_same_topics(engine), "{:?} and {:?}", engine.topics(None), self.model.topics(None));
        let (found, expected) = (engine.bounds(), self.model.bounds());
        assert_eq!((found.events, found.bytes), (expected.events, expected.bytes));
        assert_eq!(self.order(found.head), self.places.len(), "the head is the newest event");
        let oldest = |order: usize, place: Option<Position>| place.map(|_| order);
        assert_eq!(
            oldest(self.order(found.oldest.unwrap_or_default()), found.oldest),
            oldest(self.model_order(expected.oldest.unwrap_or_default()), expected.oldest)
        );
        for (patterns, names) in PATTERNS.iter().enumerate().skip(1) {
            let (engine_cursor, model_cursor) = self.cursor(numbers);
            let limit = PageLimit { events: 1 + numbers.index(300), bytes: 1 + numbers.index(60_000) };
            let found = read_from(engine, wanted(patterns), Cursor::resumed(engine_cursor), limit);
            let expected = read_from(&self.model, wanted(patterns), Cursor::resumed(model_cursor), limit);
            self.compare_events(&found.0, &expected.0);
            let found: Vec<usize> = found.1.iter().map(|place| self.order(*place)).collect();
            let expected: Vec<usize> = expected.1.iter().map(|place| self.model_order(*place)).collect();
            assert_eq!(found, expected, "gaps of {names:?} after {engine_cursor}");
            self.compare_seek(
                engine,
                patterns,
                [Seek::FirstOfTopicsAfter(engine_cursor), Seek::FirstOfTopicsAfter(model_cursor)],
            );
            let count = 1 + numbers.below(40);
            self.compare_seek(engine, patterns, [Seek::Last(count); 2]);
            if let Some(place) = self.places.get(numbers.index(self.places.len())) {
                self.compare_seek(
                    engine,
                    patterns,
                    [Seek::Time(Timestamp::from_micros(place.placed.time)); 2],
                );
            }
        }
    }

    fn cursor(&self, numbers: &mut Numbers) -> (Position, Position) {
        match numbers.index(self.places.len() + 1).checked_sub(1) {
            None => (Position::ORIGIN, Position::ORIGIN),
            Some(at) => (Position::new(self.places[at].placed.position), self.places[at].model),
        }
    }

    /// All that is kept is what was published, with the place, the time and the identity that were answered.
    fn compare_everything(&self, engine: &SledLog) {
        let (found, _) = read_from(engine, wanted(0), cursor_at(engine, Position::ORIGIN), EVERYTHING);
        let model = Cursor { position: Position::ORIGIN, removals: self.model.removals() };
        let (expected, _) = read_from(&self.model, wanted(0), model, EVERYTHING);
        self.compare_events(&found, &expected);
    }

    fn compare_events(&self, found: &[Arc<Event>], expected: &[Arc<Event>]) {
        let orders: HashMap<Position, usize> =
            self.places.iter().enumerate().map(|(order, place)| (place.model, order)).collect();
        for (found, expected) in found.iter().zip(expected) {
            let place = &self.places[orders[&expected.position]];
            assert_eq!(Placed::of(found), place.placed, "{found:?} is not what was answered");
            assert_eq!(contents(found), contents(expected), "{}", found.position);
        }
        let shorter = found.len().min(expected.len());
        assert_eq!(
            found.len(),
            expected.len(),
            "behind what is the same: {:?} and {:?}",
            found.get(shorter),
            expected.get(shorter)
        );
    }

    fn compare_seek(&self, engine: &SledLog, patterns: usize, to: [Seek; 2]) {
        let found = block_on(engine.reader(Arc::new(wanted(patterns))).seek(to[0])).expect("a place");
        let expected = block_on(self.model.reader(Arc::new(wanted(patterns))).seek(to[1])).expect("a place");
        let orders = (self.order(found.position), self.model_order(expected.position));
        assert_eq!(orders.0, orders.1, "{to:?} of {:?}", PATTERNS[patterns]);
    }
}

impl Place {
    /// Where the engine has it.
    pub(crate) fn engine(&self) -> Position {
        Position::new(self.placed.position)
    }
}

impl Placed {
    fn of(event: &Event) -> Self {
        Placed {
            position: event.position.get(),
            time: event.time.as_micros(),
            uuid: event.uuid.as_u128(),
            duplicate: false,
        }
    }

    fn default_of(position: Position) -> Self {
        Placed { position: position.get(), time: 0, uuid: 0, duplicate: true }
    }
}

/// What an append was answered.
pub(crate) fn answer(appended: &Result<Receipt, AppendError>) -> Answer {
    match appended {
        Ok(receipt) => {
            let placed = receipt.events.iter().map(|event| Placed {
                position: event.position.get(),
                time: event.time.as_micros(),
                uuid: event.uuid.as_u128(),
                duplicate: event.duplicate,
            });
            Answer::Appended(placed.collect())
        }
        Err(error) => Answer::Refused(error.code().to_owned()),
    }
}

fn cursor_at(engine: &SledLog, position: Position) -> Cursor {
    Cursor { position, removals: engine.removals() }
}

fn wanted(patterns: usize) -> Filter {
    filter(PATTERNS[patterns])
}

fn parse(topic: &str) -> Topic {
    Topic::parse(topic.to_owned()).expect("a topic")
}

type Contents<'a> = (&'a Topic, &'a str, Option<&'a Key>, Option<&'a Origin>, &'a str);

fn contents(event: &Event) -> Contents<'_> {
    (&event.topic, event.type_name(), event.key.as_ref(), event.origin.as_ref(), event.data.as_str())
}

/// The events of a batch.
fn events(seed: u64, shape: Shape) -> Vec<NewEvent> {
    let mut numbers = Numbers::new(seed, &[]);
    match shape {
        Shape::Few => (0..1 + numbers.below(12)).map(|_| event(&mut numbers, 4)).collect(),
        Shape::Retried => {
            // Of a few seeds, so that the same comes again, and now and then the same key with something else.
            let mut numbers = Numbers::new(seed % 12, &[]);
            let mut event = event(&mut numbers, 3);
            let key = format!("retried-{}", seed % 9);
            event.idempotency_key = Some(IdempotencyKey::parse(key).expect("a key"));
            vec![event]
        }
        // Without idempotency keys: of so many two would have the same with something else, and the whole batch be refused.
        Shape::Many => (0..200 + numbers.below(500))
            .map(|_| NewEvent { idempotency_key: None, ..event(&mut numbers, 0) })
            .collect(),
        Shape::Large => vec![event(&mut numbers, 14)],
    }
}

/// An event with about two to the power of `size` times 8 bytes.
fn event(numbers: &mut Numbers, size: u32) -> NewEvent {
    let topic = match numbers.below(20) {
        0..12 => 0,
        12..17 => 3,
        other => [1, 2, 4][other as usize - 17],
    };
    let most = numbers.below(u64::from(size) + 3).min(size.into());
    let words = numbers.below(1 << most);
    let data: String = (0..=words).map(|_| format!("{:x} ", numbers.next() >> 32)).collect();
    let mut event = NewEvent::new(parse(TOPICS[topic]), Data::from(ByteString::from(data)));
    if topic == 3 || numbers.percent(20) {
        event.key = Key::parse(format!("k{}", numbers.below(9))).ok();
    }
    if event.key.is_some() && numbers.percent(12) {
        event.event_type = Some(EventType::delete());
    } else if numbers.percent(20) {
        event.event_type = EventType::parse("trade".to_owned()).ok();
    }
    if numbers.percent(20) {
        event.origin = Origin::parse("desk".to_owned()).ok();
    }
    if numbers.percent(10) {
        event.idempotency_key = IdempotencyKey::parse(format!("i{}", numbers.below(40))).ok();
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is refused makes the seeds of a profile look at nothing.
    #[test]
    fn large_batches_are_taken_one_behind_the_other() {
        let log = MemoryLog::new(Arc::new(ManualClock::default()), WINDOW);
        for seed in 0..20 {
            let batch = Batch::new(events(seed, Shape::Many));
            assert!(block_on(log.append(batch)).is_ok_and(|receipt| receipt.events.len() >= 200));
        }
    }
}
