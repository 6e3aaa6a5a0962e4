//! The suite that every engine runs, the in-memory model too. A case asserts order, never contiguity (but within one
//! batch), and nothing about how an engine stores what it holds.
//!
//! An engine's tests implement [`Harness`] and say `event_log::contract_tests!(MyHarness::new)`.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures_executor::block_on;

use crate::{
    AppendError, Batch, Clock, Cursor, Data, Encoder, EpochStart, Epochs, Event, EventId, EventLog,
    EventType, Expected, Filter, IdempotencyKey, Key, LogReader, ManualClock, NewEvent, Origin, Page,
    PageLimit, Pattern, Position, Receipt, Seek, Timestamp, Topic,
};

mod removals;
mod verbatim;

pub use removals::*;
pub use verbatim::{Verbatim, decoded};

/// How long the engines under test keep idempotency keys.
pub const WINDOW: Duration = Duration::from_secs(60);

/// What a case needs of an engine.
pub trait Harness {
    /// The log under test, opened on this clock with [`WINDOW`].
    fn log(&self) -> Arc<dyn EventLog>;
    /// The clock that the log reads.
    fn clock(&self) -> &ManualClock;
    /// Closes the log cleanly and opens it again.
    fn reopen(&mut self);
}

/// The clock that a harness begins with.
pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_micros(1_795_226_400_000_000)))
}

/// An event with the given topic and data.
pub fn event(topic: &str, data: &str) -> NewEvent {
    NewEvent::new(Topic::parse(topic.to_owned()).expect("a topic"), Data::from(ByteString::from(data)))
}

/// The same event with an idempotency key.
pub fn keyed(event: NewEvent, key: &str) -> NewEvent {
    NewEvent { idempotency_key: Some(IdempotencyKey::parse(key.to_owned()).expect("a key")), ..event }
}

/// A filter of patterns.
pub fn filter(patterns: &[&str]) -> Filter {
    Filter::new(patterns.iter().map(|text| Pattern::parse((*text).to_owned()).expect("a pattern")).collect())
}

fn append(log: &dyn EventLog, events: Vec<NewEvent>) -> Receipt {
    block_on(log.append(Batch::new(events))).expect("an append")
}

fn append_expecting(log: &dyn EventLog, event: NewEvent, expected: Expected) -> Result<Receipt, AppendError> {
    block_on(log.append(Batch { events: vec![event], expected: Some(expected) }))
}

/// Reads all pages after a place, checking each, and returns the events. Nothing that was removed is missed: it knows of
/// all removals up to now.
pub fn read_all(log: &dyn EventLog, filter: Filter, after: Position, limit: PageLimit) -> Vec<Arc<Event>> {
    let (events, gaps) = read_from(log, filter, Cursor { position: after, removals: log.removals() }, limit);
    assert!(gaps.is_empty(), "nothing is removed meanwhile");
    events
}

/// Reads all pages after a cursor, checking each, and returns the events and where each gap ended.
pub fn read_from(
    log: &dyn EventLog,
    filter: Filter,
    after: Cursor,
    limit: PageLimit,
) -> (Vec<Arc<Event>>, Vec<Position>) {
    let mut reader = log.reader(Arc::new(filter.clone()));
    let mut known = after.removals;
    let mut cursor = after.position;
    let after = after.position;
    let (mut all, mut gaps): (Vec<Arc<Event>>, Vec<Position>) = (Vec::new(), Vec::new());
    loop {
        let page =
            block_on(reader.read(Cursor { position: cursor, removals: known }, limit)).expect("a page");
        check_replay(&mut *reader, Cursor { position: cursor, removals: known }, limit, &page);
        assert!(page.next.removals >= known, "a reader never forgets a removal");
        known = page.next.removals;
        if page.gap {
            assert!(page.events.is_empty() && page.next.position >= cursor);
            cursor = page.next.position;
            gaps.push(cursor);
            continue;
        }
        assert!(page.events.len() <= limit.events, "a page of {} events", page.events.len());
        for event in &page.events {
            assert!(filter.wants(event), "{event:?} is not wanted");
            assert!(event.position > cursor, "{} does not come after {cursor}", event.position);
            assert!(event.position <= page.next.position, "the page's next is before its last event");
            cursor = event.position;
        }
        let next = page.next.position;
        assert!(next >= cursor && (page.at_head || next > after || !page.events.is_empty()));
        cursor = next;
        all.extend(page.events);
        if page.at_head {
            assert!(cursor >= log.bounds().head || log.bounds().head > after);
            return (all, gaps);
        }
    }
}

/// What is replayed is what was read, as far as both go.
fn check_replay(reader: &mut dyn LogReader, after: Cursor, limit: PageLimit, page: &Page) {
    let encoder: Arc<dyn Encoder> = Arc::new(Verbatim);
    let replay = block_on(reader.replay(after, limit, &encoder)).expect("a page to pass on");
    assert!(replay.events.len() <= limit.events, "a page of {} events", replay.events.len());
    assert!(replay.gap || !page.gap, "a gap is told of either way");
    if replay.gap {
        return;
    }
    let events = decoded(replay.events);
    for (replayed, read) in events.iter().zip(&page.events) {
        assert_eq!(replayed, read);
    }
    let last = events.last().map_or(after.position, |last| last.position);
    assert!(replay.next.position >= last, "the page's next is before its last event");
    assert!(replay.at_head || replay.next.position > after.position, "a page goes on");
    assert!(
        !page.events.is_empty()
            || !page.at_head
            || events.is_empty()
            || replay.next.position > page.next.position
    );
}

/// Everything that a log holds.
pub fn everything(log: &dyn EventLog) -> Vec<Arc<Event>> {
    read_all(log, Filter::everything(), Position::ORIGIN, PageLimit { events: 1_000, bytes: 1 << 20 })
}

fn texts(events: &[Arc<Event>]) -> Vec<&str> {
    events.iter().map(|event| event.data.as_str()).collect()
}

fn seek(log: &dyn EventLog, filter: Filter, to: Seek) -> Position {
    let cursor = block_on(log.reader(Arc::new(filter)).seek(to)).expect("a place");
    assert_eq!(cursor.removals, log.removals());
    cursor.position
}

/// A new log holds nothing, and its head is the origin.
pub fn an_empty_log_begins_at_the_origin(harness: &mut dyn Harness) {
    let log = harness.log();
    let bounds = log.bounds();
    assert_eq!((bounds.head, bounds.oldest, bounds.events, bounds.bytes), (Position::ORIGIN, None, 0, 0));
    assert_eq!(log.tail().head(), Position::ORIGIN);
    assert!(everything(&*log).is_empty() && log.topics(None).is_empty());
    let starts = [EpochStart { epoch: bounds.epochs.current(), after: Position::ORIGIN }];
    assert_eq!(bounds.epochs.starts(), starts);
}

/// What was answered can be read, as it was answered.
pub fn what_is_acknowledged_is_read_back_whole(harness: &mut dyn Harness) {
    let log = harness.log();
    let new = NewEvent {
        event_type: Some(EventType::parse("trade").expect("a type")),
        key: Some(Key::parse("IBM \u{1F680}").expect("a key")),
        origin: Some(Origin::parse("me").expect("an origin")),
        ..event("stocks.ibm", "{\"price\":1}\r\n\u{0}")
    };
    let receipt = append(&*log, vec![new.clone()]);
    let read = everything(&*log);
    let answer = receipt.events[0];
    assert_eq!(*read[0], Event::place(new, answer.position, answer.time, answer.uuid));
    assert_eq!((read.len(), receipt.head, answer.duplicate), (1, answer.position, false));
    assert_eq!(log.tail().head(), answer.position);
}

/// Positions and times never go back, not even when the clock does.
pub fn order_and_time_never_go_back(harness: &mut dyn Harness) {
    let log = harness.log();
    for n in 0..20 {
        let back = Duration::from_secs(n % 3 * 1_000);
        harness.clock().set(Timestamp::from_micros(1_795_226_400_000_000 + n * 1_000).saturating_sub(back));
        append(&*log, vec![event("a", &n.to_string()), event("b", &n.to_string())]);
    }
    let read = everything(&*log);
    assert_eq!(read.len(), 40);
    assert!(read.windows(2).all(|pair| pair[0].position < pair[1].position && pair[0].time <= pair[1].time));
}

/// The positions of a batch are neighbours; its events stand in its order.
pub fn a_batch_has_neighbouring_positions(harness: &mut dyn Harness) {
    let log = harness.log();
    append(&*log, vec![event("a", "first")]);
    let receipt = append(&*log, (0..1_000).map(|n| event("a", &n.to_string())).collect());
    let places: Vec<u64> = receipt.events.iter().map(|answer| answer.position.get()).collect();
    assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(receipt.head, receipt.events[999].position);
}

/// Pages of every size give the same events.
pub fn pages_of_every_size_give_the_same_events(harness: &mut dyn Harness) {
    let log = harness.log();
    for n in 0..50 {
        append(
            &*log,
            (0..n % 5 + 1).map(|m| event(["a", "b.c", "b.d"][(n + m) % 3], &format!("{n}.{m}"))).collect(),
        );
    }
    let all = everything(&*log);
    for patterns in [&["**"][..], &["a"], &["b.*"], &["a", "b.c"], &["a", "**"], &["absent"]] {
        let wanted = filter(patterns);
        let expected: Vec<_> = all.iter().filter(|event| wanted.wants(event)).cloned().collect();
        for limit in [(1, 1 << 20), (7, 1 << 20), (1_000, 1), (1_000, 40), (1_000, 1 << 20)] {
            let limit = PageLimit { events: limit.0, bytes: limit.1 };
            assert_eq!(read_all(&*log, wanted.clone(), Position::ORIGIN, limit), expected);
        }
        for after in all.iter().step_by(17) {
            let rest: Vec<_> =
                expected.iter().filter(|event| event.position > after.position).cloned().collect();
            let limit = PageLimit { events: 10, bytes: 1 << 20 };
            assert_eq!(read_all(&*log, wanted.clone(), after.position, limit), rest);
        }
    }
}

/// A page's next lies at the head when nothing more matches, so that a reader's cursor moves past what it skipped.
pub fn a_page_moves_past_what_does_not_match(harness: &mut dyn Harness) {
    let log = harness.log();
    append(&*log, vec![event("wanted", "1")]);
    let last = append(&*log, (0..100).map(|n| event("other", &n.to_string())).collect()).head;
    let mut reader = log.reader(Arc::new(filter(&["wanted"])));
    let mut cursor = Cursor::default();
    loop {
        let page = block_on(reader.read(cursor, PageLimit { events: 10, bytes: 1_000 })).expect("a page");
        cursor = page.next;
        if page.at_head {
            break;
        }
    }
    assert_eq!(cursor.position, last);
}

/// Types and origins filter, and a wildcard never reaches the broker's own topics.
pub fn filters_leave_out_what_is_not_wanted(harness: &mut dyn Harness) {
    let log = harness.log();
    let of = |topic: &str, kind: Option<&str>, origin: Option<&str>| NewEvent {
        event_type: kind.map(|kind| EventType::parse(kind.to_owned()).expect("a type")),
        origin: origin.map(|origin| Origin::parse(origin.to_owned()).expect("an origin")),
        ..event(topic, &format!("{topic} {kind:?} {origin:?}"))
    };
    append(
        &*log,
        vec![
            of("a", None, None),
            of("a", Some("x"), Some("me")),
            of("b", Some("x"), Some("you")),
            of("$broker.x", Some("x"), None),
        ],
    );
    let types =
        |names: &[&str]| names.iter().map(|n| EventType::parse((*n).to_owned()).expect("a type")).collect();
    let count =
        |filter| read_all(&*log, filter, Position::ORIGIN, PageLimit { events: 100, bytes: 1 << 20 }).len();
    assert_eq!(count(filter(&["**"])), 3);
    assert_eq!(count(filter(&["$broker.**"])), 1);
    assert_eq!(count(filter(&["**"]).with_types(types(&["x"]))), 2);
    assert_eq!(count(filter(&["**"]).with_types(types(&["message"]))), 1);
    assert_eq!(count(filter(&["**"]).without_origin(Some(Origin::parse("me").expect("an origin")))), 2);
    assert_eq!(count(Filter::everything()), 4);
}

/// A key with the same content answers the first one's entry, with other content it refuses the whole batch.
pub fn idempotency_keys_are_kept_within_their_window(harness: &mut dyn Harness) {
    let log = harness.log();
    let first = append(&*log, vec![keyed(event("a", "one"), "k")]).events[0];
    let again = append(&*log, vec![keyed(event("a", "one"), "k")]);
    assert_eq!((again.events[0].position, again.events[0].uuid), (first.position, first.uuid));
    assert!(again.events[0].duplicate && again.events[0].time == first.time);
    assert!(
        !append(&*log, vec![keyed(event("b", "one"), "k")]).events[0].duplicate,
        "a key belongs to its topic"
    );

    let conflicting = vec![event("a", "before"), keyed(event("a", "two"), "k")];
    let refused = block_on(log.append(Batch::new(conflicting)));
    assert!(
        matches!(refused, Err(AppendError::IdempotencyConflict { index: 1, first: f }) if f == Some(first.position))
    );
    assert_eq!(texts(&everything(&*log)), ["one", "one"]);

    harness.clock().advance(WINDOW / 2);
    harness.reopen();
    let log = harness.log();
    assert!(append(&*log, vec![keyed(event("a", "one"), "k")]).events[0].duplicate, "kept across reopening");
    harness.clock().advance(WINDOW / 2);
    assert!(!append(&*log, vec![keyed(event("a", "two"), "k")]).events[0].duplicate, "forgotten by time");
    assert!(append(&*log, vec![keyed(event("a", "two"), "k")]).events[0].duplicate, "and kept anew");
}

/// Of two equal keys in one batch the second is the duplicate, and all content counts.
pub fn equal_keys_in_one_batch_are_one_event(harness: &mut dyn Harness) {
    let log = harness.log();
    let batch = vec![keyed(event("a", "x"), "k"), event("a", "y"), keyed(event("a", "x"), "k")];
    let receipt = append(&*log, batch.clone());
    let flags: Vec<bool> = receipt.events.iter().map(|answer| answer.duplicate).collect();
    assert_eq!((flags, receipt.events[0].position), (vec![false, false, true], receipt.events[2].position));
    let other_key = NewEvent { key: Some(Key::parse("k").expect("a key")), ..keyed(event("a", "x"), "k") };
    assert!(matches!(
        block_on(log.append(Batch::new(vec![other_key]))),
        Err(AppendError::IdempotencyConflict { index: 0, .. })
    ));
    let unlike = vec![keyed(event("a", "x"), "new"), keyed(event("a", "y"), "new")];
    assert!(
        matches!(
            block_on(log.append(Batch::new(unlike))),
            Err(AppendError::IdempotencyConflict { index: 1, first: None })
        ),
        "an event that is refused with its batch is not named by a place"
    );
    let again = append(&*log, vec![keyed(event("a", "x"), "k")]);
    assert_eq!(again.head, receipt.head, "nothing new: the head stays");
}

/// A conditional append is judged by the topic's newest event, after idempotency.
pub fn expected_ids_are_judged_by_the_one_who_orders(harness: &mut dyn Harness) {
    let log = harness.log();
    let epochs: Epochs = log.bounds().epochs;
    let first =
        append_expecting(&*log, keyed(event("a", "1"), "k"), Expected::Never).expect("the first").events[0];
    append(&*log, vec![event("b", "another topic")]);
    let at = |position| Expected::Event(epochs.id(position));
    let mismatch = |result: Result<Receipt, AppendError>| match result {
        Err(AppendError::ExpectedMismatch { last }) => last,
        other => panic!("{other:?}"),
    };
    assert_eq!(mismatch(append_expecting(&*log, event("a", "2"), Expected::Never)), Some(first.position));
    assert_eq!(mismatch(append_expecting(&*log, event("c", "2"), at(first.position))), None);
    let foreign = EventId::new(first.position, crate::Epoch::new(!epochs.current().get()));
    assert!(append_expecting(&*log, event("a", "2"), Expected::Event(foreign)).is_err());
    let bare = EventId { position: first.position, epoch: None };
    let second =
        append_expecting(&*log, event("a", "2"), Expected::Event(bare)).expect("the second").events[0];
    assert_eq!(mismatch(append_expecting(&*log, event("a", "3"), at(first.position))), Some(second.position));
    let retry = append_expecting(&*log, keyed(event("a", "1"), "k"), Expected::Never).expect("a retry");
    assert!(retry.events[0].duplicate, "a retry of what had succeeded is answered again");
    assert_eq!(everything(&*log).len(), 3);
}

/// Topics tell what they hold, also after reopening.
pub fn topics_count_what_they_hold(harness: &mut dyn Harness) {
    let log = harness.log();
    let receipt = append(&*log, vec![event("b", "12345"), event("a.x", "1"), event("b", "1")]);
    for round in 0..2 {
        let log = harness.log();
        let all = log.topics(None);
        let names: Vec<_> = all.iter().map(|stats| stats.topic.as_str()).collect();
        assert_eq!(names, ["a.x", "b"]);
        let b = log.topic(&Topic::parse("b").expect("a topic")).expect("a known topic");
        assert_eq!((b.first, b.last), (Some(receipt.events[0].position), receipt.events[2].position));
        assert_eq!((b.events, b.bytes), (2, 8));
        assert_eq!(log.topics(Some(&Pattern::parse("a.*").expect("a pattern"))).len(), 1);
        assert_eq!(log.topic(&Topic::parse("none").expect("a topic")), None);
        let bounds = log.bounds();
        assert_eq!((bounds.events, bounds.bytes, bounds.oldest), (3, 12, Some(receipt.events[0].position)));
        if round == 0 {
            harness.reopen();
        }
    }
}

/// What became durable since the log was opened is counted, and what was there already.
pub fn what_became_durable_is_counted(harness: &mut dyn Harness) {
    let log = harness.log();
    let first = append(&*log, vec![event("t", "1234"), keyed(event("t", "56"), "k")]);
    append(&*log, vec![keyed(event("t", "56"), "k")]);
    append(&*log, vec![event("t", "7"), keyed(event("t", "56"), "k")]);
    let stale = Expected::Event(EventId::new(first.head.just_before(), log.bounds().epochs.current()));
    assert!(append_expecting(&*log, event("t", "refused"), stale).is_err());
    let counts = log.counts();
    assert_eq!((counts.publishes, counts.duplicates), (3, 2));
    assert_eq!((counts.commit_events.count(), counts.commit_events.sum), (2, 3));
    assert_eq!((counts.bytes, log.bounds().bytes), (10, 10));
    drop(log);
    harness.reopen();
    assert_eq!(harness.log().counts().commit_events.count(), 0);
}

/// Reopening changes nothing, and the order goes on after it.
pub fn reopening_changes_nothing(harness: &mut dyn Harness) {
    let log = harness.log();
    for n in 0..30 {
        append(&*log, (0..=n % 4).map(|m| event(&format!("t{m}"), &format!("{n}"))).collect());
    }
    let (before, bounds) = (everything(&*log), log.bounds());
    drop(log);
    harness.reopen();
    let log = harness.log();
    assert_eq!(everything(&*log), before);
    let after = log.bounds();
    assert_eq!((after.head, after.epochs, after.events), (bounds.head, bounds.epochs, bounds.events));
    assert_eq!(log.tail().head(), bounds.head);
    assert!(append(&*log, vec![event("t0", "next")]).events[0].position > bounds.head);
}

/// Seeking finds the place from which a read begins as asked.
pub fn seeking_finds_the_place(harness: &mut dyn Harness) {
    let log = harness.log();
    let start = harness.clock().now();
    let mut places = Vec::new();
    for n in 0..40 {
        harness.clock().advance(Duration::from_secs(1));
        places.push(append(&*log, vec![event(if n % 4 == 0 { "a" } else { "b" }, &n.to_string())]).events[0]);
    }
    let head = log.bounds().head;
    let from = |filter: Filter, to| {
        let place = seek(&*log, filter.clone(), to);
        texts(&read_all(&*log, filter, place, PageLimit { events: 9, bytes: 1 << 20 })).join(" ")
    };
    assert_eq!(from(filter(&["a"]), Seek::Last(3)), "28 32 36");
    assert_eq!(from(filter(&["**"]), Seek::Last(2)), "38 39");
    assert_eq!(from(filter(&["a"]), Seek::Last(1_000)), "0 4 8 12 16 20 24 28 32 36");
    assert_eq!(seek(&*log, filter(&["none"]), Seek::Last(3)), head);
    assert_eq!(from(filter(&["**"]), Seek::Time(places[37].time)), "37 38 39");
    let between = Timestamp::from_micros(places[37].time.as_micros() + 1);
    assert_eq!(from(filter(&["**"]), Seek::Time(between)), "38 39");
    assert_eq!(from(filter(&["a"]), Seek::Time(start)).split(' ').count(), 10);
    let later = Timestamp::from_micros(places[39].time.as_micros() + 1);
    assert_eq!(seek(&*log, filter(&["**"]), Seek::Time(later)), head);
    let first_b = Seek::FirstOfTopicsAfter(Position::ORIGIN);
    assert_eq!(seek(&*log, filter(&["b"]), first_b), places[1].position.just_before());
    let next_a = Seek::FirstOfTopicsAfter(places[4].position);
    assert_eq!(seek(&*log, filter(&["a"]), next_a), places[8].position.just_before());
    assert_eq!(seek(&*log, filter(&["a"]), Seek::FirstOfTopicsAfter(places[36].position)), head);
}

/// `Last` counts what is wanted, types and origins too.
pub fn the_last_n_are_the_last_that_match(harness: &mut dyn Harness) {
    let log = harness.log();
    for n in 0..30 {
        let kind = (n % 5 == 0).then(|| EventType::parse("rare").expect("a type"));
        append(&*log, vec![NewEvent { event_type: kind, ..event("a", &n.to_string()) }]);
    }
    let rare = filter(&["a"]).with_types(vec![EventType::parse("rare").expect("a type")]);
    let place = seek(&*log, rare.clone(), Seek::Last(2));
    let read = read_all(&*log, rare, place, PageLimit { events: 10, bytes: 1 << 20 });
    assert_eq!(texts(&read), ["20", "25"]);
}

/// The largest event that is allowed, among small ones, comes back whole.
pub fn large_events_come_back_whole(harness: &mut dyn Harness) {
    let log = harness.log();
    let large: String = ('a'..='z').cycle().take(3 * 1_024 * 1_024 + 17).collect();
    let batch =
        vec![event("a", "small"), event("a", &large), event("b", "small"), event("a", &large[1..70_000])];
    append(&*log, batch.clone());
    for _ in 0..2 {
        let log = harness.log();
        let read = everything(&*log);
        assert_eq!(read.len(), 4);
        assert!(read.iter().zip(&batch).all(|(read, sent)| read.data == sent.data));
        let only = read_all(&*log, filter(&["a"]), Position::ORIGIN, PageLimit { events: 100, bytes: 1 });
        assert_eq!(only.len(), 3);
        harness.reopen();
    }
}

/// Many publishers at once: every event once, all in one order, neighbours in each batch.
pub fn concurrent_appends_are_put_in_one_order(harness: &mut dyn Harness) {
    let log = harness.log();
    std::thread::scope(|scope| {
        for publisher in 0..8 {
            let log = Arc::clone(&log);
            scope.spawn(move || {
                for n in 0..50 {
                    let batch =
                        (0..3).map(|m| event(&format!("p{publisher}"), &format!("{publisher}.{n}.{m}")));
                    append(&*log, batch.collect());
                }
            });
        }
    });
    let read = everything(&*log);
    assert_eq!(read.len(), 8 * 50 * 3);
    assert!(read.windows(2).all(|pair| pair[0].position < pair[1].position));
    for publisher in 0..8 {
        let own = filter(&[&format!("p{publisher}")]);
        let own = read_all(&*log, own, Position::ORIGIN, PageLimit { events: 64, bytes: 1 << 20 });
        let expected: Vec<String> = (0..150).map(|n| format!("{publisher}.{}.{}", n / 3, n % 3)).collect();
        assert_eq!(texts(&own), expected);
    }
}

/// Concurrent duplicates wait for the first: one event, one place, told to all.
pub fn concurrent_duplicates_wait_for_the_first(harness: &mut dyn Harness) {
    let log = harness.log();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let log = Arc::clone(&log);
                scope.spawn(move || append(&*log, vec![keyed(event("a", "once"), "k")]).events[0])
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a publisher")).collect()
    });
    assert_eq!(everything(&*log).len(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    assert!(answers.iter().all(|answer| answer.position == answers[0].position));
}

/// The tail is a level: whoever waits for a place that is durable already does not wait.
pub fn the_tail_is_a_level(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut tail = log.tail();
    let waiting = std::thread::spawn(move || block_on(tail.wait_past(Position::ORIGIN)));
    let head = append(&*log, vec![event("a", "1")]).head;
    assert_eq!(waiting.join().expect("the waiting thread"), Ok(head));
    assert_eq!(block_on(log.tail().wait_past(Position::ORIGIN)), Ok(head));
}

/// A closed log refuses, ends its tail, and says so.
pub fn a_closed_log_refuses(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut tail = log.tail();
    append(&*log, vec![event("a", "1")]);
    block_on(log.close());
    block_on(log.close());
    assert!(matches!(block_on(log.append(Batch::new(vec![event("a", "2")]))), Err(AppendError::Closed)));
    let head = tail.head();
    assert!(block_on(tail.wait_past(head)).is_err());
    drop(log);
    harness.reopen();
    assert_eq!(everything(&*harness.log()).len(), 1);
}

/// Makes one `#[test]` of each case, on a harness that the given function makes.
#[macro_export]
macro_rules! contract_tests {
    ($new:expr) => {
        $crate::contract_tests!(@each $new;
            an_empty_log_begins_at_the_origin
            what_is_acknowledged_is_read_back_whole
            order_and_time_never_go_back
            a_batch_has_neighbouring_positions
            pages_of_every_size_give_the_same_events
            a_page_moves_past_what_does_not_match
            filters_leave_out_what_is_not_wanted
            idempotency_keys_are_kept_within_their_window
            equal_keys_in_one_batch_are_one_event
            expected_ids_are_judged_by_the_one_who_orders
            topics_count_what_they_hold
            what_became_durable_is_counted
            reopening_changes_nothing
            seeking_finds_the_place
            the_last_n_are_the_last_that_match
            large_events_come_back_whole
            concurrent_appends_are_put_in_one_order
            concurrent_duplicates_wait_for_the_first
            the_tail_is_a_level
            a_closed_log_refuses
            a_trim_removes_the_oldest_and_no_other
            a_log_that_was_emptied_goes_on_where_it_was
            readers_are_told_of_what_was_trimmed
            a_reader_under_way_is_told_in_the_middle
            keys_and_last_places_outlive_the_events
            superseded_events_go_without_a_gap
            old_tombstones_go_and_are_a_gap
            trims_and_compaction_go_together
            a_reader_beside_removals_has_an_exact_ledger
        );
    };
    (@each $new:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                let mut harness = $new();
                $crate::contract::$case(&mut harness);
            }
        )*
    };
}
