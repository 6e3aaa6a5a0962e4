//! Where a reader begins, and the gap it is told of when that is not where it asked to.

use std::num::NonZeroU64;
use std::sync::Arc;

use event_log::{Cursor, Epochs, EventId, EventLog, Filter, Position, ReadError, Seek, Timestamp};

/// What a reader asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It has seen everything up to this id. The bytes are as they were sent; what is not an id is a gap.
    Cursor(Vec<u8>),
    /// This event, and what follows.
    At {
        /// The event.
        id: EventId,
        /// The text that was sent.
        requested: String,
    },
    /// What happens from now on.
    Latest,
    /// All that is kept.
    Earliest,
    /// The first event at or after a time, and what follows.
    Time(Timestamp),
    /// The last so many that match, and what follows.
    Last(NonZeroU64),
}

/// Where to go on when a cursor says nothing about this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGap {
    /// At the earliest kept event.
    #[default]
    Earliest,
    /// At the head.
    Latest,
}

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What it must be told first, if it does not get what it asked for.
    pub gap: Option<Gap>,
    /// The cursor it begins from.
    pub from: Cursor,
    /// The head as it was then; not before the cursor.
    pub head: Position,
}

/// History that a reader asked for cannot be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The text that was sent; for a reader that is under way, the id of its cursor.
    pub requested: String,
    /// The place it goes on from.
    pub resumed_after: Position,
}

/// Why there is a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Events after the place were removed by retention or a purge, which the reader should have got.
    Trimmed,
    /// The id is newer than the head.
    Ahead,
    /// The id is of a history that this log does not know.
    Epoch,
    /// The text is not an id.
    Malformed,
}

impl GapReason {
    /// The word for it on every wire.
    pub fn as_str(self) -> &'static str {
        match self {
            GapReason::Trimmed => "trimmed",
            GapReason::Ahead => "ahead",
            GapReason::Epoch => "epoch",
            GapReason::Malformed => "malformed",
        }
    }
}

/// What an id says of a log whose head is known.
enum Judged {
    /// It is a place of this log's history; what comes after it may be removed.
    Good,
    /// A gap; the place to go on from is known if the id's history is, up to a point.
    Bad(GapReason, Option<Position>),
}

fn judge(id: EventId, epochs: &Epochs, head: Position) -> Judged {
    match id.epoch.map(|epoch| epochs.valid_through(epoch)) {
        Some(None) => Judged::Bad(GapReason::Epoch, None),
        Some(Some(Some(through))) if id.position > through => Judged::Bad(GapReason::Epoch, Some(through)),
        _ if id.position > head => Judged::Bad(GapReason::Ahead, None),
        _ => Judged::Good,
    }
}

pub(crate) async fn open(
    log: &dyn EventLog,
    epochs: &Epochs,
    filter: &Arc<Filter>,
    start: &Start,
    on_gap: OnGap,
) -> Result<Opened, ReadError> {
    // The removals before the head: what is appended and removed after this is told of.
    let removals = log.removals();
    let head = log.tail().head();
    let latest = Cursor { position: head, removals };
    let mut reader = log.reader(Arc::clone(filter));
    let (judged, place, requested) = match start {
        Start::Latest => return Ok(opened(None, latest, head)),
        Start::Earliest => {
            return Ok(opened(None, reader.seek(Seek::FirstOfTopicsAfter(Position::ORIGIN)).await?, head));
        }
        Start::Last(count) => return Ok(opened(None, reader.seek(Seek::Last(count.get())).await?, head)),
        Start::Time(time) => {
            let from = reader.seek(Seek::Time(*time)).await?;
            // Its place is told as an id. Who comes back with that at once should not be told of what it never asked for.
            return match reader.resume(Cursor::resumed(from.position)).await?.gap {
                false => Ok(opened(None, from, head)),
                true => Ok(opened(None, reader.seek(Seek::FirstOfTopicsAfter(from.position)).await?, head)),
            };
        }
        Start::At { id, requested } => {
            (judge(*id, epochs, head), id.position.just_before(), requested.clone())
        }
        Start::Cursor(text) => match EventId::parse(text) {
            Ok(id) => (judge(id, epochs, head), id.position, id.to_string()),
            Err(_) => {
                let requested = String::from_utf8_lossy(text).into_owned();
                (Judged::Bad(GapReason::Malformed, None), Position::ORIGIN, requested)
            }
        },
    };
    let (reason, from) = match (judged, on_gap) {
        (Judged::Good, _) => {
            let resumed = reader.resume(Cursor::resumed(place)).await?;
            if !resumed.gap {
                return Ok(opened(None, resumed.cursor, head));
            }
            (GapReason::Trimmed, resumed.cursor)
        }
        // What was trimmed behind the point where the histories part is told by a gap of its own.
        (Judged::Bad(reason, Some(point)), _) => (reason, Cursor::resumed(point)),
        (Judged::Bad(reason, None), OnGap::Latest) => (reason, latest),
        (Judged::Bad(reason, None), OnGap::Earliest) => {
            (reason, reader.seek(Seek::FirstOfTopicsAfter(Position::ORIGIN)).await?)
        }
    };
    Ok(opened(Some(Gap { reason, requested, resumed_after: from.position }), from, head))
}

/// The log goes on while a place is sought, so the place may lie behind the head that was seen first.
fn opened(gap: Option<Gap>, from: Cursor, head: Position) -> Opened {
    Opened { gap, from, head: head.max(from.position) }
}
