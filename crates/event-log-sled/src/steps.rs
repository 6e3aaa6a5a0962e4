//! The steps of a removal: planned on a thread that may block, carried out by the writer; and what all steps together
//! would remove.

use std::collections::HashMap;
use std::sync::Arc;

use event_log::{
    Cursor, EventType, Filter, LogReader, PageLimit, Pattern, Position, ReadError, Removal, Removed,
    Timestamp, Topic, limits,
};
use tokio::sync::oneshot;

use crate::keys::{self, Hash};
use crate::plan::Planner;
use crate::reader::SledReader;
use crate::shared::Shared;
use crate::writer::Request;
use crate::{Queue, pool};

/// A page of a topic that is counted through.
const COUNTED_AT_ONCE: PageLimit = PageLimit { events: 4_096, bytes: limits::PAGE_SCAN_BYTES_MAX };

/// Carries out one step of each removal, all in one commit.
pub(crate) async fn remove(
    shared: Arc<Shared>,
    queue: Queue,
    removals: Vec<Removal>,
) -> Result<Removed, ReadError> {
    let (answer, removed) = oneshot::channel();
    let planned = pool::run(Arc::clone(&shared), move |shared, store| {
        let mut planner = Planner::new(shared, store);
        let plans = removals.iter().map(|removal| planner.plan(removal));
        plans.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
    });
    let plans = planned.await?;
    if plans.is_empty() {
        return Ok(Removed::default());
    }
    // Waits while the queue is full, so not on the thread of the one who asks. A log that is closed meanwhile is no damage.
    let handed_over = pool::run(shared, move |_, _| Ok(hand_over(&queue, Request::Remove(plans, answer))));
    handed_over.await??;
    removed.await.map_err(|_| ReadError::Closed)
}

/// Gives a plan to the writer.
pub(crate) fn hand_over(queue: &Queue, request: Request) -> Result<(), ReadError> {
    let senders = queue.read().clone().ok_or(ReadError::Closed)?;
    senders.upkeep.send(request).map_err(|_| ReadError::Closed)
}

/// What these removals would remove, one after the other.
pub(crate) async fn removable(shared: Arc<Shared>, removals: Vec<Removal>) -> Result<Removed, ReadError> {
    let mut sum = Removed::default();
    // Where each topic would begin after its trims.
    let mut trimmed: HashMap<Topic, Position> = HashMap::new();
    for removal in removals {
        let step = match removal {
            Removal::Trim { topic, keep } => {
                let asked = topic.clone();
                let step = pool::run(Arc::clone(&shared), move |shared, store| {
                    Planner::new(shared, store).trimmable(&asked, keep)
                });
                let step = step.await?;
                trimmed.insert(topic, step.through);
                step
            }
            Removal::Superseded { topic, tombstones_before } => {
                let after = trimmed.get(&topic).copied().unwrap_or_default();
                superseded(&shared, topic, tombstones_before, after).await?
            }
        };
        sum = sum.and(step);
    }
    Ok(sum)
}

/// Counts the superseded events and old tombstones of a topic behind a place, without any row of a key.
async fn superseded(
    shared: &Arc<Shared>,
    topic: Topic,
    tombstones_before: Timestamp,
    after: Position,
) -> Result<Removed, ReadError> {
    let filter = Arc::new(Filter::new(vec![Pattern::from(topic)]));
    let mut reader = SledReader::new(Arc::clone(shared), filter);
    let mut cursor = Cursor { position: after, removals: shared.view().catalog.removals };
    let mut newest: HashMap<Hash, Newest> = HashMap::new();
    let mut removed = Removed::default();
    let mut count = |state: &Newest| {
        removed.events += 1;
        removed.bytes += state.weight;
        removed.through = removed.through.max(state.position);
    };
    loop {
        let page = reader.read(cursor, COUNTED_AT_ONCE).await?;
        cursor = page.next;
        for event in &page.events {
            let Some(key) = &event.key else { continue };
            let is_tombstone = event.type_name() == EventType::DELETE;
            let state = Newest {
                position: event.position,
                weight: event.weight() as u64,
                tombstone: is_tombstone.then_some(event.time),
            };
            if let Some(older) = newest.insert(keys::key_hash(key), state) {
                count(&older);
            }
        }
        if page.at_head && !page.gap {
            break;
        }
    }
    let old = newest.values().filter(|state| state.tombstone.is_some_and(|time| time < tombstones_before));
    old.for_each(count);
    Ok(removed)
}

/// The newest event of a key so far.
struct Newest {
    position: Position,
    weight: u64,
    tombstone: Option<Timestamp>,
}
