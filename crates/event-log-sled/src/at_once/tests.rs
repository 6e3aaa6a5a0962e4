//! When a page is read by whoever asks, and when by a thread that may wait.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use event_log::contract::{clock, event};
use event_log::{Batch, Cursor, EventLog, Filter, LogReader, Page, PageLimit, Position, ReadError};
use futures_executor::block_on;
use futures_util::FutureExt;
use rustix::fs::{Advice, fadvise};

use crate::pool::gate::Gate;
use crate::{SledLog, SledOptions};

const EVENTS: usize = 4_000;
const LIMIT: PageLimit = PageLimit { events: 100, bytes: usize::MAX };

/// A log of which nothing is in its own memory.
fn log(directory: &Path) -> SledLog {
    let options = SledOptions { free_disk_bytes_min: 0, recent_bytes: 0, ..SledOptions::new(directory) };
    let log = SledLog::open(options, clock()).unwrap();
    let events: Vec<_> = (0..EVENTS).map(|number| event("a", &format!("{number:0200}"))).collect();
    for events in events.chunks(500) {
        block_on(log.append(Batch::new(events.to_vec()))).unwrap();
    }
    log
}

/// A page that is read without a wait.
fn at_once(reader: &mut dyn LogReader, after: Cursor) -> Option<Page> {
    reader.read(after, LIMIT).now_or_never().map(Result::unwrap)
}

/// Notes the numbers of a page's events, and goes on behind them.
fn take(seen: &mut Vec<usize>, page: &Page) -> Cursor {
    seen.extend(page.events.iter().map(|event| event.data.as_str().parse::<usize>().unwrap()));
    page.next
}

/// Makes the system forget what it has of the files of events in memory. All of it is on the disk.
fn forget(directory: &Path) {
    for file in std::fs::read_dir(directory.join("events")).unwrap() {
        let file = File::open(file.unwrap().path()).unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}

#[test]
fn who_gets_full_pages_is_answered_at_once_as_long_as_nothing_has_to_be_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(directory.path());
    let mut reader = log.reader(Arc::new(Filter::everything()));
    let mut cursor = Cursor::resumed(Position::ORIGIN);
    let mut seen = Vec::new();

    let gate = Gate::close(&log);
    assert!(at_once(&mut *reader, cursor).is_none(), "nothing is known of a new reader");
    drop(gate);
    cursor = take(&mut seen, &block_on(reader.read(cursor, LIMIT)).unwrap());

    let gate = Gate::close(&log);
    for _ in 0..20 {
        let page = at_once(&mut *reader, cursor).expect("what lies in memory needs no thread");
        cursor = take(&mut seen, &page);
    }
    let packing = log.inner.shared.nobody_reads();
    assert!(at_once(&mut *reader, cursor).is_none(), "segments are being replaced");
    drop(packing);
    forget(directory.path());
    assert!(at_once(&mut *reader, cursor).is_none(), "the disk has to be waited for");
    drop(gate);
    while seen.len() < EVENTS {
        cursor = take(&mut seen, &block_on(reader.read(cursor, LIMIT)).unwrap());
    }
    assert_eq!(seen, (0..EVENTS).collect::<Vec<_>>());
}

#[test]
fn damage_that_is_found_at_once_fails_the_log_and_a_wait_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(directory.path());
    let mut reader = log.reader(Arc::new(Filter::everything()));
    let mut cursor = block_on(reader.read(Cursor::resumed(Position::ORIGIN), LIMIT)).unwrap().next;
    let _gate = Gate::close(&log);
    cursor = at_once(&mut *reader, cursor).expect("a page").next;
    assert!(log.inner.shared.is_open().is_ok());

    for file in std::fs::read_dir(directory.path().join("events")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().skip(1_000).for_each(|byte| *byte ^= 1);
        std::fs::write(&path, bytes).unwrap();
    }
    let told = loop {
        match reader.read(cursor, LIMIT).now_or_never().expect("it lies in memory") {
            Ok(page) => cursor = page.next,
            Err(error) => break error,
        }
    };
    assert!(matches!(told, ReadError::Damaged(_)), "{told}");
    assert!(log.inner.shared.is_open().is_err(), "the log goes on");
}
