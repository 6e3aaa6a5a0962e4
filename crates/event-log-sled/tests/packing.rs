//! Giving bytes back: what is removed leaves the disk, file by file, and nobody who reads can tell.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use event_log::contract::{WINDOW, clock, event, filter, read_from, remove_all, trim};
use event_log::memory::MemoryLog;
use event_log::{
    Batch, Clock, Cursor, Event, EventLog, EventType, Filter, Keep, Key, ManualClock, NewEvent, PageLimit,
    Position, Removal, Topic,
};
use event_log_sled::{SledLog, SledOptions};
use futures_executor::block_on;

mod common;

use common::copy_log;

/// Small, so that there are many files of events.
const SEGMENT_BYTES: u64 = 32 * 1_024;
const LIMIT: PageLimit = PageLimit { events: 500, bytes: 1 << 20 };
/// How long to wait for what happens in the background.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

struct Pair {
    numbers: Numbers,
    clock: Arc<ManualClock>,
    directory: tempfile::TempDir,
    options: SledOptions,
    engine: SledLog,
    model: MemoryLog,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let (clock, directory) = (clock(), tempfile::tempdir().unwrap());
        let options = SledOptions {
            idempotency_window: WINDOW,
            free_disk_bytes_min: 0,
            segment_bytes: SEGMENT_BYTES,
            key_bucket_entries: 8,
            checkpoint_events: 300,
            recent_bytes: 0,
            ..SledOptions::new(directory.path().join("0"))
        };
        let engine = SledLog::open(options.clone(), Arc::<ManualClock>::clone(&clock)).unwrap();
        let model = MemoryLog::new(Arc::<ManualClock>::clone(&clock), WINDOW);
        Pair { numbers: Numbers(seed), clock, directory, options, engine, model }
    }

    fn append(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let batch = 1 + self.numbers.below(left.min(200));
            left -= batch;
            let events: Vec<NewEvent> = (0..batch).map(|_| self.event()).collect();
            block_on(self.engine.append(Batch::new(events.clone()))).unwrap();
            block_on(self.model.append(Batch::new(events))).unwrap();
        }
        self.clock.advance(Duration::from_secs(1));
    }

    fn event(&mut self) -> NewEvent {
        let topic =
            ["states", "log", "rare.a", "rare.b"][(self.numbers.below(40).saturating_sub(36)) as usize];
        let topic = if self.numbers.below(2) == 0 { "states" } else { topic };
        let size = if self.numbers.below(400) == 0 { 50_000 } else { self.numbers.below(60) };
        let text = "é".repeat(size as usize);
        let key = (topic == "states" && self.numbers.below(10) > 0)
            .then(|| Key::parse(format!("k{}", self.numbers.below(700))).unwrap());
        let is_tombstone = key.is_some() && self.numbers.below(12) == 0;
        NewEvent { key, event_type: is_tombstone.then(EventType::delete), ..event(topic, &text) }
    }

    fn remove(&mut self) {
        let topic = ["states", "log", "rare.a", "log"][self.numbers.below(4) as usize];
        let removal = match self.numbers.below(3) {
            0 => trim(topic, Keep { events: Some(self.numbers.below(6_000)), ..Keep::default() }),
            1 => trim(topic, Keep { bytes: Some(self.numbers.below(200_000)), ..Keep::default() }),
            _ => Removal::Superseded {
                topic: Topic::parse("states").unwrap(),
                tombstones_before: self.clock.now().saturating_sub(Duration::from_secs(4)),
            },
        };
        let engine = remove_all(&self.engine, std::slice::from_ref(&removal));
        let model = remove_all(&self.model, std::slice::from_ref(&removal));
        assert_eq!((engine.events, engine.bytes), (model.events, model.bytes), "{removal:?}");
    }

    fn compare(&self) {
        for wanted in [Filter::everything(), filter(&["rare.*"]), filter(&["states"])] {
            let all = |log: &dyn EventLog| {
                let (events, gaps) = read_from(log, wanted.clone(), Cursor::default(), LIMIT);
                (contents(&events), gaps.len())
            };
            assert_eq!(all(&self.engine), all(&self.model));
        }
        let (engine, model) = (self.engine.bounds(), self.model.bounds());
        assert_eq!((engine.events, engine.bytes), (model.events, model.bytes));
    }

    /// Goes on with what a process that is killed now leaves behind.
    fn crash(&mut self, number: usize) {
        let data = self.directory.path().join(number.to_string());
        copy_log(&self.options.directory, &data);
        block_on(self.engine.close());
        self.options.directory = data;
        check_totals(&self.options.directory);
        self.engine = SledLog::open(self.options.clone(), Arc::<ManualClock>::clone(&self.clock)).unwrap();
        self.model = self.model.reopened();
    }
}

/// What was written down fits together, or else the next start would make it all anew.
fn check_totals(data: &Path) {
    let begun = Instant::now();
    let db = loop {
        let config = sled::Config::new().path(data.join("sled")).segment_size(1 << 20).flush_every_ms(None);
        match config.open() {
            Ok(db) => break db,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    if data.join("rebuild-index").exists() {
        return;
    }
    let Some(checkpoint) = db.get([0u8, 2]).unwrap() else { return };
    // Behind the header of five bytes: place, time, events, bytes; and of a block: stored, live, dead, both weights.
    let blocks = db.scan_prefix([8u8]).values().map(Result::unwrap);
    let live: (u64, u64) =
        blocks.fold((0, 0), |sum, block| (sum.0 + number(&block[9..13]), sum.1 + number(&block[25..33])));
    assert_eq!(live, (number(&checkpoint[21..29]), number(&checkpoint[29..37])));
}

fn contents(events: &[Arc<Event>]) -> Vec<Event> {
    let content = |event: &Arc<Event>| Event {
        position: Position::ORIGIN,
        uuid: Default::default(),
        ..Event::clone(event)
    };
    events.iter().map(content).collect()
}

/// Waits until at most half of all records are those of removed events, but for those in the newest file.
fn wait_until_packed(log: &SledLog) {
    let begun = Instant::now();
    loop {
        let verified = log.verify().unwrap();
        if verified.records <= 2 * verified.events + 1_024 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{verified:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn records_of_removed_events_leave_the_disk_and_nobody_can_tell() {
    for seed in [1, 2] {
        let mut pair = Pair::new(seed);
        for round in 0..16 {
            pair.append(2_500);
            pair.remove();
            pair.remove();
            match round % 4 {
                1 => pair.crash(round + 1),
                3 => wait_until_packed(&pair.engine),
                _ => {}
            }
            pair.compare();
            pair.engine.verify().unwrap();
        }
        wait_until_packed(&pair.engine);
        pair.compare();
        // What is left can be made anew from the events and from what was removed alone.
        block_on(pair.engine.close());
        std::fs::write(pair.options.directory.join("rebuild-index"), b"").unwrap();
        pair.crash(100);
        pair.compare();
        pair.engine.verify().unwrap();
        block_on(pair.engine.close());
    }
}

#[test]
fn a_log_that_lost_all_its_events_keeps_its_head_when_the_index_is_made_anew() {
    let mut pair = Pair::new(7);
    pair.append(5_000);
    let head = pair.engine.bounds().head;
    for topic in ["states", "log", "rare.a", "rare.b"] {
        remove_all(&pair.engine, &[trim(topic, Keep { events: Some(0), ..Keep::default() })]);
        remove_all(&pair.model, &[trim(topic, Keep { events: Some(0), ..Keep::default() })]);
    }
    wait_until_packed(&pair.engine);
    block_on(pair.engine.close());
    for (number, rebuild) in [(1, false), (2, true)] {
        if rebuild {
            std::fs::write(pair.options.directory.join("rebuild-index"), b"").unwrap();
        }
        pair.crash(number);
        assert_eq!(pair.engine.bounds().head, head);
        assert_eq!(pair.engine.bounds().events, 0);
        pair.compare();
        assert_eq!(pair.engine.topics(None).len(), pair.model.topics(None).len());
        block_on(pair.engine.close());
    }
}

#[test]
fn readers_beside_the_packing_get_every_event_once() {
    let mut pair = Pair::new(3);
    pair.append(12_000);
    let is_done = AtomicBool::new(false);
    let (engine, is_done) = (&pair.engine.clone(), &is_done);
    std::thread::scope(|scope| {
        for wanted in [filter(&["states"]), filter(&["rare.*"]), Filter::everything()] {
            scope.spawn(move || {
                while !is_done.load(Ordering::SeqCst) {
                    let mut reader = engine.reader(Arc::new(wanted.clone()));
                    let (mut cursor, mut before) = (Cursor::default(), Position::ORIGIN);
                    loop {
                        let page = block_on(reader.read(cursor, LIMIT)).unwrap();
                        for event in &page.events {
                            assert!(event.position > before && event.position > cursor.position);
                            before = event.position;
                        }
                        cursor = page.next;
                        if page.at_head {
                            break;
                        }
                    }
                }
            });
        }
        for _ in 0..8 {
            pair.remove();
            pair.append(500);
        }
        wait_until_packed(&pair.engine);
        is_done.store(true, Ordering::SeqCst);
    });
    pair.compare();
}
