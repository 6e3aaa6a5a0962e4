//! Readers that begin at a relative place, and are cut: the place must not move with the head.

use crate::adapter::Promise::{ExactResume, PinnedStart};
use crate::case::{Case, Outcome};
use crate::hub::Hub;
use crate::reader::Start;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "start-latest-is-pinned",
        about: "a reader that began with what happens next, and was cut before it, misses nothing",
        needs: &[PinnedStart],
        long: false,
        run: latest,
    },
    Case {
        name: "start-last-is-pinned",
        about: "a reader that began with the last 3, and was cut before its first event, gets those 3 and what followed",
        needs: &[PinnedStart],
        long: false,
        run: last,
    },
    Case {
        name: "id-before-start",
        about: "a reader that began with the last 3, or the earliest, and comes back with an id, goes on after it",
        needs: &[ExactResume],
        long: false,
        run: id_wins,
    },
];

fn latest(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    hub.seed_many(&topic, 5, 60)?;
    let mut reader = hub.reader(&[&topic], Start::Next)?;
    reader.open()?;
    reader.cut();
    hub.publisher().publish_range(&topic, 6..=10, 60)?;
    reader.open()?;
    hub.publisher().publish(&topic, 11, 60)?;
    reader.expect(6..=11)?;
    Ok(String::new())
}

fn last(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    hub.seed_many(&topic, 5, 60)?;
    let mut reader = hub.reader(&[&topic], Start::Last(3))?;
    reader.open()?;
    reader.cut();
    hub.publisher().publish_range(&topic, 6..=10, 60)?;
    reader.expect(3..=10)?;
    Ok(String::new())
}

fn id_wins(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    hub.seed_many(&topic, 5, 60)?;
    let mut readers = Vec::new();
    if hub.adapter.subscribe.last.is_some() {
        readers.push((hub.reader(&[&topic], Start::Last(3))?, 3));
    }
    // Without the two, what is left is the plain path.
    let start = if hub.adapter.subscribe.earliest.is_some() { Start::Earliest } else { Start::Last(3) };
    readers.push((hub.reader(&[&topic], start)?, 1));
    for (reader, first) in &mut readers {
        reader.expect_one(*first)?;
        reader.cut();
    }
    hub.publisher().publish_range(&topic, 6..=20, 60)?;
    for (reader, first) in &mut readers {
        reader.expect(*first + 1..=20)?;
    }
    Ok(String::new())
}
