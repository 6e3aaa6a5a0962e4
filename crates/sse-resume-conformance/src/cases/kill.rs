//! kill -9 while events are published and while they are read.
//!
//! What the system had not written to the disk yet survives this: for a power cut, a hub's system calls must be watched.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::adapter::Promise::{Durable, ExactResume};
use crate::case::{Case, Outcome, Stop, fail};
use crate::hub::Hub;
use crate::reader::{Item, Start, shown};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "kill-during-publish",
        about: "what was acknowledged before kill -9 is there after it, once and in order",
        needs: &[ExactResume, Durable],
        long: false,
        run: during_publish,
    },
    Case {
        name: "kill-during-replay",
        about: "a reader whose replay is cut by kill -9 goes on where it was",
        needs: &[ExactResume, Durable],
        long: false,
        run: during_replay,
    },
    Case {
        name: "visible-is-not-lost",
        about: "what a reader has seen before kill -9 is there after it, under the same id",
        needs: &[ExactResume, Durable],
        long: false,
        run: visible,
    },
];

const ROUNDS: u64 = 3;
const PUBLISHERS: usize = 4;

/// A topic that was published to until the hub was killed.
struct Ledger {
    topic: String,
    first: String,
    /// The last event that was acknowledged; the next may be there or not.
    told: u64,
    /// Whether the next was there when it was first looked at.
    has_next: bool,
}

fn during_publish(hub: &Hub) -> Outcome {
    let mut ledgers = Vec::new();
    for _ in 0..ROUNDS {
        let mut new = publish_and_kill(hub)?;
        hub.launch()?;
        for ledger in &mut new {
            judge(hub, ledger)?;
        }
        ledgers.extend(new);
    }
    // What was there after one crash is there after the next.
    for ledger in &ledgers {
        let last = ledger.told + u64::from(ledger.has_next);
        hub.reader(&[&ledger.topic], Start::After(&ledger.first))?.expect(2..=last)?;
    }
    let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.told).sum();
    Ok(format!("{acknowledged} acknowledged events over {ROUNDS} kills"))
}

/// Publishers that go on, each in a topic of its own, until the hub is killed some moments after all have begun.
fn publish_and_kill(hub: &Hub) -> Result<Vec<Ledger>, Stop> {
    let topics: Vec<String> = (0..PUBLISHERS).map(|_| hub.topic()).collect();
    let firsts = topics.iter().map(|topic| hub.seed(topic)).collect::<Result<Vec<_>, _>>()?;
    let told: Vec<AtomicU64> = topics.iter().map(|_| AtomicU64::new(1)).collect();
    thread::scope(|scope| {
        for (topic, told) in topics.iter().zip(&told) {
            scope.spawn(move || publish_until_refused(hub, topic, told));
        }
        let deadline = Instant::now() + hub.adapter.patience();
        while told.iter().any(|told| told.load(SeqCst) < 20) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(rand::random_range(1..40)));
        hub.kill()
    })?;
    let ledger = |((topic, first), told): ((String, String), AtomicU64)| Ledger {
        topic,
        first,
        told: told.into_inner(),
        has_next: false,
    };
    Ok(topics.into_iter().zip(firsts).zip(told).map(ledger).collect())
}

fn publish_until_refused(hub: &Hub, topic: &str, told: &AtomicU64) {
    let mut publisher = hub.publisher();
    for n in 2.. {
        if publisher.publish(topic, n, 200).is_err() {
            return;
        }
        told.store(n, SeqCst);
    }
}

/// Looks at a topic after the crash: all that was acknowledged is there, and nothing behind it but the event that was under way.
fn judge(hub: &Hub, ledger: &mut Ledger) -> Result<(), Stop> {
    let mut reader = hub.reader(&[&ledger.topic], Start::After(&ledger.first))?;
    reader.expect(2..=ledger.told)?;
    // The end is marked by an event.
    let mark = ledger.told + 1_000_000;
    hub.publisher().publish(&ledger.topic, mark, 200)?;
    let rest = reader.until(mark)?;
    ledger.has_next = match numbers(&rest)[..] {
        [_] => false,
        [next, _] if next == ledger.told + 1 => true,
        _ => return fail(format!("after {} came {}", ledger.told, shown(&rest))),
    };
    Ok(())
}

fn numbers(items: &[Item]) -> Vec<u64> {
    let number = |item: &Item| if let Item::Event { n, .. } = item { *n } else { 0 };
    items.iter().map(number).collect()
}

fn during_replay(hub: &Hub) -> Outcome {
    const EVENTS: u64 = 3_000;
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    hub.publisher().publish_range(&topic, 2..=EVENTS, 4_096)?;
    let mut reader = hub.reader(&[&topic], Start::After(&first))?.slow();
    let mut next = 2;
    for _ in 0..ROUNDS {
        reader.expect(next..=next + 300)?;
        hub.kill()?;
        hub.launch()?;
        next += 301;
    }
    reader.expect(next..=EVENTS)?;
    hub.publisher().publish(&topic, EVENTS + 1, 60)?;
    reader.expect_one(EVENTS + 1)?;
    Ok(format!("{ROUNDS} kills"))
}

fn visible(hub: &Hub) -> Outcome {
    let mut seen_in_all = 0;
    for _ in 0..ROUNDS {
        let topic = hub.topic();
        let first = hub.seed(&topic)?;
        let told = AtomicU64::new(1);
        let seen = thread::scope(|scope| {
            scope.spawn(|| publish_until_refused(hub, &topic, &told));
            let reader = scope.spawn(|| see_until_killed(hub, &topic, &first));
            thread::sleep(Duration::from_millis(rand::random_range(100..300)));
            hub.kill()?;
            reader.join().unwrap_or_else(|_| fail("the reader ended"))
        })?;
        hub.launch()?;
        let mut again = hub.reader(&[&topic], Start::After(&first))?;
        for (n, id) in (2..).zip(&seen) {
            let now = again.expect_one(n);
            match now {
                Ok(now) if now == *id => {}
                Ok(now) => {
                    return fail(format!("{n} was seen with the id {id}, and has {now} after the crash"));
                }
                Err(Stop::Failed(why)) => {
                    let last = seen.len() + 1;
                    return fail(format!("2..={last} were seen before the crash; after it: {why}"));
                }
                Err(other) => return Err(other),
            }
        }
        seen_in_all += seen.len();
    }
    Ok(format!("{seen_in_all} events seen before {ROUNDS} kills"))
}

/// The ids of the events that a live reader sees until its connection breaks.
fn see_until_killed(hub: &Hub, topic: &str, first: &str) -> Result<Vec<String>, Stop> {
    let mut reader = hub.reader(&[topic], Start::After(first))?;
    reader.open()?;
    let mut ids = Vec::new();
    while let Some(id) = reader.id_until_broken(ids.len() as u64 + 2)? {
        ids.push(id);
    }
    Ok(ids)
}
