//! What can go wrong, in a closed few cases, each with a stable code.

use crate::Position;

/// Why a text cannot be a topic, a pattern, a type, a key, an origin, an id or data: a sentence that says what was
/// wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Invalid {
    /// A sentence for the person who sent it.
    pub detail: String,
    /// The text is too long, rather than malformed.
    pub too_large: bool,
}

impl Invalid {
    pub(crate) fn new(detail: impl Into<String>) -> Self {
        Invalid { detail: detail.into(), too_large: false }
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Invalid { detail: detail.into(), too_large: true }
    }
}

/// What an engine says of its own trouble.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

/// Why a batch was not appended. Nothing of it is in the log, and nothing of it will ever be.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The topic's newest event is not the expected one.
    #[error("the topic's newest event is not the expected one")]
    ExpectedMismatch {
        /// The topic's newest event, if it ever had one.
        last: Option<Position>,
    },
    /// An idempotency key was used before, in its window, for other content.
    #[error("event {index} of the batch carries an idempotency key that was used for other content")]
    IdempotencyConflict {
        /// Which event of the batch, from 0.
        index: usize,
        /// The event that carries the key already; `None` if that is an earlier one of this batch, which has no place
        /// because the whole batch was refused.
        first: Option<Position>,
    },
    /// Too little room is left where the log lives.
    #[error("only {free} bytes are free where the log lives; at least {floor} must stay free")]
    NoSpace {
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        floor: u64,
    },
    /// Too much is waiting to be appended; try again in a moment.
    #[error("too much is waiting to be appended")]
    Overloaded,
    /// The log takes no more appends: it is closing, or it failed.
    #[error("the log takes no more appends")]
    Closed,
    /// The engine failed.
    #[error("the log failed: {0}")]
    Engine(EngineError),
}

impl AppendError {
    /// A stable name of the case.
    pub fn code(&self) -> &'static str {
        match self {
            AppendError::ExpectedMismatch { .. } => "expected-id-mismatch",
            AppendError::IdempotencyConflict { .. } => "idempotency-conflict",
            AppendError::NoSpace { .. } => "insufficient-storage",
            AppendError::Overloaded => "overloaded",
            AppendError::Closed | AppendError::Engine(_) => "log-unavailable",
        }
    }
}

/// Why a read was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is stored is not what was written. The text names the place.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// The engine failed.
    #[error("the log failed: {0}")]
    Engine(EngineError),
}

impl ReadError {
    /// A stable name of the case.
    pub fn code(&self) -> &'static str {
        match self {
            ReadError::Damaged(_) => "log-damaged",
            ReadError::Closed | ReadError::Engine(_) => "log-unavailable",
        }
    }
}
