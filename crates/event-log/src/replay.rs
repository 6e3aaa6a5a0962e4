//! Events that are read only to be passed on: a page of them in one piece of memory.
//!
//! An [`Event`] is a value of its own: it is shared, counted and let go one by one. Who replays history needs none of that. A
//! page of small events is one text and a list of where each begins, and an event of it is looked at where it lies. A large
//! one is shared as ever, so that it is not copied.

use std::sync::Arc;

use uuid::Uuid;

use crate::limits::PACKED_EVENT_BYTES_MAX;
use crate::{Cursor, Event, EventType, Key, Origin, Page, Position, Timestamp};

/// Room for texts that a page may have and not use.
const WASTE_BYTES_MAX: usize = 2 * PACKED_EVENT_BYTES_MAX;

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

/// An event of a page that is passed on.
#[derive(Debug, Clone, Copy)]
pub enum ReplayedEvent<'a> {
    /// It lies in the page; its texts have at most [`PACKED_EVENT_BYTES_MAX`] bytes.
    Packed(EventView<'a>),
    /// It is a value of its own.
    Shared(&'a Arc<Event>),
}

impl<'a> ReplayedEvent<'a> {
    /// Its place.
    pub fn position(&self) -> Position {
        match self {
            ReplayedEvent::Packed(view) => view.position,
            ReplayedEvent::Shared(event) => event.position,
        }
    }

    /// The event, however it is held.
    pub fn view(&self) -> EventView<'a> {
        match self {
            ReplayedEvent::Packed(view) => *view,
            ReplayedEvent::Shared(event) => event.view(),
        }
    }
}

/// Events to be passed on, in order.
#[derive(Debug, Clone, Default)]
pub struct Replayed {
    texts: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    Packed(Head),
    Shared(Arc<Event>),
}

/// The small fields of an event in the page, and the lengths of its texts; 0 for one that is absent.
#[derive(Debug, Clone)]
struct Head {
    position: Position,
    time: Timestamp,
    uuid: Uuid,
    /// Where its texts begin: topic, type, key, origin, data.
    at: usize,
    topic: u16,
    event_type: u16,
    key: u16,
    origin: u16,
    data: u16,
}

const _: () = assert!(PACKED_EVENT_BYTES_MAX <= u16::MAX as usize, "a length fits into its field");

impl Replayed {
    /// Makes room for so many more bytes of texts.
    pub fn reserve(&mut self, bytes: usize) {
        self.texts.reserve_exact(bytes);
    }

    /// Gives back room that is not needed, if it is worth it: a slow reader holds a page for long.
    pub fn shrink(&mut self) {
        if self.texts.capacity() - self.texts.len() > WASTE_BYTES_MAX {
            self.texts.shrink_to_fit();
        }
    }

    /// Whether an event with so many bytes of texts is laid into a page.
    pub fn packs(text_bytes: usize) -> bool {
        text_bytes <= PACKED_EVENT_BYTES_MAX
    }

    /// Lays a copy of an event behind the others. It is one that [`Replayed::packs`].
    pub fn pack(&mut self, event: &EventView<'_>) {
        let at = self.texts.len();
        let EventView { position, time, uuid, topic, event_type, key, origin, data } = *event;
        let mut lay = |text: &str| {
            self.texts.push_str(text);
            u16::try_from(text.len()).expect("the texts of an event that is packed are short")
        };
        let head = Head {
            position,
            time,
            uuid,
            at,
            topic: lay(topic),
            event_type: lay(event_type.unwrap_or_default()),
            key: lay(key.unwrap_or_default()),
            origin: lay(origin.unwrap_or_default()),
            data: lay(data),
        };
        self.entries.push(Entry::Packed(head));
    }

    /// Adds an event that is a value of its own.
    pub fn share(&mut self, event: Arc<Event>) {
        self.entries.push(Entry::Shared(event));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The event at an index.
    pub fn get(&self, index: usize) -> Option<ReplayedEvent<'_>> {
        self.entries.get(index).map(|entry| self.event(entry))
    }

    /// The events, in order.
    pub fn iter(&self) -> impl Iterator<Item = ReplayedEvent<'_>> {
        self.entries.iter().map(|entry| self.event(entry))
    }

    fn event<'a>(&'a self, entry: &'a Entry) -> ReplayedEvent<'a> {
        let head = match entry {
            Entry::Packed(head) => head,
            Entry::Shared(event) => return ReplayedEvent::Shared(event),
        };
        let mut rest = &self.texts[head.at..];
        let mut cut = |length: u16| {
            let (text, behind) = rest.split_at(usize::from(length));
            rest = behind;
            text
        };
        let topic = cut(head.topic);
        let [event_type, key, origin] = [head.event_type, head.key, head.origin]
            .map(|length| if length == 0 { None } else { Some(cut(length)) });
        let data = cut(head.data);
        let Head { position, time, uuid, .. } = *head;
        ReplayedEvent::Packed(EventView { position, time, uuid, topic, event_type, key, origin, data })
    }
}

impl From<Vec<Arc<Event>>> for Replayed {
    fn from(events: Vec<Arc<Event>>) -> Self {
        Replayed { texts: String::new(), entries: events.into_iter().map(Entry::Shared).collect() }
    }
}

/// A [`Page`] whose events are passed on.
#[derive(Debug, Clone)]
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

impl From<Page> for ReplayPage {
    fn from(page: Page) -> Self {
        let Page { events, next, at_head, gap } = page;
        ReplayPage { events: events.into(), next, at_head, gap }
    }
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::*;
    use crate::{Data, Topic};

    fn event(position: u64, full: bool, data: &str) -> Event {
        Event {
            position: Position::new(position),
            time: Timestamp::from_micros(7),
            uuid: Uuid::from_u128(9),
            topic: Topic::parse("stocks.ibm").unwrap(),
            event_type: full.then(|| EventType::parse("handel-é").unwrap()),
            key: full.then(|| Key::parse("IBM").unwrap()),
            origin: full.then(|| Origin::parse("日").unwrap()),
            data: Data::from(ByteString::from(data)),
        }
    }

    #[test]
    fn what_is_laid_into_a_page_is_seen_there_as_it_was() {
        let large = "x".repeat(PACKED_EVENT_BYTES_MAX);
        let events =
            [event(1, true, "é"), event(2, false, ""), event(5, false, &large), event(6, true, "last")];
        let mut page = Replayed::default();
        page.reserve(10 * PACKED_EVENT_BYTES_MAX);
        for event in &events {
            let view = event.view();
            match Replayed::packs(view.topic.len() + view.data.len()) {
                true => page.pack(&view),
                false => page.share(Arc::new(event.clone())),
            }
        }
        page.shrink();
        assert_eq!((page.len(), page.is_empty()), (4, false));
        let seen: Vec<EventView<'_>> = page.iter().map(|event| event.view()).collect();
        assert_eq!(seen, events.iter().map(Event::view).collect::<Vec<_>>());
        assert!(matches!(page.get(2), Some(ReplayedEvent::Shared(_))));
        assert!(matches!(page.get(3), Some(ReplayedEvent::Packed(view)) if view == seen[3]));
        assert!(page.get(4).is_none());
        assert_eq!(seen[1].type_name(), "message");
    }
}
