//! Idempotency keys on disk: how they are found, how they go, and how they are made anew.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use event_log::Appended;
use event_log::contract::{WINDOW, event, keyed};
use event_log_sled::{SledLog, SledOptions};

mod common;

use common::place::{Place, append, close, fill, flip};

#[test]
fn keys_that_are_past_the_window_leave_the_disk() {
    let place = Place::new();
    let options = SledOptions { checkpoint_events: 10, ..place.options("a") };
    let log = place.open(options.clone()).unwrap();
    let use_key = |log: &SledLog, n: usize| append(log, vec![keyed(event("a", "x"), &n.to_string())])[0];
    for n in 0..100 {
        assert!(!use_key(&log, n).duplicate);
    }
    assert!(use_key(&log, 7).duplicate);
    place.clock.advance(WINDOW / 2);
    assert!(!use_key(&log, 1_000).duplicate);
    place.clock.advance(WINDOW / 2);
    // Past the window: the same key is new again, with its row still there.
    assert!(!use_key(&log, 7).duplicate);
    fill(&log, "x", 10);
    assert!(use_key(&log, 7).duplicate && use_key(&log, 1_000).duplicate);
    log.verify().unwrap();
    close(log);

    let db = place.raw("a");
    assert_eq!(used_keys(&db), 2);
    drop(db);
    let log = place.open(options).unwrap();
    assert!(use_key(&log, 7).duplicate && use_key(&log, 1_000).duplicate && !use_key(&log, 8).duplicate);
}

/// More keys than one checkpoint removes, some of them used anew before the row of their first use is removed.
#[test]
fn a_key_that_is_used_anew_outlives_its_first_use() {
    let place = Place::new();
    let log = place.open(SledOptions { checkpoint_events: 50, ..place.options("a") }).unwrap();
    let keys =
        |range: std::ops::Range<usize>| range.map(|n| keyed(event("a", "x"), &n.to_string())).collect();
    append(&log, keys(0..9_000));
    place.clock.advance(WINDOW);
    let anew = append(&log, keys(0..200));
    assert!(anew.iter().all(|answer| !answer.duplicate));
    for _ in 0..3 {
        fill(&log, "x", 20);
        let again = append(&log, keys(0..200));
        assert!(
            again.iter().zip(&anew).all(|(again, first)| again.duplicate && again.position == first.position)
        );
    }
    close(log);
    let db = place.raw("a");
    assert_eq!(used_keys(&db), 200);
}

/// Keys in rows: each takes 64 bytes behind the header of its row.
fn used_keys(db: &sled::Db) -> usize {
    db.scan_prefix([0x0c]).values().map(|row| row.unwrap().len() / 64).sum()
}

/// Most keys are in buckets here, of which some go, some are made anew, and one is damaged.
#[test]
fn keys_are_found_in_buckets_too() {
    let place = Place::new();
    let options = SledOptions { checkpoint_events: 10, key_bucket_entries: 50, ..place.options("a") };
    let keys = |log: &SledLog, range: std::ops::Range<usize>| {
        append(log, range.map(|n| keyed(event("a", "x"), &n.to_string())).collect())
    };
    let log = place.open(options.clone()).unwrap();
    let first: Vec<Appended> = (0..1_000).step_by(20).flat_map(|n| keys(&log, n..n + 20)).collect();
    let are_known = |log: &SledLog| {
        let again: Vec<Appended> = (0..1_000).step_by(100).flat_map(|n| keys(log, n..n + 100)).collect();
        first.iter().zip(&again).all(|(first, again)| again.duplicate && again.position == first.position)
    };
    assert!(are_known(&log));
    close(log);
    type Change<'a> = (&'a str, &'a dyn Fn(&sled::Db));
    let changes: [Change<'_>; 4] = [
        ("as it is", &|_| {}),
        ("a bucket is damaged", &|db| {
            let key = db.scan_prefix([0x0d]).keys().nth(3).unwrap().unwrap();
            flip(db, &key);
        }),
        ("no bucket is left", &|db| {
            db.scan_prefix([0x0d]).keys().for_each(|key| drop(db.remove(key.unwrap()).unwrap()));
        }),
        ("used keys are damaged", &|db| {
            let key = db.scan_prefix([0x0c]).keys().nth(7).unwrap().unwrap();
            flip(db, &key);
            drop(db.remove([0, 2]).unwrap());
        }),
    ];
    for (number, (what, change)) in changes.into_iter().enumerate() {
        let name = number.to_string();
        place.copy("a", &name);
        let db = place.raw(&name);
        assert!(db.scan_prefix([0x0d]).count() > 10, "there are buckets");
        change(&db);
        db.flush().unwrap();
        drop(db);
        for _ in 0..2 {
            let log = place.open(SledOptions { directory: place.path(&name), ..options.clone() }).unwrap();
            assert!(are_known(&log), "{what}");
            assert_eq!(log.verify().unwrap().keys, 1_000, "{what}");
            close(log);
        }
    }
    let log = place.open(options).unwrap();
    place.clock.advance(WINDOW);
    for n in (0..200).step_by(10) {
        assert!(keys(&log, n..n + 10).iter().all(|answer| !answer.duplicate));
    }
    close(log);
    let db = place.raw("a");
    assert_eq!(used_keys(&db), 200);
    assert!(db.scan_prefix([0x0d]).count() <= 4, "the buckets of old keys are gone");
}
