//! Frames that are cut, and text that could forge them.

use std::time::Instant;

use crate::adapter::Promise::ExactResume;
use crate::case::{Case, Outcome, Stop, fail};
use crate::hub::Hub;
use crate::payload::{payload, read, shown};
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
    let length = length_until(&mut whole, &payload(&topic, EVENTS, 40))?;
    let step = length.div_ceil(CUTS);
    for cut in (0..length).step_by(step) {
        let bytes = bytes_of(&mut hub.reader(&[&topic], Start::After(&ids[0]))?, cut)?;
        let (mut parser, mut blocks) = (Parser::after(&ids[0]), Vec::new());
        parser.feed(&bytes, &mut blocks);
        let events = blocks.into_iter().filter_map(Block::event);
        let events: Vec<SseEvent> = events.filter(|event| !hub.adapter.is_control(&event.kind)).collect();
        for (due, event) in (2..).zip(&events) {
            let (_, n) = read(&event.data).map_err(Stop::Failed)?;
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
    let mut taken = Vec::new();
    let mut kind = None;
    for text in TEXTS {
        match publisher.publish_text(&topic, text) {
            Ok(()) => taken.push(text),
            // Who refuses a text cannot be made to forge with it.
            Err(Unpublished::Refused(400..=499, _)) => {}
            Err(other) => return Err(other.into()),
        }
        if taken.last() == Some(&text) {
            check(&mut kind, text, reader.raw_event()?)?;
        }
    }
    publisher.publish(&topic, 2, 60)?;
    reader.expect_one(2)?;
    let mut replay = hub.reader(&[&topic], Start::After(&first))?;
    for text in &taken {
        check(&mut kind, text, replay.raw_event()?)?;
    }
    replay.expect_one(2)?;
    Ok(match TEXTS.len() - taken.len() {
        0 => format!("{} texts", taken.len()),
        refused => format!("{} texts, and {refused} refused", taken.len()),
    })
}

/// Checks that an event is what its publisher sent, with its line ends as LF. All have the same type.
fn check(kind: &mut Option<String>, text: &str, event: Option<SseEvent>) -> Result<(), Stop> {
    let Some(event) = event else { return fail(format!("{text:?} never came")) };
    let wanted = text.replace("\r\n", "\n").replace('\r', "\n");
    if event.id == "999999" {
        return fail(format!("{text:?} forged an id"));
    }
    if *kind.get_or_insert_with(|| event.kind.clone()) != event.kind {
        return fail(format!("{text:?} forged the type {:?}", event.kind));
    }
    if event.data != wanted {
        return fail(format!("{text:?} came as {}", shown(&event.data)));
    }
    Ok(())
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
