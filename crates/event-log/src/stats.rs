//! What a log has done since it was opened, counted where it happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::histogram::{Histogram, HistogramCounts};

/// Bounds of the events of a commit.
const COMMIT_EVENTS_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 16_384];
/// Bounds of the time that a barrier takes, in microseconds.
const BARRIER_MICROS_BOUNDS: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000,
];

/// What a log has done since it was opened; it counts on while the log works.
#[derive(Debug)]
pub struct LogStats {
    publishes: AtomicU64,
    duplicates: AtomicU64,
    bytes: AtomicU64,
    commit_events: Histogram,
    barrier_micros: Histogram,
    slowed_micros: AtomicU64,
    packed_segments: AtomicU64,
    packed_bytes: AtomicU64,
    freed_bytes: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCounts {
    /// Batches that were taken, duplicates too.
    pub publishes: u64,
    /// Events that were not appended again, because their idempotency key had been used for the same content.
    pub duplicates: u64,
    /// Bytes of the events that became durable, as policies count them.
    pub bytes: u64,
    /// Commits by how many events each made durable with one barrier. The sum is all events that became durable.
    pub commit_events: HistogramCounts,
    /// How long the barriers of events took, in microseconds.
    pub barrier_micros: HistogramCounts,
    /// How long appends were slowed down, because they filled the disk faster than it could be given back.
    pub slowed: Duration,
    /// Files of events that were written anew without what was removed.
    pub packed_segments: u64,
    /// Bytes of those files before.
    pub packed_bytes: u64,
    /// Bytes less that they were afterwards.
    pub freed_bytes: u64,
}

/// What one commit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commit {
    /// Batches that were taken.
    pub publishes: u64,
    /// Events that became durable.
    pub events: u64,
    /// Their bytes, as policies count them.
    pub bytes: u64,
    /// Events that were there already.
    pub duplicates: u64,
}

impl Default for LogStats {
    fn default() -> Self {
        LogStats {
            publishes: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            commit_events: Histogram::new(COMMIT_EVENTS_BOUNDS),
            barrier_micros: Histogram::new(BARRIER_MICROS_BOUNDS),
            slowed_micros: AtomicU64::new(0),
            packed_segments: AtomicU64::new(0),
            packed_bytes: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
        }
    }
}

impl LogStats {
    /// Counts a commit, once it is durable.
    pub fn committed(&self, commit: Commit) {
        self.publishes.fetch_add(commit.publishes, Ordering::Relaxed);
        self.duplicates.fetch_add(commit.duplicates, Ordering::Relaxed);
        if commit.events > 0 {
            self.bytes.fetch_add(commit.bytes, Ordering::Relaxed);
            self.commit_events.observe(commit.events);
        }
    }

    /// Counts a barrier of events.
    pub fn barrier(&self, took: Duration) {
        self.barrier_micros.observe(micros(took));
    }

    /// Appends were slowed down for so long.
    pub fn slowed(&self, time: Duration) {
        self.slowed_micros.fetch_add(micros(time), Ordering::Relaxed);
    }

    /// So many files of events, with so many bytes, were written anew.
    pub fn packed(&self, segments: u64, bytes_before: u64, bytes_after: u64) {
        self.packed_segments.fetch_add(segments, Ordering::Relaxed);
        self.packed_bytes.fetch_add(bytes_before, Ordering::Relaxed);
        self.freed_bytes.fetch_add(bytes_before.saturating_sub(bytes_after), Ordering::Relaxed);
    }

    /// The counts now.
    pub fn counts(&self) -> LogCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LogCounts {
            publishes: load(&self.publishes),
            duplicates: load(&self.duplicates),
            bytes: load(&self.bytes),
            commit_events: self.commit_events.counts(),
            barrier_micros: self.barrier_micros.counts(),
            slowed: Duration::from_micros(load(&self.slowed_micros)),
            packed_segments: load(&self.packed_segments),
            packed_bytes: load(&self.packed_bytes),
            freed_bytes: load(&self.freed_bytes),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_without_new_events_is_none_of_the_log() {
        let stats = LogStats::default();
        stats.committed(Commit { publishes: 3, events: 4, bytes: 50, duplicates: 1 });
        stats.committed(Commit { publishes: 1, events: 0, bytes: 0, duplicates: 1 });
        stats.barrier(Duration::from_millis(3));
        stats.packed(2, 100, 30);
        let counts = stats.counts();
        assert_eq!((counts.publishes, counts.duplicates, counts.bytes), (4, 2, 50));
        assert_eq!((counts.commit_events.count(), counts.commit_events.sum), (1, 4));
        assert_eq!((counts.barrier_micros.count(), counts.barrier_micros.sum), (1, 3_000));
        assert_eq!((counts.packed_segments, counts.packed_bytes, counts.freed_bytes), (2, 100, 70));
    }
}
