//! What was asked of a log and what it answered: the ledger that every recovery is judged by.

use bincode::{Decode, Encode};

/// An operation that changes the log. Its content follows from its numbers alone.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) struct Operation {
    /// What the clock shows, in microseconds.
    pub(crate) now: u64,
    pub(crate) kind: Kind,
}

/// The kinds of operations.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum Kind {
    /// A batch, which follows from a number, on a condition.
    Append { seed: u64, shape: Shape, condition: Condition },
    /// The oldest events of a topic go.
    Trim { topic: usize, kept: Kept },
    /// Superseded events of a topic go, and tombstones older than so many seconds.
    Compact { topic: usize, seconds: u64 },
}

/// What kind of batch it is.
#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
pub(crate) enum Shape {
    /// A few events of all sizes.
    Few,
    /// One small event, which comes again and again with the same idempotency key.
    Retried,
    /// Some hundred tiny events.
    Many,
    /// One event that is larger than a chunk.
    Large,
}

/// What must hold for a batch to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
pub(crate) enum Condition {
    Nothing,
    /// The first event's topic never had one.
    Never,
    /// The first event's topic has this as its newest one: the n-th event of all.
    Place(usize),
}

/// What a trim keeps.
#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
pub(crate) enum Kept {
    Events(u64),
    Bytes(u64),
    Seconds(u64),
    /// What comes after the n-th event of all.
    After(usize),
}

/// Where an event came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Placed {
    pub(crate) position: u64,
    pub(crate) time: u64,
    pub(crate) uuid: u128,
    pub(crate) duplicate: bool,
}

/// The answer to an operation.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum Answer {
    Appended(Vec<Placed>),
    Refused(String),
    Removed {
        events: u64,
        bytes: u64,
        through: u64,
    },
    /// Nobody was answered before a crash, and after it the operation turned out not to have happened.
    Never,
}

/// What the one who drives the log did and learned.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum Mark {
    /// The log is open, and its epoch is known to all who ask.
    Opened { epoch: u32 },
    /// The clock shows this from now on.
    Time(u64),
    /// An operation was handed over.
    Begun(Operation),
    /// The oldest operation that was not answered yet has this answer.
    Done(Answer),
}

/// Everything that anybody outside the log knows of it.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub(crate) struct Ledger {
    pub(crate) epoch: Option<u32>,
    /// What the clock shows: it does not go back.
    pub(crate) now: u64,
    pub(crate) done: Vec<(Operation, Answer)>,
    /// Handed over and not answered, in order.
    pub(crate) in_flight: Vec<Operation>,
}

impl Ledger {
    /// Adds what was learned.
    pub(crate) fn add(&mut self, mark: &Mark) {
        match mark {
            Mark::Opened { epoch } => {
                assert!(
                    self.epoch.is_none_or(|known| known == *epoch),
                    "another epoch began: {epoch:08x} after {:08x}",
                    self.epoch.unwrap_or_default()
                );
                self.epoch = Some(*epoch);
            }
            Mark::Time(now) => self.now = *now,
            Mark::Begun(operation) => self.in_flight.push(operation.clone()),
            Mark::Done(answer) => {
                assert!(!self.in_flight.is_empty(), "an answer to nothing");
                self.done.push((self.in_flight.remove(0), answer.clone()));
            }
        }
    }
}
