//! What it costs to read history from disk to pass it on: all of it, and one topic among many.
//!
//! `cargo bench -p event-log-sled`, on an idle machine. What is read lies in the page cache.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::sync::Arc;

use bytestring::ByteString;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event_log::{
    Batch, Cursor, Data, Encoder, EventLog, EventView, Filter, NewEvent, PageLimit, Pattern, Position,
    SystemClock, Topic, limits,
};
use event_log_sled::{SledLog, SledOptions};
use futures_executor::block_on;

const EVENTS: usize = 100_000;
/// Events of one commit.
const GROUP: usize = 64;
/// One event in so many is of the rare topic.
const RARE: usize = 100;
const LIMIT: PageLimit =
    PageLimit { events: limits::REPLAY_PAGE_EVENTS_MAX, bytes: limits::REPLAY_PAGE_BYTES_MAX };

fn new_event(number: usize) -> NewEvent {
    let topic =
        if number.is_multiple_of(RARE) { "rare".to_owned() } else { format!("many.t{}", number % 10) };
    let data = format!("{number:0256}");
    NewEvent::new(Topic::parse(topic).unwrap(), Data::from(ByteString::from(data)))
}

/// A log of which nothing is in memory.
fn log(directory: &std::path::Path) -> SledLog {
    let options = SledOptions { recent_bytes: 0, ..SledOptions::new(directory) };
    let log = SledLog::open(options, Arc::new(SystemClock)).unwrap();
    let numbers: Vec<usize> = (0..EVENTS).collect();
    for group in numbers.chunks(GROUP) {
        let events = group.iter().map(|number| new_event(*number)).collect();
        block_on(log.append(Batch::new(events))).unwrap();
    }
    log
}

/// Passes the data on as lines.
struct Lines;

impl Encoder for Lines {
    fn encode(&self, event: &EventView<'_>, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(event.data.as_bytes());
        bytes.push(b'\n');
    }
}

/// How many events a filter gets, page by page.
fn replay(log: &SledLog, filter: &Arc<Filter>) -> usize {
    let mut reader = log.reader(Arc::clone(filter));
    let mut cursor = Cursor::resumed(Position::ORIGIN);
    let mut events = 0;
    let encoder: Arc<dyn Encoder> = Arc::new(Lines);
    loop {
        let page = block_on(reader.replay(cursor, LIMIT, &encoder)).unwrap();
        events += page.events.len();
        cursor = page.next;
        if page.at_head {
            return events;
        }
    }
}

fn read(log: &SledLog, filter: &Arc<Filter>) -> usize {
    let mut reader = log.reader(Arc::clone(filter));
    let mut cursor = Cursor::resumed(Position::ORIGIN);
    let mut events = 0;
    loop {
        let page = block_on(reader.read(cursor, LIMIT)).unwrap();
        events += page.events.len();
        cursor = page.next;
        if page.at_head {
            return events;
        }
    }
}

fn history(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let log = log(directory.path());
    let everything = Arc::new(Filter::everything());
    let rare = Arc::new(Filter::new(vec![Pattern::parse("rare").unwrap()]));

    let mut group = criterion.benchmark_group("history");
    group.sample_size(20);
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("replay of all", |bench| {
        bench.iter(|| assert_eq!(replay(&log, &everything), EVENTS));
    });
    group.bench_function("read of all", |bench| {
        bench.iter(|| assert_eq!(read(&log, &everything), EVENTS));
    });
    group.throughput(Throughput::Elements((EVENTS / RARE) as u64));
    group.bench_function("replay of one topic in a hundred events", |bench| {
        bench.iter(|| assert_eq!(replay(&log, &rare), EVENTS / RARE));
    });
    group.finish();
}

criterion_group!(benches, history);
criterion_main!(benches);
