//! What an event is, and what a log of events promises.
//!
//! This crate is the vocabulary and the contract that stand below every engine and every user of one. It does no
//! I/O: it names no engine, no wire and no disk. Read in this order: [`Topic`] and [`Pattern`], [`Event`],
//! [`Position`] and [`EventId`], then [`EventLog`], the contract itself.
//!
//! Invariants kept here: text that could forge a frame or confuse a topic tree is refused at construction, so a
//! value of these types is valid everywhere; only what a log has ordered ([`Event`]) has a [`Position`].
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod archive;
mod clock;
mod error;
mod event;
mod filter;
mod histogram;
pub mod log;
mod name;
mod position;
mod removal;
mod replay;
mod stats;
mod tail;
mod topic;

pub mod limits;

#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(feature = "memory")]
pub mod memory;

pub use archive::{ArchivedKey, ArchivedTopic, Item};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use error::{AppendError, EngineError, Invalid, ReadError};
pub use event::{Event, NewEvent};
pub use filter::Filter;
pub use histogram::{Histogram, HistogramCounts};
pub use log::{
    Appended, Batch, Bounds, EventLog, Expected, LogReader, Page, PageLimit, Receipt, Resumed, Seek,
    TopicStats,
};
pub use name::{Data, EventType, IdempotencyKey, Key, Origin};
pub use position::{Epoch, EpochStart, Epochs, EventId, Position};
pub use removal::{Cursor, Keep, Removal, Removals, Removed};
pub use replay::{Encoder, EventView, Piece, ReplayPage, Replayed};
pub use stats::{Commit, LogCounts, LogStats};
pub use tail::{Tail, TailClosed, TailWatch};
pub use topic::{Pattern, Topic};
