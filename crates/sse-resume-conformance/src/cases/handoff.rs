//! Readers that come while events are published: what lies between their replay and their live stream.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::adapter::Promise::ExactResume;
use crate::case::{Case, Outcome, Stop, fail};
use crate::hub::Hub;
use crate::publisher::publish_until;
use crate::reader::{Judge, Start};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "handoff-loses-nothing",
        about: "an event published while a reader goes from its replay to the live stream comes",
        needs: &[ExactResume],
        long: false,
        run: |hub| come_and_go(hub, Judge::Losses),
    },
    Case {
        name: "handoff-repeats-nothing",
        about: "an event published while a reader goes from its replay to the live stream comes once, and in its place",
        needs: &[ExactResume],
        long: false,
        run: |hub| come_and_go(hub, Judge::Repeats),
    },
];

/// How long readers come and go.
const DURATION: Duration = Duration::from_millis(1500);
/// A reader that has got so many events past the head at its coming has left its replay behind.
const PAST_HEAD: u64 = 20;
/// How far behind the head the readers come back, in turn.
const BEHIND: [u64; 6] = [0, 1, 3, 30, 150, 1200];

/// One publisher without a pause, and readers that come back from different distances, each a moment after the other.
fn come_and_go(hub: &Hub, judge: Judge) -> Outcome {
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    let (told, end) = (AtomicU64::new(1), AtomicBool::new(false));
    thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_until(hub, &topic, 2, 60, &told, &end));
        let read = readers(hub, &topic, &first, &told, judge);
        end.store(true, SeqCst);
        let published = publisher.join().unwrap_or_else(|_| fail("the publisher ended"));
        let readers = read?;
        Ok(format!("{readers} readers came while {} events were published", published?))
    })
}

fn readers(hub: &Hub, topic: &str, first: &str, told: &AtomicU64, judge: Judge) -> Result<usize, Stop> {
    // The places that readers have got to, from the oldest: those who come take one of them as theirs.
    let mut places = vec![(1, first.to_owned())];
    let ends = Instant::now() + DURATION;
    let mut readers = 0;
    while Instant::now() < ends || readers < BEHIND.len() {
        let wanted = told.load(SeqCst).saturating_sub(BEHIND[readers % BEHIND.len()]);
        let (n, id) = places.iter().rev().find(|(n, _)| *n <= wanted).unwrap_or(&places[0]).clone();
        let mut reader = hub.reader(&[topic], Start::After(&id))?;
        reader.open()?;
        let last = told.load(SeqCst) + PAST_HEAD;
        reader.expect_as(n + 1..=last, judge)?;
        places.push((last, reader.id().to_owned()));
        readers += 1;
    }
    Ok(readers)
}
