//! History that is gone when a reader wants it.

use std::thread;
use std::time::{Duration, Instant};

use crate::adapter::Promise::GapSignalled;
use crate::case::{Case, Outcome, Stop, fail};
use crate::hub::Hub;
use crate::reader::{Item, Start, shown};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "trimmed-before-replay",
        about: "a reader whose history is gone is told so, then gets all that is kept",
        needs: &[GapSignalled],
        long: false,
        run: before,
    },
    Case {
        name: "trimmed-boundary",
        about: "a reader that missed only what is kept is told nothing; one that missed one event more is",
        needs: &[GapSignalled],
        long: false,
        run: boundary,
    },
    Case {
        name: "trimmed-during-replay",
        about: "a reader that is overtaken by the end of its history in the middle of its replay is told so there",
        needs: &[GapSignalled],
        long: false,
        run: during,
    },
];

/// How long a hub may take to carry out a limit.
const TRIM_MAX: Duration = Duration::from_secs(30);

/// A limited topic with three times as many events as are kept, its ids, and the oldest event that is kept.
fn trimmed(hub: &Hub) -> Result<(String, Vec<String>, u64), Stop> {
    let (topic, trim) = hub.limited_topic()?;
    let ids = hub.seed_many(&topic, 3 * trim.keep, 60)?;
    let deadline = Instant::now() + TRIM_MAX;
    let due = 2 * trim.keep + 1;
    loop {
        let mut reader = hub.reader(&[&topic], Start::After(&ids[0]))?;
        let items = reader.until(3 * trim.keep)?;
        match items.iter().find_map(|item| if let Item::Event { n, .. } = item { Some(*n) } else { None }) {
            Some(oldest) if oldest >= due => return Ok((topic, ids, oldest)),
            oldest if Instant::now() > deadline => {
                return fail(format!("the limit was not carried out: the oldest event is still {oldest:?}"));
            }
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A reader after event `n` gets these items, and then what happens next.
fn after(hub: &Hub, topic: &str, ids: &[String], n: u64) -> Result<Vec<Item>, Stop> {
    let id = &ids[usize::try_from(n - 1).unwrap_or_default()];
    hub.reader(&[topic], Start::After(id))?.until(ids.len() as u64)
}

/// Whether a gap was told first, and then exactly the events from `oldest` on came.
fn told(items: &[Item], oldest: u64, last: u64) -> bool {
    matches!(items.split_first(), Some((Item::Gap(_), events)) if is_run(events, oldest, last))
}

fn is_run(items: &[Item], first: u64, last: u64) -> bool {
    let numbers = items.iter().map(|item| if let Item::Event { n, .. } = item { *n } else { 0 });
    numbers.eq(first..=last)
}

fn before(hub: &Hub) -> Outcome {
    let (topic, ids, oldest) = trimmed(hub)?;
    let last = ids.len() as u64;
    for n in [1, oldest / 2, oldest - 2] {
        let items = after(hub, &topic, &ids, n)?;
        if !told(&items, oldest, last) {
            return fail(format!("{oldest}..={last} are kept; after {n} came {}", shown(&items)));
        }
    }
    Ok(format!("told, then {oldest}..={last}"))
}

fn boundary(hub: &Hub) -> Outcome {
    let (topic, ids, oldest) = trimmed(hub)?;
    let last = ids.len() as u64;
    for n in [oldest - 1, oldest, last - 1] {
        let items = after(hub, &topic, &ids, n)?;
        if !is_run(&items, n + 1, last) {
            return fail(format!("{oldest}..={last} are kept; after {n} came {}", shown(&items)));
        }
    }
    let items = after(hub, &topic, &ids, oldest - 2)?;
    if !told(&items, oldest, last) {
        return fail(format!("{oldest}..={last} are kept; after {} came {}", oldest - 2, shown(&items)));
    }
    Ok(String::new())
}

fn during(hub: &Hub) -> Outcome {
    let (topic, trim) = hub.limited_topic()?;
    let (bytes, keep) = (hub.adapter.data_max, trim.keep);
    let first = hub.seed(&topic)?;
    hub.publisher().publish_range(&topic, 2..=keep, bytes)?;
    let mut reader = hub.reader(&[&topic], Start::After(&first))?.slow();
    reader.expect_one(2)?;
    // It does not read while all that it had before it is removed.
    let last = 3 * keep;
    hub.publisher().publish_range(&topic, keep + 1..=last, bytes)?;
    let deadline = Instant::now() + TRIM_MAX;
    let oldest = |items: &[Item]| {
        items.iter().find_map(|i| if let Item::Event { n, .. } = i { Some(*n) } else { None })
    };
    while oldest(&hub.reader(&[&topic], Start::After(&first))?.until(last)?).is_none_or(|n| n <= keep) {
        if Instant::now() > deadline {
            return fail("the limit was not carried out");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let items = reader.until(last)?;
    judge(&items)
}

/// Judges what a reader got after event 2: each jump must have been told, and nothing may come again.
fn judge(items: &[Item]) -> Outcome {
    let (mut next, mut told, mut gaps) = (3, false, 0);
    for item in items {
        match item {
            Item::Gap(_) => (told, gaps) = (true, gaps + 1),
            Item::Event { n, .. } if *n == next || (told && *n > next) => (next, told) = (n + 1, false),
            Item::Event { n, .. } if *n > next => {
                return fail(format!("{n} came after {}, and nothing said so: {}", next - 1, shown(items)));
            }
            Item::Event { n, .. } => return fail(format!("{n} came again: {}", shown(items))),
        }
    }
    Ok(if gaps == 0 { "lost nothing".to_owned() } else { shown(items) })
}
