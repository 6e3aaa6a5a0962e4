//! One reader over all its connections: what it was given, where it goes on, and when it got how far.

use std::time::Instant;

use anyhow::{Context, bail};
use event_log::{EventId, Position};
use serde::Deserialize;

use super::ledger::Ledger;
use super::meter::Counts;
use super::payload::{Stamp, Strange};
use super::session::Session;
use crate::client::sse::Block;

/// Where a reader has got what it wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// It reads on.
    None,
    /// At this event.
    Event(Position),
    /// At the event that was the newest one when its stream began.
    Head,
}

/// What the broker said on a stream which coming back will not mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Hopeless(String);

pub(super) struct Reader {
    pub(super) ledger: Ledger,
    goal: Goal,
    /// The last id, as an `EventSource` keeps it.
    pub(super) cursor: Option<EventId>,
    /// The newest event of the log when the present stream began.
    head: Option<Position>,
    /// When the present stream began.
    pub(super) opened: Option<Instant>,
    /// When it reached its goal on the present stream.
    pub(super) reached: Option<Instant>,
}

impl Reader {
    pub(super) fn new(publishers: usize, goal: Goal) -> Self {
        Reader {
            ledger: Ledger::new(publishers),
            goal,
            cursor: None,
            head: None,
            opened: None,
            reached: None,
        }
    }

    /// Its stream was cut: the next one has to reach the goal anew.
    pub(super) fn forget_stream(&mut self) {
        (self.head, self.opened, self.reached) = (None, None, None);
    }

    /// Takes a block that came at this moment; an error ends the stream.
    pub(super) fn take(
        &mut self,
        block: Block<'_>,
        came: Instant,
        session: &Session,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        match (block.event, block.id) {
            (b"", Some(id)) => {
                let id = EventId::parse(id)?;
                self.cursor = Some(id);
                // A block without data is no event, as the standard says.
                if let Some(data) = block.data {
                    self.event(id, session.payload.read(data), came, session, counts)?;
                }
            }
            (b"$open" | b"$live" | b"$cursor", Some(id)) => {
                self.cursor = Some(EventId::parse(id)?);
                if block.event == b"$open" {
                    self.opened = Some(came);
                    self.head = Some(head(block.data.unwrap_or_default())?);
                }
            }
            (event, _) => self.give_up(event, block.data.unwrap_or_default())?,
        }
        if self.reached.is_none() && self.is_there() {
            self.reached = Some(came);
        }
        Ok(())
    }

    fn event(
        &mut self,
        id: EventId,
        data: Result<Stamp, Strange>,
        came: Instant,
        session: &Session,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        if let Ok(stamp) = data {
            counts.events += 1;
            counts.latency(session.since(stamp.nanos, came));
        }
        match self.ledger.take(id.position, data) {
            true => Ok(()),
            false => Err(Hopeless("a reader was given too much that is wrong".to_owned()).into()),
        }
    }

    fn is_there(&self) -> bool {
        let goal = match self.goal {
            Goal::None => None,
            Goal::Event(place) => Some(place),
            Goal::Head => self.head,
        };
        self.cursor.zip(goal).is_some_and(|(cursor, goal)| cursor.position >= goal)
    }

    fn give_up(&self, event: &[u8], data: &[u8]) -> anyhow::Result<()> {
        let (event, data) = (String::from_utf8_lossy(event), String::from_utf8_lossy(data));
        match &*event {
            "$closing" => bail!("the broker ends the stream: {data}"),
            "$gap" => Err(Hopeless(format!(
                "the broker says that history is missing, {data}: does a policy govern this topic, or did somebody \
                 purge it?"
            ))
            .into()),
            _ => Err(Hopeless(format!("a reader was given an event {event:?} that nobody published here")).into()),
        }
    }
}

/// The head that `$open` tells of.
fn head(data: &[u8]) -> anyhow::Result<Position> {
    #[derive(Deserialize)]
    struct Open<'a> {
        head: &'a str,
    }
    let open: Open<'_> = serde_json::from_slice(data).context("an $open that cannot be read")?;
    Ok(EventId::parse(open.head.as_bytes())?.position)
}
