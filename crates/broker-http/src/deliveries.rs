//! How much was delivered to event streams: each thread counts for itself, once for a page, and whoever asks adds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// What all threads have delivered.
#[derive(Default)]
pub(crate) struct Deliveries(Mutex<Vec<Arc<Tally>>>);

/// What one thread has delivered. Only that thread writes it.
#[derive(Default)]
pub(crate) struct Tally {
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Deliveries {
    /// Counts what a thread delivers.
    pub(crate) fn add(&self, tally: Arc<Tally>) {
        self.0.lock().push(tally);
    }

    /// Events that were given to streams since the start.
    pub(crate) fn events(&self) -> u64 {
        self.0.lock().iter().map(|tally| tally.events.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that streams have said since the start, heartbeats too.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().iter().map(|tally| tally.bytes.load(Ordering::Relaxed)).sum()
    }
}

impl Tally {
    pub(crate) fn count_events(&self, count: usize) {
        grow(&self.events, count);
    }

    pub(crate) fn count_bytes(&self, count: usize) {
        grow(&self.bytes, count);
    }
}

/// With a single writer a load and a store are enough, and cost what a plain addition does.
fn grow(total: &AtomicU64, by: usize) {
    total.store(total.load(Ordering::Relaxed) + by as u64, Ordering::Relaxed);
}
