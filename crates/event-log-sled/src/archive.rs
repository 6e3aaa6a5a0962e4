//! The log as an archive: everything that an exact copy needs, a piece at a time, while publishing and removing go on.
//!
//! The events come first. When the head is reached, what is known of the topics is taken in the same moment; if something
//! was appended or removed in between, the reading goes on first. So the archive is what the log was at one moment, but
//! for older events that were removed while it was read, and those the topics tell of.

use std::sync::Arc;

use event_log::{
    ArchivedKey, ArchivedTopic, Cursor, Filter, Item, LogReader, PageLimit, Position, ReadError, limits,
};
use tokio::sync::oneshot;

use crate::reader::SledReader;
use crate::rows::IdempotencyRow;
use crate::shared::Shared;
use crate::steps::hand_over;
use crate::store::{Store, index_damaged};
use crate::writer::Request;
use crate::{Queue, pool};

/// Events that one piece has.
const PAGE: PageLimit = PageLimit { events: limits::PAGE_EVENTS_MAX, bytes: limits::PAGE_BYTES_MAX };
/// Topics or keys that one piece has.
const AT_ONCE: usize = 1_024;

/// An archive that is being read.
pub struct Archive {
    shared: Arc<Shared>,
    queue: Queue,
    reader: SledReader,
    at: At,
    events: u64,
    head: Position,
    end: Option<Item>,
}

/// How far it was read.
enum At {
    Start,
    Events(Cursor),
    Topics(Vec<ArchivedTopic>),
    Keys(Position),
    End,
}

impl Archive {
    pub(crate) fn new(shared: Arc<Shared>, queue: Queue) -> Self {
        let reader = SledReader::new(Arc::clone(&shared), Arc::new(Filter::everything()));
        Archive { shared, queue, reader, at: At::Start, events: 0, head: Position::ORIGIN, end: None }
    }

    /// The next items, a bounded number of them; none after [`Item::End`].
    pub async fn next(&mut self) -> Result<Vec<Item>, ReadError> {
        loop {
            let items = match std::mem::replace(&mut self.at, At::End) {
                At::Start => {
                    self.at = At::Events(Cursor::default());
                    vec![Item::Start { epochs: self.shared.view().epochs.starts().to_vec() }]
                }
                At::Events(cursor) => self.events(cursor).await?,
                At::Topics(mut topics) => self.topics(&mut topics),
                At::Keys(from) => self.keys(from).await?,
                At::End => return Ok(self.end.take().into_iter().collect()),
            };
            if !items.is_empty() {
                return Ok(items);
            }
        }
    }

    async fn events(&mut self, cursor: Cursor) -> Result<Vec<Item>, ReadError> {
        // What was removed before it was read is told by the topics, so a gap only moves the cursor.
        let page = self.reader.read(cursor, PAGE).await?;
        self.events += page.events.len() as u64;
        self.at = match self.state_at(page.next).filter(|_| page.at_head && !page.gap) {
            Some(topics) => At::Topics(topics),
            None => At::Events(page.next),
        };
        if matches!(self.at, At::Topics(_)) {
            // Keys that were used since the last checkpoint are in the writer's memory.
            let (answer, done) = oneshot::channel();
            let queue = Arc::clone(&self.queue);
            let asked = move |_: &Shared, _: &Store| Ok(hand_over(&queue, Request::Checkpoint(answer)));
            pool::run(Arc::clone(&self.shared), asked).await??;
            done.await.map_err(|_| ReadError::Closed)?;
        }
        Ok(page.events.into_iter().map(Item::Event).collect())
    }

    /// The topics, if the log is still as it was when this place was its head.
    fn state_at(&mut self, place: Cursor) -> Option<Vec<ArchivedTopic>> {
        let view = self.shared.view();
        let catalog = &view.catalog;
        if catalog.head != place.position || catalog.removals != place.removals {
            return None;
        }
        self.head = catalog.head;
        self.end = Some(Item::End { head: catalog.head, time: catalog.newest_time, events: self.events });
        let topics = catalog.topics.since(0).map(|(_, row)| ArchivedTopic {
            topic: row.topic.clone(),
            last: row.last,
            removed_through: row.removed_through,
            missing_through: row.missing_through,
        });
        Some(topics.collect())
    }

    fn topics(&mut self, topics: &mut Vec<ArchivedTopic>) -> Vec<Item> {
        let rest = topics.split_off(topics.len().min(AT_ONCE));
        self.at = if rest.is_empty() { At::Keys(Position::ORIGIN) } else { At::Topics(rest) };
        topics.drain(..).map(Item::Topic).collect()
    }

    async fn keys(&mut self, after: Position) -> Result<Vec<Item>, ReadError> {
        let head = self.head;
        let read = move |_: &Shared, store: &Store| read_keys(store, after, head);
        let (keys, rest) = pool::run(Arc::clone(&self.shared), read).await?;
        self.at = rest.map_or(At::End, At::Keys);
        Ok(keys.into_iter().map(Item::Key).collect())
    }
}

/// The keys that were used after a place and not past the head, and the place to go on from.
fn read_keys(
    store: &Store,
    after: Position,
    head: Position,
) -> Result<(Vec<ArchivedKey>, Option<Position>), ReadError> {
    let mut found = Vec::new();
    for row in store.used_keys_after(after) {
        let entries = row?.1.map_err(index_damaged)?;
        let wanted = entries.into_iter().filter(|(_, row)| row.position > after && row.position <= head);
        found.extend(wanted.map(|(key, row)| {
            let IdempotencyRow { position, time, uuid, content } = row;
            ArchivedKey { key, content, position, time, uuid }
        }));
        if found.len() >= AT_ONCE {
            let last = found.last().map(|key| key.position);
            return Ok((found, last));
        }
    }
    Ok((found, None))
}
