//! A stream on which nothing happens for minutes.

use std::time::{Duration, Instant};

use crate::adapter::Promise::ExactResume;
use crate::case::{Case, Outcome, fail};
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
    let (other, ends) = (hub.topic(), Instant::now() + hub.idle);
    let mut publisher = hub.publisher();
    for n in 1.. {
        publisher.publish(&other, n, 60)?;
        // It reads all the while, so that a heartbeat is noticed when it comes.
        let item = reader.next_by(ends.min(Instant::now() + Duration::from_millis(500)))?;
        if let Some(item) = item {
            return fail(format!("nothing was published to its topic, and {item:?} came"));
        }
        if Instant::now() >= ends {
            break;
        }
    }
    let silence = reader.silence();
    publisher.publish(&topic, 2, 60)?;
    reader.expect_one(2)?;
    let connections = reader.connections;
    let seconds = hub.idle.as_secs();
    let silence = silence.map_or("its connection had ended".to_owned(), |silence| {
        format!("the longest time without a byte was {} s", silence.as_secs())
    });
    Ok(format!("idle for {seconds} s, {connections} connections; {silence}"))
}
