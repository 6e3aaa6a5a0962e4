//! What a reader of an event stream gets is what was published: whatever is in it, however it is held, and wherever the network
//! cuts the stream.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use broker::{Memo, Recent};
use bytestring::ByteString;
use event_log::{Data, Encoder, Epoch, Event, EventId, Key, Origin, Replayed, fuzzing};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event_stream::{EventStream, Message};
use crate::sse::{Framer, HEARTBEAT, insert_retry, write_block};

/// Frames events and the broker's own blocks, and reads them as the WHATWG says.
pub fn sse(input: &[u8]) {
    // An input that ends too early says nothing.
    let _ = frame_and_read(&mut Unstructured::new(input));
}

/// What was written, as a reader should see it.
enum Written {
    Event(Arc<Event>),
    Block { name: &'static str, data: String, id: Option<EventId> },
}

fn frame_and_read(input: &mut Unstructured<'_>) -> Result<()> {
    let framer = Framer { epoch: Epoch::new(input.arbitrary()?), envelope: input.arbitrary()? };
    let (mut stream, mut written, mut heartbeats, mut retry) = (Vec::new(), Vec::new(), 0, None);
    for _ in 0..input.int_in_range(1..=6)? {
        let retry_ms = if input.ratio(1, 4)? { Some(input.arbitrary()?) } else { None };
        let what = input.int_in_range(0..=7)?;
        // A heartbeat has none.
        retry = retry_ms.filter(|_| what > 0).or(retry);
        match what {
            0 => {
                stream.extend_from_slice(HEARTBEAT);
                heartbeats += 1;
            }
            1 => {
                let name = *input.choose(&["$gap", "$open", "$live", "$cursor", "$closing"])?;
                let id = if input.arbitrary()? {
                    Some(EventId::new(fuzzing::event(input)?.position, framer.epoch))
                } else {
                    None
                };
                let data = serde_json::json!({ "requested": input.arbitrary::<&str>()? });
                write_block(&mut stream, name, retry_ms, &data, id);
                written.push(Written::Block { name, data: data.to_string(), id });
            }
            held => {
                let event = Arc::new(event(input)?);
                write_event(framer, &event, held, retry_ms, &mut stream);
                written.push(Written::Event(event));
            }
        }
    }
    let mut reader = EventStream::default();
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let cut = if input.is_empty() { rest.len() } else { input.int_in_range(1..=rest.len())? };
        reader.take(&rest[..cut]);
        rest = &rest[cut..];
    }
    assert!(reader.is_between_blocks(), "a block is written whole");
    assert_eq!((reader.comments, reader.retry), (heartbeats, retry));
    assert_eq!(reader.messages.len(), written.len(), "nothing is forged, nothing is lost");
    let mut last_event_id = String::new();
    for (message, written) in reader.messages.iter().zip(&written) {
        if let Some(id) = written.id(framer.epoch) {
            last_event_id = id.to_string();
        }
        assert_eq!(message.last_event_id, last_event_id);
        written.compare(message, framer);
    }
    Ok(())
}

/// An event; now and then its data is long enough for several pieces, and of letters that are escaped or end lines.
fn event(input: &mut Unstructured<'_>) -> Result<Event> {
    let event = fuzzing::event(input)?;
    let times = if input.ratio(1, 16)? { input.int_in_range(1..=40_000)? } else { 1 };
    let data = ByteString::from(event.data.as_str().repeat(times));
    Ok(Event { data: Data::from(data), ..event })
}

fn write_event(framer: Framer, event: &Arc<Event>, held: u8, retry_ms: Option<u64>, stream: &mut Vec<u8>) {
    let view = event.view();
    let texts = [Some(view.topic), view.event_type, view.key, view.origin, Some(view.data)];
    let is_small = Replayed::is_small(texts.into_iter().flatten().map(str::len).sum());
    let pieces = match held {
        2 | 3 => {
            let recent = Recent { event: Arc::clone(event), memo: Memo::default() };
            framer.write(&recent, retry_ms, stream)
        }
        4 | 5 if is_small => {
            let start = stream.len();
            framer.encode(&view, stream);
            if let Some(retry_ms) = retry_ms {
                insert_retry(stream, start, retry_ms);
            }
            None
        }
        _ => framer.write_first(event, retry_ms, stream),
    };
    let Some(mut pieces) = pieces else { return };
    while !pieces.is_done() {
        stream.extend_from_slice(&pieces.next_piece());
    }
}

impl Written {
    fn id(&self, epoch: Epoch) -> Option<EventId> {
        match self {
            Written::Event(event) => Some(EventId::new(event.position, epoch)),
            Written::Block { id, .. } => *id,
        }
    }

    fn compare(&self, message: &Message, framer: Framer) {
        match self {
            Written::Block { name, data, .. } => {
                assert_eq!((&*message.event_type, &message.data), (*name, data));
            }
            Written::Event(event) => {
                assert_eq!(message.event_type, event.type_name());
                match framer.envelope {
                    true => compare_envelope(&message.data, event, framer.epoch),
                    // All line ends are one to a page.
                    false => assert_eq!(message.data, lines(event.data.as_str())),
                }
            }
        }
    }
}

fn lines(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    id: String,
    topic: String,
    r#type: String,
    key: Option<String>,
    origin: Option<String>,
    time: String,
    uuid: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn compare_envelope(line: &str, event: &Event, epoch: Epoch) {
    assert!(!line.contains(['\n', '\r']));
    let envelope: Envelope<'_> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(envelope.id, EventId::new(event.position, epoch).to_string());
    assert_eq!((&*envelope.topic, &*envelope.r#type), (event.topic.as_str(), event.type_name()));
    assert_eq!(envelope.key.as_deref(), event.key.as_ref().map(Key::as_str));
    assert_eq!(envelope.origin.as_deref(), event.origin.as_ref().map(Origin::as_str));
    assert_eq!((envelope.time, envelope.uuid), (event.time.to_string(), event.uuid.to_string()));
    let raw = envelope.data.get();
    match raw.starts_with('"') {
        true => assert_eq!(serde_json::from_str::<String>(raw).ok().as_deref(), Some(event.data.as_str())),
        false => assert_eq!(raw, event.data.as_str()),
    }
}
