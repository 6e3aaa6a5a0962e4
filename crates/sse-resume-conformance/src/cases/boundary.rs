//! Off by one, at every boundary.

use crate::adapter::Promise::ExactResume;
use crate::case::{Case, Outcome};
use crate::hub::Hub;
use crate::reader::{Reader, Start};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "boundary-every-id",
        about: "after each id comes the next event, and after the newest id nothing until one is published",
        needs: &[ExactResume],
        long: false,
        run: every_id,
    },
    Case {
        name: "boundary-lengths",
        about: "replays of lengths around the sizes of pages and buffers are whole, and go on",
        needs: &[ExactResume],
        long: false,
        run: lengths,
    },
    Case {
        name: "boundary-first-event",
        about: "a reader that waits at an empty topic gets its first event, once",
        needs: &[],
        long: false,
        run: first_event,
    },
];

/// Numbers of events at which pages and buffers may end.
const SIZES: [u64; 12] = [8, 10, 16, 32, 50, 64, 100, 128, 256, 500, 1000, 1024];

fn every_id(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    let ids = hub.seed_many(&topic, 40, 60)?;
    come_back(hub, &topic, &ids, 40, 1..=40)
}

fn lengths(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    let last = SIZES[SIZES.len() - 1] + 2;
    let ids = hub.seed_many(&topic, last, 60)?;
    let starts = SIZES.iter().flat_map(|size| [size - 1, *size, size + 1]).map(|length| last - length);
    come_back(hub, &topic, &ids, last, starts)
}

/// Readers come back after these events; each gets all that follows, and then the next that is published.
fn come_back(
    hub: &Hub,
    topic: &str,
    ids: &[String],
    last: u64,
    starts: impl Iterator<Item = u64>,
) -> Outcome {
    let mut readers: Vec<(u64, Reader)> = Vec::new();
    for n in starts {
        let id = &ids[usize::try_from(n - 1).unwrap_or_default()];
        let mut reader = hub.reader(&[topic], Start::After(id))?;
        reader.open()?;
        readers.push((n, reader));
    }
    for (n, reader) in &mut readers {
        reader.expect(*n + 1..=last)?;
    }
    // Whoever gets anything else before this one has got an event again.
    hub.publisher().publish(topic, last + 1, 60)?;
    for (_, reader) in &mut readers {
        reader.expect_one(last + 1)?;
    }
    Ok(format!("{} readers", readers.len()))
}

fn first_event(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    let mut live = hub.reader(&[&topic], Start::Next)?;
    live.open()?;
    let mut publisher = hub.publisher();
    publisher.publish(&topic, 1, 60)?;
    live.expect_one(1)?;
    publisher.publish(&topic, 2, 60)?;
    live.expect_one(2)?;
    if hub.adapter.subscribe.earliest.is_some() {
        let mut earliest = hub.reader(&[&topic], Start::Earliest)?;
        earliest.expect(1..=2)?;
    }
    Ok(String::new())
}
