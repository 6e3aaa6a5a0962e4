//! Readers that come back right after the hub did, before anything is published.

use crate::adapter::Promise::{Durable, ExactResume};
use crate::case::{Case, Outcome, fail};
use crate::hub::Hub;
use crate::reader::{Item, Start};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "resume-after-stop",
        about: "after a restart, and before any publish, each id still leads to what follows it",
        needs: &[ExactResume, Durable],
        long: false,
        run: |hub| resume(hub, End::Stop),
    },
    Case {
        name: "resume-after-kill",
        about: "the same after kill -9",
        needs: &[ExactResume, Durable],
        long: false,
        run: |hub| resume(hub, End::Kill),
    },
    Case {
        name: "ids-are-not-used-again",
        about: "no event after a restart or a crash has an id that another event had before",
        needs: &[Durable],
        long: false,
        run: new_ids,
    },
];

const EVENTS: u64 = 50;

/// How a hub ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Stop,
    Kill,
}

/// Ends the hub, and starts it again.
fn restart(hub: &Hub, end: End) -> anyhow::Result<()> {
    match end {
        End::Stop => hub.stop()?,
        End::Kill => hub.kill()?,
    }
    hub.launch()
}

fn resume(hub: &Hub, end: End) -> Outcome {
    let topic = hub.topic();
    let ids = hub.seed_many(&topic, EVENTS, 60)?;
    restart(hub, end)?;
    let mut readers = Vec::new();
    for (n, id) in (1..).zip(&ids) {
        let mut reader = hub.reader(&[&topic], Start::After(id))?;
        reader.open()?;
        reader.expect(n + 1..=EVENTS)?;
        readers.push(reader);
    }
    hub.publisher().publish(&topic, EVENTS + 1, 60)?;
    for reader in &mut readers {
        reader.expect_one(EVENTS + 1)?;
    }
    Ok(String::new())
}

fn new_ids(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    let mut ids = hub.seed_many(&topic, 10, 60)?;
    for end in [End::Stop, End::Kill] {
        restart(hub, end)?;
        let old = ids.len() as u64;
        // A reader that can come later need not be there before.
        let has_earliest = hub.adapter.subscribe.earliest.is_some();
        let start = if has_earliest { Start::Earliest } else { Start::Next };
        let mut reader = hub.reader(&[&topic], start)?;
        if !has_earliest {
            reader.open()?;
        }
        let mut publisher = hub.publisher();
        (old + 1..=old + 10).try_for_each(|n| publisher.publish(&topic, n, 60))?;
        for item in reader.until(old + 10)? {
            let Item::Event { n, id, .. } = item else { continue };
            if n <= old {
                continue;
            }
            if let Some(before) = ids.iter().position(|known| *known == id) {
                return fail(format!("the id {id} was given to event {} and to event {n}", before + 1));
            }
            ids.push(id);
        }
    }
    Ok(String::new())
}
