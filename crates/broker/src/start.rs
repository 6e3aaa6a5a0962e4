//! Where a reader begins, and the gap it is told of when that is not where it asked to.

use std::num::NonZeroU64;
use std::sync::Arc;

use event_log::{Epochs, EventId, EventLog, Filter, Position, ReadError, Seek, Timestamp};

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
    pub from: Position,
    /// The head as it was then.
    pub head: Position,
}

/// History that a reader asked for cannot be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The text that was sent.
    pub requested: String,
    /// The cursor it goes on from.
    pub resumed_after: Position,
}

/// Why there is a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
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
            GapReason::Ahead => "ahead",
            GapReason::Epoch => "epoch",
            GapReason::Malformed => "malformed",
        }
    }
}

/// What an id says of a log whose head is known.
enum Judged {
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

fn malformed() -> Judged {
    Judged::Bad(GapReason::Malformed, None)
}

pub(crate) async fn open(
    log: &dyn EventLog,
    epochs: &Epochs,
    filter: &Arc<Filter>,
    start: &Start,
    on_gap: OnGap,
) -> Result<Opened, ReadError> {
    let head = log.tail().head();
    let seek = async |to: Seek| log.reader(Arc::clone(filter)).seek(to).await;
    let (judged, place, requested) = match start {
        Start::Latest => (Judged::Good, head, String::new()),
        Start::Earliest => {
            (Judged::Good, seek(Seek::FirstOfTopicsAfter(Position::ORIGIN)).await?, String::new())
        }
        Start::Time(time) => (Judged::Good, seek(Seek::Time(*time)).await?, String::new()),
        Start::Last(count) => (Judged::Good, seek(Seek::Last(count.get())).await?, String::new()),
        Start::At { id, requested } => {
            (judge(*id, epochs, head), id.position.just_before(), requested.clone())
        }
        Start::Cursor(text) => match EventId::parse(text) {
            Ok(id) => (judge(id, epochs, head), id.position, id.to_string()),
            Err(_) => (malformed(), Position::ORIGIN, String::from_utf8_lossy(text).into_owned()),
        },
    };
    let (reason, known) = match judged {
        Judged::Good => return Ok(Opened { gap: None, from: place, head }),
        Judged::Bad(reason, known) => (reason, known),
    };
    let resumed_after = match (known, on_gap) {
        (Some(place), _) => place,
        (None, OnGap::Latest) => head,
        (None, OnGap::Earliest) => seek(Seek::FirstOfTopicsAfter(Position::ORIGIN)).await?,
    };
    let gap = Gap { reason, requested, resumed_after };
    Ok(Opened { gap: Some(gap), from: resumed_after, head })
}
