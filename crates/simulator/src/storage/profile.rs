//! What kind of lives a seed lives. Most seeds do a little of everything; some come again and again to what is rare otherwise.

use crate::numbers::Numbers;
use crate::storage::history::{Mark, Shape};
use crate::storage::journal::{Entry, FileId};

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// A little of everything.
    Mixed,
    /// Many events of which most are removed, so that segments are packed.
    Packing,
    /// Appends alone, and cuts in the middle of them.
    Torn,
    /// Lives that are cut off while they begin.
    Starts,
}

impl Profile {
    /// That of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        match Numbers::new(seed, &[1 << 43]).below(10) {
            0..5 => Profile::Mixed,
            5 | 6 => Profile::Packing,
            7 => Profile::Torn,
            _ => Profile::Starts,
        }
    }

    /// How many cuts are made in each life, by its depth.
    pub(crate) fn cuts(self) -> [usize; 4] {
        match self {
            Profile::Mixed => [5, 2, 1, 0],
            Profile::Packing => [3, 2, 1, 0],
            Profile::Torn => [6, 3, 1, 0],
            Profile::Starts => [10, 2, 1, 0],
        }
    }

    /// How many steps a life has.
    pub(crate) fn steps(self, numbers: &mut Numbers) -> u64 {
        match self {
            Profile::Mixed | Profile::Packing => 5 + numbers.below(30),
            Profile::Torn => 3 + numbers.below(12),
            Profile::Starts => numbers.below(6),
        }
    }

    /// What is appended.
    pub(crate) fn shape(self, numbers: &mut Numbers) -> Shape {
        match (self, numbers.below(20)) {
            // What is left of a large one lies behind the smaller ones that come next.
            (Profile::Torn, 0..6) | (_, 19) => Shape::Large,
            (_, 0..12) => Shape::Few,
            _ => Shape::Retried,
        }
    }

    /// When a cut comes: after so many entries of a life.
    pub(crate) fn moment(self, entries: &[Entry], numbers: &mut Numbers) -> usize {
        let told = |entry: &Entry| matches!(entry, Entry::Mark(Mark::Done(_) | Mark::Opened { .. }));
        match self {
            Profile::Torn if numbers.percent(70) => {
                let files = files_of_events(entries);
                let is_commit =
                    |entry: &Entry| matches!(entry, Entry::Write(file, ..) if files.contains(file));
                after_one(entries, is_commit, numbers)
            }
            Profile::Starts if numbers.percent(70) => {
                let opened = entries.iter().position(told).unwrap_or(entries.len());
                after_one(&entries[..opened], changes_names, numbers)
            }
            Profile::Packing if numbers.percent(30) => after_one(entries, changes_names, numbers),
            // Anywhere, or just after something was told.
            _ => match numbers.below(10) {
                0..4 => after_one(entries, told, numbers),
                4 => entries.len(),
                _ => numbers.index(entries.len() + 1),
            },
        }
    }
}

fn changes_names(entry: &Entry) -> bool {
    matches!(entry, Entry::Create(..) | Entry::MakeDirectory(_) | Entry::Rename(..) | Entry::Remove(_))
}

fn files_of_events(entries: &[Entry]) -> Vec<FileId> {
    let files = entries.iter().filter_map(|entry| match entry {
        Entry::Present(file, path) | Entry::Create(file, path) => {
            path.parent().is_some_and(|folder| folder.ends_with("events")).then_some(*file)
        }
        _ => None,
    });
    files.collect()
}

/// Just behind one of the entries that are chosen, or anywhere if there is none.
fn after_one(entries: &[Entry], choose: impl Fn(&Entry) -> bool, numbers: &mut Numbers) -> usize {
    let chosen: Vec<usize> = (0..entries.len()).filter(|at| choose(&entries[*at])).collect();
    match chosen.is_empty() {
        true => numbers.index(entries.len() + 1),
        false => chosen[numbers.index(chosen.len())] + 1,
    }
}
