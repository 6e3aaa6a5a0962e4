//! The ledgers of the soak, shown to find what is wrong: the soak itself is run seldom, and a ledger that cannot fail would
//! not be missed.

#[path = "soak/ledger.rs"]
mod ledger;

use ledger::{Given, Ledger, Published};

fn lane(distance: Option<u64>) -> Published {
    let mut published = Published::new(distance);
    for (number, sequence, count) in [(1, 10, 5), (6, 20, 5), (11, 25, 5)] {
        published.assign(count);
        published.record(number, sequence, count);
    }
    published
}

/// Gives a reader events by number, with gaps between them, and settles at the end.
fn read(published: &Published, steps: &[(u64, Option<u64>)]) -> Result<Ledger, String> {
    let mut ledger = Ledger::new(1, &[0], Some(0));
    for (at, gap_end) in steps {
        match gap_end {
            Some(end) => ledger.gap(*at, *end)?,
            None => {
                let sequence = published.sequence_of(*at).expect("a number that was published");
                ledger.event(Given { lane: 0, number: *at, first: *at, sequence }, published)?;
            }
        }
    }
    ledger.settle(0, published)?;
    Ok(ledger)
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, Option<u64>)> {
    range.map(|number| (number, None)).collect()
}

#[test]
fn a_reader_that_got_everything_is_exact() {
    let published = lane(None);
    assert_eq!((published.recorded(), published.last_sequence()), (15, 29));
    let ledger = read(&published, &numbers(1..=15)).expect("an exact ledger");
    assert_eq!((ledger.cursor(), ledger.gaps, ledger.missing), (29, 0, 0));
}

#[test]
fn what_is_missing_needs_a_gap_before_it() {
    let published = lane(None);
    let told = [numbers(1..=3), vec![(12, Some(24))], numbers(11..=15)].concat();
    let ledger = read(&published, &told).expect("a gap that was told");
    assert_eq!((ledger.gaps, ledger.missing, ledger.suspect), (1, 7, Some(24)));
    let silent = [numbers(1..=3), numbers(11..=15)].concat();
    assert!(read(&published, &silent).is_err());
    let late = [numbers(1..=3), numbers(5..=7), vec![(21, Some(24))], numbers(11..=15)].concat();
    assert!(read(&published, &late).is_err(), "the gap came behind what is missing");
    assert!(read(&published, &[numbers(1..=3), numbers(2..=2)].concat()).is_err(), "twice");
    assert!(read(&published, &[numbers(1..=9), vec![(7, Some(28))]].concat()).is_err(), "a gap from behind");
}

#[test]
fn what_is_superseded_is_silent_only_with_compaction_and_something_newer() {
    let every_third =
        |last: u64| (1..=last).filter(|n| n % 3 == 0 || *n > 10).map(|n| (n, None)).collect::<Vec<_>>();
    assert!(read(&lane(Some(5)), &every_third(15)).is_ok());
    assert!(read(&lane(None), &every_third(15)).is_err());
    assert!(read(&lane(Some(6)), &every_third(15)).is_err(), "the newest of a key is missing");
}

#[test]
fn what_the_cursor_has_passed_is_judged_without_a_further_event() {
    let published = lane(None);
    let mut ledger = Ledger::new(1, &[0], Some(0));
    ledger.move_to(12).expect("a place behind");
    assert!(ledger.settle(0, &published).is_err());
    let mut fresh = Ledger::new(1, &[0], None);
    fresh.move_to(12).expect("a place behind");
    assert!(fresh.settle(0, &published).is_ok(), "it began at what is kept");
    let mut later = Ledger::new(1, &[0], Some(14));
    later.move_to(22).expect("a place behind");
    assert!(later.settle(0, &published).is_err());
}

#[test]
fn runs_that_every_reader_has_passed_are_forgotten() {
    let mut published = lane(None);
    published.forget_through(13);
    assert_eq!(published.sequence_of(5), Some(14));
    published.forget_through(14);
    assert_eq!((published.sequence_of(5), published.sequence_of(6)), (None, Some(20)));
    published.forget_through(1_000);
    assert_eq!((published.last_sequence(), published.first_after(0)), (29, Some(6)));
}
