//! Events that are read only to be passed on: a page of them, as it is passed on.
//!
//! An [`Event`] is a value of its own: it is shared, counted and let go one by one. Who replays history needs none of that. So
//! an engine looks at small events where they lie, and has them encoded at once, behind each other; a large one is shared as
//! ever, so that it is not copied.

use std::sync::Arc;

use uuid::Uuid;

use crate::limits::SMALL_EVENT_BYTES_MAX;
use crate::{Cursor, Event, EventType, Key, Origin, Page, Position, Timestamp};

/// Room that a piece may have and not use.
const WASTE_BYTES_MAX: usize = 2 * SMALL_EVENT_BYTES_MAX;

/// An event that is looked at where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventView<'a> {
    /// Its place in the one order.
    pub position: Position,
    /// When the log took it.
    pub time: Timestamp,
    /// Its identity outside of this log.
    pub uuid: Uuid,
    /// Where it belongs.
    pub topic: &'a str,
    /// Its type; `None` is the same as `message`.
    pub event_type: Option<&'a str>,
    /// What it is the newest state of.
    pub key: Option<&'a str>,
    /// Who published it.
    pub origin: Option<&'a str>,
    /// What was published.
    pub data: &'a str,
}

impl EventView<'_> {
    /// The name of the type, `message` if there is none.
    pub fn type_name(&self) -> &str {
        self.event_type.unwrap_or(EventType::MESSAGE)
    }
}

impl Event {
    /// The event, looked at.
    pub fn view(&self) -> EventView<'_> {
        EventView {
            position: self.position,
            time: self.time,
            uuid: self.uuid,
            topic: self.topic.as_str(),
            event_type: self.event_type.as_ref().map(EventType::as_str),
            key: self.key.as_ref().map(Key::as_str),
            origin: self.origin.as_ref().map(Origin::as_str),
            data: self.data.as_str(),
        }
    }
}

/// Makes of events what they are passed on as, such as frames of a protocol.
pub trait Encoder: Send + Sync {
    /// Appends an event whose texts have at most [`SMALL_EVENT_BYTES_MAX`] bytes. The same event always becomes the same bytes.
    fn encode(&self, event: &EventView<'_>, bytes: &mut Vec<u8>);

    /// Bytes that are left free before the first event of each piece, for a head that is known only once the piece is complete.
    fn front_bytes(&self) -> usize {
        0
    }
}

/// Neighbouring events that are passed on together.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Small ones, as the encoder made them.
    Encoded {
        /// Their bytes, behind those that the encoder wants to be free.
        bytes: Vec<u8>,
        /// The place of the last one.
        last: Position,
    },
    /// A large one, which is shared and not copied.
    Large(Arc<Event>),
}

/// Events to be passed on, in order.
pub struct Replayed {
    encoder: Arc<dyn Encoder>,
    pieces: Vec<Piece>,
    count: usize,
    bytes: usize,
    reserved: usize,
}

impl Replayed {
    /// None yet.
    pub fn new(encoder: Arc<dyn Encoder>) -> Self {
        Replayed { encoder, pieces: Vec::new(), count: 0, bytes: 0, reserved: 0 }
    }

    /// About so many bytes come.
    pub fn reserve(&mut self, bytes: usize) {
        self.reserved = bytes;
    }

    /// Gives back room that is not needed, if it is worth it: a slow reader holds a page for long.
    pub fn shrink(&mut self) {
        for piece in &mut self.pieces {
            if let Piece::Encoded { bytes, .. } = piece
                && bytes.capacity() - bytes.len() > WASTE_BYTES_MAX
            {
                bytes.shrink_to_fit();
            }
        }
    }

    /// Whether an event with so many bytes of texts is encoded, or shared.
    pub fn is_small(text_bytes: usize) -> bool {
        text_bytes <= SMALL_EVENT_BYTES_MAX
    }

    /// Adds a small event.
    pub fn encode(&mut self, event: &EventView<'_>) {
        if !matches!(self.pieces.last(), Some(Piece::Encoded { .. })) {
            let front = self.encoder.front_bytes();
            let mut bytes = Vec::with_capacity(front + std::mem::take(&mut self.reserved));
            bytes.resize(front, 0);
            self.pieces.push(Piece::Encoded { bytes, last: event.position });
        }
        if let Some(Piece::Encoded { bytes, last }) = self.pieces.last_mut() {
            let before = bytes.len();
            self.encoder.encode(event, bytes);
            (*last, self.count) = (event.position, self.count + 1);
            self.bytes += bytes.len() - before;
        }
    }

    /// Adds an event that is a value of its own.
    pub fn add(&mut self, event: Arc<Event>) {
        let view = event.view();
        let names = [view.event_type, view.key, view.origin].map(|name| name.map_or(0, str::len));
        match Self::is_small(view.topic.len() + names.iter().sum::<usize>() + view.data.len()) {
            true => self.encode(&view),
            false => self.add_large(event),
        }
    }

    /// Adds an event that is shared.
    pub fn add_large(&mut self, event: Arc<Event>) {
        self.count += 1;
        self.pieces.push(Piece::Large(event));
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that were encoded.
    pub fn encoded_bytes(&self) -> usize {
        self.bytes
    }

    /// The events, in order.
    pub fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }
}

impl std::fmt::Debug for Replayed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Replayed").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

/// A [`Page`] whose events are passed on.
#[derive(Debug)]
pub struct ReplayPage {
    /// The events, in order.
    pub events: Replayed,
    /// See [`Page::next`].
    pub next: Cursor,
    /// See [`Page::at_head`].
    pub at_head: bool,
    /// See [`Page::gap`].
    pub gap: bool,
}

impl ReplayPage {
    /// A page as it is passed on.
    pub fn new(page: Page, encoder: Arc<dyn Encoder>) -> Self {
        let Page { events, next, at_head, gap } = page;
        let mut replayed = Replayed::new(encoder);
        events.into_iter().for_each(|event| replayed.add(event));
        ReplayPage { events: replayed, next, at_head, gap }
    }
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::*;
    use crate::{Data, Topic};

    /// Writes lines, and wants room for one byte.
    struct Lines;

    impl Encoder for Lines {
        fn encode(&self, event: &EventView<'_>, bytes: &mut Vec<u8>) {
            bytes.extend(format!("{} {}\n", event.position, event.data).into_bytes());
        }

        fn front_bytes(&self) -> usize {
            1
        }
    }

    fn event(position: u64, data: &str) -> Arc<Event> {
        Arc::new(Event {
            position: Position::new(position),
            time: Timestamp::from_micros(7),
            uuid: Uuid::from_u128(9),
            topic: Topic::parse("t").unwrap(),
            event_type: None,
            key: None,
            origin: None,
            data: Data::from(ByteString::from(data)),
        })
    }

    #[test]
    fn small_neighbours_are_one_piece_and_a_large_one_stands_alone() {
        let (small, large) = ("x".repeat(SMALL_EVENT_BYTES_MAX - 1), "y".repeat(SMALL_EVENT_BYTES_MAX));
        let mut page = Replayed::new(Arc::new(Lines));
        page.reserve(10 * SMALL_EVENT_BYTES_MAX);
        assert!(page.is_empty());
        for event in [event(1, "a"), event(2, &small), event(5, &large), event(6, "é"), event(7, "")] {
            page.add(event);
        }
        page.shrink();
        assert_eq!(page.len(), 5);
        let expected = [format!("\x001 a\n2 {small}\n"), "\x006 é\n7 \n".to_owned()];
        assert_eq!(page.encoded_bytes(), expected.iter().map(|piece| piece.len() - 1).sum::<usize>());
        let pieces = page.into_pieces();
        let [
            Piece::Encoded { bytes: before, last: before_last },
            Piece::Large(large_one),
            Piece::Encoded { bytes: behind, last: behind_last },
        ] = &pieces[..]
        else {
            panic!("{} pieces", pieces.len())
        };
        assert_eq!([before, behind].map(|bytes| String::from_utf8(bytes.clone()).unwrap()), expected);
        assert!(before.capacity() - before.len() <= WASTE_BYTES_MAX, "room is given back");
        assert_eq!([*before_last, large_one.position, *behind_last], [2, 5, 7].map(Position::new));
        assert_eq!(large_one.data.as_str(), large);
    }
}
