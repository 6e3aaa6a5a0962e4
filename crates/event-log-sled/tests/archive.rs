//! A log that was exported and imported is as good as the original.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_log::contract::{WINDOW, clock, event, everything, filter, keyed, read_from, remove_all, trim};
use event_log::{
    Batch, Clock, Cursor, Epoch, EpochStart, Event, EventLog, EventType, Item, Keep, Key, ManualClock,
    NewEvent, PageLimit, Position, Removal, Timestamp, Topic,
};
use event_log_sled::{ImportError, Imported, Importer, OpenError, SledLog, SledOptions};
use futures_executor::block_on;

const LIMIT: PageLimit = PageLimit { events: 500, bytes: 1 << 20 };

struct Place {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        Place { directory: tempfile::tempdir().unwrap(), clock: clock() }
    }

    fn options(&self, name: &str) -> SledOptions {
        SledOptions {
            idempotency_window: WINDOW,
            free_disk_bytes_min: 0,
            checkpoint_events: 100,
            ..SledOptions::new(self.directory.path().join(name))
        }
    }

    fn open(&self, name: &str) -> Result<SledLog, OpenError> {
        SledLog::open(self.options(name), Arc::<ManualClock>::clone(&self.clock))
    }

    fn import(&self, name: &str, items: &[Item]) -> Result<Imported, ImportError> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let mut importer = Importer::begin(self.options(name), clock)?;
        items.iter().try_for_each(|item| importer.push(item.clone()))?;
        importer.finish()
    }
}

fn append(log: &SledLog, events: Vec<NewEvent>) {
    block_on(log.append(Batch::new(events))).unwrap();
}

fn archive(log: &SledLog) -> Vec<Item> {
    let (mut archive, mut items) = (log.archive(), Vec::new());
    loop {
        let next = block_on(archive.next()).unwrap();
        if next.is_empty() {
            return items;
        }
        items.extend(next);
    }
}

/// A log with everything that can be lost on the way.
fn original(place: &Place) -> SledLog {
    let log = place.open("original").unwrap();
    for n in 0..900 {
        let key = Some(Key::parse(format!("k{}", n % 40)).unwrap());
        let event_type = (n % 90 == 0).then(EventType::delete);
        let state = NewEvent { key, event_type, ..event("states", &n.to_string()) };
        append(&log, vec![state, event("log", &n.to_string()), event("$broker.x", "{}")]);
    }
    append(&log, vec![keyed(event("gone", "once"), "key"), event("empty", &"é".repeat(100_000))]);
    remove_all(&log, &[trim("log", Keep { events: Some(100), ..Keep::default() })]);
    remove_all(&log, &[trim("gone", Keep { events: Some(0), ..Keep::default() })]);
    let topic = Topic::parse("states").unwrap();
    remove_all(&log, &[Removal::Superseded { topic, tombstones_before: Timestamp::default() }]);
    log
}

#[test]
fn a_copy_has_the_same_events_topics_keys_and_gaps_under_a_new_epoch() {
    let place = Place::new();
    let log = original(&place);
    let items = archive(&log);
    assert!(matches!(items[0], Item::Start { .. }) && matches!(items[items.len() - 1], Item::End { .. }));
    let imported = place.import("copy", &items).unwrap();
    let copy = place.open("copy").unwrap();
    let (bounds, of_copy) = (log.bounds(), copy.bounds());
    assert_eq!((imported.head, imported.events), (bounds.head, bounds.events));
    assert_eq!((of_copy.head, of_copy.events, of_copy.bytes), (bounds.head, bounds.events, bounds.bytes));
    assert_eq!(everything(&copy), everything(&log));
    assert_eq!(copy.topics(None), log.topics(None));
    assert_ne!(of_copy.epochs.current(), bounds.epochs.current());
    assert_eq!(of_copy.epochs.valid_through(bounds.epochs.current()), Some(Some(bounds.head)));
    for wanted in [&["log"][..], &["states"], &["gone", "empty"], &["**"]] {
        for after in [0, 30, 2_000, bounds.head.get()] {
            let read =
                |log: &SledLog| read_from(log, filter(wanted), Cursor::resumed(Position::new(after)), LIMIT);
            assert_eq!(read(&copy), read(&log), "{wanted:?} after {after}");
        }
    }
    let retry = || Batch::new(vec![keyed(event("gone", "once"), "key")]);
    let (of_log, of_copy) = (block_on(log.append(retry())), block_on(copy.append(retry())));
    let (of_log, of_copy) = (of_log.unwrap().events[0], of_copy.unwrap().events[0]);
    assert!(of_copy.duplicate && of_copy.position == of_log.position && of_copy.uuid == of_log.uuid);
    copy.verify().unwrap();
    // And a copy of the copy knows all three histories.
    place.import("second", &archive(&copy)).unwrap();
    assert_eq!(place.open("second").unwrap().bounds().epochs.starts().len(), 3);
}

#[test]
fn an_archive_is_whole_while_publishing_and_removing_go_on() {
    let place = Place::new();
    let log = original(&place);
    let before = log.removals();
    let is_done = AtomicBool::new(false);
    let items = std::thread::scope(|scope| {
        let (log, is_done) = (&log, &is_done);
        scope.spawn(move || {
            for n in 0.. {
                if is_done.load(Ordering::SeqCst) {
                    return;
                }
                append(log, (0..20).map(|m| event("busy", &format!("{n}.{m}"))).collect());
                remove_all(log, &[trim("busy", Keep { events: Some(500), ..Keep::default() })]);
            }
        });
        // A trim comes only once there are more than are kept.
        while log.removals() == before {
            std::thread::yield_now();
        }
        let items = archive(log);
        is_done.store(true, Ordering::SeqCst);
        items
    });
    place.import("copy", &items).unwrap();
    let copy = place.open("copy").unwrap();
    copy.verify().unwrap();
    let busy = |log: &SledLog| read_from(log, filter(&["busy"]), Cursor::resumed(Position::ORIGIN), LIMIT).0;
    let (of_copy, of_log) = (busy(&copy), busy(&log));
    assert!(of_copy.len() >= 500, "{}", of_copy.len());
    let number = |text: &str| {
        let (n, m) = text.split_once('.').unwrap();
        n.parse::<u64>().unwrap() * 20 + m.parse::<u64>().unwrap()
    };
    let numbers: Vec<u64> = of_copy.iter().map(|event| number(event.data.as_str())).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "nothing is missing in the middle");
    let overlap = of_copy.iter().filter(|event| of_log.iter().any(|other| other.position == event.position));
    assert!(overlap.into_iter().all(|event| of_log.contains(event)), "what both have is the same");
}

#[test]
fn what_is_not_a_whole_archive_leaves_a_directory_that_says_so() {
    let place = Place::new();
    let items = archive(&original(&place));
    let mut cases: Vec<(&str, Vec<Item>)> = vec![
        ("no end", items[..items.len() - 1].to_vec()),
        ("no start", items[1..].to_vec()),
        ("twice", [&items[..], &items[..]].concat()),
        ("empty", Vec::new()),
    ];
    let mut short = items.clone();
    short.remove(5);
    cases.push(("an event is missing", short));
    let mut swapped = items.clone();
    swapped.swap(5, 6);
    cases.push(("out of order", swapped));
    for (name, items) in cases {
        let refused = place.import(name, &items).unwrap_err();
        assert!(matches!(refused, ImportError::Malformed(_)), "{name}: {refused}");
        assert!(matches!(place.open(name), Err(OpenError::HalfImported { .. })), "{name}");
        assert!(matches!(place.import(name, &items), Err(ImportError::Open(OpenError::NotEmpty { .. }))));
    }
    assert!(matches!(place.import("original", &[]), Err(ImportError::Open(_))), "it is open");
}

/// A whole archive of one event, with what `change` does to it.
fn changed(change: impl FnOnce(&mut Vec<Item>)) -> Vec<Item> {
    let place = Place::new();
    let log = place.open("small").unwrap();
    append(&log, vec![keyed(event("a", "once"), "key")]);
    let mut items = archive(&log);
    assert!(matches!(
        items[..],
        [Item::Start { .. }, Item::Event(_), Item::Topic(_), Item::Key(_), Item::End { .. }]
    ));
    change(&mut items);
    items
}

fn move_all(items: &mut [Item], to: Position) {
    for item in items {
        match item {
            Item::Start { .. } => {}
            Item::Event(event) => *event = Arc::new(Event { position: to, ..(**event).clone() }),
            Item::Topic(topic) => topic.last = to,
            Item::Key(key) => key.position = to,
            Item::End { head, .. } => *head = to,
        }
    }
}

/// Refused by what it says, and not by what a log made of it.
fn refusal(items: &[Item]) -> String {
    let place = Place::new();
    let refused = place.import("refused", items).unwrap_err();
    assert!(matches!(refused, ImportError::Malformed(_)), "{refused:?}");
    assert!(!place.directory.path().join("refused/sled").exists(), "no store was made for it");
    assert!(matches!(place.open("refused"), Err(OpenError::HalfImported { .. })));
    refused.to_string()
}

#[test]
fn an_archive_is_judged_before_a_store_is_made_for_it() {
    Place::new().import("copy", &changed(|_| {})).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Vec<Item>);
    let cases: [(&str, Change<'_>); 7] = [
        ("begins after 5", &|items| {
            let Item::Start { epochs } = &mut items[0] else { unreachable!() };
            epochs.push(EpochStart { epoch: Epoch::new(7), after: Position::new(5) });
        }),
        ("its head is 2", &|items| {
            let Item::End { head, .. } = &mut items[4] else { unreachable!() };
            *head = Position::new(2);
        }),
        ("topic a", &|items| {
            let Item::Topic(topic) = &mut items[2] else { unreachable!() };
            topic.last = Position::ORIGIN;
        }),
        ("topic a", &|items| {
            let Item::Topic(topic) = &mut items[2] else { unreachable!() };
            topic.last = Position::new(2);
            let Item::End { head, .. } = &mut items[4] else { unreachable!() };
            *head = Position::new(2);
        }),
        ("topic a", &|items| items.insert(2, items[2].clone())),
        ("1 events, and 0", &|items| drop(items.remove(1))),
        ("time", &|items| {
            let Item::End { time, .. } = &mut items[4] else { unreachable!() };
            *time = Timestamp::default();
        }),
    ];
    for (cause, change) in cases {
        let refused = refusal(&changed(change));
        assert!(refused.contains(cause), "{cause}: {refused}");
    }
}

fn place_of_key_is(number: u64) -> Result<Imported, ImportError> {
    let items = changed(|items| {
        let Item::Key(key) = &mut items[3] else { unreachable!() };
        key.position = Position::new(number);
    });
    Place::new().import("copy", &items)
}

/// Publishing would come to its place later, and a second key would have to lie there.
#[test]
fn an_idempotency_key_that_lies_behind_the_end_of_its_archive_is_refused() {
    assert!(place_of_key_is(1).is_ok());
    for number in [0, 2, u64::MAX] {
        let refused = place_of_key_is(number).unwrap_err();
        assert!(
            matches!(&refused, ImportError::Malformed(what) if what.contains("key")),
            "{number}: {refused}"
        );
    }
    let twice = refusal(&changed(|items| items.insert(3, items[3].clone())));
    assert!(twice.contains("key"), "{twice}");
}

/// Nothing could be published behind it.
#[test]
fn an_archive_that_leaves_no_places_behind_it_is_refused() {
    let moved = |to: u64| changed(|items| move_all(items, Position::new(to)));
    let place = Place::new();
    place.import("copy", &moved(1 << 63)).unwrap();
    append(&place.open("copy").unwrap(), vec![event("a", "next")]);
    for to in [u64::MAX, u64::MAX - 1, u64::MAX - (1 << 40)] {
        let refused = refusal(&moved(to));
        assert!(refused.contains("no places"), "{refused}");
    }
}

/// The places of an archive need not follow one another, so what a start reads behind a checkpoint of its own making has gaps that
/// are none. A disk below its floor of free space is no reason to leave the last checkpoint out.
#[test]
fn a_copy_that_was_made_on_a_nearly_full_disk_opens() {
    let place = Place::new();
    let log = place.open("original").unwrap();
    for n in 0..40 {
        append(&log, vec![event(["a", "b"][n % 2], &format!("{n} ").repeat(3_000))]);
    }
    let topic = Topic::parse("a").unwrap();
    let keyed = |n: usize| NewEvent { key: Key::parse(format!("k{}", n % 3)).ok(), ..event("a", "state") };
    (0..40).for_each(|n| append(&log, vec![keyed(n), event("b", "between")]));
    remove_all(&log, &[Removal::Superseded { topic, tombstones_before: Timestamp::default() }]);
    let items = archive(&log);
    let full = |name: &str| SledOptions {
        checkpoint_events: 30,
        free_disk_bytes_min: u64::MAX,
        ..place.options(name)
    };
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&place.clock);
    let mut importer = Importer::begin(full("copy"), clock).unwrap();
    items.iter().for_each(|item| importer.push(item.clone()).unwrap());
    importer.finish().unwrap();
    assert_eq!(everything(&place.open("copy").unwrap()), everything(&log));
}

/// Time never goes back along the sequence, whether the newest event is still there or not.
#[test]
fn a_copy_knows_the_time_of_an_event_that_is_gone() {
    let place = Place::new();
    let log = place.open("original").unwrap();
    append(&log, vec![event("stays", "1")]);
    place.clock.advance(std::time::Duration::from_secs(60));
    append(&log, vec![event("goes", "2")]);
    remove_all(&log, &[trim("goes", Keep { events: Some(0), ..Keep::default() })]);
    let end = |items: &[Item]| match items.last() {
        Some(Item::End { time, head, events }) => (*time, *head, *events),
        other => panic!("no end: {other:?}"),
    };
    let items = archive(&log);
    place.import("copy", &items).unwrap();
    let copy = place.open("copy").unwrap();
    assert_eq!(end(&archive(&copy)), end(&items));
    // Also when the clock of the copy's machine is behind.
    place.clock.set(Timestamp::from_micros(1_000));
    append(&copy, vec![event("stays", "3")]);
    assert!(everything(&copy).last().unwrap().time >= end(&items).0);
}
