//! What the event streams have done since the start. Each worker counts for itself, so that no two cores write to the same
//! place; who asks adds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event_log::{Histogram, HistogramCounts};
use parking_lot::Mutex;

/// Bounds of the time from a commit to a socket, in microseconds.
const COMMIT_TO_SOCKET_MICROS_BOUNDS: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// What the event streams of one worker have done. Alone in its cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct StreamStats {
    opened: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    replayed_events: AtomicU64,
    replayed_bytes: AtomicU64,
    gaps: AtomicU64,
    commit_to_socket_micros: Histogram,
}

/// The counts of all workers at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StreamCounts {
    /// Streams that were opened.
    pub(crate) opened: u64,
    /// Events that streams were given: one that ten streams read counts ten times.
    pub(crate) events: u64,
    /// Bytes that were said: events, and what is the broker's own.
    pub(crate) bytes: u64,
    /// Events of history that streams took from the log.
    pub(crate) replayed_events: u64,
    /// Bytes of those as they were said.
    pub(crate) replayed_bytes: u64,
    /// Gaps that were told to streams that were under way.
    pub(crate) gaps: u64,
    /// From the commit of an event, its barrier included, to the socket of a stream that follows the head, in microseconds.
    pub(crate) commit_to_socket_micros: HistogramCounts,
}

impl StreamStats {
    fn new() -> Self {
        StreamStats {
            opened: AtomicU64::new(0),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            replayed_events: AtomicU64::new(0),
            replayed_bytes: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            commit_to_socket_micros: Histogram::new(COMMIT_TO_SOCKET_MICROS_BOUNDS),
        }
    }

    pub(crate) fn opened(&self) {
        grow(&self.opened, 1);
    }

    /// A stream says so many bytes, of history or not.
    pub(crate) fn said(&self, bytes: usize, of_history: bool) {
        grow(&self.bytes, bytes);
        if of_history {
            grow(&self.replayed_bytes, bytes);
        }
    }

    /// A stream was given so many events, of history or not.
    pub(crate) fn given(&self, events: usize, of_history: bool) {
        grow(&self.events, events);
        if of_history {
            grow(&self.replayed_events, events);
        }
    }

    /// A stream under way was told of a gap.
    pub(crate) fn gap(&self) {
        grow(&self.gaps, 1);
    }

    /// An event goes to a socket so long after its commit began.
    pub(crate) fn delivered(&self, after: Duration) {
        self.commit_to_socket_micros.observe(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Only its worker writes to it, so a load and a store are enough, and cost what a plain addition does.
fn grow(total: &AtomicU64, by: usize) {
    total.store(total.load(Ordering::Relaxed) + by as u64, Ordering::Relaxed);
}

/// Those of all workers.
#[derive(Debug, Default)]
pub(crate) struct AllStreamStats(Mutex<Vec<Arc<StreamStats>>>);

impl AllStreamStats {
    /// Where one more worker counts.
    pub(crate) fn of_worker(&self) -> Arc<StreamStats> {
        let stats = Arc::new(StreamStats::new());
        self.0.lock().push(Arc::clone(&stats));
        stats
    }

    /// The counts now.
    pub(crate) fn counts(&self) -> StreamCounts {
        let workers = self.0.lock();
        let sum = |count: fn(&StreamStats) -> &AtomicU64| {
            workers.iter().map(|stats| count(stats).load(Ordering::Relaxed)).sum()
        };
        StreamCounts {
            opened: sum(|stats| &stats.opened),
            events: sum(|stats| &stats.events),
            bytes: sum(|stats| &stats.bytes),
            replayed_events: sum(|stats| &stats.replayed_events),
            replayed_bytes: sum(|stats| &stats.replayed_bytes),
            gaps: sum(|stats| &stats.gaps),
            commit_to_socket_micros: workers
                .iter()
                .map(|stats| stats.commit_to_socket_micros.counts())
                .fold(HistogramCounts::none(COMMIT_TO_SOCKET_MICROS_BOUNDS), |sum, counts| sum.and(&counts)),
        }
    }
}
