//! What an operator decides about how policies are carried out.

use std::time::Duration;

use event_log::limits::{RETENTION_INTERVAL_MILLIS_DEFAULT, TOMBSTONE_RETENTION_MILLIS_DEFAULT};

/// How policies are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How often.
    pub retention_interval: Duration,
    /// How long a tombstone stays under a policy that compacts.
    pub tombstone_retention: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            retention_interval: Duration::from_millis(RETENTION_INTERVAL_MILLIS_DEFAULT),
            tombstone_retention: Duration::from_millis(TOMBSTONE_RETENTION_MILLIS_DEFAULT),
        }
    }
}
