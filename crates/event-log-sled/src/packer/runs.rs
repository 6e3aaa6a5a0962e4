//! Which segments are packed together.

use std::sync::Arc;

use crate::blocks::{self, Blocks};
use crate::chunk;
use crate::segments::segment::Segment;

/// Segments that one run reads at most hold so many times what one segment may.
const READ_SEGMENTS_MAX: u64 = 4;
/// A packed segment below this part of a whole one is small.
const SMALL_PART: u64 = 8;
/// So many small neighbours are worth joining.
const SMALL_RUN: usize = 8;

/// How much of a segment is dead, about: blocks that reach beyond it count wholly.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    dead_bytes: u64,
    bytes: u64,
}

impl Share {
    pub(crate) fn of(segment: &Segment, blocks: &Blocks) -> Self {
        let numbers = blocks::number_of(segment.first)..blocks::number_of(segment.through()) + 1;
        blocks.range(numbers).fold(Share::default(), |sum, (_, block)| Share {
            dead_bytes: sum.dead_bytes + block.dead_bytes(),
            bytes: sum.bytes + block.disk_bytes(),
        })
    }

    /// Nothing of it is alive.
    pub(crate) fn is_dead(self) -> bool {
        self.dead_bytes >= self.bytes
    }

    /// In hundredths.
    fn dead(self) -> u64 {
        self.dead_bytes * 100 / self.bytes.max(1)
    }
}

/// Neighbouring segments that become one.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) segments: Vec<Arc<Segment>>,
    bytes: u64,
    /// What stays, about.
    live_bytes: u64,
    /// What goes, about.
    pub(crate) dead_bytes: u64,
    is_worth_it: bool,
}

/// Runs, as the segments come in order.
pub(crate) struct Runs {
    segment_bytes: u64,
    open: Run,
    found: Vec<Run>,
}

impl Runs {
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Runs { segment_bytes, open: Run::default(), found: Vec::new() }
    }

    /// The next segment, of which a share is dead; from `least_dead` hundredths on it is packed.
    pub(crate) fn add(&mut self, segment: &Arc<Segment>, share: Share, least_dead: u64) {
        let bytes = segment.bytes();
        let is_worth_it = bytes > 0 && (share.dead() >= least_dead || is_loose(segment));
        let is_small = segment.packed && bytes < self.segment_bytes / SMALL_PART;
        let live_bytes = bytes - bytes * share.dead().min(100) / 100;
        if !is_worth_it && !is_small || self.is_full(bytes, live_bytes) {
            self.close();
        }
        if is_worth_it || is_small {
            self.open.segments.push(Arc::clone(segment));
            self.open.bytes += bytes;
            self.open.live_bytes += live_bytes;
            self.open.dead_bytes += bytes - live_bytes;
            self.open.is_worth_it |= is_worth_it;
        }
    }

    fn is_full(&self, bytes: u64, live_bytes: u64) -> bool {
        let Run { segments, bytes: read, live_bytes: written, .. } = &self.open;
        !segments.is_empty()
            && (read + bytes > READ_SEGMENTS_MAX * self.segment_bytes
                || written + live_bytes > self.segment_bytes)
    }

    fn close(&mut self) {
        let run = std::mem::take(&mut self.open);
        if run.is_worth_it || run.segments.len() >= SMALL_RUN {
            self.found.push(run);
        }
    }

    /// All runs, those with the most to give first.
    pub(crate) fn finish(mut self) -> Vec<Run> {
        self.close();
        self.found.sort_by_key(|run| std::cmp::Reverse(run.dead_bytes));
        self.found
    }
}

/// Whether it has many more chunks than its bytes would need.
fn is_loose(segment: &Segment) -> bool {
    let full_chunks = segment.bytes() / chunk::CHUNK_BYTES_MAX as u64 + 1;
    !segment.packed && u64::from(segment.chunks()) > 4 * full_chunks
}

#[cfg(test)]
mod tests {
    use event_log::Position;

    use super::*;

    const WHOLE: u64 = 1_000_000;

    /// A segment of so many bytes, of which so many hundredths are dead.
    fn found(segments: &[(u64, u64, bool)]) -> Vec<Vec<u64>> {
        let mut runs = Runs::new(WHOLE);
        for ((bytes, dead, packed), number) in segments.iter().zip(0..) {
            let segment = Segment { packed: *packed, ..Segment::new(Position::new(number), 0) };
            segment.extent.write().add(Position::new(number), *bytes);
            let share = Share { dead_bytes: bytes * dead / 100, bytes: *bytes };
            runs.add(&Arc::new(segment), share, 50);
        }
        let firsts = |run: Run| run.segments.iter().map(|segment| segment.first.get()).collect();
        runs.finish().into_iter().map(firsts).collect()
    }

    #[test]
    fn what_is_mostly_dead_is_packed_with_its_neighbours_and_the_most_dead_first() {
        assert!(found(&[(WHOLE, 49, false), (WHOLE, 0, true)]).is_empty());
        assert_eq!(
            found(&[(WHOLE, 60, false), (WHOLE, 10, false), (WHOLE, 80, true), (WHOLE, 90, true)]),
            [vec![2, 3], vec![0]]
        );
        let all_dead = [(WHOLE, 100, true); 6];
        assert_eq!(
            found(&all_dead),
            [vec![0, 1, 2, 3], vec![4, 5]],
            "no more than four segments are read at once"
        );
        let half_dead = [(WHOLE, 50, true); 4];
        assert_eq!(found(&half_dead), [vec![0, 1], vec![2, 3]], "no more than one segment is written");
    }

    #[test]
    fn small_segments_are_joined_when_there_are_several_or_a_neighbour_is_packed() {
        let small = (WHOLE / 100, 0, true);
        assert!(found(&[small; 7]).is_empty());
        assert_eq!(found(&[small; 9]), [(0..9).collect::<Vec<u64>>()]);
        assert_eq!(found(&[small, (WHOLE, 70, true), small]), [vec![0, 1, 2]]);
        let gone = (0, 0, true);
        assert_eq!(
            found(&[gone, (WHOLE, 100, false)]),
            [vec![0, 1]],
            "what is gone wholly leaves one row, not many"
        );
    }

    #[test]
    fn a_segment_of_many_small_chunks_is_packed_once() {
        let segment = |packed| {
            let segment = Segment { packed, ..Segment::new(Position::new(1), 0) };
            (1..200).for_each(|number| segment.extent.write().add(Position::new(number), 300));
            segment
        };
        assert!(is_loose(&segment(false)) && !is_loose(&segment(true)));
    }
}
