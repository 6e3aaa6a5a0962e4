//! Seeks through more than one job may walk past.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use event_log::contract::{WINDOW, clock, event, filter, read_all};
use event_log::memory::MemoryLog;
use event_log::{
    Batch, Cursor, EventLog, EventType, Filter, LogReader, ManualClock, NewEvent, Page, PageLimit,
};
use futures_executor::block_on;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::*;
use crate::pool::gate::Gate;
use crate::{SledLog, SledOptions};

/// More topics than a reader remembers, so that a pattern for all of them is read through all chunks.
const MANY_TOPICS: usize = 4_100;
/// Batches, each with one large event of a rare topic among small ones.
const BATCHES: usize = 100;
const LARGE_BYTES: usize = 100_000;

struct Pair {
    engine: SledLog,
    model: MemoryLog,
    _directory: tempfile::TempDir,
}

fn typed(name: &str) -> Vec<EventType> {
    vec![EventType::parse(name.to_owned()).unwrap()]
}

fn batches() -> Vec<Vec<NewEvent>> {
    let large = "x".repeat(LARGE_BYTES);
    let mut batches: Vec<Vec<NewEvent>> = (0..BATCHES)
        .map(|n| {
            let mut events: Vec<_> = (0..16).map(|_| event("bulk", "small")).collect();
            let event_type = (n % 7 == 3).then(|| typed("seldom").remove(0));
            events.push(NewEvent { event_type, ..event("rare", &large) });
            events
        })
        .collect();
    batches.push((0..MANY_TOPICS).map(|n| event(&format!("many.{n}"), "small")).collect());
    batches
}

impl Pair {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SledOptions {
            free_disk_bytes_min: 0,
            recent_bytes: 0,
            // The oldest places are in rows of the index, the newest in memory.
            checkpoint_events: 1_000,
            ..SledOptions::new(directory.path())
        };
        let engine = SledLog::open(options, clock()).unwrap();
        let model = MemoryLog::new(Arc::<ManualClock>::clone(&clock()), WINDOW);
        for events in batches() {
            block_on(engine.append(Batch::new(events.clone()))).unwrap();
            block_on(model.append(Batch::new(events))).unwrap();
        }
        Pair { engine, model, _directory: directory }
    }

    /// The places of all events, in the engine and in the model.
    fn places(&self) -> (Vec<Position>, Vec<Position>) {
        let limit = PageLimit { events: 1_000, bytes: 1 << 30 };
        let places = |log: &dyn EventLog| {
            let events = read_all(log, Filter::everything(), Position::ORIGIN, limit);
            events.iter().map(|event| event.position).collect()
        };
        (places(&self.engine), places(&self.model))
    }
}

/// The answer of a seek, and the jobs that it took.
fn seek_in_jobs(log: &SledLog, wanted: &Filter, to: Seek) -> (Position, usize) {
    let shared = &log.inner.shared;
    let store = shared.store().unwrap();
    let read = Read { shared, store: &store, filter: wanted };
    let mut resolved = Resolved::default();
    let mut search = Search::new(to, shared.view().catalog.head);
    for jobs in 1.. {
        match read.seek(&mut resolved, search).unwrap() {
            Sought::Found(place) => return (place, jobs),
            Sought::GoOn(rest) => search = rest,
        }
    }
    unreachable!("a seek ends")
}

#[test]
fn a_seek_through_a_long_log_takes_several_jobs_and_finds_what_the_model_finds() {
    let pair = Pair::new();
    let (engine_places, model_places) = pair.places();
    let along_index = || filter(&["rare"]);
    let through_chunks = || filter(&["**"]);
    // Which filter, how many events from the end, and whether that is far for one job.
    let cases = [
        (along_index(), 2, false),
        (along_index(), u64::MAX, false),
        (along_index().with_types(typed("seldom")), 1, false),
        (along_index().with_types(typed("seldom")), 7, true),
        (along_index().with_types(typed("seldom")), 14, true),
        (along_index().with_types(typed("seldom")), u64::MAX, true),
        (along_index().with_types(typed("nosuch")), 1, true),
        (through_chunks(), 3, false),
        (through_chunks(), u64::MAX, true),
        (through_chunks().with_types(typed("seldom")), 1, false),
        (through_chunks().with_types(typed("seldom")), 13, true),
        (through_chunks().with_types(typed("nosuch")), 1, true),
    ];
    let order = |places: &[Position], place: Position| places.partition_point(|other| *other <= place);
    let check = |wanted: &Filter, on_engine: Seek, on_model: Seek, is_far: bool| {
        let (found, jobs) = seek_in_jobs(&pair.engine, wanted, on_engine);
        let expected = block_on(pair.model.reader(Arc::new(wanted.clone())).seek(on_model)).unwrap().position;
        assert_eq!(order(&engine_places, found), order(&model_places, expected), "{wanted:?} {on_engine:?}");
        assert_eq!(jobs > 1, is_far, "{jobs} jobs for {wanted:?} {on_engine:?}");
        let whole = block_on(pair.engine.reader(Arc::new(wanted.clone())).seek(on_engine)).unwrap();
        assert_eq!(whole.position, found);
    };
    for (wanted, count, is_far) in cases {
        check(&wanted, Seek::Last(count), Seek::Last(count), is_far);
    }
    for (patterns, event, is_far) in [("many.*", 0, true), ("many.*", 1_650, false), ("rare", 1_600, false)] {
        let wanted = filter(&[patterns]);
        let after = |places: &[Position]| Seek::FirstOfTopicsAfter(places[event]);
        check(&wanted, after(&engine_places), after(&model_places), is_far);
    }
}

#[test]
fn a_seek_looks_at_the_log_as_it_was_when_it_began() {
    let pair = Pair::new();
    let log = &pair.engine;
    for patterns in ["rare", "**"] {
        let wanted = filter(&[patterns]).with_types(typed("seldom"));
        let (expected, _) = seek_in_jobs(log, &wanted, Seek::Last(10));
        let shared = &log.inner.shared;
        let store = shared.store().unwrap();
        let read = Read { shared, store: &store, filter: &wanted };
        let mut resolved = Resolved::default();
        let mut search = Search::new(Seek::Last(10), shared.view().catalog.head);
        let found = loop {
            let event_type = Some(typed("seldom").remove(0));
            let newer = NewEvent { event_type, ..event("rare", "newer than the seek") };
            block_on(log.append(Batch::new(vec![newer]))).unwrap();
            match read.seek(&mut resolved, search).unwrap() {
                Sought::Found(place) => break place,
                Sought::GoOn(rest) => search = rest,
            }
        };
        assert_eq!(found, expected, "{patterns}");
    }
}

#[derive(Debug)]
enum Done {
    Sought(Result<Cursor, ReadError>),
    Read(Result<Page, ReadError>),
}

fn seeking<'a>(reader: &'a mut Box<dyn LogReader>) -> BoxFuture<'a, Done> {
    reader.seek(Seek::Last(u64::MAX)).map(Done::Sought).boxed()
}

fn reading<'a>(reader: &'a mut Box<dyn LogReader>) -> BoxFuture<'a, Done> {
    reader.read(Cursor::default(), PageLimit { events: 1, bytes: 1 }).map(Done::Read).boxed()
}

#[test]
fn a_page_does_not_wait_for_the_long_seeks_that_were_asked_for_before_it() {
    let Pair { engine: log, _directory, .. } = Pair::new();
    let nothing = || Arc::new(filter(&["**"]).with_types(typed("nosuch")));
    let mut seekers: Vec<_> = (0..12).map(|_| log.reader(nothing())).collect();
    let mut reader = log.reader(Arc::new(Filter::everything()));
    // With one thread, jobs are done in the order of the queue.
    let mut gate = Gate::close(&log);
    let mut waiting: FuturesUnordered<_> = seekers.iter_mut().map(seeking).collect();
    waiting.push(reading(&mut reader));
    assert!(waiting.poll_next_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    gate.let_one_go();
    let done: Vec<Done> = block_on(waiting.collect());
    assert!(matches!(&done[0], Done::Read(Ok(page)) if page.events.len() == 1), "{:?}", done[0]);
    let head = log.bounds().head;
    assert!(done[1..].iter().all(|done| matches!(done, Done::Sought(Ok(found)) if found.position == head)));
    assert_eq!(done.len(), 13);
}

#[test]
fn a_log_that_closes_refuses_the_reads_that_wait() {
    let Pair { engine: log, _directory, .. } = Pair::new();
    let mut readers: Vec<_> = (0..8).map(|_| log.reader(Arc::new(filter(&["**"])))).collect();
    let (seekers, pagers) = readers.split_at_mut(4);
    let gate = Gate::close(&log);
    let mut waiting: Vec<BoxFuture<'_, Done>> =
        seekers.iter_mut().map(seeking).chain(pagers.iter_mut().map(reading)).collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.iter_mut().all(|read| Pin::new(read).poll(&mut context).is_pending()));
    let closed = log.close();
    while log.inner.shared.takes_reads() {
        std::thread::yield_now();
    }
    drop(gate);
    for read in waiting {
        let done = block_on(read);
        assert!(
            matches!(done, Done::Sought(Err(ReadError::Closed)) | Done::Read(Err(ReadError::Closed))),
            "{done:?}"
        );
    }
    block_on(closed);
    assert!(log.inner.shared.is_open().is_ok(), "to refuse a read is no failure of the log");
}

/// Before a commit is shown, its chunk can be read already and its topic is not yet in the view.
#[test]
fn a_seek_by_time_does_not_look_at_a_commit_that_is_not_shown_yet() {
    let Pair { engine: log, _directory, .. } = Pair::new();
    let head = log.bounds().head;
    let (template, _) = crate::record::tests::full();
    let topic = event_log::Topic::parse("not.shown.yet").unwrap();
    let hidden = event_log::Event { position: Position::new(head.get() + 1), topic, ..template };
    let mut chunks = crate::chunk::ChunkWriter::default();
    chunks.push(&hidden, None);
    log.inner.shared.store().unwrap().append(&chunks.finish()).unwrap();
    let mut reader = log.reader(Arc::new(Filter::everything()));
    for to in [Seek::Time(Timestamp::from_micros(u64::MAX)), Seek::FirstOfTopicsAfter(head)] {
        assert_eq!(block_on(reader.seek(to)).unwrap().position, head, "{to:?}");
    }
    assert!(log.inner.shared.is_open().is_ok());
}
