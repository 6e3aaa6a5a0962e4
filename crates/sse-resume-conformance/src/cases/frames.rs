//! Frames that are cut, and text that could forge them.

use std::time::Instant;

use crate::adapter::Promise::ExactResume;
use crate::case::{Case, Outcome, Stop, fail};
use crate::hub::Hub;
use crate::payload::{payload, published, read, shown};
use crate::publisher::Unpublished;
use crate::reader::{Reader, Start};
use crate::sse::{Block, Parser, SseEvent};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "cut-at-any-byte",
        about: "a reader that is cut at any byte of its stream goes on exactly",
        needs: &[ExactResume],
        long: false,
        run: cut_at_any_byte,
    },
    Case {
        name: "torn-frames",
        about: "events of all sizes come whole, to live readers and in a replay",
        needs: &[],
        long: false,
        run: sizes,
    },
    Case {
        name: "injection",
        about: "CR, LF and fields in published text forge no event, id or type, and the text comes back",
        needs: &[],
        long: false,
        run: injection,
    },
];

/// At most so many places at which a stream is cut.
const CUTS: usize = 400;

fn cut_at_any_byte(hub: &Hub) -> Outcome {
    const EVENTS: u64 = 6;
    let topic = hub.topic();
    let ids = hub.seed_many(&topic, EVENTS, 40)?;
    let mut whole = hub.reader(&[&topic], Start::After(&ids[0]))?;
    let mut last = payload(&topic, EVENTS, 40);
    if hub.adapter.subscribe.data_is_json {
        last = format!("\"{last}\"");
    }
    let length = length_until(&mut whole, &last)?;
    let step = length.div_ceil(CUTS);
    for cut in (0..length).step_by(step) {
        let bytes = bytes_of(&mut hub.reader(&[&topic], Start::After(&ids[0]))?, cut)?;
        let (mut parser, mut blocks) = (Parser::after(&ids[0]), Vec::new());
        parser.feed(&bytes, &mut blocks);
        let events = blocks.into_iter().filter_map(Block::event);
        let events: Vec<SseEvent> = events.filter(|event| !hub.adapter.is_control(&event.kind)).collect();
        for (due, event) in (2..).zip(&events) {
            let data = published(event.data.clone(), hub.adapter.subscribe.data_is_json);
            let (_, n) = read(&data).map_err(Stop::Failed)?;
            if n != due {
                return fail(format!("{n} came where {due} was due"));
            }
        }
        let mut reader = hub.reader(&[&topic], Start::After(parser.last_event_id()))?;
        let next = events.len() as u64 + 2;
        if let Err(Stop::Failed(seen)) = reader.expect(next..=EVENTS) {
            return fail(format!("cut after {cut} bytes of {length}: {seen}"));
        }
    }
    Ok(format!("{} cuts in {length} bytes", length.div_ceil(step)))
}

fn sizes(hub: &Hub) -> Outcome {
    let around = [1 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];
    let sizes =
        around.iter().flat_map(|size| [size - 60, size - 1, *size, size + 1]).chain([hub.adapter.data_max]);
    let sizes: Vec<usize> = sizes.filter(|size| *size <= hub.adapter.data_max).collect();
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    let mut live = hub.reader(&[&topic], Start::After(&first))?;
    live.open()?;
    let mut publisher = hub.publisher();
    for (n, size) in (2..).zip(&sizes) {
        publisher.publish(&topic, n, *size)?;
        live.expect_one(n)?;
    }
    let last = sizes.len() as u64 + 1;
    hub.reader(&[&topic], Start::After(&first))?.expect(2..=last)?;
    hub.reader(&[&topic], Start::After(&first))?.slow().expect(2..=last)?;
    Ok(format!("up to {} bytes", sizes.iter().max().unwrap_or(&0)))
}

/// Text as publishers may send it.
const TEXTS: [&str; 12] = [
    "a\rb",
    "a\nb",
    "a\r\nb",
    "x\r\rdata: forged\r\rz",
    "x\n\ndata: forged\n\nz",
    "x\r\n\r\ndata: forged\r\n\r\nz",
    "x\rid: 999999\ry",
    "x\nid: 999999\ny",
    "x\revent: forged\ry",
    "x\nevent: forged\nretry: 1\ny",
    "id: 999999",
    "x\u{2028}y\u{2029}z\u{85}w\u{b}v\u{c}u",
];

fn injection(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    let mut reader = hub.reader(&[&topic], Start::After(&first))?;
    reader.open()?;
    let mut publisher = hub.publisher();
    let (mut taken, mut refused) = (Vec::new(), 0);
    // Behind each text comes an event of the usual kind, up to which all belongs to the text.
    for (n, text) in (2..).zip(TEXTS) {
        match publisher.publish_text(&topic, text) {
            Ok(()) => taken.push(text),
            // Who refuses a text cannot be made to forge with it.
            Err(Unpublished::Refused(400..=499, _)) => refused += 1,
            Err(other) => return Err(other.into()),
        }
        publisher.publish(&topic, n, 60)?;
    }
    let mut faults = Vec::new();
    let mut replay = hub.reader(&[&topic], Start::After(&first))?;
    for reader in [&mut reader, &mut replay] {
        for (n, text) in (2..).zip(TEXTS) {
            let events = until_mark(reader, &topic, n)?;
            if taken.contains(&text) {
                faults.extend(judge(text, &events));
            }
        }
    }
    let count = faults.len();
    // What is forged is worse than what is lost.
    faults.sort_by_key(|fault| !fault.contains("forged"));
    match faults.into_iter().next() {
        Some(fault) => fail(format!("{fault} ({count} of {} texts, live and replayed)", 2 * taken.len())),
        None if refused > 0 => Ok(format!("{} texts, and {refused} refused", taken.len())),
        None => Ok(format!("{} texts", taken.len())),
    }
}

/// All events before the one that marks text `n`, and that one last.
fn until_mark(reader: &mut Reader, topic: &str, n: u64) -> Result<Vec<SseEvent>, Stop> {
    let mark = payload(topic, n, 60);
    let mut events = Vec::new();
    loop {
        match reader.raw_event()? {
            Some(event) => events.push(event),
            None => return fail(format!("the event after {:?} never came", TEXTS[n as usize - 2])),
        }
        if events.last().is_some_and(|event| event.data == mark) {
            return Ok(events);
        }
    }
}

/// What is wrong with the events that came for a text, the last of which is one of the usual kind.
fn judge(text: &str, events: &[SseEvent]) -> Option<String> {
    let (usual, events) = events.split_last()?;
    let wanted = text.replace("\r\n", "\n").replace('\r', "\n");
    if events.iter().any(|event| event.id == "999999") {
        return Some(format!("{text:?} forged an id"));
    }
    if let Some(event) = events.iter().find(|event| event.kind != usual.kind) {
        return Some(format!("{text:?} forged the type {:?}", event.kind));
    }
    match events {
        [] => Some(format!("{text:?} never came")),
        // A hub that sends it in another shape, such as JSON, may give the exact text.
        [event] if event.data == wanted || event.data == text => None,
        [event] => Some(format!("{text:?} came as {}", shown(&event.data))),
        more => Some(format!("{text:?} forged an event: it came as {} of them", more.len())),
    }
}

/// So many bytes of a stream's body, and no more.
fn bytes_of(reader: &mut Reader, count: usize) -> Result<Vec<u8>, Stop> {
    let deadline = Instant::now() + reader.patience();
    let stream = reader.connected()?;
    let mut bytes = Vec::new();
    while bytes.len() < count {
        bytes.extend(stream.piece(deadline)?);
    }
    bytes.truncate(count);
    Ok(bytes)
}

/// How many bytes of a stream's body there are up to the end of the event with this data.
fn length_until(reader: &mut Reader, data: &str) -> Result<usize, Stop> {
    let deadline = Instant::now() + reader.patience();
    let stream = reader.connected()?;
    let (mut parser, mut blocks, mut length) = (Parser::default(), Vec::new(), 0);
    loop {
        for byte in stream.piece(deadline)? {
            length += 1;
            parser.feed(&[byte], &mut blocks);
            if matches!(blocks.last(), Some(Block::Event(event)) if event.data == data) {
                return Ok(length);
            }
        }
    }
}
