//! A bucket: for finding a key among many that were used one after the other, in eight bytes of memory for each.
//!
//! Its entries are sorted by the first bytes of the hash. Two keys may agree in those, so what is found is only a place to look
//! at. The row of a part:
//!
//! ```text
//! last place u64 | for each entry: first bytes of the hash [4] | distance of its place from the bucket's first place u32
//! ```

use event_log::Position;

use crate::keys::Hash;

/// Entries of one row.
const PART_ENTRIES_MAX: usize = 1_024;
const ENTRY_BYTES: usize = 8;

/// Keys that were used between two places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// Sorted. One that is far from its neighbours is found at once: hashes are spread evenly.
    prints: Vec<u32>,
    distances: Vec<u32>,
}

fn print(hash: &Hash) -> u32 {
    let [a, b, c, d, ..] = *hash;
    u32::from_be_bytes([a, b, c, d])
}

impl Bucket {
    /// One of keys and their places; `None` if there are none, or if they lie too far from each other.
    pub(crate) fn new<'a>(keys: impl Iterator<Item = (&'a Hash, Position)> + Clone) -> Option<Self> {
        let first = keys.clone().map(|(_, place)| place).min()?;
        let last = keys.clone().map(|(_, place)| place).max()?;
        let entry = |(hash, place): (&Hash, Position)| {
            Some((print(hash), u32::try_from(place.get() - first.get()).ok()?))
        };
        let mut entries: Vec<(u32, u32)> = keys.map(entry).collect::<Option<_>>()?;
        entries.sort_unstable();
        let (prints, distances) = entries.into_iter().unzip();
        Some(Bucket { first, last, prints, distances })
    }

    /// The places whose keys may be this one, the newest first.
    pub(crate) fn candidates(&self, hash: &Hash) -> impl Iterator<Item = Position> {
        let print = print(hash);
        let from = self.lower_bound(print);
        let same = self.prints[from..].iter().take_while(move |found| **found == print).count();
        let distances = self.distances[from..from + same].iter().rev();
        distances.map(|distance| Position::new(self.first.get() + u64::from(*distance)))
    }

    /// The index of the first entry that is not below a print. It is looked for where it lies if all are spread evenly.
    fn lower_bound(&self, print: u32) -> usize {
        let count = self.prints.len();
        let guess = ((u64::from(print) * count as u64) >> 32) as usize;
        let spread = 4 * count.isqrt() + 1;
        let (from, to) = (guess.saturating_sub(spread), (guess + spread).min(count));
        let is_inside = (from == 0 || self.prints[from - 1] < print)
            && (to == count || self.prints.get(to).is_some_and(|next| *next >= print));
        match is_inside {
            true => from + self.prints[from..to].partition_point(|found| *found < print),
            false => self.prints.partition_point(|found| *found < print),
        }
    }

    /// How many rows it has.
    pub(crate) fn parts(&self) -> u16 {
        u16::try_from(self.prints.len().div_ceil(PART_ENTRIES_MAX)).unwrap_or(u16::MAX)
    }

    /// The bodies of its rows.
    pub(crate) fn encode(&self) -> Vec<Vec<u8>> {
        let entries: Vec<(&u32, &u32)> = self.prints.iter().zip(&self.distances).collect();
        let part = |entries: &[(&u32, &u32)]| {
            let entries =
                entries.iter().flat_map(|(print, distance)| [print.to_be_bytes(), distance.to_be_bytes()]);
            self.last.get().to_be_bytes().into_iter().chain(entries.flatten()).collect()
        };
        entries.chunks(PART_ENTRIES_MAX).map(part).collect()
    }

    /// An empty one, to which parts are added.
    pub(crate) fn begin(first: Position) -> Self {
        Bucket { first, last: first, prints: Vec::new(), distances: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, body: &[u8]) -> Result<(), String> {
        let (last, entries) = body.split_first_chunk::<8>().ok_or("a row of a bucket is too short")?;
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        self.last = Position::new(u64::from_be_bytes(*last));
        let span = self.last.get().checked_sub(self.first.get());
        for [a, b, c, d, distance @ ..] in entries {
            self.prints.push(u32::from_be_bytes([*a, *b, *c, *d]));
            self.distances.push(u32::from_be_bytes(*distance));
        }
        let is_inside = |distance: &u32| span.is_some_and(|span| u64::from(*distance) <= span);
        match rest.is_empty() && self.prints.is_sorted() && self.distances.iter().all(is_inside) {
            true => Ok(()),
            false => Err("the rows of a bucket do not fit together".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(number: u64) -> Hash {
        *blake3::hash(&number.to_be_bytes()).as_bytes().first_chunk().unwrap()
    }

    #[test]
    fn every_key_is_found_and_hardly_any_other() {
        let hashes: Vec<Hash> = (0..20_000).map(hash).collect();
        let place = |number: usize| Position::new(7 + 3 * number as u64);
        let bucket =
            Bucket::new(hashes.iter().enumerate().map(|(number, hash)| (hash, place(number)))).unwrap();
        for (number, hash) in hashes.iter().enumerate() {
            assert!(bucket.candidates(hash).any(|found| found == place(number)));
        }
        let strangers = (20_000..40_000).filter(|number| bucket.candidates(&hash(*number)).next().is_some());
        assert!(strangers.count() < 20);
        let mut read = Bucket::begin(bucket.first);
        assert_eq!(bucket.encode().len(), usize::from(bucket.parts()));
        bucket.encode().iter().for_each(|part| read.add(part).unwrap());
        assert_eq!(read, bucket);
    }

    #[test]
    fn a_bucket_whose_places_lie_behind_its_last_one_is_refused() {
        let place = Position::new(u64::MAX - 1);
        let row =
            |last: u64, distance: u32| [&last.to_be_bytes()[..], &[7; 4], &distance.to_be_bytes()].concat();
        assert!(Bucket::begin(place).add(&row(u64::MAX, 1)).is_ok());
        assert!(Bucket::begin(place).add(&row(u64::MAX, 2)).is_err(), "beyond all places");
        assert!(Bucket::begin(place).add(&row(5, 0)).is_err(), "its last one lies before its first");
        assert!(Bucket::begin(Position::new(1)).add(&row(5, 5)).is_err());
    }

    proptest! {
        #[test]
        fn keys_that_agree_are_all_found_the_newest_first(prints: Vec<u8>, wanted: u8) {
            // Not spread at all.
            let hashes: Vec<Hash> = prints.iter().map(|print| [*print; 16]).collect();
            let keys = hashes.iter().zip(1u64..).map(|(hash, place)| (hash, Position::new(place)));
            let mut expected: Vec<Position> =
                keys.clone().filter(|(hash, _)| **hash == [wanted; 16]).map(|(_, place)| place).collect();
            expected.reverse();
            let found = Bucket::new(keys).map(|bucket| bucket.candidates(&[wanted; 16]).collect::<Vec<_>>());
            prop_assert_eq!(found.unwrap_or_default(), expected);
        }
    }
}
