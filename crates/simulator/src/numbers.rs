//! Numbers that look random and follow from a seed alone, the same in every release of every library.

/// A stream of them (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(u64);

impl Numbers {
    /// The stream of a seed. `path` names one of many streams of the same seed.
    pub(crate) fn new(seed: u64, path: &[u64]) -> Self {
        path.iter()
            .fold(Numbers(seed), |mut numbers, step| Numbers(numbers.next() ^ step.wrapping_mul(0x9e37)))
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 to `end`, the end excluded; 0 if there is none.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// An index of something that has so many.
    pub(crate) fn index(&mut self, end: usize) -> usize {
        // What is below a usize is one.
        self.below(end as u64) as usize
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// One of some values.
    pub(crate) fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.index(values.len())]
    }
}
