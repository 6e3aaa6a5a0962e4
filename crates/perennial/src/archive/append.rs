//! Appending to a log that has events: they get new ids, and go in batches.
//!
//! An event that has a uuid carries an idempotency key made of it, so that the same text can be appended again after a
//! failure. The broker's own events say what happened to another log, and are left out.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use broker_http::archive::{Line, republished};
use event_log::limits::MIB;
use event_log::{Batch, EventLog, EventType, Item, NewEvent};

use super::store;
use super::text::Text;
use crate::client::batch::{self, Published};
use crate::client::http::Server;
use crate::client::table::grouped;
use crate::progress::Progress;

/// Events of a batch.
const BATCH_EVENTS_MAX: usize = 500;
/// Bytes of a batch's events; one event may be larger.
const BATCH_BYTES_MAX: usize = MIB;

/// A log to append to.
pub(super) enum Target {
    Log(Arc<dyn EventLog>),
    Server(Server),
}

/// What became of the events of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Appended {
    new: u64,
    duplicates: u64,
    left_out: u64,
}

impl fmt::Display for Appended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "appended {} events with new ids", grouped(self.new))?;
        if self.duplicates > 0 {
            write!(f, "; {} were there already", grouped(self.duplicates))?;
        }
        if self.left_out > 0 {
            write!(f, "; {} of the broker's own were left out", grouped(self.left_out))?;
        }
        Ok(())
    }
}

/// Appends all events of a text, whose first line was read already.
pub(super) async fn all(
    target: Target,
    first: Line,
    text: &mut Text,
    progress: &Progress,
) -> anyhow::Result<Appended> {
    let mut appended = Appended::default();
    let told = move_all(&target, first, text, &mut appended, progress).await;
    if let Target::Log(log) = &target {
        log.close().await;
    }
    match told {
        Ok(()) => Ok(appended),
        Err(error) => Err(error.context(format!("not all was imported: {appended}"))),
    }
}

async fn move_all(
    target: &Target,
    first: Line,
    text: &mut Text,
    appended: &mut Appended,
    progress: &Progress,
) -> anyhow::Result<()> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(line) = next {
        match event_of(line) {
            Some(event) if event.topic.is_reserved() => appended.left_out += 1,
            Some(event) => {
                bytes += event.weight();
                events.push(event);
            }
            None => {}
        }
        if events.len() == BATCH_EVENTS_MAX || bytes >= BATCH_BYTES_MAX {
            target.append(&mut events, appended).await.map_err(|error| text.at_line(error))?;
            bytes = 0;
            progress.reach(text.bytes());
        }
        next = match text.next().await {
            Ok(next) => next,
            Err(error) => {
                // What stands before the line that cannot be read is good, and can be told of exactly.
                target.append(&mut events, appended).await?;
                return Err(error);
            }
        };
    }
    target.append(&mut events, appended).await
}

fn event_of(line: Line) -> Option<NewEvent> {
    match line {
        Line::Item(Item::Event(event)) => Some(republished(&event)),
        Line::Item(_) => None,
        Line::Event(event) => Some(event),
    }
}

impl Target {
    pub(super) fn directory(directory: &Path) -> anyhow::Result<Self> {
        store::open_to_append(directory).map(Target::Log)
    }

    /// Appends the events in their order, and takes them away.
    async fn append(&self, events: &mut Vec<NewEvent>, appended: &mut Appended) -> anyhow::Result<()> {
        let events = std::mem::take(events);
        if events.is_empty() {
            return Ok(());
        }
        match self {
            Target::Log(log) => {
                let receipt = log.append(Batch::new(events)).await?;
                receipt.events.iter().for_each(|event| appended.count(event.duplicate));
            }
            Target::Server(server) => {
                for run in events.chunk_by(|one, other| is_tombstone(one) == is_tombstone(other)) {
                    publish(server, run, appended).await?;
                }
            }
        }
        Ok(())
    }
}

impl Appended {
    fn count(&mut self, duplicate: bool) {
        match duplicate {
            true => self.duplicates += 1,
            false => self.new += 1,
        }
    }
}

/// A batch cannot carry one.
fn is_tombstone(event: &NewEvent) -> bool {
    event.event_type.as_ref().is_some_and(|name| name.as_str() == EventType::DELETE)
}

/// Publishes events that are all tombstones, or all none.
async fn publish(server: &Server, events: &[NewEvent], appended: &mut Appended) -> anyhow::Result<()> {
    if events.iter().any(is_tombstone) {
        for event in events {
            appended.count(tombstone(server, event).await?.duplicate);
        }
        return Ok(());
    }
    let mut lines = Vec::new();
    for event in events {
        let line = batch::Line {
            topic: event.topic.as_str(),
            data: event.data.as_str(),
            event_type: event.event_type.as_ref().map(EventType::as_str),
            key: event.key.as_ref().map(|key| key.as_str()),
            origin: event.origin.as_ref().map(|origin| origin.as_str()),
            idempotency_key: event.idempotency_key.as_ref().map(|key| key.as_str().into()),
        };
        line.write(&mut lines);
    }
    let published = batch::publish(server, lines).await?;
    published.iter().for_each(|event| appended.count(event.duplicate));
    Ok(())
}

async fn tombstone(server: &Server, event: &NewEvent) -> anyhow::Result<Published> {
    let key = event.key.as_ref().ok_or_else(|| anyhow!("a tombstone has no key"))?;
    if matches!(key.as_str(), "." | "..") {
        bail!(
            "a tombstone has the key {key}, which no address can hold; import into the directory, with --data"
        );
    }
    let url = server.url(&["v1", "topics", event.topic.as_str(), "keys", key.as_str()]);
    let mut request = server.client().delete(url);
    if let Some(key) = &event.idempotency_key {
        request = request.header("idempotency-key", key.as_str().as_bytes());
    }
    let answer = server.answer(request).await?;
    serde_json::from_str(&answer).context("the broker's answer is not that of a published event")
}

#[cfg(test)]
mod tests;
