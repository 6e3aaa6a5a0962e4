//! An encoder that loses nothing, so that what is replayed can be compared with what was read.

use std::sync::Arc;

use bytestring::ByteString;
use uuid::Uuid;

use crate::{
    Data, Encoder, Event, EventType, EventView, Key, Origin, Piece, Position, Replayed, Timestamp, Topic,
};

/// Room that it wants in front of a piece.
const FRONT: &[u8] = &[0; 3];
/// The length of a text that is absent.
const ABSENT: u64 = u64::MAX;

/// Encodes all fields of an event, each behind its length.
#[derive(Debug)]
pub struct Verbatim;

impl Encoder for Verbatim {
    fn encode(&self, event: &EventView<'_>, bytes: &mut Vec<u8>) {
        bytes.extend(event.position.get().to_be_bytes());
        bytes.extend(event.time.as_micros().to_be_bytes());
        bytes.extend(event.uuid.as_bytes());
        for text in [Some(event.topic), event.event_type, event.key, event.origin, Some(event.data)] {
            bytes.extend(text.map_or(ABSENT, |text| text.len() as u64).to_be_bytes());
            bytes.extend(text.unwrap_or_default().as_bytes());
        }
    }

    fn front_bytes(&self) -> usize {
        FRONT.len()
    }
}

/// The events that [`Verbatim`] encoded.
pub fn decoded(replayed: Replayed) -> Vec<Arc<Event>> {
    let count = replayed.len();
    let mut events = Vec::new();
    for piece in replayed.into_pieces() {
        match piece {
            Piece::Large(event) => events.push(event),
            Piece::Encoded { bytes, last } => {
                let mut rest = bytes.strip_prefix(FRONT).expect("the front is left free");
                while !rest.is_empty() {
                    events.push(Arc::new(event(&mut rest)));
                }
                assert_eq!(events.last().map(|event| event.position), Some(last));
            }
        }
    }
    assert_eq!(events.len(), count);
    events
}

fn event(rest: &mut &[u8]) -> Event {
    let position = Position::new(number(rest));
    let time = Timestamp::from_micros(number(rest));
    let uuid = Uuid::from_slice(rest.split_off(..16).expect("an identity")).expect("16 bytes");
    let [topic, event_type, key, origin, data] = [(); 5].map(|()| text(rest));
    Event {
        position,
        time,
        uuid,
        topic: Topic::parse(topic.expect("a topic")).expect("a topic"),
        event_type: event_type.map(|text| EventType::parse(text).expect("a type")),
        key: key.map(|text| Key::parse(text).expect("a key")),
        origin: origin.map(|text| Origin::parse(text).expect("an origin")),
        data: Data::from(data.expect("data")),
    }
}

fn number(rest: &mut &[u8]) -> u64 {
    u64::from_be_bytes(*rest.split_off(..8).expect("a number").first_chunk().expect("8 bytes"))
}

fn text(rest: &mut &[u8]) -> Option<ByteString> {
    match number(rest) {
        ABSENT => None,
        length => {
            let bytes = rest.split_off(..length as usize).expect("a text");
            Some(std::str::from_utf8(bytes).expect("UTF-8").into())
        }
    }
}
