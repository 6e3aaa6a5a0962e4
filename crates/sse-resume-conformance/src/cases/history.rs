//! Histories that are longer than what hubs are known to cut at.

use crate::adapter::Promise::ExactResume;
use crate::case::{Case, Outcome, not_applicable};
use crate::hub::Hub;
use crate::reader::Start;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "history-1000",
        about: "a reader gets 1,001 events that it missed",
        needs: &[ExactResume],
        long: false,
        run: |hub| replay(hub, 1_001),
    },
    Case {
        name: "history-10000",
        about: "a reader gets 10,001 events that it missed",
        needs: &[ExactResume],
        long: false,
        run: |hub| replay(hub, 10_001),
    },
    Case {
        name: "history-1000000",
        about: "a reader gets 1,000,001 events that it missed",
        needs: &[ExactResume],
        long: true,
        run: |hub| replay(hub, 1_000_001),
    },
];

/// A reader missed so many events, gets them, and then what happens next.
fn replay(hub: &Hub, missed: u64) -> Outcome {
    if let Some(max) = hub.adapter.history_max.filter(|max| missed > *max) {
        return not_applicable(format!("the adapter leaves out histories of more than {max} events"));
    }
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    hub.publisher().publish_range(&topic, 2..=missed + 1, 60)?;
    let mut reader = hub.reader(&[&topic], Start::After(&first))?;
    reader.expect(2..=missed + 1)?;
    hub.publisher().publish(&topic, missed + 2, 60)?;
    reader.expect_one(missed + 2)?;
    Ok(match reader.connections {
        1 => String::new(),
        times => format!("over {times} connections, since the hub ended them"),
    })
}
