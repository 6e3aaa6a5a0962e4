//! Cases of what is removed: trims, superseded events, and what readers are told.

use std::collections::HashMap;

use super::*;
use crate::{Keep, Removal, Removed};

const ALL: PageLimit = PageLimit { events: 1_000, bytes: 1 << 20 };

/// Carries removals out to their end.
pub fn remove_all(log: &dyn EventLog, removals: &[Removal]) -> Removed {
    let mut removed = Removed::default();
    loop {
        let before = log.removals();
        let step = block_on(log.remove(removals.to_vec())).expect("a removal");
        assert_eq!(step.events > 0, log.removals() > before, "every removal is counted, and nothing else");
        removed = removed.and(step);
        if !step.more {
            return removed;
        }
    }
}

/// The removal that keeps of a topic what is said.
pub fn trim(topic: &str, keep: Keep) -> Removal {
    Removal::Trim { topic: Topic::parse(topic.to_owned()).expect("a topic"), keep }
}

fn superseded(topic: &str, tombstones_before: Timestamp) -> Removal {
    Removal::Superseded { topic: Topic::parse(topic.to_owned()).expect("a topic"), tombstones_before }
}

fn newest(events: u64) -> Keep {
    Keep { events: Some(events), ..Keep::default() }
}

/// A state of a key; without data its tombstone.
fn state(topic: &str, key: &str, data: Option<&str>) -> NewEvent {
    let key = Some(Key::parse(key.to_owned()).expect("a key"));
    let event_type = data.is_none().then(EventType::delete);
    NewEvent { key, event_type, ..event(topic, data.unwrap_or("gone")) }
}

fn fill(log: &dyn EventLog, topics: &[&str], count: usize) -> Vec<Position> {
    let events = (0..count).map(|n| event(topics[n % topics.len()], &n.to_string()));
    append(log, events.collect()).events.iter().map(|answer| answer.position).collect()
}

fn stats(log: &dyn EventLog, topic: &str) -> (Option<Position>, Position, u64, u64) {
    let stats = log.topic(&Topic::parse(topic.to_owned()).expect("a topic")).expect("a known topic");
    (stats.first, stats.last, stats.events, stats.bytes)
}

fn resumed(log: &dyn EventLog, patterns: &[&str], after: Position) -> (Vec<String>, Vec<Position>) {
    let (events, gaps) = read_from(log, filter(patterns), Cursor::resumed(after), ALL);
    (events.iter().map(|event| event.data.as_str().to_owned()).collect(), gaps)
}

/// Each bound of a trim removes the oldest events and no other; what the log counts stays right, after reopening too.
pub fn a_trim_removes_the_oldest_and_no_other(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut places = Vec::new();
    for n in 0..60 {
        harness.clock().advance(Duration::from_secs(1));
        let data = "x".repeat(n % 7);
        places.push(append(&*log, vec![event("t", &data), event("other", &data)]).events[0]);
    }
    let weight = |range: std::ops::Range<usize>| range.map(|n| (n % 7 + 1) as u64).sum::<u64>();
    assert_eq!(remove_all(&*log, &[trim("t", Keep::default())]).events, 0);
    let by_count = remove_all(&*log, &[trim("t", newest(50))]);
    assert_eq!((by_count.events, by_count.bytes, by_count.through), (10, weight(0..10), places[9].position));
    let bytes = Keep { bytes: Some(weight(20..60)), ..Keep::default() };
    assert_eq!(remove_all(&*log, &[trim("t", bytes)]).events, 10);
    let since = Keep { since: Some(places[30].time), ..Keep::default() };
    assert_eq!(remove_all(&*log, &[trim("t", since)]).events, 10);
    let after = Keep { after: Some(places[39].position), ..Keep::default() };
    assert_eq!(remove_all(&*log, &[trim("t", after), trim("unknown", after)]).events, 10);
    assert_eq!(remove_all(&*log, &[trim("t", after)]), Removed::default(), "it is gone already");
    for _ in 0..2 {
        let log = harness.log();
        let kept = (Some(places[40].position), places[59].position, 20, weight(40..60));
        assert_eq!(stats(&*log, "t"), kept);
        assert_eq!(stats(&*log, "other").2, 60);
        let bounds = log.bounds();
        assert_eq!((bounds.events, bounds.bytes), (80, weight(40..60) + weight(0..60) + 4 * 60));
        let read = read_all(&*log, filter(&["t"]), Position::ORIGIN, ALL);
        let positions: Vec<_> = read.iter().map(|event| event.position).collect();
        assert_eq!(positions, places[40..].iter().map(|answer| answer.position).collect::<Vec<_>>());
        assert_eq!(everything(&*log).len(), 80);
        assert_eq!(log.count_after(Position::ORIGIN), 80);
        harness.reopen();
    }
}

/// What is trimmed of a log's own beginning moves its oldest place, and a log without events keeps its head.
pub fn a_log_that_was_emptied_goes_on_where_it_was(harness: &mut dyn Harness) {
    let log = harness.log();
    let places = fill(&*log, &["a", "b"], 300);
    assert_eq!(remove_all(&*log, &[trim("a", newest(0))]).events, 150);
    assert_eq!(log.bounds().oldest, Some(places[1]));
    assert_eq!(remove_all(&*log, &[trim("b", newest(0))]).events, 150);
    for _ in 0..2 {
        let log = harness.log();
        let bounds = log.bounds();
        let head = places[299];
        assert_eq!((bounds.oldest, bounds.head, bounds.events, bounds.bytes), (None, head, 0, 0));
        assert_eq!(stats(&*log, "a"), (None, places[298], 0, 0));
        assert_eq!(log.topics(None).len(), 2, "an empty topic is still listed");
        assert!(everything(&*log).is_empty());
        assert_eq!(resumed(&*log, &["a"], places[5]), (vec![], vec![head]));
        assert_eq!(seek(&*log, filter(&["**"]), Seek::FirstOfTopicsAfter(Position::ORIGIN)), head);
        assert_eq!(seek(&*log, filter(&["**"]), Seek::Last(5)), head);
        harness.reopen();
    }
    let log = harness.log();
    let next = append(&*log, vec![event("a", "next")]).events[0];
    assert!(next.position > places[299], "no place is used twice");
    assert_eq!(stats(&*log, "a"), (Some(next.position), next.position, 1, 5));
    assert_eq!(resumed(&*log, &["a"], places[298]), (vec!["next".to_owned()], vec![]));
}

/// A reader is told of what was trimmed behind its cursor, once, and exactly from there; not at the boundary, not of
/// topics that it does not want, and not of what it began behind.
pub fn readers_are_told_of_what_was_trimmed(harness: &mut dyn Harness) {
    let log = harness.log();
    let places = fill(&*log, &["a", "b", "c"], 90);
    remove_all(&*log, &[trim("a", newest(10))]);
    for _ in 0..2 {
        let log = harness.log();
        // `a` lost the events 0, 3, .., 57 and keeps 60, 63, .., 87.
        assert_eq!(resumed(&*log, &["a"], places[57]).1, [], "the boundary is no gap");
        assert_eq!(resumed(&*log, &["a"], places[56]).1, [places[60].just_before()]);
        assert_eq!(resumed(&*log, &["a"], Position::ORIGIN).1, [places[60].just_before()]);
        assert_eq!(resumed(&*log, &["a"], Position::ORIGIN).0.len(), 10);
        assert_eq!(resumed(&*log, &["b", "c"], Position::ORIGIN).1, [], "untouched topics");
        // With `b` a gap begins nothing that would skip an event of it.
        let (events, gaps) = resumed(&*log, &["a", "b"], places[30]);
        assert_eq!(gaps, [places[31].just_before()]);
        assert_eq!(events.len(), 20 + 10);
        assert_eq!(resumed(&*log, &["*"], places[87]), (vec!["88".to_owned(), "89".to_owned()], vec![]));
        assert_eq!(
            resumed(&*log, &["**"], places[56]).1,
            [places[57].just_before().max(places[58].just_before())]
        );
        assert_eq!(
            read_all(&*log, filter(&["a", "b"]), seek(&*log, filter(&["a", "b"]), Seek::Last(35)), ALL).len(),
            35
        );
        // Types and origins do not count: the topic lost events that the reader cannot know to be unwanted.
        let rare = filter(&["a"]).with_types(vec![EventType::parse("rare").expect("a type")]);
        let (events, gaps) = read_from(&*log, rare, Cursor::resumed(places[3]), ALL);
        assert_eq!((events.len(), gaps), (0, vec![places[60].just_before()]));
        harness.reopen();
    }
}

/// A reader that is under way is told of what was trimmed before it came there, and only of that.
pub fn a_reader_under_way_is_told_in_the_middle(harness: &mut dyn Harness) {
    let log = harness.log();
    let places = fill(&*log, &["a", "b"], 200);
    let mut reader = log.reader(Arc::new(filter(&["a", "b"])));
    let few = PageLimit { events: 10, bytes: 1 << 20 };
    let start = block_on(reader.seek(Seek::FirstOfTopicsAfter(Position::ORIGIN))).expect("a cursor");
    let page = block_on(reader.read(start, few)).expect("a page");
    assert_eq!((page.events.len(), page.gap, page.next.position), (10, false, places[9]));
    remove_all(&*log, &[trim("a", newest(98))]);
    let page = block_on(reader.read(page.next, few)).expect("a page");
    assert_eq!((page.events.len(), page.gap), (10, false), "it had seen what was trimmed");
    remove_all(&*log, &[trim("a", newest(50)), trim("b", newest(30))]);
    let resumed = block_on(reader.resume(page.next)).expect("a judgement");
    assert!(resumed.gap && resumed.cursor.removals == log.removals());
    let gap = block_on(reader.read(page.next, few)).expect("a page");
    assert_eq!((gap.gap, gap.next.position), (true, places[100].just_before()));
    assert_eq!(resumed.cursor, gap.next);
    let page = block_on(reader.read(gap.next, ALL)).expect("a page");
    assert_eq!((page.events.len(), page.gap), (50 + 30, false), "a gap is told once");
    let later = append(&*log, vec![event("a", "later")]).events[0].position;
    let tail = block_on(reader.read(page.next, ALL)).expect("a page");
    assert_eq!((tail.events.len(), tail.next.position, tail.gap), (1, later, false));
    remove_all(&*log, &[trim("a", newest(0)), trim("b", newest(0))]);
    let end = block_on(reader.read(tail.next, ALL)).expect("a page");
    assert_eq!((end.events.len(), end.gap), (0, false), "what it has seen is no loss");
}

/// The last place and the idempotency keys of a topic outlive its events.
pub fn keys_and_last_places_outlive_the_events(harness: &mut dyn Harness) {
    let log = harness.log();
    let first = append(&*log, vec![keyed(event("a", "once"), "k")]).events[0];
    fill(&*log, &["b"], 100);
    remove_all(&*log, &[trim("a", newest(0)), trim("b", newest(0))]);
    for _ in 0..2 {
        let log = harness.log();
        let again = append(&*log, vec![keyed(event("a", "once"), "k")]).events[0];
        assert!(again.duplicate && again.position == first.position && again.uuid == first.uuid);
        let last = append_expecting(&*log, event("a", "x"), Expected::Never);
        assert!(matches!(last, Err(AppendError::ExpectedMismatch { last }) if last == Some(first.position)));
        harness.reopen();
    }
    harness.clock().advance(WINDOW);
    let log = harness.log();
    assert!(!append(&*log, vec![keyed(event("a", "other"), "k")]).events[0].duplicate, "forgotten by time");
}

/// Of each key the newest event stays, with its place; events without a key are not touched; nothing of it is a gap.
pub fn superseded_events_go_without_a_gap(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut last: HashMap<String, Position> = HashMap::new();
    let mut plain = Vec::new();
    for n in 0..400usize {
        let key = format!("k{}", n * n % 37);
        let batch = vec![state("t", &key, Some(&n.to_string())), state("other", &key, Some("kept"))];
        last.insert(key, append(&*log, batch).events[0].position);
        if n % 10 == 0 {
            plain.push(append(&*log, vec![event("t", "plain")]).events[0].position);
        }
    }
    let mut expected: Vec<Position> = last.values().copied().chain(plain).collect();
    expected.sort_unstable();
    let would = block_on(log.removable(vec![superseded("t", Timestamp::default())])).expect("a plan");
    let removed = remove_all(&*log, &[superseded("t", Timestamp::default())]);
    assert_eq!((removed.events, removed.bytes), (would.events, would.bytes));
    assert_eq!(removed.events, 400 + 40 - expected.len() as u64);
    for _ in 0..2 {
        let log = harness.log();
        let (events, gaps) = read_from(&*log, filter(&["t"]), Cursor::resumed(Position::ORIGIN), ALL);
        assert_eq!(gaps, []);
        assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), expected);
        assert_eq!(stats(&*log, "t").0, expected.first().copied());
        assert_eq!(stats(&*log, "t").2, expected.len() as u64);
        assert_eq!(stats(&*log, "other").2, 400);
        let two = seek(&*log, filter(&["t"]), Seek::Last(2));
        assert_eq!(read_all(&*log, filter(&["t"]), two, ALL).len(), 2);
        assert_eq!(remove_all(&*log, &[superseded("t", Timestamp::default())]), Removed::default());
        harness.reopen();
    }
    let log = harness.log();
    append(&*log, vec![state("t", "k1", Some("newer"))]);
    assert_eq!(remove_all(&*log, &[superseded("t", Timestamp::default())]).events, 1);
}

/// A tombstone stays until its time, and is a loss when it goes: who knows an older state would never learn of it.
pub fn old_tombstones_go_and_are_a_gap(harness: &mut dyn Harness) {
    let log = harness.log();
    let states = append(&*log, vec![state("t", "a", Some("1")), state("t", "b", Some("2"))]).events;
    let tombstone = append(&*log, vec![state("t", "a", None)]).events[0];
    append(&*log, vec![state("t", "c", Some("3"))]);
    assert_eq!(remove_all(&*log, &[superseded("t", tombstone.time)]).events, 1, "the older state");
    assert_eq!(
        resumed(&*log, &["t"], Position::ORIGIN),
        (["2", "gone", "3"].map(str::to_owned).into(), vec![])
    );
    harness.reopen();
    let log = harness.log();
    let later = Timestamp::from_micros(tombstone.time.as_micros() + 1);
    assert_eq!(remove_all(&*log, &[superseded("t", later)]).events, 1, "the tombstone");
    for _ in 0..2 {
        let log = harness.log();
        assert_eq!(stats(&*log, "t").2, 2);
        let earliest = seek(&*log, filter(&["t"]), Seek::FirstOfTopicsAfter(Position::ORIGIN));
        assert_eq!(texts(&read_all(&*log, filter(&["t"]), earliest, ALL)), ["2", "3"]);
        assert_eq!(resumed(&*log, &["t"], states[0].position).1, [states[1].position.just_before()]);
        assert_eq!(resumed(&*log, &["t"], tombstone.position).1, []);
        assert_eq!(remove_all(&*log, &[superseded("t", later)]), Removed::default());
        harness.reopen();
    }
    let log = harness.log();
    append(&*log, vec![state("t", "a", Some("again"))]);
    assert_eq!(remove_all(&*log, &[superseded("t", later)]), Removed::default());
}

/// Trims and compaction of one topic do not count anything twice.
pub fn trims_and_compaction_go_together(harness: &mut dyn Harness) {
    for round in 0..6 {
        let log = harness.log();
        for n in 0..80usize {
            let key = format!("k{}", (n * 7 + round) % 23);
            append(&*log, vec![state("t", &key, Some(&format!("{round}.{n}"))), event("u", "-")]);
        }
        let both = [trim("t", newest(60)), superseded("t", Timestamp::default())];
        let would = block_on(log.removable(both.to_vec())).expect("a plan");
        let events = log.bounds().events;
        assert_eq!(log.bounds().events, events, "a plan changes nothing");
        let mut removed = remove_all(&*log, &both[..1]);
        removed = removed.and(remove_all(&*log, &both[1..]));
        assert_eq!((removed.events, removed.bytes), (would.events, would.bytes), "round {round}");
        assert_eq!(log.bounds().events, events - removed.events);
        let read = read_all(&*log, filter(&["t"]), Position::ORIGIN, ALL);
        assert_eq!(read.len(), 23, "the newest of each key");
        assert_eq!(stats(&*log, "t").2, 23);
        drop(log);
        if round % 2 == 1 {
            harness.reopen();
        }
    }
    let log = harness.log();
    remove_all(&*log, &[trim("t", newest(3))]);
    assert_eq!(read_all(&*log, filter(&["t"]), Position::ORIGIN, ALL).len(), 3);
    append(&*log, vec![state("t", "k1", Some("x"))]);
    let left = remove_all(&*log, &[superseded("t", Timestamp::default())]);
    assert_eq!(stats(&*log, "t").2, 4 - left.events);
}

/// While one removes and one publishes, a reader gets every event once, in order, or is told of the gap.
pub fn a_reader_beside_removals_has_an_exact_ledger(harness: &mut dyn Harness) {
    let log = harness.log();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (publisher, remover) = (Arc::clone(&log), Arc::clone(&log));
        let done = &done;
        scope.spawn(move || {
            for n in 0..150 {
                append(&*publisher, (0..10).map(|m| event("t", &(n * 10 + m).to_string())).collect());
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        scope.spawn(move || {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                block_on(remover.remove(vec![trim("t", newest(25))])).expect("a removal");
            }
        });
        let mut reader = log.reader(Arc::new(filter(&["t"])));
        let (mut cursor, mut seen) = (Cursor::default(), 0);
        // What must come next, unless a gap was told of.
        let mut expected = Some(0);
        while expected != Some(1_500) {
            let was_done = done.load(std::sync::atomic::Ordering::SeqCst);
            let page =
                block_on(reader.read(cursor, PageLimit { events: 7, bytes: 1 << 20 })).expect("a page");
            cursor = page.next;
            expected = if page.gap { None } else { expected };
            if expected.is_none() && page.at_head && was_done && page.events.is_empty() {
                break;
            }
            for event in page.events {
                let number: usize = event.data.as_str().parse().expect("a number");
                assert!(expected.is_none_or(|expected| number == expected), "{number}, not {expected:?}");
                expected = Some(number + 1);
                seen += 1;
            }
        }
        assert!(seen > 0);
    });
    remove_all(&*log, &[trim("t", newest(25))]);
    let read = read_all(&*log, filter(&["t"]), Position::ORIGIN, ALL);
    let expected: Vec<String> = (1_475..1_500).map(|n| n.to_string()).collect();
    assert_eq!(texts(&read), expected);
}
