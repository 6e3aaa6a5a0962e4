//! What a durable append costs, from `EventLog::append` to the answer.
//!
//! `one by one` is a closed loop: so many publishers, tasks on one thread, each of which sends an event of 256 bytes and waits
//! for its answer. One alone pays for a barrier at each; the more there are, the more share one.
//!
//! `batch` is one publisher with batches of 1,000 such events. The barrier is a small part of that: what is left is
//! judging, encoding, checksums, the index and the memory of the newest events.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at what it did not expect")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use event_log::{Batch, Data, EventLog, NewEvent, SystemClock, Topic};
use event_log_sled::{SledLog, SledOptions};
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};

const BATCH_EVENTS: usize = 1_000;

fn event(number: usize) -> NewEvent {
    let topic = Topic::parse(format!("stock.{}", number % 100)).unwrap();
    NewEvent::new(topic, Data::from(bytestring::ByteString::from("x".repeat(256))))
}

async fn append(log: &SledLog, events: Vec<NewEvent>) {
    log.append(Batch::new(events)).await.unwrap();
}

/// How long it takes until so many events were appended one by one.
fn one_by_one(runtime: &Runtime, log: &SledLog, publishers: usize, events: u64) -> Duration {
    let start = Instant::now();
    let publisher = |first: usize| {
        let log = log.clone();
        async move {
            for number in (first..events as usize).step_by(publishers) {
                append(&log, vec![event(number)]).await;
            }
        }
    };
    let tasks = (0..publishers).map(|first| runtime.spawn(publisher(first)));
    runtime.block_on(join_all(tasks)).into_iter().for_each(|ended| ended.unwrap());
    start.elapsed()
}

fn benchmark(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let log = SledLog::open(SledOptions::new(directory.path()), Arc::new(SystemClock)).unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    for publishers in [1, 64, 256] {
        group.bench_function(BenchmarkId::new("one by one", publishers), |bencher| {
            bencher.iter_custom(|events| one_by_one(&runtime, &log, publishers, events));
        });
    }
    group.throughput(Throughput::Elements(BATCH_EVENTS as u64));
    group.bench_function("batch", |bencher| {
        bencher.iter(|| runtime.block_on(append(&log, (0..BATCH_EVENTS).map(event).collect())));
    });
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
