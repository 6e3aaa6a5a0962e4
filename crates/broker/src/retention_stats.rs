//! What the retention actor has done since the start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event_log::Removed;

/// What the retention actor has done since the start; it counts on while it works.
#[derive(Debug, Default)]
pub struct RetentionStats {
    passes: AtomicU64,
    topics: AtomicU64,
    steps: AtomicU64,
    trimmed: Counter,
    superseded: Counter,
    busy_micros: AtomicU64,
    last_pass_micros: AtomicU64,
}

#[derive(Debug, Default)]
struct Counter {
    events: AtomicU64,
    bytes: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionCounts {
    /// Passes that ended.
    pub passes: u64,
    /// How often something of a topic was to be removed.
    pub topics: u64,
    /// Steps that were taken.
    pub steps: u64,
    /// What was trimmed.
    pub trimmed: RemovedCounts,
    /// What was superseded, old tombstones too.
    pub superseded: RemovedCounts,
    /// The time that steps took.
    pub busy: Duration,
    /// The time that the last pass took, its rests too.
    pub last_pass: Duration,
}

/// Events that were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemovedCounts {
    /// How many.
    pub events: u64,
    /// Their bytes, as policies count them.
    pub bytes: u64,
}

/// Why something is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Trimmed,
    Superseded,
}

impl RetentionStats {
    /// The counts now.
    pub fn counts(&self) -> RetentionCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let removed =
            |counter: &Counter| RemovedCounts { events: load(&counter.events), bytes: load(&counter.bytes) };
        RetentionCounts {
            passes: load(&self.passes),
            topics: load(&self.topics),
            steps: load(&self.steps),
            trimmed: removed(&self.trimmed),
            superseded: removed(&self.superseded),
            busy: Duration::from_micros(load(&self.busy_micros)),
            last_pass: Duration::from_micros(load(&self.last_pass_micros)),
        }
    }

    pub(crate) fn topics(&self, count: usize) {
        self.topics.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn step_taken(&self, kind: Kind, removed: &Removed, time: Duration) {
        let counter = match kind {
            Kind::Trimmed => &self.trimmed,
            Kind::Superseded => &self.superseded,
        };
        counter.events.fetch_add(removed.events, Ordering::Relaxed);
        counter.bytes.fetch_add(removed.bytes, Ordering::Relaxed);
        self.busy_micros.fetch_add(micros(time), Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pass_ended(&self, time: Duration) {
        self.last_pass_micros.store(micros(time), Ordering::Relaxed);
        self.passes.fetch_add(1, Ordering::Release);
    }
}

impl RetentionCounts {
    /// What was done after an earlier moment. The last pass is that of this moment.
    pub(crate) fn since(&self, earlier: &RetentionCounts) -> RetentionCounts {
        let removed = |now: RemovedCounts, then: RemovedCounts| RemovedCounts {
            events: now.events - then.events,
            bytes: now.bytes - then.bytes,
        };
        RetentionCounts {
            passes: self.passes - earlier.passes,
            topics: self.topics - earlier.topics,
            steps: self.steps - earlier.steps,
            trimmed: removed(self.trimmed, earlier.trimmed),
            superseded: removed(self.superseded, earlier.superseded),
            busy: self.busy.saturating_sub(earlier.busy),
            last_pass: self.last_pass,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
