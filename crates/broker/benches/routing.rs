//! What it costs to bring an event to those who follow it: published, read by the feeder, matched, remembered, and a
//! follower woken.
//!
//! The cost must follow the patterns that match, not all that are asked for. So each case is measured beside thousands of
//! patterns that do not match, and the first two should cost the same.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at what it did not expect")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Events, OnGap, Options, Start, Step, Subscription};
use bytestring::ByteString;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event_log::contract::Verbatim;
use event_log::memory::MemoryLog;
use event_log::{Batch, Data, Filter, NewEvent, Pattern, SystemClock, Topic};
use futures_executor::block_on;

/// Events that are published at once.
const BATCH_EVENTS: usize = 1_000;
/// Batches after which a broker on a log of its own begins anew: the log is in memory, and only grows.
const BATCHES_MAX: u64 = 16;

/// A broker and all who follow, one of whom is looked at.
struct Followed {
    broker: Broker,
    follower: Subscription,
    /// They follow as long as they are held.
    _others: Vec<Subscription>,
}

impl Followed {
    fn new(followed: &str, others: &[String]) -> Self {
        let clock = Arc::new(SystemClock);
        let log = MemoryLog::new(clock.clone(), Duration::ZERO);
        let broker = Broker::start(Arc::new(log), clock, Options::default()).unwrap();
        let follower = subscribe(&broker, followed);
        let others = others.iter().map(|pattern| subscribe(&broker, pattern)).collect();
        Followed { broker, follower, _others: others }
    }

    /// How long it takes from the start of a batch until the follower has all of it.
    fn publish(&mut self, topic: &Topic) -> Duration {
        let event = || NewEvent::new(topic.clone(), Data::from(ByteString::from_static("1")));
        let events = (0..BATCH_EVENTS).map(|_| event()).collect();
        let start = Instant::now();
        block_on(self.broker.publish(Batch::new(events))).unwrap();
        let mut missing = BATCH_EVENTS;
        while missing > 0 {
            if let Step::Events(events) = block_on(self.follower.next()).unwrap() {
                missing -= match events {
                    Events::Recent(events) => events.len(),
                    Events::Replayed(events) => events.len(),
                };
            }
        }
        start.elapsed()
    }
}

fn subscribe(broker: &Broker, pattern: &str) -> Subscription {
    let filter = Arc::new(Filter::new(vec![Pattern::parse(pattern).unwrap()]));
    let opened = block_on(broker.open(&filter, &Start::Latest, OnGap::Latest)).unwrap();
    broker.subscribe(filter, &opened, Arc::new(Verbatim))
}

fn benchmark(criterion: &mut Criterion) {
    let exact = |count: usize| -> Vec<String> { (0..count).map(|n| format!("a.b{n}.d")).collect() };
    let with_wildcards = |pattern: &str| -> Vec<String> {
        let wildcards = std::iter::repeat_n(pattern.to_owned(), 1_000);
        exact(10_000).into_iter().chain(wildcards).collect()
    };
    let cases = [
        ("its own pattern alone", vec![]),
        ("its own pattern among 10,000 others", exact(10_000)),
        ("1,000 who follow a.*.c, among 10,000 others", with_wildcards("a.*.c")),
        ("1,000 who follow a.**, among 10,000 others", with_wildcards("a.**")),
    ];
    let topic = Topic::parse("a.b.c").unwrap();
    let mut group = criterion.benchmark_group("routing");
    group.throughput(Throughput::Elements(BATCH_EVENTS as u64));
    for (name, others) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|batches| {
                let mut elapsed = Duration::ZERO;
                let mut left = batches;
                while left > 0 {
                    let now = left.min(BATCHES_MAX);
                    let mut followed = Followed::new("a.b.c", &others);
                    elapsed += (0..now).map(|_| followed.publish(&topic)).sum::<Duration>();
                    left -= now;
                }
                elapsed
            });
        });
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
