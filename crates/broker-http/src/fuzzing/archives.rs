//! Archives as text: what is read, written and read again is the same, and nothing but the text decides what is taken.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use event_log::{
    ArchivedKey, ArchivedTopic, Epoch, EpochStart, Event, EventType, Item, Position, Timestamp, fuzzing,
};
use uuid::Uuid;

use crate::archive::{Line, Reader, Unreadable, Writer, republished};

/// Reads the input as a text; and makes an archive of it, which must read back as it was, and not when it was cut off.
pub fn archive(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        read_text(text);
    }
    // An input that ends too early says nothing.
    let _ = write_and_read(&mut Unstructured::new(input));
}

fn read(text: &str) -> std::result::Result<Vec<Line>, Unreadable> {
    let (mut reader, mut lines) = (Reader::default(), Vec::new());
    for line in text.split('\n') {
        lines.extend(reader.read(line)?);
    }
    reader.end()?;
    assert_eq!(reader.is_archive(), lines.iter().any(|line| matches!(line, Line::Item(_))));
    Ok(lines)
}

fn written<'a>(items: impl IntoIterator<Item = &'a Item>) -> String {
    let (mut lines, mut writer) = (Vec::new(), Writer::default());
    items.into_iter().for_each(|item| writer.write(&mut lines, item));
    String::from_utf8(lines).unwrap_or_else(|error| panic!("{error}"))
}

fn read_text(text: &str) {
    let Ok(lines) = read(text) else { return };
    let items: Vec<&Item> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Item(item) => Some(item),
            Line::Event(_) => None,
        })
        .collect();
    if items.is_empty() {
        return;
    }
    assert_eq!(items.len(), lines.len(), "an archive has nothing but its items");
    assert!(matches!((items[0], items[items.len() - 1]), (Item::Start { .. }, Item::End { .. })));
    let again = written(items);
    assert_eq!(read(&again).as_ref(), Ok(&lines), "{again}");
}

fn write_and_read(input: &mut Unstructured<'_>) -> Result<()> {
    let epoch = Epoch::new(input.arbitrary()?);
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..input.int_in_range(0..=4)? {
        events.push(event(input)?);
    }
    events.sort_by_key(|event| event.position);
    events.dedup_by_key(|event| event.position);
    let mut time = Timestamp::default();
    for event in &mut events {
        time = time.max(event.time);
        event.time = time;
    }
    let plain: Vec<Line> = events.iter().map(|event| Line::Event(republished(event))).collect();
    let end = Item::End { head: Position::new(u64::MAX), time, events: events.len() as u64 };
    let mut items = vec![Item::Start { epochs: vec![EpochStart { epoch, after: Position::ORIGIN }] }];
    items.extend(events.into_iter().map(|event| Item::Event(Arc::new(event))));
    items.extend(facts(input)?);
    items.push(end);
    let text = written(&items);
    let lines: Vec<Line> = items.iter().cloned().map(Line::Item).collect();
    assert_eq!(read(&text).as_ref(), Ok(&lines), "{text}");
    // The events alone are envelopes, which are published as those of the archive are.
    let envelopes: Vec<&str> = text.lines().skip(1).take(plain.len()).collect();
    if !plain.is_empty() {
        assert_eq!(read(&envelopes.join("\n")), Ok(plain));
    }
    let cut = input.int_in_range(0..=text.len() - 1)?;
    if text.is_char_boundary(cut) && cut < text.trim_end().len() {
        assert!(read(&text[..cut]).is_err(), "it was cut off at {cut}");
    }
    Ok(())
}

/// An event that a log may hold: the broker's own types stand where only the broker publishes them.
fn event(input: &mut Unstructured<'_>) -> Result<Event> {
    let event = fuzzing::event(input)?;
    let is_allowed = |name: &EventType| {
        let is_tombstone = name.as_str() == EventType::DELETE && event.key.is_some();
        !name.as_str().starts_with('$') || event.topic.is_reserved() || is_tombstone
    };
    // No type is the same as `message`, and is what a log holds.
    let event_type =
        event.event_type.clone().filter(is_allowed).filter(|name| name.as_str() != EventType::MESSAGE);
    let position = event.position.max(Position::new(1));
    Ok(Event { event_type, position, ..event })
}

fn facts(input: &mut Unstructured<'_>) -> Result<Vec<Item>> {
    let mut facts = Vec::new();
    for _ in 0..input.int_in_range(0..=3)? {
        let place = |input: &mut Unstructured<'_>| input.arbitrary().map(Position::new);
        facts.push(match input.arbitrary()? {
            true => {
                let mut places = [place(input)?, place(input)?, place(input)?];
                places.sort();
                let [removed_through, missing_through, last] = places;
                let topic = fuzzing::topic(input)?;
                Item::Topic(ArchivedTopic { topic, last, removed_through, missing_through })
            }
            false => Item::Key(ArchivedKey {
                key: input.arbitrary()?,
                content: input.arbitrary()?,
                position: place(input)?,
                time: fuzzing::event(input)?.time,
                uuid: Uuid::from_u128(input.arbitrary()?),
            }),
        });
    }
    Ok(facts)
}
