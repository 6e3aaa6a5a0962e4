//! A distribution that is counted where things happen: two relaxed additions for a value, no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often values came up to each of some bounds, since the start.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is larger than the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// The counts of a [`Histogram`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramCounts {
    /// What the values of a bucket come up to at most, ascending.
    pub bounds: &'static [u64],
    /// Values of each bucket alone; the last one has no bound.
    pub buckets: Vec<u64>,
    /// All values, added up.
    pub sum: u64,
}

impl Histogram {
    /// One without values. The bounds ascend.
    pub fn new(bounds: &'static [u64]) -> Self {
        Histogram {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// The counts now. A value that comes meanwhile may be in a part of them.
    pub fn counts(&self) -> HistogramCounts {
        HistogramCounts {
            bounds: self.bounds,
            buckets: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl HistogramCounts {
    /// No values.
    pub fn none(bounds: &'static [u64]) -> Self {
        HistogramCounts { bounds, buckets: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Both together. They have the same bounds.
    pub fn and(mut self, other: &HistogramCounts) -> Self {
        assert_eq!(self.bounds, other.bounds, "only counts of the same buckets can be added");
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.sum += other.sum;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[u64] = &[1, 10, 100];

    #[test]
    fn a_value_is_counted_in_the_first_bucket_that_it_does_not_exceed() {
        let histogram = Histogram::new(BOUNDS);
        assert_eq!(histogram.counts(), HistogramCounts::none(BOUNDS));
        for value in [0, 1, 2, 10, 11, 100, 101, 1_000] {
            histogram.observe(value);
        }
        let counts = histogram.counts();
        assert_eq!(
            (counts.buckets.as_slice(), counts.sum, counts.count()),
            ([2, 2, 2, 2].as_slice(), 1_225, 8)
        );
        let twice = counts.clone().and(&counts);
        assert_eq!(
            (twice.buckets.as_slice(), twice.sum, twice.count()),
            ([4, 4, 4, 4].as_slice(), 2_450, 16)
        );
    }
}
