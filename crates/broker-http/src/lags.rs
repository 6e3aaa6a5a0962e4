//! How far behind the event streams are, all together.

use event_log::Position;

/// Streams are counted that are behind by more than so many events.
const MORE_THAN: [u64; 6] = [0, 100, 1_000, 10_000, 100_000, 1_000_000];

/// How far behind the event streams are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lags {
    /// How many streams are behind by more than so many events of the log.
    pub(crate) behind: [(u64, u64); MORE_THAN.len()],
    /// Events before the one that is furthest behind.
    pub(crate) most: u64,
}

impl Lags {
    /// Those of streams with these cursors. The log is asked about few of them: who is further behind has more before it.
    pub(crate) fn of(mut cursors: Vec<Position>, count_after: impl Fn(Position) -> u64) -> Self {
        cursors.sort_unstable();
        let behind = MORE_THAN.map(|events| {
            let streams = cursors.partition_point(|cursor| count_after(*cursor) > events);
            (events, streams as u64)
        });
        Lags { behind, most: cursors.first().map_or(0, |furthest| count_after(*furthest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_by_how_many_events_are_before_them() {
        let head = 2_000_000;
        let lags = |lags: &[u64]| {
            let cursors = lags.iter().map(|lag| Position::new(head - lag)).collect();
            Lags::of(cursors, |cursor| head - cursor.get())
        };
        let counts = |found: &Lags| found.behind.map(|(_, streams)| streams);
        let found = lags(&[0, 5, 100, 101, 50_000, 0, 1_000_001]);
        assert_eq!((counts(&found), found.most), ([5, 3, 2, 2, 1, 1], 1_000_001));
        let none = lags(&[]);
        assert_eq!((counts(&none), none.most), ([0; 6], 0));
    }
}
