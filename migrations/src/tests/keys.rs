//! What the step to version 3 makes of idempotency keys.

use super::segments::*;
use super::*;

/// The example of the page: the row of version 2, and the one that it becomes.
const OLD_KEY: &str = "04a5b083076e06afd1573a98b733454938";
const OLD_VALUE: &str = "01368ac4d4000000000000012c000660bfb7deea400198f3a17c407abc8def0123456789ab905959489e9be56154a2502a09b544ea";
const USED_KEY: &str = "0c000000000000012c";
const USED_VALUE: &str = "01f96daaa7a5b083076e06afd1573a98b733454938000000000000012c000660bfb7deea400198f3a17c407abc8def0123456789ab\
    905959489e9be56154a2502a09b544ea";

fn sealed(key: &[u8], body: &[u8]) -> Vec<u8> {
    let checksum = crc32fast::hash(&[&[1][..], key, body].concat());
    [&[1][..], &checksum.to_be_bytes(), body].concat()
}

/// The rows of used keys for a store's old rows, of which none is damaged.
pub(super) fn used(rows: &Rows) -> Rows {
    let old = rows.iter().filter(|(key, _)| key[0] == 4);
    let new = old.map(|(old_key, old_value)| {
        let (hash, body) = (&old_key[1..], &old_value[5..]);
        let key = [&[0x0c][..], &body[..8]].concat();
        let value = sealed(&key, &[hash, body].concat());
        (key, value)
    });
    new.collect()
}

/// A hash like any other: those of neighbouring places lie far apart.
fn hash(place: u64) -> [u8; 16] {
    u128::from(place).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
}

/// Puts the rows of a key, as version 2 has them.
fn put_key(db: &sled::Db, hash: [u8; 16], place: u64) {
    let time = place.wrapping_add(1_000_000).to_be_bytes();
    let key = [&[4][..], &hash].concat();
    let body = [&place.to_be_bytes()[..], &time, &[place as u8; 16], &[7; 16]].concat();
    let value = sealed(&key, &body);
    db.insert(key, value).unwrap();
    db.insert([&[5][..], &time, &hash].concat(), b"").unwrap();
}

fn put_keys(db: &sled::Db, places: std::ops::Range<u64>) {
    places.for_each(|place| put_key(db, hash(place), place));
}

#[test]
fn a_key_becomes_these_bytes() {
    let (directory, db) = store_of_version_2();
    db.insert(unhex(OLD_KEY), unhex(OLD_VALUE)).unwrap();
    run(&db, directory.path()).unwrap();
    let [(key, value)] = db.scan_prefix([0x0c]).map(Result::unwrap).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((&*hex(&key), &*hex(&value)), (USED_KEY, USED_VALUE));
    let page = page_or_fixture("README.md");
    for (key, value) in [(OLD_KEY, OLD_VALUE), (USED_KEY, USED_VALUE)] {
        assert!(page.contains(key) && page.contains(value), "README.md lacks the example");
    }
}

/// More rows than go into one batch.
#[test]
fn all_keys_are_taken_over_and_the_old_rows_go() {
    let (directory, db) = store_of_version_2();
    put_keys(&db, 0..700);
    put_key(&db, hash(700), u64::MAX);
    let before = rows(&db);
    run(&db, directory.path()).unwrap();
    let after = rows(&db);
    assert_eq!(after, left_of(before));
    assert_eq!(after.keys().filter(|key| key[0] == 0x0c).count(), 701);
    assert!(after.keys().all(|key| ![4, 5, 0x0d].contains(&key[0])));
}

#[test]
fn several_walks_take_over_the_same_as_one() {
    for held in [1, 2, 7, 299, 300, 301] {
        let (directory, db) = store_of_version_2();
        put_keys(&db, 0..299);
        put_key(&db, hash(299), u64::MAX);
        let mut expected = rows(&db);
        expected.extend(used(&expected));
        v0003_segments::keys::copy(&db, directory.path(), held).unwrap();
        assert_eq!(rows(&db), expected, "{held} were held");
    }
}

#[test]
fn of_two_keys_of_one_place_the_later_row_counts() {
    let (directory, db) = store_of_version_2();
    for hash in [[3; 16], [9; 16], [6; 16]] {
        put_key(&db, hash, 5);
    }
    run(&db, directory.path()).unwrap();
    let [(_, value)] = db.scan_prefix([0x0c]).map(Result::unwrap).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(value[5..21], [9; 16]);
}

#[test]
fn damaged_rows_are_passed_over() {
    let (directory, db) = store_of_version_2();
    put_keys(&db, 1..4);
    let whole = rows(&db);
    let old: Vec<_> = whole.iter().filter(|(key, _)| key[0] == 4).collect();
    let (key, value) = old[1];
    let mut damages: Vec<_> = (0..value.len()).map(|length| value[..length].to_vec()).collect();
    damages.push([&value[..], &[0]].concat());
    damages.extend((0..value.len()).map(|index| {
        let mut damaged = value.clone();
        damaged[index] ^= 4;
        damaged
    }));
    // Sealed rightly, but of a version, or with a body, that nobody wrote.
    let version =
        [&[2][..], &crc32fast::hash(&[&[2][..], key, &value[5..]].concat()).to_be_bytes(), &value[5..]];
    damages.extend([version.concat(), sealed(key, &value[6..]), sealed(key, b"")]);
    let mut expected = whole.clone();
    expected.remove(key);
    let expected = used(&expected);
    for damaged in damages {
        db.insert(key, &*damaged).unwrap();
        v0003_segments::keys::copy(&db, directory.path(), 2).unwrap();
        let used: Rows = rows(&db).into_iter().filter(|(key, _)| key[0] == 0x0c).collect();
        assert_eq!(used, expected, "{damaged:02x?}");
    }
    let short = sealed(&[4, 1, 2], &value[5..]);
    db.insert([4, 1, 2], short).unwrap();
    run(&db, directory.path()).unwrap();
    let after = rows(&db);
    assert_eq!(after.keys().filter(|key| key[0] == 0x0c).count(), 2);
    assert!(after.keys().all(|key| ![4, 5].contains(&key[0])), "the damaged rows go too");
}

#[test]
fn a_run_that_was_killed_before_the_stamp_is_made_anew() {
    let (directory, db) = store_of_version_2();
    put_keys(&db, 1..600);
    put_chunk(&db, 1, b"body");
    let before = rows(&db);
    for (key, value) in used(&before).into_iter().take(256) {
        db.insert(key, value).unwrap();
    }
    std::fs::create_dir(directory.path().join("events")).unwrap();
    assert_eq!(run(&db, directory.path()).unwrap(), 2);
    assert_eq!(rows(&db), left_of(before));
}

#[test]
fn old_keys_that_a_killed_run_left_are_removed_at_the_next_start() {
    for (keys, expiries) in [(0, 0), (0, 1), (1, 0), (300, 600), (600, 600)] {
        let (directory, db) = store_of_version_2();
        put_keys(&db, 0..600);
        let before = rows(&db);
        run(&db, directory.path()).unwrap();
        let moved = rows(&db);
        for (kind, left) in [(4, keys), (5, expiries)] {
            let old = before.iter().filter(|(key, _)| key[0] == kind).skip(600 - left);
            old.for_each(|(key, value)| drop(db.insert(key, &**value).unwrap()));
        }
        // What the engine has done since: the oldest key has expired, and a new one was used.
        let mut expected = moved.clone();
        let (oldest, _) = moved.iter().find(|(key, _)| key[0] == 0x0c).unwrap();
        expected.remove(oldest);
        db.remove(oldest).unwrap();
        let new = [&[0x0c][..], &900u64.to_be_bytes()].concat();
        expected.insert(new.clone(), b"new".to_vec());
        db.insert(new, b"new").unwrap();
        assert_eq!(run(&db, directory.path()).unwrap(), 3);
        assert_eq!(rows(&db), expected, "{keys} keys and {expiries} expiries were left");
    }
}

#[test]
fn if_the_events_cannot_be_moved_no_key_is() {
    let (directory, db) = store_of_version_2();
    put_keys(&db, 1..3);
    db.insert([1, 2, 3], b"").unwrap();
    let before = rows(&db);
    assert!(matches!(run(&db, directory.path()), Err(Error::UnknownRow(_))));
    assert_eq!(rows(&db), before);
}

#[test]
fn the_keys_of_earlier_versions_are_all_there() {
    for name in ["fixtures/v0001.dump", "fixtures/v0002.dump"] {
        let (directory, db) = store();
        put_dump(&db, name);
        run(&db, directory.path()).unwrap();
        let [(key, value)] =
            db.scan_prefix([0x0c]).map(Result::unwrap).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(hex(&key), "0c0000000000000001");
        assert_eq!(value[..], sealed(&key, &value[5..]), "version and checksum");
        let fields: Vec<_> = [5..21, 21..29, 29..37, 37..53, 53..69].map(|field| hex(&value[field])).into();
        let expected = [
            "a5b083076e06afd1573a98b733454938",
            "0000000000000001",
            "000660bfb7dd0800",
            "00000000000000000000000000000001",
            "905959489e9be56154a2502a09b544ea",
        ];
        assert_eq!((fields, value.len()), (expected.map(String::from).into(), 69));
        assert_eq!((db.scan_prefix([4]).count(), db.scan_prefix([5]).count()), (0, 0));
    }
}
