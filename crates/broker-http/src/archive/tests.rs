use std::sync::Arc;

use event_log::{
    ArchivedKey, ArchivedTopic, Data, Epoch, EpochStart, Event, EventType, Item, Key, NewEvent, Origin,
    Position, Timestamp, Topic,
};
use uuid::Uuid;

use super::*;
use crate::envelope;

const EPOCH: Epoch = Epoch::new(0x7f3a_9c1e);

fn data_of(text: &str) -> Data {
    Data::parse(text, usize::MAX).unwrap()
}

fn time(n: u64) -> Timestamp {
    Timestamp::from_micros(1_795_226_400_000_000 + n)
}

fn start() -> Item {
    let before = EpochStart { epoch: Epoch::new(0xa), after: Position::ORIGIN };
    Item::Start { epochs: vec![before, EpochStart { epoch: EPOCH, after: Position::new(7) }] }
}

pub(super) fn event(
    position: u64,
    topic: &str,
    event_type: Option<&str>,
    key: Option<&str>,
    data: &str,
) -> Event {
    let new = NewEvent {
        topic: Topic::parse(topic).unwrap(),
        event_type: event_type.map(|name| EventType::parse(name).unwrap()),
        key: key.map(|key| Key::parse(key).unwrap()),
        origin: key.map(|key| Origin::parse(format!("by {key}")).unwrap()),
        idempotency_key: None,
        data: data_of(data),
    };
    Event::place(
        new,
        Position::new(position),
        time(position),
        Uuid::from_u128(u128::from(position) << 64 | 5),
    )
}

/// Whole archive of these events, with a fact of each kind.
pub(super) fn archive_of(events: Vec<Event>) -> Vec<Item> {
    let (count, head) = (events.len() as u64, events.last().map_or(0, |event| event.position.get()));
    let topic = ArchivedTopic {
        topic: Topic::parse("gone.\u{e9}").unwrap(),
        last: Position::new(head + 3),
        removed_through: Position::new(head + 2),
        missing_through: Position::new(1),
    };
    let key = ArchivedKey {
        key: [0; 16],
        content: [0xfe; 16],
        position: Position::new(2),
        time: time(2),
        uuid: Uuid::from_u128(9),
    };
    let mut items = vec![start()];
    items.extend(events.into_iter().map(|event| Item::Event(Arc::new(event))));
    items.extend([Item::Topic(topic), Item::Key(key)]);
    items.push(Item::End { head: Position::new(head + 4), time: time(head + 4), events: count });
    items
}

pub(super) fn written(items: &[Item]) -> String {
    let (mut lines, mut writer) = (Vec::new(), Writer::default());
    items.iter().for_each(|item| writer.write(&mut lines, item));
    String::from_utf8(lines).unwrap()
}

pub(super) fn read(text: &str) -> Result<Vec<Line>, Unreadable> {
    let mut reader = Reader::default();
    let mut lines = Vec::new();
    for line in text.split('\n') {
        lines.extend(reader.read(line)?);
    }
    reader.end()?;
    Ok(lines)
}

pub(super) fn items(text: &str) -> Vec<Item> {
    let lines = read(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let item = |line| match line {
        Line::Item(item) => item,
        Line::Event(event) => panic!("{event:?} is no item of an archive"),
    };
    lines.into_iter().map(item).collect()
}

fn refusal(text: &str) -> String {
    match read(text) {
        Ok(lines) => panic!("{lines:?} was read from {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_text_is_as_documented() {
    let archive = archive_of(vec![event(8, "a.b", None, None, "{\"n\": 1}")]);
    let expected = [
        r#"{"type":"$export","id":"0-7f3a9c1e","data":{"version":1,"epochs":[{"epoch":"0000000a","after":0},{"epoch":"7f3a9c1e","after":7}]}}"#,
        r#"{"id":"8-7f3a9c1e","topic":"a.b","type":"message","key":null,"origin":null,"time":"2026-11-21T02:00:00.000008Z","uuid":"00000000-0000-0008-0000-000000000005","data":{"n": 1}}"#,
        r#"{"type":"$topic","id":"11-7f3a9c1e","data":{"topic":"gone.é","last":11,"removed_through":10,"missing_through":1}}"#,
        r#"{"type":"$key","id":"2-7f3a9c1e","data":{"key":"00000000000000000000000000000000","content":"fefefefefefefefefefefefefefefefe","time":"2026-11-21T02:00:00.000002Z","uuid":"00000000-0000-0000-0000-000000000009"}}"#,
        r#"{"type":"$end","id":"12-7f3a9c1e","data":{"events":1,"time":"2026-11-21T02:00:00.000012Z"}}"#,
    ];
    assert_eq!(written(&archive).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn tombstones_and_the_brokers_own_events_survive() {
    let archive = archive_of(vec![
        event(8, "a", Some("$delete"), Some("k"), "{\"key\":\"k\"}"),
        event(9, "$broker.policies", Some("$set"), Some("a.**"), "{\"max_events\":1}"),
        event(10, "$broker.purges", Some("$end"), None, "{}"),
    ]);
    assert_eq!(items(&written(&archive)), archive);
}

#[test]
fn a_log_without_events_is_an_archive_too() {
    let epochs = vec![EpochStart { epoch: EPOCH, after: Position::ORIGIN }];
    let end = Item::End { head: Position::ORIGIN, time: Timestamp::default(), events: 0 };
    let archive = [Item::Start { epochs }, end];
    assert_eq!(items(&written(&archive)), archive);
}

#[test]
fn an_archive_that_is_cut_off_anywhere_is_refused() {
    let text =
        written(&archive_of(vec![event(8, "a", None, None, "x"), event(9, "a", None, Some("k"), "{}")]));
    for end in (0..text.len() - 1).filter(|end| text.is_char_boundary(*end)) {
        assert!(read(&text[..end]).is_err(), "{}", &text[..end]);
    }
    assert!(read(text.trim_end()).is_ok());
    let lines: Vec<&str> = text.lines().collect();
    assert!(refusal(&lines[..3].join("\n")).contains("cut off"));
}

#[test]
fn an_archive_that_misses_a_line_or_has_one_twice_is_refused() {
    let text = written(&archive_of((8..12).map(|n| event(n, "a", None, None, "x")).collect()));
    let lines: Vec<&str> = text.lines().collect();
    for left_out in (0..5).chain([lines.len() - 1]) {
        let mut fewer = lines.clone();
        fewer.remove(left_out);
        refusal(&fewer.join("\n"));
    }
    for twice in (0..5).chain([lines.len() - 1]) {
        let mut more = lines.clone();
        more.insert(twice, lines[twice]);
        refusal(&more.join("\n"));
    }
    for other in 1..4 {
        let mut swapped = lines.clone();
        swapped.swap(other, other + 1);
        assert!(refusal(&swapped.join("\n")).contains("out of order"));
    }
    let fewer = [&lines[..2], &lines[3..]].concat().join("\n");
    assert!(refusal(&fewer).contains("3 events, and its $end says 4"));
}

#[test]
fn an_archive_whose_lines_were_changed_in_their_form_is_refused_with_the_cause() {
    let text = written(&archive_of(vec![event(8, "a", Some("t"), Some("k"), "x")]));
    assert!(read(&text).is_ok());
    for (from, to, cause) in [
        ("\"version\":1", "\"version\":2", "version 2"),
        ("\"version\":1", "\"version\":2,\"new\":[]", "version 2"),
        ("\"after\":7", "\"after\":7,\"x\":1", "unknown field"),
        ("\"epoch\":\"7f3a9c1e\"", "\"epoch\":\"7F3A9C1E\"", "no epoch"),
        ("\"epoch\":\"7f3a9c1e\"", "\"epoch\":\"00000001\"", "newest epoch"),
        ("\"id\":\"8-7f3a9c1e\"", "\"id\":\"8-00000001\"", "newest epoch"),
        ("\"id\":\"8-7f3a9c1e\"", "\"id\":\"8\"", "newest epoch"),
        ("\"id\":\"8-7f3a9c1e\",", "", "no id"),
        ("\"id\":\"8-7f3a9c1e\"", "\"id\":\"800-7f3a9c1e\"", "$end"),
        ("00.000008Z", "00.0000080Z", "form"),
        ("00.000008Z", "59.000008Z", "$end"),
        ("0008-0000", "000g-0000", "uuid"),
        ("\"type\":\"t\"", "\"type\":\"$gap\"", "$"),
        ("\"type\":\"t\"", "\"type\":\"t\",\"type\":\"t\"", "duplicate"),
        ("\"data\":\"x\"", "\"data\":\"\\ud800\"", "string"),
        ("\"data\":\"x\"", "\"data\":\"x\",\"idempotency_key\":\"i\"", "idempotency_key"),
        (",\"data\":\"x\"", "", "no data"),
        ("\"last\":11", "\"last\":10", "$topic"),
        ("\"last\":11", "\"last\":-11", "$topic"),
        ("\"fefe", "\"FEFE", "hash"),
        ("\"fefe", "\"+efe", "hash"),
        ("\"$key\"", "\"$kye\"", "version 1"),
        ("\"id\":\"12-7f3a9c1e\"", "\"id\":\"10-7f3a9c1e\"", "before"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let refused = refusal(&changed);
        assert!(refused.contains(cause), "{from} -> {to}: {refused}");
    }
}

#[test]
fn what_could_be_published_is_read_outside_of_an_archive() {
    let text = "\n{\"topic\":\"a\",\"data\":null}\r\n{\"topic\":\"a\",\"type\":\"t\",\"key\":\"k\",\"origin\":\"o\",\
                \"idempotency_key\":\"i\",\"data\":\"x\\u0000\"}";
    let lines = read(text).unwrap();
    let plain = NewEvent::new(Topic::parse("a").unwrap(), data_of("null"));
    assert_eq!(lines[0], Line::Event(plain.clone()));
    let full = NewEvent {
        event_type: Some(EventType::parse("t").unwrap()),
        key: Some(Key::parse("k").unwrap()),
        origin: Some(Origin::parse("o").unwrap()),
        idempotency_key: Some(IdempotencyKey::parse("i").unwrap()),
        data: data_of("x\0"),
        ..plain
    };
    assert_eq!(lines[1], Line::Event(full));
}

#[test]
fn an_envelope_outside_of_an_archive_is_published_as_one_of_an_archive_would_be() {
    for event in [
        event(8, "a", None, Some("k"), "{\"n\": 1}"),
        event(9, "a", Some("$delete"), Some("k"), "{\"key\":\"k\"}"),
        event(10, "$broker.policies", Some("$set"), None, "{}"),
    ] {
        let mut line = Vec::new();
        envelope::write(&mut line, &event, EPOCH);
        let line = String::from_utf8(line).unwrap();
        assert_eq!(read(&line).unwrap(), [Line::Event(republished(&event))]);
    }
}

#[test]
fn a_text_that_is_neither_is_refused_with_what_would_be_right() {
    for (text, cause) in [
        ("", "empty"),
        ("\n\n", "empty"),
        ("hello", "{\"topic\""),
        ("[\"1-7f3a9c1e\",\"a\"]", "{\"topic\""),
        ("{\"topic\":\"a\"}", "data"),
        ("{\"data\":\"a\"}", "topic"),
        ("{\"topic\":\"a..b\",\"data\":1}", "segment"),
        ("{\"topic\":\"a\",\"data\":1,\"dta\":1}", "dta"),
        ("{\"topic\":\"a\",\"data\":1}}", "trailing"),
        ("{\"topic\":\"a\",\"type\":\"$x\",\"data\":1}", "$x"),
        ("{\"topic\":\"a\",\"type\":\"$delete\",\"data\":1}", "$delete"),
        ("{\"type\":\"$gap\",\"id\":\"1-7f3a9c1e\",\"data\":{}}", "$gap"),
        ("{\"type\":\"$end\",\"id\":\"1-7f3a9c1e\",\"data\":{}}", "$export"),
        ("{\"topic\":\"a\",\"data\":1}\n{\"type\":\"$export\",\"id\":\"0-7f3a9c1e\",\"data\":{}}", "middle"),
    ] {
        let refused = refusal(text);
        assert!(refused.contains(cause), "{text}: {refused}");
    }
}
