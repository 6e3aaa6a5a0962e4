//! The ledgers: what was published on each lane, as runs of neighbours, and what one reader was given of it.
//!
//! A reader expects the next number of each lane. What it does not get must have been superseded, which only lanes with
//! compaction allow and only if a newer event of the same key was published, or be excused by a gap that was told between
//! the lane's last event and its next one, with a cursor before the missing one.

use std::collections::VecDeque;

/// Neighbouring numbers on neighbouring places.
#[derive(Debug, Clone, Copy)]
struct Run {
    number: u64,
    sequence: u64,
    count: u64,
}

impl Run {
    fn sequence_of(&self, number: u64) -> u64 {
        self.sequence + (number - self.number)
    }
}

/// What one lane published. Numbers begin with 1.
#[derive(Debug)]
pub(crate) struct Published {
    runs: VecDeque<Run>,
    /// The next number that nobody recorded yet.
    unrecorded: u64,
    /// The next number that nobody was given yet: what lies between is on its way.
    unassigned: u64,
    /// How many keys come round, if what is superseded may go.
    pub(crate) superseding_distance: Option<u64>,
}

impl Published {
    pub(crate) fn new(superseding_distance: Option<u64>) -> Self {
        Published { runs: VecDeque::new(), unrecorded: 1, unassigned: 1, superseding_distance }
    }

    /// Takes the next numbers, before they are sent, and returns the first.
    pub(crate) fn assign(&mut self, count: u64) -> u64 {
        let first = self.unassigned;
        self.unassigned += count;
        first
    }

    /// Records where events came to lie, in the order of their numbers.
    pub(crate) fn record(&mut self, number: u64, sequence: u64, count: u64) {
        assert_eq!(number, self.unrecorded, "a lane records its events in order");
        self.unrecorded += count;
        match self.runs.back_mut() {
            Some(run) if run.sequence + run.count == sequence => run.count += count,
            _ => self.runs.push_back(Run { number, sequence, count }),
        }
    }

    /// The last place that is recorded; 0 if there is none.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.runs.back().map_or(0, |run| run.sequence + run.count - 1)
    }

    /// How many events were recorded.
    pub(crate) fn recorded(&self) -> u64 {
        self.unrecorded - 1
    }

    /// Forgets the runs that lie wholly up to a place, but never the last one.
    pub(crate) fn forget_through(&mut self, sequence: u64) {
        while self.runs.len() > 1
            && self.runs.front().is_some_and(|run| run.sequence + run.count - 1 <= sequence)
        {
            self.runs.pop_front();
        }
    }

    /// Where an event lies, if its run is not forgotten.
    pub(crate) fn sequence_of(&self, number: u64) -> Option<u64> {
        let at = self.runs.partition_point(|run| run.number + run.count <= number);
        self.runs.get(at).filter(|run| run.number <= number).map(|run| run.sequence_of(number))
    }

    /// The first number that is recorded behind a place.
    pub(crate) fn first_after(&self, sequence: u64) -> Option<u64> {
        let at = self.runs.partition_point(|run| run.sequence + run.count - 1 <= sequence);
        let run = self.runs.get(at)?;
        Some(run.number + (sequence + 1).saturating_sub(run.sequence))
    }

    /// Whether a newer event of the same key was published, or is on its way.
    fn is_superseded(&self, number: u64) -> bool {
        self.superseding_distance.is_some_and(|distance| number + distance < self.unassigned)
    }
}

/// What a reader expects next of a lane.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// It began at what was kept, so any number may come first.
    Anything,
    /// The first number behind this place.
    After(u64),
    Number(u64),
}

#[derive(Debug, Clone, Copy)]
struct Followed {
    expected: Expected,
    /// The cursor of the first gap and the end of the last one that were told since the lane's last event.
    gaps: Option<(u64, u64)>,
}

/// What one reader was given.
#[derive(Debug)]
pub(crate) struct Ledger {
    cursor: u64,
    lanes: Vec<Option<Followed>>,
    pub(crate) gaps: u64,
    pub(crate) missing: u64,
    /// A place that was missing, to be asked whether it is really gone.
    pub(crate) suspect: Option<u64>,
}

/// One event of a lane as a reader got it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) lane: usize,
    pub(crate) number: u64,
    /// The first number of its batch, whose events are neighbours.
    pub(crate) first: u64,
    pub(crate) sequence: u64,
}

impl Ledger {
    /// A reader of these lanes of so many. What it begins behind is the place, or what is kept if there is none.
    pub(crate) fn new(lanes: usize, followed: &[usize], after: Option<u64>) -> Self {
        let expected = after.map_or(Expected::Anything, Expected::After);
        let lane = |lane| followed.contains(&lane).then_some(Followed { expected, gaps: None });
        let lanes = (0..lanes).map(lane).collect();
        Ledger { cursor: after.unwrap_or(0), lanes, gaps: 0, missing: 0, suspect: None }
    }

    /// The sequence up to which everything was given.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Takes the place of one of the broker's own events.
    pub(crate) fn move_to(&mut self, sequence: u64) -> Result<(), String> {
        if sequence < self.cursor {
            return Err(format!("the cursor went back from {} to {sequence}", self.cursor));
        }
        self.cursor = sequence;
        Ok(())
    }

    /// Takes a gap. The broker's cursor may be ahead of the last id that was sent, over events that are not of the
    /// reader's topics; whatever of them is missing before it has no excuse in this gap.
    pub(crate) fn gap(&mut self, requested: u64, resumed_after: u64) -> Result<(), String> {
        if requested < self.cursor {
            return Err(format!("a gap was told from {requested} at the cursor {}", self.cursor));
        }
        self.gaps += 1;
        for followed in self.lanes.iter_mut().flatten() {
            let from = followed.gaps.map_or(requested, |(from, _)| from);
            followed.gaps = Some((from, resumed_after));
        }
        self.move_to(resumed_after)
    }

    /// Takes an event.
    pub(crate) fn event(&mut self, given: Given, published: &Published) -> Result<(), String> {
        if given.sequence <= self.cursor {
            return Err(format!("{given:?} came after {}", self.cursor));
        }
        let followed = self.lanes.get(given.lane).copied().flatten();
        let followed = followed.ok_or_else(|| format!("{given:?} was not asked for"))?;
        let expected = match followed.expected {
            Expected::Anything => given.number,
            Expected::Number(number) => number,
            // A batch that is not recorded yet was not begun before.
            Expected::After(place) => published.first_after(place).unwrap_or(given.first),
        };
        if given.number < expected {
            return Err(format!("{given:?} came, but {expected} was expected"));
        }
        let sequence_of = |number: u64| match number >= given.first {
            true => Some(given.sequence - (given.number - number)),
            false => published.sequence_of(number),
        };
        self.judge(given.lane, expected..given.number, published, sequence_of)?;
        self.cursor = given.sequence;
        self.lanes[given.lane] = Some(Followed { expected: Expected::Number(given.number + 1), gaps: None });
        Ok(())
    }

    /// Judges what is missing up to the cursor, whether or not a later event of its lane has come.
    pub(crate) fn settle(&mut self, lane: usize, published: &Published) -> Result<(), String> {
        let Some(followed) = self.lanes.get(lane).copied().flatten() else { return Ok(()) };
        let expected = match followed.expected {
            Expected::Anything => return Ok(()),
            Expected::Number(number) => Some(number),
            Expected::After(place) => published.first_after(place),
        };
        let Some(expected) = expected else { return Ok(()) };
        let end = published.first_after(self.cursor).unwrap_or(published.unrecorded);
        if end > expected {
            self.judge(lane, expected..end, published, |number| published.sequence_of(number))?;
            self.lanes[lane] = Some(Followed { expected: Expected::Number(end), ..followed });
        }
        Ok(())
    }

    /// Judges numbers that did not come.
    fn judge(
        &mut self,
        lane: usize,
        absent: std::ops::Range<u64>,
        published: &Published,
        sequence_of: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), String> {
        if absent.is_empty() {
            return Ok(());
        }
        let gaps = self.lanes[lane].and_then(|followed| followed.gaps);
        let unknown = |number: u64| format!("lane {lane}: the place of {number} is not known");
        // Places increase with numbers, so what lies before the first gap's cursor is a prefix.
        let silent = match gaps {
            None => absent.end,
            Some((from, _)) => {
                let (mut low, mut high) = (absent.start, absent.end);
                while low < high {
                    let middle = low + (high - low) / 2;
                    let is_before = sequence_of(middle).ok_or_else(|| unknown(middle))? <= from;
                    (low, high) = if is_before { (middle + 1, high) } else { (low, middle) };
                }
                low
            }
        };
        if silent > absent.start && !published.is_superseded(silent - 1) {
            let place = sequence_of(silent - 1);
            return Err(format!(
                "lane {lane}: {}..{silent} of {absent:?} (the last at {place:?}) are missing without a word, at the cursor {}",
                absent.start, self.cursor
            ));
        }
        self.missing += absent.end - absent.start;
        self.suspect = Some(sequence_of(absent.end - 1).ok_or_else(|| unknown(absent.end - 1))?);
        Ok(())
    }
}
