//! Reads that are answered by whoever asks, if there is nothing to wait for.
//!
//! To hand a read to another thread and to wait for its answer took a sixth of all the time of a replay, when the system had the
//! bytes in memory. So a reader that gets full pages asks here first: a file is read as far as that needs no disk, and whatever would have
//! to be waited for (the disk, a row of the index, a commit, a segment that is being replaced) sends the read to the
//! threads that may wait, with nothing done and nothing lost.

use std::error::Error;
use std::fmt;

use event_log::ReadError;

/// The read cannot be answered at once.
#[derive(Debug)]
struct WouldWait;

impl fmt::Display for WouldWait {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the read would have to wait")
    }
}

impl Error for WouldWait {}

/// What a read says that may not wait and would have to. It never leaves this crate.
pub(crate) fn would_wait() -> ReadError {
    ReadError::Engine(Box::new(WouldWait))
}

/// Whether that was said.
pub(crate) fn is_would_wait(error: &ReadError) -> bool {
    matches!(error, ReadError::Engine(error) if error.is::<WouldWait>())
}

#[cfg(test)]
mod tests;
