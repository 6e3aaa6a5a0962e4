//! Damage: whatever becomes of any byte of a store, the log is refused with a message that names the place, or it is what it was.
//!
//! Three stores with all kinds of content are made: one that was stopped, one that was killed, and one whose segments were packed. Each of their files is flipped,
//! zeroed and cut in places all over it, removed and doubled, one thing at a time; the copy is opened, and read in all ways.
//! Allowed are an error, which says where to look, and exactly what was there before. Nothing may panic, hang, or be silently
//! other or missing. One thing is promised less: of a log that was killed, the end of the newest file behind the last
//! checkpoint cannot be told from a commit that was torn by the crash, so from the damaged place on it may be left out.
//!
//! Every run takes other places, spread over all files, within seconds. With `CORRUPTION=exhaustive` a bit of every byte of every
//! file of events, of the witness and of sled's small files is flipped, every fourth is a place to cut at, every 32nd is zeroed in
//! all ways, and so is a place in every 512 bytes of sled's large one (which has not been run to its end yet). `CORRUPTION_SEED` repeats
//! a run.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use event_log::contract::{WINDOW, clock, event, filter, keyed, remove_all, trim};
use event_log::{
    Appended, Batch, Bounds, Cursor, Event, EventLog, EventType, Keep, Key, ManualClock, NewEvent, PageLimit,
    Position, ReadError, Removal, Timestamp, Topic, TopicStats,
};
use event_log_sled::{SledLog, SledOptions};
use futures_executor::block_on;

mod common;

use common::copy_log;

/// A log that takes longer for anything hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const LIMIT: PageLimit = PageLimit { events: 20, bytes: 4_096 };
const RETRIES: [&str; 3] = ["first", "middle", "last"];

/// All files of a directory, by their paths in it.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What a log says when it is read in all ways.
#[derive(Debug, Clone, PartialEq)]
struct Ledger {
    events: Vec<Arc<Event>>,
    of_topics: Vec<(Vec<Arc<Event>>, Vec<Position>)>,
    topics: Vec<TopicStats>,
    bounds: Bounds,
    retries: Vec<Result<Appended, String>>,
}

/// A store on disk, and what it says.
struct Store {
    files: Files,
    ledger: Ledger,
    /// The newest file of events, where its last checkpoint ends, and the places of the ends of commits behind that.
    newest: PathBuf,
    checkpoint: Option<(usize, Vec<(usize, Position)>)>,
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Zero(usize, usize),
    Cut(usize),
    Remove,
    Double(PathBuf),
}

fn options(directory: &Path) -> SledOptions {
    SledOptions {
        idempotency_window: WINDOW,
        free_disk_bytes_min: 0,
        checkpoint_events: usize::MAX,
        key_bucket_entries: 8,
        segment_bytes: 6_000,
        recent_bytes: 0,
        cache_bytes: 1 << 20,
        pack: false,
        ..SledOptions::new(directory)
    }
}

fn open(directory: &Path, clock: &Arc<ManualClock>) -> SledLog {
    SledLog::open(options(directory), Arc::<ManualClock>::clone(clock)).unwrap()
}

fn append(log: &SledLog, events: Vec<NewEvent>) -> Vec<Appended> {
    block_on(log.append(Batch::new(events))).unwrap().events
}

fn state(n: usize) -> NewEvent {
    let key = Some(Key::parse(format!("k{}", n % 7)).unwrap());
    let event_type = (n % 20 == 19).then(EventType::delete);
    NewEvent { key, event_type, ..event("states", &format!("state {n}")) }
}

fn fill(log: &SledLog, rounds: std::ops::Range<usize>) {
    for n in rounds {
        let logged = keyed(event("log", &format!("{n}{}", "-".repeat(n % 90))), &format!("key {n}"));
        append(log, vec![state(n), logged, event(["a.b", "a.c", "rare"][n % 29 % 3], &n.to_string())]);
    }
}

/// Makes a store with everything in it, removals and compaction too, and keeps what a stop leaves of it.
fn stopped(directory: &Path, clock: &Arc<ManualClock>) -> SledLog {
    let log = open(directory, clock);
    append(&log, vec![keyed(event("once", "once"), RETRIES[0])]);
    fill(&log, 0..60);
    append(&log, vec![event("large", &"\u{e9}".repeat(4_000))]);
    remove_all(&log, &[trim("log", Keep { events: Some(20), ..Keep::default() })]);
    block_on(log.close());
    drop(log);
    let log = open(directory, clock);
    append(&log, vec![keyed(event("once", "once"), RETRIES[1])]);
    fill(&log, 60..90);
    let topic = Topic::parse("states").unwrap();
    remove_all(&log, &[Removal::Superseded { topic, tombstones_before: Timestamp::default() }]);
    remove_all(&log, &[trim("a.b", Keep { events: Some(0), ..Keep::default() })]);
    append(&log, vec![keyed(event("once", "once"), RETRIES[2])]);
    log
}

/// Makes a store most of whose first block of 1,024 places is removed, and given back to the system.
fn packed(directory: &Path, clock: &Arc<ManualClock>) -> SledLog {
    let log = open(directory, clock);
    append(&log, vec![keyed(event("once", "once"), RETRIES[0])]);
    fill(&log, 0..10);
    for n in 0..26 {
        let topic = |m: usize| if m.is_multiple_of(25) { "kept" } else { "bulk" };
        append(&log, (0..50).map(|m| event(topic(m), &format!("{n} {m}"))).collect());
    }
    append(&log, vec![keyed(event("once", "once"), RETRIES[1])]);
    fill(&log, 10..20);
    let topic = Topic::parse("states").unwrap();
    remove_all(&log, &[Removal::Superseded { topic, tombstones_before: Timestamp::default() }]);
    remove_all(&log, &[trim("bulk", Keep { events: Some(30), ..Keep::default() })]);
    while log.give_back().unwrap() {}
    append(&log, vec![keyed(event("once", "once"), RETRIES[2])]);
    log
}

fn read(log: &SledLog, patterns: &[&str]) -> Result<(Vec<Arc<Event>>, Vec<Position>), ReadError> {
    let mut reader = log.reader(Arc::new(filter(patterns)));
    let (mut events, mut gaps) = (Vec::new(), Vec::new());
    let mut cursor = Cursor::resumed(Position::ORIGIN);
    loop {
        let page = block_on(reader.read(cursor, LIMIT))?;
        if page.gap {
            gaps.push(page.next.position);
        }
        cursor = page.next;
        events.extend(page.events);
        if page.at_head {
            return Ok((events, gaps));
        }
    }
}

fn ledger(log: &SledLog) -> Result<Ledger, String> {
    let text = |error: ReadError| error.to_string();
    // A copy of a file takes room, and that is all that shows.
    let bounds = Bounds { bytes_on_disk: 0, ..log.bounds() };
    let (events, _) = read(log, &["**"]).map_err(text)?;
    let topics = log.topics(None);
    let names = topics.iter().map(|stats| stats.topic.as_str());
    let of_topics = names.map(|name| read(log, &[name])).collect::<Result<_, _>>().map_err(text)?;
    log.verify().map_err(text)?;
    // Last, because one that is not known any more would be published.
    let retry = |key: &&str| match block_on(log.append(Batch::new(vec![keyed(event("once", "once"), key)]))) {
        Ok(receipt) => Ok(receipt.events[0]),
        Err(error) => Err(error.to_string()),
    };
    let retries: Vec<_> = RETRIES.iter().map(retry).collect();
    if let Some(Err(error)) = retries.iter().find(|retry| retry.is_err()) {
        return Err(error.clone());
    }
    Ok(Ledger { events, of_topics, topics, bounds, retries })
}

fn files(directory: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let bytes = std::fs::read(&path).unwrap();
                    files.insert(path.strip_prefix(directory).unwrap().to_owned(), bytes);
                }
            }
        }
    }
    files
}

fn write(files: &Files, directory: &Path) {
    for folder in ["events", "sled/blobs"] {
        std::fs::create_dir_all(directory.join(folder)).unwrap();
    }
    for (path, bytes) in files {
        std::fs::write(directory.join(path), bytes).unwrap();
    }
}

fn newest(files: &Files) -> PathBuf {
    files.keys().rfind(|path| path.starts_with("events")).unwrap().clone()
}

/// Where the chunks of a file of events end.
fn ends_of_chunks(bytes: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 0);
    while bytes.get(at) == Some(&1) {
        at += 24 + u32::from_be_bytes(*bytes[at + 16..].first_chunk().unwrap()) as usize;
        ends.push(at);
    }
    ends
}

/// A store as a stop leaves it, and as a kill a little later does; and one that was packed.
fn stores(place: &Path, clock: &Arc<ManualClock>) -> [Store; 3] {
    let directory = place.join("original");
    let log = stopped(&directory, clock);
    block_on(log.close());
    drop(log);
    let closed = files(&directory);
    let log = open(&directory, clock);
    let ledger_when_stopped = ledger(&log).unwrap();
    let newest_when_stopped = newest(&closed);
    let begin = closed[&newest_when_stopped].len();
    for n in 90..93 {
        fill(&log, n..n + 1);
    }
    copy_log(&directory, &place.join("killed"));
    let killed = files(&place.join("killed"));
    assert_eq!(newest(&killed), newest_when_stopped, "the newest file goes on");
    let all = read(&log, &["**"]).unwrap().0;
    let ends = ends_of_chunks(&killed[&newest_when_stopped]);
    let behind: Vec<usize> = ends.into_iter().filter(|end| *end > begin).collect();
    // Each of the last commits had three events and is one chunk.
    assert_eq!(behind.len(), 3, "{behind:?}");
    let commits =
        behind.into_iter().zip([6, 3, 0]).map(|(end, later)| (end, all[all.len() - 1 - later].position));
    let checkpoint = Some((begin, commits.collect()));
    block_on(log.close());
    let ledger_when_killed = ledger(&open_files(&killed, &place.join("again"), clock)).unwrap();
    assert_eq!(ledger_when_killed.events, all);
    [
        Store {
            files: closed,
            ledger: ledger_when_stopped,
            newest: newest_when_stopped.clone(),
            checkpoint: None,
        },
        Store { files: killed, ledger: ledger_when_killed, newest: newest_when_stopped, checkpoint },
        packed_store(place, clock),
    ]
}

fn packed_store(place: &Path, clock: &Arc<ManualClock>) -> Store {
    let directory = place.join("packed");
    let log = packed(&directory, clock);
    block_on(log.close());
    drop(log);
    let files = files(&directory);
    let is_packed = |path: &&PathBuf| path.starts_with("events") && path.extension().unwrap() != "0";
    assert!(files.keys().any(|path| is_packed(&path)), "nothing was packed: {:?}", files.keys());
    let ledger = ledger(&open_files(&files, &place.join("of packed"), clock)).unwrap();
    let newest = newest(&files);
    Store { files, ledger, newest, checkpoint: None }
}

fn open_files(files: &Files, directory: &Path, clock: &Arc<ManualClock>) -> SledLog {
    write(files, directory);
    open(directory, clock)
}

impl Store {
    fn damaged(&self, path: &Path, damage: &Damage) -> Files {
        let mut files = self.files.clone();
        let bytes = files.get_mut(path).unwrap();
        match damage {
            Damage::Flip(at, bits) => bytes[*at] ^= bits,
            Damage::Zero(at, count) => {
                let end = (at + count).min(bytes.len());
                bytes[*at..end].fill(0);
            }
            Damage::Cut(at) => bytes.truncate(*at),
            Damage::Remove => drop(files.remove(path)),
            Damage::Double(name) => {
                let copy = bytes.clone();
                files.insert(name.clone(), copy);
            }
        }
        files
    }

    /// How far the log must go in any case, if the end may be left out.
    fn must_reach(&self, path: &Path, damage: &Damage) -> Option<Position> {
        let (begin, commits) = self.checkpoint.as_ref().filter(|_| path == self.newest)?;
        let at = match damage {
            Damage::Flip(at, _) | Damage::Zero(at, _) | Damage::Cut(at) => *at,
            Damage::Remove | Damage::Double(_) => return None,
        };
        let whole = commits.iter().rev().find(|(end, _)| *end <= at).map(|(_, place)| *place);
        let before = self.ledger.events.iter().rev().nth(9).unwrap().position;
        (at >= *begin).then_some(whole.unwrap_or(before))
    }

    /// What a damaged store must say; what is wrong with what it says is returned.
    fn judge(&self, path: &Path, damage: &Damage, said: &Result<Ledger, String>) -> Result<bool, String> {
        match said {
            Err(what) => {
                let place = ["events", "witness", "store", "index", "engine", "epochs", "archive", "sled"];
                match place.iter().any(|place| what.contains(place)) {
                    true => Ok(false),
                    false => Err(format!("it names no place: {what}")),
                }
            }
            Ok(said) if *said == self.ledger => Ok(true),
            Ok(said) => {
                let Some(reach) = self.must_reach(path, damage) else {
                    return Err(difference(said, &self.ledger));
                };
                let kept = said.events.len().min(self.ledger.events.len());
                let is_prefix =
                    said.events[..kept] == self.ledger.events[..kept] && said.bounds.head >= reach;
                if is_prefix { Ok(true) } else { Err(difference(said, &self.ledger)) }
            }
        }
    }

    fn damages(&self, path: &Path, numbers: &mut Numbers, is_exhaustive: bool) -> Vec<Damage> {
        let length = self.files[path].len();
        let is_large = path.ends_with("sled/db");
        let is_lock = path.ends_with("LOCK");
        let mut damages = vec![Damage::Remove];
        if path.starts_with("events") {
            let name = path.to_str().unwrap();
            // One more of another generation: what was packed, and what packing left.
            let other = if path.extension().unwrap() == "0" { "1" } else { "0" };
            damages.push(Damage::Double(Path::new(name).with_extension(other)));
            damages.push(Damage::Double("events/00000000000000000005.0".into()));
            damages.push(Damage::Double("events/00000000000000999999.0".into()));
        } else {
            damages.push(Damage::Double(format!("{}.copy", path.display()).into()));
        }
        let places: Vec<usize> = match (is_exhaustive, is_large) {
            (true, false) => (0..length).collect(),
            (true, true) => {
                (0..length).step_by(512).map(|at| at + numbers.below(512).min(length - at - 1)).collect()
            }
            (false, _) if is_lock => (0..length.min(1)).collect(),
            (false, _) => {
                let count = if is_large { 40 } else { 9 };
                let mut places: Vec<usize> = (0..count).map(|_| numbers.below(length.max(1))).collect();
                // Heads of files, headers of chunks, and ends.
                places.extend([0, 1, 3, 8, 17, 21, 30, length.saturating_sub(1), length.saturating_sub(40)]);
                places.retain(|at| *at < length);
                places
            }
        };
        for (number, at) in places.into_iter().enumerate() {
            let all = [
                Damage::Flip(at, 1 << numbers.below(8)),
                Damage::Cut(at),
                Damage::Flip(at, 0xff),
                Damage::Zero(at, 8),
                Damage::Zero(at, 512),
                Damage::Zero(at, 1),
            ];
            match (is_exhaustive, is_large) {
                (true, true) => damages.push(all[number % 6].clone()),
                (true, false) => {
                    let count = match number {
                        _ if number.is_multiple_of(32) => 6,
                        _ if number.is_multiple_of(4) => 2,
                        _ => 1,
                    };
                    damages.extend(all.into_iter().take(count));
                }
                (false, _) => damages.extend([all[number % 6].clone(), all[(number + 3) % 6].clone()]),
            }
        }
        damages
    }
}

fn difference(said: &Ledger, expected: &Ledger) -> String {
    let events = (said.events.len(), expected.events.len());
    let heads = (said.bounds.head, expected.bounds.head);
    let same = (
        said.events == expected.events,
        said.of_topics == expected.of_topics,
        said.topics == expected.topics,
    );
    let retries = said.retries == expected.retries;
    format!("events, head, (same events, by topic, topics), retries: {events:?} {heads:?} {same:?} {retries}")
}

/// Numbers that look random, and are the same for a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// What a store says once it was opened; and the same again, if it was opened before and closed.
fn say(directory: &Path, clock: Arc<ManualClock>) -> Result<Ledger, String> {
    let said = || {
        let log = SledLog::open(options(directory), Arc::<ManualClock>::clone(&clock));
        let log = log.map_err(|error| error.to_string())?;
        let said = ledger(&log);
        block_on(log.close());
        said
    };
    let first = said()?;
    let second = said()?;
    match first == second {
        true => Ok(first),
        // A retry that was not known any more was published, and that shows.
        false => Ok(second),
    }
}

/// Runs all damages of all stores on several threads, and returns what went wrong.
#[expect(clippy::print_stdout, reason = "a run that fails is repeated with what it printed")]
fn run(
    place: &Path,
    stores: &[Store; 3],
    clock: &Arc<ManualClock>,
    cases: Vec<(usize, PathBuf, Damage)>,
) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (next, wrong, cases, counts) = (&next, &wrong, &cases, &counts);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some((store, path, damage)) = cases.get(number) else { return };
                    let (kind, store) = (["stopped", "killed", "packed"][*store], &stores[*store]);
                    let directory = place.join(format!("case-{thread}-{number}"));
                    write(&store.damaged(path, damage), &directory);
                    let (sender, receiver) = mpsc::channel();
                    let (clock, opened) = (Arc::clone(clock), directory.clone());
                    std::thread::spawn(move || {
                        let said = catch_unwind(AssertUnwindSafe(|| say(&opened, clock)));
                        sender.send(said.map_err(|_| "it panicked".to_owned())).ok();
                    });
                    let judged = match receiver.recv_timeout(PATIENCE) {
                        Ok(Ok(said)) => store.judge(path, damage, &said),
                        Ok(Err(panicked)) => Err(panicked),
                        Err(_) => Err("it hangs".to_owned()),
                    };
                    match judged {
                        Ok(is_served) => drop(counts[usize::from(is_served)].fetch_add(1, Ordering::SeqCst)),
                        Err(what) => {
                            let what = format!("{kind} {} {damage:?}: {what}", path.display());
                            wrong.lock().unwrap().push(what);
                        }
                    }
                    std::fs::remove_dir_all(&directory).ok();
                }
            });
        }
    });
    let [refused, served] = counts.map(AtomicUsize::into_inner);
    println!("{refused} refused, {served} served as they were, {} cases", cases.len());
    assert!(refused > cases.len() / 10, "damage is met");
    wrong.into_inner().unwrap()
}

#[test]
fn a_damaged_store_is_refused_with_the_place_or_serves_what_was_there() {
    let is_exhaustive = std::env::var("CORRUPTION").is_ok_and(|mode| mode == "exhaustive");
    let seed = std::env::var("CORRUPTION_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |seed| seed.parse().unwrap());
    println!("CORRUPTION_SEED={seed}");
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let place = memory.unwrap();
    let clock = clock();
    let stores = stores(place.path(), &clock);
    let mut numbers = Numbers(seed);
    let mut cases = Vec::new();
    for (number, store) in stores.iter().enumerate() {
        for path in store.files.keys() {
            let damages = store.damages(path, &mut numbers, is_exhaustive);
            cases.extend(damages.into_iter().map(|damage| (number, path.clone(), damage)));
        }
    }
    let wrong = run(place.path(), &stores, &clock, cases);
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}
