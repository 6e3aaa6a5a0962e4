//! A stream on which nothing happens for minutes.

use std::thread;

use crate::adapter::Promise::ExactResume;
use crate::case::{Case, Outcome};
use crate::hub::Hub;
use crate::reader::Start;

pub(super) const CASES: &[Case] = &[Case {
    name: "idle-minutes",
    about: "a reader that got nothing for minutes gets what happens then, and nothing that happened in between is lost",
    needs: &[ExactResume],
    long: true,
    run: idle,
}];

fn idle(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    let mut reader = hub.reader(&[&topic], Start::After(&first))?;
    reader.open()?;
    // Others publish all the time, to other topics.
    let other = hub.topic();
    let ends = std::time::Instant::now() + hub.idle;
    let mut publisher = hub.publisher();
    let mut n = 0;
    while std::time::Instant::now() < ends {
        n += 1;
        publisher.publish(&other, n, 60)?;
        thread::sleep(std::time::Duration::from_millis(500));
    }
    publisher.publish(&topic, 2, 60)?;
    reader.expect_one(2)?;
    let silence = reader.silence().unwrap_or_default();
    Ok(format!(
        "idle for {} s, {} connections; the longest time without a byte was {} s",
        hub.idle.as_secs(),
        reader.connections,
        silence.as_secs()
    ))
}
