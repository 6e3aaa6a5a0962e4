//! Archives, whole or hostile: one that is taken becomes a sound log that says the same, and can be published to.

use std::collections::HashMap;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use event_log::{
    ArchivedKey, ArchivedTopic, Batch, Clock, Data, Epoch, EpochStart, Event, EventLog, Item, ManualClock,
    NewEvent, Position, Timestamp, Topic, fuzzing,
};
use futures_executor::block_on;
use uuid::Uuid;

use crate::{ImportError, Importer, OpenError, SledLog, SledOptions};

/// The moment of all that is done here: before it lie the times of events, for the most part.
const NOW: Timestamp = Timestamp::from_micros(1_795_226_400_000_000);

/// Imports an archive that the input makes up; if it is taken, opens the log, compares, publishes, and copies it again.
pub fn import(input: &[u8]) {
    // What the input does not say any more is left out.
    let items = items(&mut Unstructured::new(input)).unwrap_or_default();
    let place = Place::new();
    match place.import("first", &items) {
        Ok(()) => {}
        Err(ImportError::Malformed(what)) => {
            assert!(!what.is_empty());
            return assert!(matches!(place.open("first"), Err(OpenError::HalfImported { .. })));
        }
        Err(other) => panic!("{other}"),
    }
    let log = place.open("first").unwrap_or_else(|error| panic!("{error}"));
    log.verify().unwrap_or_else(|error| panic!("{error}"));
    let archive = archive(&log);
    assert_eq!(said(&archive), said(&items));
    let head = log.bounds().head;
    let next = NewEvent::new(topic("next"), Data::default());
    let receipt = block_on(log.append(Batch::new(vec![next]))).unwrap_or_else(|error| panic!("{error}"));
    assert!(receipt.events[0].position > head);
    block_on(log.close());
    drop(log);
    place.import("second", &archive).unwrap_or_else(|error| panic!("{error}"));
    let copy = place.open("second").unwrap_or_else(|error| panic!("{error}"));
    let again = self::archive(&copy);
    // The first item has one epoch more. The last one has the time of the newest event, which a copy does not know if that is gone.
    let (last, last_again) = (archive.len() - 1, again.len() - 1);
    assert_eq!(again[1..last_again], archive[1..last], "a copy of a copy says the same");
}

/// Where logs are made.
struct Place {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        // A file system in memory, if there is one: nothing of this has to survive.
        let memory = std::path::Path::new("/dev/shm");
        let directory = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
        Place { directory: directory.expect("a folder is made"), clock: Arc::new(ManualClock::at(NOW)) }
    }

    fn options(&self, name: &str) -> SledOptions {
        SledOptions {
            idempotency_window: std::time::Duration::MAX,
            free_disk_bytes_min: 0,
            cache_bytes: 1 << 20,
            checkpoint_events: 3,
            key_bucket_entries: 2,
            segment_bytes: 512,
            pack: false,
            ..SledOptions::new(self.directory.path().join(name))
        }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::<ManualClock>::clone(&self.clock)
    }

    fn open(&self, name: &str) -> std::result::Result<SledLog, OpenError> {
        SledLog::open(self.options(name), self.clock())
    }

    fn import(&self, name: &str, items: &[Item]) -> std::result::Result<(), ImportError> {
        let mut importer = Importer::begin(self.options(name), self.clock())?;
        items.iter().try_for_each(|item| importer.push(item.clone()))?;
        importer.finish().map(drop)
    }
}

fn archive(log: &SledLog) -> Vec<Item> {
    let (mut archive, mut items) = (log.archive(), Vec::new());
    loop {
        let next = block_on(archive.next()).unwrap_or_else(|error| panic!("{error}"));
        if next.is_empty() {
            return items;
        }
        items.extend(next);
    }
}

/// What an archive says, in the end: the events that are kept, what readers missed, the keys and the newest place.
#[derive(Debug, PartialEq)]
struct Said {
    events: Vec<Arc<Event>>,
    missing: Vec<(Topic, Position, Position)>,
    keys: Vec<ArchivedKey>,
    head: Option<Position>,
}

fn said(items: &[Item]) -> Said {
    let topics: HashMap<&Topic, &ArchivedTopic> = items
        .iter()
        .filter_map(|item| match item {
            Item::Topic(topic) => Some((&topic.topic, topic)),
            _ => None,
        })
        .collect();
    let mut said = Said { events: Vec::new(), missing: Vec::new(), keys: Vec::new(), head: None };
    for item in items {
        match item {
            Item::Event(event) => {
                let removed =
                    topics.get(&event.topic).map_or(Position::ORIGIN, |topic| topic.removed_through);
                if event.position > removed {
                    said.events.push(Arc::clone(event));
                }
            }
            Item::Key(key) => said.keys.push(*key),
            Item::End { head, .. } => said.head = Some(*head),
            Item::Start { .. } | Item::Topic(_) => {}
        }
    }
    let missing = topics.values().filter(|topic| topic.missing_through > Position::ORIGIN);
    said.missing =
        missing.map(|topic| (topic.topic.clone(), topic.removed_through, topic.missing_through)).collect();
    said.missing.sort();
    said.keys.sort_by_key(|key| key.position);
    said
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("it is a topic")
}

/// An archive, of which any part may be wrong; most are whole.
fn items(input: &mut Unstructured<'_>) -> Result<Vec<Item>> {
    let mut made = Made { items: Vec::new(), last: 0, topics: Vec::new() };
    let mut epochs = vec![EpochStart { epoch: Epoch::new(1), after: Position::ORIGIN }];
    if input.ratio(1, 4)? {
        epochs.push(EpochStart { epoch: Epoch::new(2), after: Position::new(input.arbitrary()?) });
    }
    made.items.push(Item::Start { epochs });
    for _ in 0..input.int_in_range(0..=6)? {
        made.event(input)?;
    }
    made.facts(input)?;
    let events = made.items.iter().filter(|item| matches!(item, Item::Event(_))).count() as u64;
    let last = made.last;
    let head = if input.ratio(1, 8)? { input.arbitrary()? } else { last };
    made.items.push(Item::End { head: Position::new(head), time: NOW, events });
    // One change of the order, or one thing twice, or one left out.
    let (one, other) = (input.choose_index(made.items.len())?, input.choose_index(made.items.len())?);
    match input.int_in_range(0..=15)? {
        0 => made.items.swap(one, other),
        1 => made.items.insert(one, made.items[other].clone()),
        2 => drop(made.items.remove(one)),
        _ => {}
    }
    Ok(made.items)
}

struct Made {
    items: Vec<Item>,
    last: u64,
    topics: Vec<(Topic, u64)>,
}

impl Made {
    fn event(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let event = fuzzing::event(input)?;
        let step: u64 = if input.ratio(1, 8)? { input.arbitrary()? } else { input.int_in_range(1..=3)? };
        self.last = self.last.saturating_add(step);
        self.topics.push((event.topic.clone(), self.last));
        let time = match input.ratio(1, 8)? {
            true => event.time,
            false => Timestamp::from_micros(NOW.as_micros().saturating_sub(1_000) + self.items.len() as u64),
        };
        self.items.push(Item::Event(Arc::new(Event { position: Position::new(self.last), time, ..event })));
        Ok(())
    }

    fn facts(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        // The last place of each topic, as an export says it.
        let mut lasts: Vec<(Topic, u64)> = Vec::new();
        for (topic, last) in std::mem::take(&mut self.topics) {
            match lasts.iter_mut().find(|(known, _)| *known == topic) {
                Some((_, known)) => *known = last,
                None => lasts.push((topic, last)),
            }
        }
        if input.ratio(1, 4)? {
            let step: u64 = if input.arbitrary()? { 1 } else { input.arbitrary()? };
            self.last = self.last.saturating_add(step);
            lasts.push((topic("gone"), self.last));
        }
        for (topic, last) in lasts {
            let missing = if input.ratio(1, 2)? { 0 } else { input.int_in_range(0..=last)? };
            let removed = if input.ratio(1, 2)? { missing } else { input.int_in_range(0..=missing)? };
            let last = if input.ratio(1, 16)? { input.arbitrary()? } else { last };
            self.items.push(Item::Topic(ArchivedTopic {
                topic,
                last: Position::new(last),
                removed_through: Position::new(removed),
                missing_through: Position::new(missing),
            }));
        }
        for number in 0..input.int_in_range(0..=3u8)? {
            let position: u64 =
                if input.ratio(1, 8)? { input.arbitrary()? } else { input.int_in_range(0..=self.last)? };
            self.items.push(Item::Key(ArchivedKey {
                key: [number; 16],
                content: [7; 16],
                position: Position::new(position),
                time: NOW,
                uuid: Uuid::from_u128(9),
            }));
        }
        Ok(())
    }
}
