//! What one commit is about to write. Each request is judged against the log and against what was staged before it, and
//! is staged whole or not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event_log::{
    AppendError, Appended, Batch, Event, IdempotencyKey, NewEvent, Position, ReadError, Timestamp, Topic,
};
use uuid::{Builder, Uuid};

use crate::idempotency::{self, Used};
use crate::keys::Hash;
use crate::rows::IdempotencyRow;
use crate::shared::View;
use crate::store::Store;

/// What a request is judged against.
pub(crate) struct Ground<'a> {
    pub(crate) view: &'a View,
    pub(crate) used: &'a Used,
    pub(crate) store: &'a Store,
    pub(crate) window: Duration,
}

/// What a request's answer will be once the commit is durable.
pub(crate) type Verdict = Result<Vec<Appended>, AppendError>;

/// The events of a commit, in order.
pub(crate) struct Stage {
    /// Those of the requests that were taken, then those of the request that is being judged.
    pub(crate) events: Vec<(Arc<Event>, Option<IdempotencyKey>)>,
    pub(crate) keys: HashMap<Hash, IdempotencyRow>,
    /// Of the first events, as many as were looked at: only a request that expects an id needs to know.
    last_of_topic: HashMap<Topic, Position>,
    looked_at: usize,
    /// Of the log, before the commit.
    head: Position,
    time: Timestamp,
}

/// What else is known of a request before it is taken.
#[derive(Default)]
struct Draft {
    keys: HashMap<Hash, IdempotencyRow>,
    answers: Vec<Appended>,
}

impl Stage {
    /// Nothing yet, after the log's head; all events of the commit have this time, or the newest event's if that is later.
    pub(crate) fn new(view: &View, now: Timestamp, requests: usize) -> Self {
        let catalog = &view.catalog;
        Stage {
            events: Vec::with_capacity(requests),
            keys: HashMap::new(),
            last_of_topic: HashMap::new(),
            looked_at: 0,
            head: catalog.head,
            time: now.max(catalog.newest_time),
        }
    }

    /// Judges a request, and stages its new events if it is taken. `room` is asked only if there are any. The outer error
    /// is the engine's, and final.
    pub(crate) fn judge(
        &mut self,
        batch: Batch,
        ground: &Ground<'_>,
        room: impl FnOnce() -> Result<(), AppendError>,
    ) -> Result<Verdict, ReadError> {
        let before = self.events.len();
        let verdict = self.draft(batch, ground, room)?;
        match verdict {
            Ok(draft) => {
                self.keys.extend(draft.keys);
                Ok(Ok(draft.answers))
            }
            Err(refused) => {
                self.events.truncate(before);
                Ok(Err(refused))
            }
        }
    }

    fn draft(
        &mut self,
        batch: Batch,
        ground: &Ground<'_>,
        room: impl FnOnce() -> Result<(), AppendError>,
    ) -> Result<Result<Draft, AppendError>, ReadError> {
        let before = self.events.len();
        let draft = match self.draft_events(batch.events, ground)? {
            Ok(draft) => draft,
            Err(refused) => return Ok(Err(refused)),
        };
        let Some((first, _)) = self.events.get(before) else {
            return Ok(Ok(draft));
        };
        if let Some(expected) = batch.expected {
            let first = Arc::clone(first);
            let last = || ground.view.catalog.topics.get(first.topic.as_str()).map(|row| row.last);
            let last = self.last_staged(&first.topic, before).or_else(last);
            if !expected.is_met(last, &ground.view.epochs) {
                return Ok(Err(AppendError::ExpectedMismatch { last }));
            }
        }
        // The broker's own events are few and small, and some of them give room back: the floor is kept for them.
        let needs_room = self.events[before..].iter().any(|(event, _)| !event.topic.is_reserved());
        if needs_room && let Err(refused) = room() {
            return Ok(Err(refused));
        }
        Ok(Ok(draft))
    }

    /// The last event of a topic among the first events.
    fn last_staged(&mut self, topic: &Topic, events: usize) -> Option<Position> {
        for (event, _) in &self.events[self.looked_at..events] {
            self.last_of_topic.insert(event.topic.clone(), event.position);
        }
        self.looked_at = events;
        self.last_of_topic.get(topic).copied()
    }

    /// Idempotency first: which events of a request are new, and what the answers are.
    fn draft_events(
        &mut self,
        events: Vec<NewEvent>,
        ground: &Ground<'_>,
    ) -> Result<Result<Draft, AppendError>, ReadError> {
        let mut draft = Draft { answers: Vec::with_capacity(events.len()), ..Draft::default() };
        for (index, mut event) in events.into_iter().enumerate() {
            let name = event.idempotency_key.take().map(|key| {
                let content = idempotency::content_hash(
                    event.event_type.as_ref(),
                    event.key.as_ref(),
                    event.origin.as_ref(),
                    event.data.as_str(),
                );
                (idempotency::key_hash(&event.topic, &key), content, key)
            });
            let earlier = match &name {
                Some((hash, ..)) => self.earlier(&draft, hash, ground)?,
                None => None,
            };
            match (&name, earlier) {
                (Some((_, content, _)), Some(first)) if first.content == *content => {
                    let IdempotencyRow { position, time, uuid, .. } = first;
                    draft.answers.push(Appended { position, time, uuid, duplicate: true });
                }
                (Some((hash, ..)), Some(first)) => {
                    // What was drafted in this request has no place: it is refused with the rest.
                    let first = (!draft.keys.contains_key(hash)).then_some(first.position);
                    return Ok(Err(AppendError::IdempotencyConflict { index, first }));
                }
                (None, _) | (_, None) => self.draft_new(&mut draft, event, name),
            }
        }
        Ok(Ok(draft))
    }

    /// The event that used a key within the window: in the same request, in the same commit, or in the log.
    fn earlier(
        &self,
        draft: &Draft,
        hash: &Hash,
        ground: &Ground<'_>,
    ) -> Result<Option<IdempotencyRow>, ReadError> {
        let staged = draft.keys.get(hash).or_else(|| self.keys.get(hash)).copied();
        let earlier = match staged {
            Some(row) => Some(row),
            None => ground.used.find(ground.store, hash)?,
        };
        let forgotten = self.time.saturating_sub(ground.window);
        Ok(earlier.filter(|row| row.time > forgotten))
    }

    fn draft_new(&mut self, draft: &mut Draft, event: NewEvent, name: Option<(Hash, Hash, IdempotencyKey)>) {
        let last = self.events.last().map_or(self.head, |(event, _)| event.position);
        let position = Position::new(last.get().checked_add(1).expect("fewer than 2^64 events"));
        let (time, uuid) = (self.time, identity(self.time));
        let key = name.map(|(hash, content, key)| {
            draft.keys.insert(hash, IdempotencyRow { position, time, uuid, content });
            key
        });
        draft.answers.push(Appended { position, time, uuid, duplicate: false });
        self.events.push((Arc::new(Event::place(event, position, time, uuid)), key));
    }
}

/// A UUID of version 7: the time, then random bits.
fn identity(time: Timestamp) -> Uuid {
    // One large number: an array would be asked for byte by byte.
    let random = rand::random::<u128>().to_ne_bytes();
    let random = random.first_chunk().expect("16 bytes begin with 10");
    Builder::from_unix_timestamp_millis(time.as_micros() / 1_000, random).into_uuid()
}
