//! What the engine makes of what it finds on disk: after a crash, after damage, and in a directory that is not its own.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use event_log::contract::{event, everything, filter, keyed, read_all, remove_all, trim};
use event_log::{AppendError, Batch, Cursor, EventId, EventLog, Keep, NewEvent, PageLimit, Position, Seek};
use event_log_sled::{OpenError, SledLog, SledOptions};
use futures_executor::block_on;

mod common;

use common::place::{Place, append, close, fill, flip};

#[test]
fn a_killed_process_loses_nothing_that_was_answered() {
    let place = Place::new();
    let log = place.log("a");
    for round in 0..5 {
        fill(&log, &round.to_string(), 20);
        place.copy("a", &round.to_string());
        let after = place.log(&round.to_string());
        assert_eq!(everything(&after), everything(&log));
        assert_eq!(after.topics(None), log.topics(None));
        assert_eq!(after.bounds().epochs, log.bounds().epochs);
        after.verify().unwrap();
    }
}

#[test]
fn many_commits_without_a_checkpoint_are_read_again() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "x", 1_500);
    append(&log, vec![keyed(event("k", "once"), "key")]);
    place.copy("a", "b");
    // The second one makes checkpoints while it reads.
    let after = place.open(SledOptions { checkpoint_events: 100, ..place.options("b") }).unwrap();
    assert_eq!(everything(&after).len(), 6_001);
    assert!(append(&after, vec![keyed(event("k", "once"), "key")])[0].duplicate);
    assert_eq!(after.topics(None), log.topics(None));
    after.verify().unwrap();
    place.copy("b", "c");
    assert_eq!(everything(&place.log("c")), everything(&log));
}

#[test]
fn a_store_that_ends_before_its_witness_is_refused_unless_it_was_restored() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "before", 10);
    let durable = everything(&log);
    place.copy("a", "older");
    append(&log, vec![event("t1", "the one that is lost")]);
    let head = log.bounds().head;
    close(log);
    // Yesterday's store beside today's witness.
    std::fs::copy(place.path("a").join("witness"), place.path("older").join("witness")).unwrap();
    let refused = place.open(place.options("older")).map(drop).unwrap_err();
    let last = durable[durable.len() - 1].position;
    assert!(
        matches!(refused, OpenError::ShorterThanWitness { found, witnessed } if (found, witnessed) == (last, head)),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("--restored"));

    // And a store that is gone.
    place.copy("a", "gone");
    std::fs::remove_dir_all(place.path("gone").join("sled")).unwrap();
    let refused = place.open(place.options("gone")).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::ShorterThanWitness { .. }), "{refused:?}");

    let restored = place.open(SledOptions { restored: true, ..place.options("older") }).unwrap();
    assert_eq!(everything(&restored), durable);
    close(restored);
    assert_eq!(everything(&place.log("older")), durable, "once restored it opens as any other");
}

/// What was removed is known to the store alone. The files of events have everything, so they cannot tell that it went back.
#[test]
fn a_store_from_before_its_first_checkpoint_is_refused_beside_newer_events() {
    let place = Place::new();
    let log = place.log("a");
    place.copy("a", "oldest");
    fill(&log, "x", 10);
    remove_all(&log, &[trim("t1", Keep { events: Some(0), ..Keep::default() })]);
    let head = log.bounds().head;
    close(log);
    let store = place.path("a").join("sled");
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(place.path("oldest").join("sled"), &store).unwrap();
    let refused = place.open(place.options("a")).map(drop).unwrap_err();
    assert!(
        matches!(refused, OpenError::ShorterThanWitness { found: Position::ORIGIN, witnessed } if witnessed == head),
        "{refused:?}"
    );
}

#[test]
fn a_restored_log_begins_a_new_epoch_and_knows_the_older_one() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "x", 3);
    let before = log.bounds();
    close(log);
    assert_eq!(place.log("a").bounds().epochs, before.epochs, "an ordinary start begins none");

    let restored = place.open(SledOptions { restored: true, ..place.options("a") }).unwrap();
    let bounds = restored.bounds();
    assert_eq!((bounds.head, bounds.events), (before.head, before.events));
    assert_ne!(bounds.epochs.current(), before.epochs.current());
    assert!(bounds.epochs.knows(before.epochs.id(before.head)));
    let beyond = EventId::new(Position::new(before.head.get() + 1), before.epochs.current());
    assert!(!bounds.epochs.knows(beyond));
    close(restored);
    assert_eq!(place.log("a").bounds().epochs, bounds.epochs);
}

/// sled writes a snapshot at each start, and takes one that is not whole for the newest.
#[test]
fn a_snapshot_that_was_being_written_is_no_damage() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "x", 3);
    let all = everything(&log);
    close(log);
    let cut_off = place.path("a").join("sled/snap.FFFFFFFFFFFFFFFF.generating");
    std::fs::write(&cut_off, b"only the beginning").unwrap();
    assert_eq!(everything(&place.log("a")), all);
    assert!(!cut_off.exists());
}

/// Of a store that is being made a power cut leaves any part. Nothing was in it.
#[test]
fn a_first_start_that_was_cut_off_is_begun_anew() {
    let place = Place::new();
    let draft = place.path("a").join("sled.new");
    std::fs::create_dir_all(draft.join("blobs")).unwrap();
    std::fs::write(draft.join("conf"), [0; 63]).unwrap();
    let log = place.log("a");
    fill(&log, "x", 3);
    assert_eq!(everything(&log).len(), 12);
    assert!(!draft.exists());
}

/// Every kind of projection, and the checkpoint itself: removed, and damaged.
#[test]
fn projections_are_made_anew_from_the_events() {
    let place = Place::new();
    let log = place.open(SledOptions { checkpoint_events: 20, ..place.options("a") }).unwrap();
    fill(&log, "x", 60);
    append(&log, vec![keyed(event("k", "once"), "key")]);
    let (all, topics) = (everything(&log), log.topics(None));
    close(log);

    type Damage<'a> = (&'a str, &'a dyn Fn(&sled::Db));
    let damages: [Damage<'_>; 5] = [
        ("the checkpoint is gone", &|db| drop(db.remove([0, 2]).unwrap())),
        ("the checkpoint is damaged", &|db| flip(db, &[0, 2])),
        ("a topic is gone", &|db| drop(db.remove([3, 0, 0, 0, 2]).unwrap())),
        ("a topic is damaged", &|db| flip(db, &[3, 0, 0, 0, 4])),
        ("all projections are gone", &|db| {
            for kind in [2u8, 3, 12, 13] {
                db.scan_prefix([kind]).keys().for_each(|key| drop(db.remove(key.unwrap()).unwrap()));
            }
            db.remove([0, 2]).unwrap();
        }),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        let name = number.to_string();
        place.copy("a", &name);
        let db = place.raw(&name);
        damage(&db);
        db.flush().unwrap();
        drop(db);
        let after = place.log(&name);
        assert_eq!(everything(&after), all, "{what}");
        assert_eq!(after.topics(None), topics, "{what}");
        after.verify().unwrap();
        assert!(append(&after, vec![keyed(event("k", "once"), "key")])[0].duplicate, "{what}");
        close(after);
        let verified = place.log(&name).verify().unwrap();
        assert_eq!((verified.events, verified.topics, verified.keys), (241, 8, 1), "{what}");
    }
}

/// Rows of the index are not read at the start; a read that meets a damaged one stops the log, and the next start mends it.
#[test]
fn a_damaged_row_of_the_index_stops_the_log_and_the_next_start_mends_it() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "x", 100);
    append(&log, vec![event("rare", "1")]);
    close(log);
    let db = place.raw("a");
    let rare = 7u32.to_be_bytes();
    let key = db.scan_prefix([&[2][..], &rare].concat()).keys().next().unwrap().unwrap();
    flip(&db, &key);
    db.flush().unwrap();
    drop(db);

    let log = place.log("a");
    let mut reader = log.reader(Arc::new(filter(&["rare"])));
    let read = block_on(reader.read(Cursor::default(), PageLimit { events: 1, bytes: 1 }));
    assert!(read.unwrap_err().to_string().contains("index"));
    assert!(block_on(log.failed()).contains("index"));
    assert!(matches!(block_on(log.append(Batch::new(vec![event("t", "1")]))), Err(AppendError::Engine(_))));
    assert!(log.is_writable().is_err());
    drop(reader);
    drop(log);

    let log = place.log("a");
    let limit = PageLimit { events: 10, bytes: 1_000 };
    assert_eq!(read_all(&log, filter(&["rare"]), Position::ORIGIN, limit).len(), 1);
    log.verify().unwrap();
}

#[test]
fn a_damaged_chunk_stops_the_log_and_is_named() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "x", 10);
    close(log);
    // In the middle of a chunk: what a chunk's header says is read at the start already.
    let at = place.length("a") / 2 + 40;
    let file = File::options().write(true).open(place.events("a")).unwrap();
    file.write_all_at(b"?", at).unwrap();

    let log = place.log("a");
    assert!(log.verify().unwrap_err().to_string().contains("events/"));
    let mut reader = log.reader(Arc::new(filter(&["**"])));
    let read = block_on(reader.read(Cursor::default(), PageLimit { events: 1_000, bytes: 1 << 20 }));
    assert!(read.unwrap_err().to_string().contains("events/"));
    let mut tail = log.tail();
    assert!(block_on(tail.wait_past(log.bounds().head)).is_err(), "the tail is over");
    assert!(block_on(log.failed()).contains("events/"));
    assert!(block_on(log.reader(Arc::new(filter(&["**"]))).seek(Seek::Last(1_000))).is_err());
}

/// A header is found by the one before it, and its checksum is that of the whole chunk: what a damaged one says of its place
/// must not be taken for the end of what is asked for.
#[test]
fn a_chunk_whose_header_says_that_it_lies_farther_on_is_not_the_end_of_a_reading() {
    let place = Place::new();
    let log = place.open(SledOptions { segment_bytes: 4_096, ..place.options("a") }).unwrap();
    fill(&log, "x", 10);
    append(&log, vec![event("rare", "1")]);
    fill(&log, "y", 40);
    close(log);
    let oldest = |name: &str| place.path(name).join("events").join("00000000000000000001.0");
    assert_ne!(oldest("a"), place.events("a"), "the newest file is read when it is opened");
    let bytes = std::fs::read(oldest("a")).unwrap();
    let first = 41u64.to_be_bytes();
    let at = bytes.windows(8).position(|window| window == first).unwrap();
    // Far beyond all places, and among those that are there.
    for (name, byte, by) in [("far", 0, 0x80), ("near", 7, 0x10)] {
        place.copy("a", name);
        let file = File::options().write(true).open(oldest(name)).unwrap();
        file.write_all_at(&[first[byte] ^ by], (at + byte) as u64).unwrap();
        for (number, patterns) in [&["**"][..], &["rare"], &["t1", "rare"]].into_iter().enumerate() {
            let copy = format!("{name}-{number}");
            place.copy(name, &copy);
            let log = place.log(&copy);
            let mut reader = log.reader(Arc::new(filter(patterns)));
            let read = block_on(reader.read(Cursor::default(), PageLimit { events: 1_000, bytes: 1 << 20 }));
            let what = read.map(|page| page.events.len()).unwrap_err().to_string();
            assert!(what.contains("events/"), "{copy}: {what}");
        }
        let log = place.log(name);
        assert!(log.verify().unwrap_err().to_string().contains("events/"), "{name}");
    }
}

/// Whatever is damaged on disk: an error, never a panic that gets out, and never an event that nobody published.
#[test]
fn flipped_bytes_of_the_files_are_never_served() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "x", 40);
    let all = everything(&log);
    close(log);
    let mut refused = 0;
    for n in 0..48 {
        let name = format!("damaged-{n}");
        place.copy("a", &name);
        let path = if n % 2 == 0 { place.db(&name) } else { place.events(&name) };
        let length = std::fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let at = length / 48 * n + n;
        let mut bytes = [0; 64];
        file.read_exact_at(&mut bytes[..1], at).unwrap();
        let flipped = !bytes[0];
        bytes.fill(flipped);
        file.write_all_at(&bytes, at).unwrap();
        match place.open(place.options(&name)) {
            Err(_) => refused += 1,
            Ok(log) => match log.verify() {
                Err(_) => refused += 1,
                // The witness was written at the close: what opens, holds everything.
                Ok(_) => assert_eq!(everything(&log), all, "damage at {at}"),
            },
        }
    }
    assert!(refused >= 24, "all damage of the events is met");
}

#[test]
fn a_store_of_a_newer_format_is_refused_and_left_alone() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "x", 1);
    close(log);
    let db = place.raw("a");
    db.insert([0, 0], &[0, 0, 0, 4]).unwrap();
    db.flush().unwrap();
    drop(db);
    for _ in 0..2 {
        let refused = place.open(place.options("a")).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::FormatTooNew { found: 4, known: 3 }), "{refused:?}");
    }
}

#[test]
fn a_second_open_is_refused_and_says_who_has_it() {
    let place = Place::new();
    let log = place.log("a");
    let refused = place.open(place.options("a")).map(drop).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Locked { holder, .. } if *holder == std::process::id().to_string())
    );
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    fill(&log, "x", 1);
    drop(log);
    assert_eq!(everything(&place.log("a")).len(), 4, "the last handle that is dropped lets go");
}

/// The last event before a checkpoint is the last one in a row of the index.
#[test]
fn seeking_backwards_along_the_index_misses_nothing_at_a_checkpoint() {
    let place = Place::new();
    let options = SledOptions { checkpoint_events: 40, recent_bytes: 0, ..place.options("a") };
    let log = place.open(options.clone()).unwrap();
    let mut rare = Vec::new();
    for n in 0..10 {
        let mut batch: Vec<NewEvent> = (0..39).map(|m| event("bulk", &format!("{n}.{m}"))).collect();
        batch.push(event("rare", &n.to_string()));
        rare.push(append(&log, batch)[39].position);
    }
    let places = |log: &SledLog| {
        let mut reader = log.reader(Arc::new(filter(&["rare"])));
        let found: Vec<_> =
            (1..=10).map(|n| block_on(reader.seek(Seek::Last(n))).unwrap().position).collect();
        found
    };
    let expected: Vec<Position> = rare.iter().rev().map(|place| place.just_before()).collect();
    assert_eq!(places(&log), expected);
    close(log);
    assert_eq!(places(&place.open(options).unwrap()), expected);
}

#[test]
fn without_room_appends_are_refused_until_there_is_room_again() {
    let place = Place::new();
    let stat = |name: &str| {
        let stat = rustix::fs::statvfs(place.path(name)).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    let free = stat(".");
    let log = place.open(SledOptions { free_disk_bytes_min: free / 4 * 3, ..place.options("a") }).unwrap();
    append(&log, vec![keyed(event("a", "1"), "k")]);

    let filler = File::create(place.path("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, free / 3).unwrap();
    let refused = block_on(log.append(Batch::new(vec![event("a", "2")]))).unwrap_err();
    assert!(matches!(refused, AppendError::NoSpace { .. }), "{refused:?}");
    assert!(matches!(log.is_writable(), Err(AppendError::NoSpace { .. })));
    assert_eq!(everything(&log).len(), 1, "reads go on");
    assert!(
        append(&log, vec![keyed(event("a", "1"), "k")])[0].duplicate,
        "what is there already is answered"
    );

    filler.set_len(0).unwrap();
    append(&log, vec![event("a", "3")]);
    log.is_writable().unwrap();
    assert_eq!(everything(&log).len(), 2);
}

#[test]
fn a_dropped_future_does_not_take_the_append_back() {
    let place = Place::new();
    let log = place.log("a");
    drop(log.append(Batch::new(vec![event("a", "1")])));
    append(&log, vec![event("a", "2")]);
    assert_eq!(everything(&log).len(), 2);
}

#[test]
fn what_was_accepted_before_a_close_is_finished() {
    let place = Place::new();
    let log = place.log("a");
    let waiting: Vec<_> =
        (0..200).map(|n| log.append(Batch::new(vec![event("a", &n.to_string())]))).collect();
    close(log.clone());
    for append in waiting {
        block_on(append).unwrap();
    }
    drop(log);
    assert_eq!(everything(&place.log("a")).len(), 200);
}

#[test]
fn too_much_that_waits_is_refused_at_once() {
    let place = Place::new();
    let log = place.log("a");
    let large = "x".repeat(16 << 20);
    let waiting: Vec<_> = (0..12).map(|_| log.append(Batch::new(vec![event("a", &large)]))).collect();
    let answers: Vec<_> = waiting.into_iter().map(block_on).collect();
    assert!(answers.iter().any(|answer| matches!(answer, Err(AppendError::Overloaded))));
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(taken > 0);
    append(&log, vec![event("a", "and then there is room again")]);
    assert_eq!(log.bounds().events, taken as u64 + 1);
}

#[test]
fn time_and_identity_come_from_the_clock() {
    let place = Place::new();
    let log = place.log("a");
    let first = append(&log, vec![event("a", "1")])[0];
    place.clock.advance(Duration::from_millis(1_500));
    let second = append(&log, vec![event("a", "2")])[0];
    assert_eq!(second.time.as_micros() - first.time.as_micros(), 1_500_000);
    assert_eq!(second.uuid.get_version_num(), 7);
    assert!(second.uuid > first.uuid);
    let (seconds, nanos) = second.uuid.get_timestamp().unwrap().to_unix();
    assert_eq!(seconds * 1_000 + u64::from(nanos) / 1_000_000, second.time.as_micros() / 1_000);
}
