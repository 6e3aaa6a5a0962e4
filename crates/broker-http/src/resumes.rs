//! What became of readings that came back with an id, of all shapes.

use std::sync::atomic::{AtomicU64, Ordering};

use broker::{GapReason, Opened, Start};

/// What becomes of a reading that begins from an id: it goes on exactly, or is told of a gap.
const OUTCOMES: [Option<GapReason>; 5] = [
    None,
    Some(GapReason::Trimmed),
    Some(GapReason::Ahead),
    Some(GapReason::Epoch),
    Some(GapReason::Malformed),
];

/// Readings that began from an id since the start, by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Resumes([AtomicU64; OUTCOMES.len()]);

impl Resumes {
    /// Counts a reading that was opened, if it began from an id.
    pub(crate) fn count(&self, start: &Start, opened: &Opened) {
        if !matches!(start, Start::Cursor(_) | Start::At { .. }) {
            return;
        }
        let outcome = opened.gap.as_ref().map(|gap| gap.reason);
        if let Some(index) = OUTCOMES.iter().position(|known| *known == outcome) {
            self.0[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts now, each with its word.
    pub(crate) fn counts(&self) -> [(&'static str, u64); OUTCOMES.len()] {
        let mut counts = [("exact", 0); OUTCOMES.len()];
        for ((count, outcome), now) in counts.iter_mut().zip(OUTCOMES).zip(&self.0) {
            *count = (outcome.map_or("exact", GapReason::as_str), now.load(Ordering::Relaxed));
        }
        counts
    }
}
