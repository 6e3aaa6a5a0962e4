//! Readers and publishers at the same time, on a log that makes a checkpoint every few events.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::sync::Arc;

use event_log::contract::{clock, event, filter};
use event_log::{Batch, Cursor, EventLog, Filter, PageLimit, Seek};
use event_log_sled::{SledLog, SledOptions};
use futures_executor::block_on;

const PUBLISHERS: usize = 4;
const BATCHES: usize = 150;

fn open(directory: &tempfile::TempDir, recent_bytes: usize) -> SledLog {
    let options = SledOptions {
        free_disk_bytes_min: 0,
        checkpoint_events: 7,
        recent_bytes,
        ..SledOptions::new(directory.path())
    };
    SledLog::open(options, clock()).unwrap()
}

/// Each batch has nineteen events of a topic of its publisher, and one of the rare topic.
fn publish(log: &SledLog, publisher: usize) {
    for n in 0..BATCHES {
        let mut events: Vec<_> =
            (0..19).map(|m| event(&format!("p{publisher}"), &(n * 19 + m).to_string())).collect();
        events.push(event("rare", &format!("{publisher}.{n}")));
        block_on(log.append(Batch::new(events))).unwrap();
    }
}

/// Follows the log until it has so many events, and returns their texts.
fn follow(log: &SledLog, wanted: Filter, count: usize) -> Vec<String> {
    let mut reader = log.reader(Arc::new(wanted.clone()));
    let mut tail = log.tail();
    let (mut texts, mut cursor) = (Vec::new(), Cursor::default());
    while texts.len() < count {
        let page = block_on(reader.read(cursor, PageLimit { events: 13, bytes: 500 })).unwrap();
        for event in &page.events {
            assert!(event.position > cursor.position && wanted.wants(event));
            cursor.position = event.position;
        }
        texts.extend(page.events.iter().map(|event| event.data.as_str().to_owned()));
        assert!(page.next.position >= cursor.position && !page.gap);
        cursor = page.next;
        if page.at_head && texts.len() < count {
            block_on(tail.wait_past(cursor.position)).unwrap();
        }
    }
    texts
}

fn readers_see_every_event_once(recent_bytes: usize) {
    let directory = tempfile::tempdir().unwrap();
    let log = open(&directory, recent_bytes);
    let log = &log;
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || publish(log, publisher));
            scope.spawn(move || {
                let texts = follow(log, filter(&[&format!("p{publisher}")]), BATCHES * 19);
                let expected: Vec<String> = (0..BATCHES * 19).map(|n| n.to_string()).collect();
                assert_eq!(texts, expected);
            });
        }
        for _ in 0..2 {
            scope.spawn(move || {
                let mut texts = follow(log, filter(&["rare"]), PUBLISHERS * BATCHES);
                texts.sort();
                texts.dedup();
                assert_eq!(texts.len(), PUBLISHERS * BATCHES);
            });
        }
        scope.spawn(move || {
            // Seeks backwards meet the index and the memory in every state between two checkpoints.
            let mut reader = log.reader(Arc::new(filter(&["rare"])));
            let total = (PUBLISHERS * BATCHES * 20) as u64;
            while log.bounds().events < total {
                let before = (log.bounds().events / 20) as usize;
                let place = block_on(reader.seek(Seek::Last(5))).unwrap();
                let page = block_on(reader.read(place, PageLimit { events: 100, bytes: 1 << 20 })).unwrap();
                assert!(page.events.len() >= before.min(5), "{} of {before}", page.events.len());
            }
        });
    });
    let verified = log.verify().unwrap();
    assert_eq!(verified.events, (PUBLISHERS * BATCHES * 20) as u64);
    block_on(log.close());
}

#[test]
fn readers_see_every_event_once_while_checkpoints_are_made() {
    readers_see_every_event_once(0);
}

#[test]
fn readers_see_every_event_once_at_the_edge_of_what_is_in_memory() {
    readers_see_every_event_once(20_000);
}
