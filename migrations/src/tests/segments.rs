//! The step to version 3, which moves the events to files.

use std::collections::BTreeMap;
use std::fs;

use super::*;

pub(super) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The example of the page: the row of a chunk of version 2, and the file that it becomes.
const OLD_KEY: &str = "01000000000000012c0000";
const OLD_VALUE: &str = "010000010000000100000054e46d081e0185b6f68f0000004b0022fb2c01fd40eadeb7bf6006000198f3a17c407abc8def01\
    23456789ab0a050302031073746f636b732e69626d747261646549424d6d656b2d317b227072696365223a203138322e337d";
const FILE: &str = "0102000000000001000000000000012c00000054f70a679b0185b6f68f0000004b0022fb2c01fd40eadeb7bf6006000198f3a17c407abc8def0123\
    456789ab0a050302031073746f636b732e69626d747261646549424d6d656b2d317b227072696365223a203138322e337d";

pub(super) fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn page_or_fixture(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn old_key(first: u64, part: u16) -> Vec<u8> {
    [&[1][..], &first.to_be_bytes(), &part.to_be_bytes()].concat()
}

/// Puts a row of a chunk, as version 2 has it.
fn put_part(db: &sled::Db, first: u64, (part, parts): (u16, u16), flags: u8, body: &[u8]) {
    let key = old_key(first, part);
    let records = u32::from(part == 0);
    let mut value = vec![1, flags];
    value.extend(parts.to_be_bytes());
    value.extend(records.to_be_bytes());
    value.extend((body.len() as u32).to_be_bytes());
    let checksum = crc32fast::hash(&[&key[..], &value, body].concat());
    value.extend(checksum.to_be_bytes());
    value.extend(body);
    db.insert(key, value).unwrap();
}

pub(super) fn put_chunk(db: &sled::Db, first: u64, body: &[u8]) {
    put_part(db, first, (0, 1), 0, body);
}

/// A store of version 2 with some rows beside those of events.
pub(super) fn store_of_version_2() -> (tempfile::TempDir, sled::Db) {
    let (directory, db) = store();
    db.insert(STAMP_KEY, &2u32.to_be_bytes()).unwrap();
    db.insert([0, 1], b"epochs").unwrap();
    db.insert([0, 2], b"checkpoint").unwrap();
    db.insert([2, 0], b"places").unwrap();
    (directory, db)
}

pub(super) fn rows(db: &sled::Db) -> Rows {
    db.iter().map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

/// What the step leaves of a store's rows, and makes of its keys.
pub(super) fn left_of(mut rows: Rows) -> Rows {
    rows.extend(keys::used(&rows));
    rows.retain(|key, _| ![1, 4, 5].contains(&key[0]) && key[..] != [0, 2]);
    rows.insert(STAMP_KEY.to_vec(), 3u32.to_be_bytes().to_vec());
    rows
}

/// The segments of a data directory by name.
fn files(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(data.join("events")).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// A chunk of a segment: its first place, flags, records and body.
type Chunk = (u64, u8, u32, Vec<u8>);

fn parse(mut file: &[u8]) -> Vec<Chunk> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let mut chunks = Vec::new();
    while !file.is_empty() {
        let (header, rest) = file.split_at(24);
        let (body, rest) = rest.split_at(number(&header[16..20]) as usize);
        assert_eq!((header[0], number(&header[2..4])), (1, 0), "version, and which chunk of its commit");
        assert_eq!(
            number(&header[20..]),
            u64::from(crc32fast::hash(&[&header[..20], body].concat())),
            "checksum"
        );
        chunks.push((number(&header[8..16]), header[1], number(&header[4..8]) as u32, body.to_vec()));
        file = rest;
    }
    chunks
}

/// The chunks of all segments. Each segment must have the name that its first chunk asks for.
fn chunks(data: &Path) -> Vec<Chunk> {
    let files = files(data).into_iter().map(|(name, bytes)| {
        let chunks = parse(&bytes);
        assert_eq!(name, format!("{:020}.0", chunks[0].0));
        chunks
    });
    files.flatten().collect()
}

#[test]
fn a_chunk_becomes_these_bytes() {
    let (directory, db) = store_of_version_2();
    db.insert(unhex(OLD_KEY), unhex(OLD_VALUE)).unwrap();
    let before = rows(&db);
    assert_eq!(run(&db, directory.path()).unwrap(), 2);
    assert_eq!(rows(&db), left_of(before), "the last segment has no row");
    let [(name, bytes)] = files(directory.path()).into_iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((&*name, &*hex(&bytes)), ("00000000000000000300.0", FILE));
    let page = page_or_fixture("README.md");
    assert!(page.contains(FILE) && page.contains(OLD_VALUE), "README.md lacks the example");
}

#[test]
fn chunks_of_all_kinds_are_taken_over_and_segments_begin_when_they_should() {
    let (directory, db) = store_of_version_2();
    let plain = |first: u64| (first, 2, 1, vec![first as u8; 20_000]);
    let large: Vec<u8> = (0..70_000u32).map(|number| number as u8).collect();
    // A block of LZ4 that holds eleven bytes as they are.
    let compressed = b"\x00\x00\x00\x0b\xb0hello world".to_vec();
    for first in [7, 8, 10, 300, 301, 602] {
        put_chunk(&db, first, &plain(first).3);
    }
    for (part, piece) in (0..).zip(large.chunks(32_752)) {
        put_part(&db, 500, (part, 3), 0, piece);
    }
    put_part(&db, 601, (0, 1), 1, &compressed);
    let mut batch = sled::Batch::default();
    v0003_segments::copy_events(&db, directory.path(), 70_000, &mut batch).unwrap();
    db.apply_batch(batch).unwrap();

    let files = files(directory.path());
    let lengths: Vec<_> = files.iter().map(|(name, file)| (&**name, file.len())).collect();
    let names = ["00000000000000000007.0", "00000000000000000301.0", "00000000000000000601.0"];
    assert_eq!(lengths, [(names[0], 80_096), (names[1], 90_048), (names[2], 20_064)]);
    let mut expected: Vec<Chunk> = [7, 8, 10, 300, 301].map(plain).into();
    expected.extend([(500, 2, 1, large), (601, 3, 1, compressed), plain(602)]);
    assert_eq!(chunks(directory.path()), expected);

    // The index of the first names the chunks at 7 and, 40,048 bytes behind it, at 10.
    let first = "00000000 00000000000138e0 00000004 000000000000012c 00 0000 03f0b802".replace(' ', "");
    let second = "00000000 0000000000015fc0 00000002 0000000000000258 00 0000".replace(' ', "");
    let segment_rows: Vec<_> = db.scan_prefix([0x0b]).map(Result::unwrap).collect();
    assert_eq!(segment_rows.len(), 2, "none for the last");
    for ((key, value), (place, body)) in segment_rows.iter().zip([(7u64, first), (301, second)]) {
        assert_eq!(**key, *[&[0x0b][..], &place.to_be_bytes()].concat());
        assert_eq!((value[0], hex(&value[5..])), (1, body));
        assert_eq!(value[1..5], crc32fast::hash(&[&[1][..], key, &value[5..]].concat()).to_be_bytes());
    }
}

/// More than two whole segments, and more old rows than are removed at once.
#[test]
fn many_chunks_fill_segments_of_8_mebibytes() {
    let (directory, db) = store_of_version_2();
    let body = |number: u64| vec![number as u8; 32_000];
    (1..=600).for_each(|number| put_chunk(&db, number, &body(number)));
    run(&db, directory.path()).unwrap();
    let lengths: Vec<_> = files(directory.path()).values().map(Vec::len).collect();
    assert_eq!(lengths, [262 * 32_024, 262 * 32_024, 76 * 32_024]);
    let read = chunks(directory.path());
    assert!(read.into_iter().eq((1..=600).map(|number| (number, 2, 1, body(number)))));
    assert_eq!((db.scan_prefix([1]).count(), db.scan_prefix([0x0b]).count()), (0, 2));
}

#[test]
fn what_a_killed_run_left_in_the_folder_is_made_anew() {
    let (directory, db) = store_of_version_2();
    (5..9).for_each(|first| put_chunk(&db, first, b"body"));
    let events = directory.path().join("events");
    fs::create_dir_all(events.join("folder")).unwrap();
    for name in ["00000000000000000005.0", "00000000000000000007.0", "rubbish"] {
        fs::write(events.join(name), b"half a chu").unwrap();
    }
    run(&db, directory.path()).unwrap();
    assert_eq!(files(directory.path()).len(), 1);
    assert_eq!(chunks(directory.path()), [5, 6, 7, 8].map(|first| (first, 2, 1, b"body".to_vec())));
}

#[test]
fn old_rows_that_a_killed_run_left_are_removed_at_the_next_start() {
    for left in [0, 1, 300, 1_000] {
        let (directory, db) = store_of_version_2();
        (1..=1_000).for_each(|first| put_chunk(&db, first, b"body"));
        let before = rows(&db);
        run(&db, directory.path()).unwrap();
        let moved = (rows(&db), files(directory.path()));
        assert_eq!(moved.0, left_of(before.clone()));
        let old = before.into_iter().filter(|(key, _)| key[0] == 1).skip(1_000 - left);
        old.for_each(|(key, value)| drop(db.insert(key, value).unwrap()));
        assert_eq!(run(&db, directory.path()).unwrap(), 3);
        assert_eq!((rows(&db), files(directory.path())), moved, "{left} rows were left");
    }
}

/// Runs the steps on a store that must be refused and left as it is, and returns the reason.
fn refused(db: &sled::Db, data: &Path) -> Error {
    let before = rows(db);
    let error = run(db, data).unwrap_err();
    assert_eq!(rows(db), before);
    assert!(!data.join("events").exists(), "nothing is left in the way of the program that wrote the store");
    error
}

#[test]
fn a_damaged_row_is_named_and_nothing_is_changed() {
    let (directory, db) = store_of_version_2();
    put_chunk(&db, 6, b"whole");
    for (part, piece) in [(0, b"one"), (1, b"two"), (2, b"end")] {
        put_part(&db, 7, (part, 3), 0, piece);
    }
    for part in 0..3 {
        let key = old_key(7, part);
        let whole = db.get(&key).unwrap().unwrap();
        let mut damages: Vec<_> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
        damages.extend((0..whole.len()).map(|index| {
            let mut damaged = whole.to_vec();
            damaged[index] ^= 4;
            damaged
        }));
        for damaged in damages {
            db.insert(&key, damaged).unwrap();
            let error = refused(&db, directory.path());
            assert!(matches!(error, Error::DamagedChunk { first: 7, part: named, .. } if named == part));
            assert!(error.to_string().contains("restore a backup"));
        }
        db.remove(&key).unwrap();
        let error = refused(&db, directory.path());
        // Without the first part it is the second one that stands alone.
        let expected = part.max(1);
        assert!(matches!(error, Error::DamagedChunk { first: 7, part, .. } if part == expected), "{error}");
        assert!(error.to_string().contains("missing"));
        db.insert(&key, whole).unwrap();
    }
    db.insert([1, 2, 3], b"").unwrap();
    assert!(matches!(refused(&db, directory.path()), Error::UnknownRow(key) if key == [1, 2, 3]));
    db.remove([1, 2, 3]).unwrap();
    run(&db, directory.path()).unwrap();
    assert_eq!(chunks(directory.path())[1], (7, 2, 1, b"onetwoend".to_vec()));
}

#[test]
fn forms_of_a_chunk_that_nobody_wrote_are_refused() {
    for (flags, parts, length) in [(2, 1, 4), (1, 2, 4), (0, 1, 32_753)] {
        let (directory, db) = store_of_version_2();
        put_part(&db, 7, (0, parts), flags, &vec![0; length]);
        put_part(&db, 7, (1, parts), flags, b"more");
        let error = refused(&db, directory.path());
        assert!(matches!(error, Error::DamagedChunk { first: 7, part: 0, .. }), "{error}");
    }
}

#[test]
fn files_beside_a_store_without_events_are_not_removed() {
    let (directory, db) = store();
    let events = directory.path().join("events");
    fs::create_dir(&events).unwrap();
    fs::write(events.join("00000000000000000001.0"), b"theirs").unwrap();
    let error = run(&db, directory.path()).unwrap_err();
    assert!(matches!(&error, Error::UnknownFiles(path) if *path == events), "{error}");
    assert_eq!(files(directory.path()).len(), 1);
    fs::remove_file(events.join("00000000000000000001.0")).unwrap();
    run(&db, directory.path()).unwrap();
    assert!(files(directory.path()).is_empty(), "a new store has an empty folder");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let (directory, db) = store_of_version_2();
    let before = rows(&db);
    fs::write(directory.path().join("events"), b"a file").unwrap();
    let error = run(&db, directory.path()).unwrap_err();
    assert!(error.to_string().contains("events"), "{error}");
    assert_eq!(rows(&db), before);
}

/// The records of a body of plain records.
fn records(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[5..9].try_into().unwrap()) as usize;
        let (record, rest) = body.split_at(9 + length);
        records.push(record.to_vec());
        body = rest;
    }
    records
}

pub(super) fn put_dump(db: &sled::Db, name: &str) {
    let dump = page_or_fixture(name);
    for line in dump.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        db.insert(unhex(key), unhex(value)).unwrap();
    }
}

#[test]
fn the_stores_of_earlier_versions_are_moved_whole() {
    for (name, version) in [("fixtures/v0001.dump", 1), ("fixtures/v0002.dump", 2)] {
        let (directory, db) = store();
        put_dump(&db, name);
        let before = rows(&db);
        assert_eq!(run(&db, directory.path()).unwrap(), version);
        let old = before.iter().filter(|(key, _)| key[0] == 1);
        let expected: Vec<_> = old.flat_map(|(_, value)| records(&value[16..])).collect();
        assert_eq!(expected.len(), 5);
        let moved = chunks(directory.path());
        let read: Vec<_> = moved.iter().flat_map(|(_, _, _, body)| records(body)).collect();
        assert_eq!(read, expected);
        let heads: Vec<_> = moved.iter().map(|(first, flags, count, _)| (*first, *flags, *count)).collect();
        assert_eq!(heads, [(1, 2, 4), (5, 2, 1)]);
        assert_eq!(rows(&db), left_of(before));
    }
}
