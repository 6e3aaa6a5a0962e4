//! Readers that are slower than what they are given.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::adapter::Promise::ExactResume;
use crate::case::{Case, Outcome, Stop, fail};
use crate::hub::Hub;
use crate::publisher::publish_until;
use crate::reader::{Reader, Start};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "live-event-leaves-the-cursor",
        about: "a reader cut in the middle of its replay, while events are published, goes on where it was",
        needs: &[ExactResume],
        long: false,
        run: cut_while_published,
    },
    Case {
        name: "slow-reader-in-replay",
        about: "a reader that stalls in its replay loses nothing of what is published meanwhile",
        needs: &[ExactResume],
        long: false,
        run: stalls_in_replay,
    },
    Case {
        name: "slow-reader-delays-nobody",
        about: "publishers are answered, and other readers served, while a reader does not read",
        needs: &[],
        long: false,
        run: delays_nobody,
    },
];

/// Large enough that a hub's side of a connection does not take the history at once.
const EVENTS: u64 = 3_000;
const BYTES: usize = 4_096;

/// After so many events a reader is cut: at places where pages may end, and beside them.
const PIECES: [u64; 6] = [100, 1, 127, 128, 256, 300];

/// A topic with a history of some megabytes, and the id of its first event.
fn large_topic(hub: &Hub) -> Result<(String, String), Stop> {
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    hub.publisher().publish_range(&topic, 2..=EVENTS, BYTES)?;
    Ok((topic, first))
}

fn cut_while_published(hub: &Hub) -> Outcome {
    let (topic, first) = large_topic(hub)?;
    let (told, end) = (AtomicU64::new(EVENTS), AtomicBool::new(false));
    thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_until(hub, &topic, EVENTS + 1, 60, &told, &end));
        let read = read_in_pieces(hub, &topic, &first, &told);
        end.store(true, SeqCst);
        let published = publisher.join().unwrap_or_else(|_| fail("the publisher ended"));
        let connections = read?;
        Ok(format!("cut {} times while {} events were published", connections - 1, published? - EVENTS))
    })
}

/// Reads a replay in pieces, each on a connection of its own, and what was published by the end of it; gives the connections.
fn read_in_pieces(hub: &Hub, topic: &str, first: &str, told: &AtomicU64) -> Result<u32, Stop> {
    let mut reader = hub.reader(&[topic], Start::After(first))?.slow();
    let (mut next, mut pieces) = (2, PIECES.iter().cycle());
    while next < EVENTS {
        let piece = EVENTS.min(next + pieces.next().unwrap_or(&1) - 1);
        reader.expect(next..=piece)?;
        // Whatever the stream has said of ids by now is what a browser comes back with.
        reader.cut();
        next = piece + 1;
    }
    reader.expect(next..=told.load(SeqCst))?;
    Ok(reader.connections)
}

fn stalls_in_replay(hub: &Hub) -> Outcome {
    let (topic, first) = large_topic(hub)?;
    let mut reader = hub.reader(&[&topic], Start::After(&first))?.slow();
    reader.expect(2..=20)?;
    let last = EVENTS + 1_000;
    // It does not read while these are published.
    hub.publisher().publish_range(&topic, EVENTS + 1..=last, BYTES)?;
    thread::sleep(Duration::from_millis(500));
    reader.expect(21..=last)?;
    hub.publisher().publish(&topic, last + 1, 60)?;
    reader.expect_one(last + 1)?;
    Ok(match reader.connections {
        1 => String::new(),
        times => format!("the hub ended its stream {} times", times - 1),
    })
}

fn delays_nobody(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    let mut stalled: Vec<Reader> = Vec::new();
    for _ in 0..5 {
        let mut reader = hub.reader(&[&topic], Start::After(&first))?.slow();
        reader.open()?;
        stalled.push(reader);
    }
    let mut other = hub.reader(&[&topic], Start::After(&first))?;
    other.open()?;
    let mut publisher = hub.publisher();
    let mut slowest = Duration::ZERO;
    for n in 2..=EVENTS {
        let began = Instant::now();
        publisher.publish(&topic, n, BYTES)?;
        other.expect_one(n)?;
        slowest = slowest.max(began.elapsed());
    }
    Ok(format!("the slowest of {EVENTS} took {} ms", slowest.as_millis()))
}
