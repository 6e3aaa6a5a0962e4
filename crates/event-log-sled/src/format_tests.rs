//! The page of bytes in `migrations/` says what this crate writes, and a store of each earlier format opens.

use std::path::Path;
use std::sync::Arc;

use event_log::{
    Batch, Clock, Cursor, Data, Epoch, EpochStart, Epochs, Event, EventLog, Filter, IdempotencyKey,
    ManualClock, NewEvent, PageLimit, Position, Timestamp, Topic,
};
use futures_executor::block_on;
use uuid::Uuid;

use crate::blocks::Block;
use crate::chunk::ChunkWriter;
use crate::postings::{self, Posting};
use crate::record::tests::{full, hex};
use crate::rows::{self, Checkpoint, TopicRow};
use crate::segments::segment::Segment;
use crate::{SledLog, SledOptions, idempotency, keys, record};

fn migrations_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One row of every kind, by the name that the page gives it.
fn examples() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let (event, key) = full();
    let sealed = |name, key: &[u8], body: &[u8]| (name, key.to_vec(), rows::seal(key, body));
    let mut epochs = Epochs::first(Epoch::new(0x7f3a_9c1e));
    epochs.begin(Epoch::new(0x0000_00b2), Position::new(200));
    let checkpoint =
        Checkpoint { indexed_through: event.position, newest_time: event.time, events: 300, bytes: 65_536 };
    let topic = TopicRow {
        first: Some(Position::new(4)),
        events: 12,
        bytes: 4_096,
        compacted_through: Position::new(200),
        removed_through: Position::new(2),
        missing_through: Position::new(3),
        ..TopicRow::new(event.topic.clone(), event.position)
    };
    let block =
        Block { stored_events: 300, live_events: 298, dead: 2, stored_bytes: 65_600, live_bytes: 65_536 };
    let postings = [(4, 90), (5, 300), (300, 36)];
    let postings = postings.map(|(place, weight)| Posting { position: Position::new(place), weight });
    let (first, places) = postings::encode(&postings).remove(0);
    let key_hash = event.key.as_ref().map(keys::key_hash).unwrap();
    let newest = rows::NewestRow { position: event.position, weight: 36 };
    let (hash, entry) = idempotency::entry(&event, &key);
    let keys = [(&hash, event.position), (&[0xff; 16], Position::new(400))];
    let bucket = idempotency::Bucket::new(keys.into_iter()).unwrap();
    let segment = segment(&[(300, 33_000), (340, 6_990), (341, 10)], 400);
    vec![
        ("stamp", migrations::STAMP_KEY.to_vec(), migrations::KNOWN.to_be_bytes().to_vec()),
        sealed("epochs", &keys::EPOCHS, &rows::encode_epochs(&epochs)),
        sealed("checkpoint", &keys::CHECKPOINT, &checkpoint.encode()),
        sealed("starts", &keys::STARTS, &7u64.to_be_bytes()),
        sealed("segment", &keys::segment(segment.first), &segment.encode()),
        sealed("places", &keys::postings(2, first), &places),
        sealed("topic", &keys::topic(2), &topic.encode()),
        sealed("used keys", &keys::used(event.position), &rows::encode_used(&[(hash, entry)])),
        sealed("bucket", &keys::bucket(event.position, 0), &bucket.encode()[0]),
        sealed("removal", &keys::removal(&event.topic), &topic.removal().unwrap().encode()),
        sealed("dead places", &keys::dead(0), &rows::encode_dead(&[7, 300])),
        sealed("block", &keys::block(0), &rows::encode_block(&block)),
        sealed("newest of a key", &keys::newest(2, &key_hash), &newest.encode()),
        sealed("tombstone", &keys::tombstone(2, event.time, event.position), &key_hash),
    ]
}

/// A packed segment with chunks of these first places and lengths.
fn segment(chunks: &[(u64, u64)], through: u64) -> Segment {
    let segment = Segment { packed: true, ..Segment::new(Position::new(chunks[0].0), 2) };
    let mut extent = segment.extent.write();
    chunks.iter().for_each(|(first, bytes)| extent.add(Position::new(*first), *bytes));
    extent.through = Position::new(through);
    drop(extent);
    segment
}

#[test]
fn the_page_of_bytes_shows_a_row_of_every_kind() {
    let page = migrations_file("README.md");
    for (name, key, value) in examples() {
        let line = format!("{} {}", hex(&key), hex(&value));
        assert!(page.contains(line.trim_end()), "README.md of migrations lacks the row of {name}:\n{line}");
    }
    let mut bytes = Vec::new();
    let (event, key) = full();
    record::encode(&event, Some(&key), &mut bytes);
    assert!(page.contains(&hex(&bytes)), "README.md of migrations lacks the record:\n{}", hex(&bytes));
    let mut chunk = ChunkWriter::default();
    chunk.push(&event, Some(&key));
    let chunk = hex(&chunk.finish().bytes);
    assert!(page.contains(&chunk), "README.md of migrations lacks the chunk:\n{chunk}");
}

/// A store that holds what a dump says: lines of a key and a value in hexadecimal digits, or of a file and its bytes.
fn load(dump: &str, data: &Path) {
    std::fs::create_dir_all(data).unwrap();
    let db = raw(data);
    for line in dump.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        if key.starts_with("events/") {
            std::fs::create_dir_all(data.join("events")).unwrap();
            std::fs::write(data.join(key), unhex(value)).unwrap();
            continue;
        }
        db.insert(unhex(key), unhex(value)).unwrap();
    }
    db.flush().unwrap();
}

/// The store itself. sled's own threads may let go of a file that was closed a moment ago only now.
fn raw(data: &Path) -> sled::Db {
    let begun = std::time::Instant::now();
    loop {
        let config = sled::Config::new().path(data.join("sled")).segment_size(16 << 20);
        match config.flush_every_ms(None).open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{error}");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            opened => return opened.unwrap(),
        }
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Where the clock stood when the dump was written.
fn moment() -> Timestamp {
    Timestamp::from_micros(1_795_226_400_000_000)
}

/// What was published into the store of which a dump is kept.
fn published() -> Vec<NewEvent> {
    let full = full();
    let first = NewEvent {
        topic: full.0.topic,
        event_type: full.0.event_type,
        key: full.0.key,
        origin: full.0.origin,
        idempotency_key: Some(full.1),
        data: full.0.data,
    };
    let plain = |topic: &str, data: &str| {
        let data = Data::from(bytestring::ByteString::from(data));
        NewEvent::new(Topic::parse(topic.to_owned()).unwrap(), data)
    };
    let keyed = NewEvent {
        idempotency_key: Some(IdempotencyKey::parse("late").unwrap()),
        ..plain("b", "after the checkpoint")
    };
    vec![first, plain("é.日本", "\u{1F680}\r\n"), plain("b", ""), plain("b", "2"), keyed]
}

#[test]
fn a_store_of_each_version_opens_and_is_read_back_right() {
    for version in 1..=migrations::KNOWN {
        opens_and_reads_back_right(&format!("fixtures/v{version:04}.dump"));
    }
}

fn opens_and_reads_back_right(dump: &str) {
    let directory = tempfile::tempdir().unwrap();
    load(&migrations_file(dump), directory.path());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(moment()));
    let log = SledLog::open(SledOptions::new(directory.path()), clock).unwrap();

    let starts = [EpochStart { epoch: Epoch::new(0x7f3a_9c1e), after: Position::ORIGIN }];
    assert_eq!(log.bounds().epochs.starts(), starts);
    let limit = PageLimit { events: 100, bytes: 1 << 20 };
    let page = block_on(log.reader(Arc::new(Filter::everything())).read(Cursor::default(), limit)).unwrap();
    let expected = published().into_iter().zip(1u64..).map(|(event, number)| {
        Event::place(event, Position::new(number), moment(), Uuid::from_u128(u128::from(number)))
    });
    let read: Vec<Event> = page.events.iter().map(|event| Event::clone(event)).collect();
    assert_eq!(read, expected.collect::<Vec<_>>());
    log.verify().unwrap();

    for index in [0, 4] {
        let again = block_on(log.append(Batch::new(vec![published().remove(index)]))).unwrap().events[0];
        assert_eq!((again.position.get(), again.duplicate), (index as u64 + 1, true));
    }
    assert_eq!(log.topics(None).len(), 3);
}

/// A step's last act is one batch; what follows it, the making of the index, may be cut off anywhere.
#[test]
fn a_migration_that_was_killed_in_the_middle_goes_on_at_the_next_start() {
    for (version, left) in
        [1, 2].into_iter().flat_map(|version| [0, 1, 2, 5, 100].map(|left| (version, left)))
    {
        let directory = tempfile::tempdir().unwrap();
        load(&migrations_file(&format!("fixtures/v{version:04}.dump")), directory.path());
        let db = raw(directory.path());
        assert_eq!(migrations::run(&db, directory.path()).unwrap(), version);
        // Then the old projections go, kind by kind, and the new ones come: killed after so many rows.
        let projections = [keys::POSTINGS, keys::TOPIC, keys::BLOCK];
        let rows = projections.iter().flat_map(|kind| db.scan_prefix([*kind]).keys());
        let rows: Vec<_> = rows.take(left).collect::<Result<_, _>>().unwrap();
        rows.iter().for_each(|key| drop(db.remove(key).unwrap()));
        db.flush().unwrap();
        drop(db);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(moment()));
        let log = SledLog::open(SledOptions::new(directory.path()), clock).unwrap();
        assert_eq!((log.bounds().events, log.topics(None).len()), (5, 3), "after {left} rows");
        log.verify().unwrap();
        for index in [0, 4] {
            let again = block_on(log.append(Batch::new(vec![published().remove(index)]))).unwrap().events[0];
            assert!(again.duplicate, "the key of event {index} after {left} rows");
        }
    }
}

/// The dump is what this version writes: the same events make the same rows. A later format changes this test, not the
/// dump.
#[test]
fn the_dump_of_the_newest_version_is_what_is_written() {
    assert_eq!(migrations::KNOWN, 3);
    let dump = migrations_file("fixtures/v0003.dump");
    let rows: Vec<&str> = dump.lines().filter(|line| !line.starts_with('#')).collect();
    let written = dump_rows();
    assert_eq!(rows, written.iter().map(|line| line.trim_end()).collect::<Vec<_>>());
}

/// The rows of a store with these events, of which the last came after the checkpoint.
fn dump_rows() -> Vec<String> {
    let mut writes = std::collections::BTreeMap::new();
    let mut put = |key: &[u8], value: Vec<u8>| drop(writes.insert(key.to_vec(), value));
    put(&migrations::STAMP_KEY, migrations::KNOWN.to_be_bytes().to_vec());
    let epochs = Epochs::first(Epoch::new(0x7f3a_9c1e));
    put(&keys::EPOCHS, rows::seal(&keys::EPOCHS, &rows::encode_epochs(&epochs)));
    put(&keys::STARTS, rows::seal(&keys::STARTS, &1u64.to_be_bytes()));
    let mut catalog = crate::catalog::Catalog::default();
    let grown = Segment::new(Position::new(1), 0);
    let mut commits = [ChunkWriter::default(), ChunkWriter::default()];
    for (new, number) in published().into_iter().zip(1u64..) {
        let key = new.idempotency_key.clone();
        let event = Event::place(new, Position::new(number), moment(), Uuid::from_u128(u128::from(number)));
        let is_late = number == 5;
        commits[usize::from(is_late)].push(&event, key.as_ref());
        if is_late {
            continue;
        }
        catalog.add(&event.topic, event.position, event.time, event.weight());
        if let Some(key) = key {
            let (hash, row) = idempotency::entry(&event, &key);
            let place = keys::used(row.position);
            put(&place, rows::seal(&place, &rows::encode_used(&[(hash, row)])));
        }
    }
    let commits = commits.map(ChunkWriter::finish);
    grown.extent.write().extend(&commits[0]);
    put(&keys::segment(grown.first), rows::seal(&keys::segment(grown.first), &grown.encode()));
    let mut checkpoint = crate::store::Writes::default();
    catalog.put_checkpoint(&crate::removal::Changes::default(), &mut checkpoint);
    checkpoint.rows().for_each(|(key, value)| put(key, value.to_vec()));
    let file = format!("events/{:020}.0 {}", 1, hex(&[&commits[0].bytes[..], &commits[1].bytes].concat()));
    let rows = writes.iter().map(|(key, value)| format!("{} {}", hex(key), hex(value)));
    rows.chain([file]).collect()
}
