//! What the engine makes of the files of events that it finds: torn, full, missing, damaged, or left over.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use event_log::contract::{event, everything};
use event_log_sled::{OpenError, SledLog, SledOptions};

mod common;

use common::place::{Place, append, close, fill};

/// Commits something large, of several chunks; returns how long the newest file was before, and is now.
fn commit_large(place: &Place, log: &SledLog) -> (u64, u64) {
    let length = place.length("a");
    append(log, (0..50).map(|n| event("t1", &format!("torn {n}{}", "-".repeat(2_000)))).collect());
    let longer = place.length("a");
    assert!(longer > length + 2 * 32_768, "it has several chunks");
    (length, longer)
}

#[test]
fn a_torn_tail_is_cut_off_and_what_was_durable_before_it_stays() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "before", 30);
    let durable = everything(&log);
    let (length, longer) = commit_large(&place, &log);
    let last_chunk = longer - 10_000;
    let cuts = [
        ("whole", longer),
        ("last", last_chunk),
        ("half", (length + longer) / 2),
        ("header", length + 9),
        ("none", length),
    ];
    for (name, cut) in cuts {
        place.copy("a", name);
        File::options().write(true).open(place.events(name)).unwrap().set_len(cut).unwrap();
        let after = place.log(name);
        let read = everything(&after);
        match name {
            "whole" => assert_eq!(read.len(), durable.len() + 50),
            _ => assert_eq!(read, durable, "{name}"),
        }
        // The order goes on, and holds after another start.
        let next = append(&after, vec![event("t1", "next")])[0];
        assert!(next.position > durable[durable.len() - 1].position);
        close(after);
        assert_eq!(everything(&place.log(name)).len(), read.len() + 1);
    }
}

/// A power cut may leave any part of the commit that was under way: here one page of it is not there.
#[test]
fn a_hole_in_the_last_commit_is_cut_off_and_one_before_it_is_damage() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "before", 30);
    let durable = everything(&log);
    let (length, longer) = commit_large(&place, &log);
    for (number, at) in (length..longer - 64).step_by(7_001).enumerate() {
        let name = format!("torn-{number}");
        place.copy("a", &name);
        zero(&place.events(&name), at);
        assert_eq!(everything(&place.log(&name)), durable, "zeros at {at}");
    }
    append(&log, vec![event("t1", "a later commit")]);
    for (number, at) in (0..longer - 64).step_by(9_001).enumerate() {
        let name = format!("damaged-{number}");
        place.copy("a", &name);
        zero(&place.events(&name), at);
        let refused = place.open(place.options(&name)).map(drop).unwrap_err();
        assert!(
            matches!(&refused, OpenError::Damaged(what) if what.contains("events/")),
            "at {at}: {refused:?}"
        );
    }
}

/// Commits are written over zeros that were written ahead. A power cut leaves any pages of the one that was under way, and
/// zeros for the others.
#[test]
fn a_commit_that_was_torn_among_zeros_is_cut_off_with_them() {
    const PAGE: usize = 4_096;
    let place = Place::new();
    let log = place.log("a");
    let last_byte = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let (before, end) = loop {
        append(&log, vec![event("t1", &"-".repeat(4_000))]);
        let bytes = std::fs::read(place.events("a")).unwrap();
        let end = last_byte(&bytes) + 1;
        if bytes.len() - end > 120_000 {
            break (bytes, end);
        }
    };
    let durable = everything(&log);
    append(&log, (0..50).map(|n| event("t1", &format!("torn {n}{}", "-".repeat(2_000)))).collect());
    assert_eq!(place.length("a"), before.len() as u64, "it is inside the file");
    let after = std::fs::read(place.events("a")).unwrap();
    let first = end / PAGE;
    let pages = last_byte(&after) / PAGE - first + 1;
    let kept: [(&str, &dyn Fn(usize) -> bool); 6] = [
        ("none", &|_| false),
        ("first", &|page| page == 0),
        ("last", &|page| page == pages - 1),
        ("all but the first", &|page| page > 0),
        ("all but the last", &|page| page < pages - 1),
        ("every other", &|page| page % 2 == 1),
    ];
    for (name, is_kept) in kept {
        place.copy("a", name);
        let mut torn = before.clone();
        for page in (0..pages).filter(|page| is_kept(*page)) {
            let bytes = (first + page) * PAGE..((first + page + 1) * PAGE).min(torn.len());
            torn[bytes.clone()].copy_from_slice(&after[bytes]);
        }
        std::fs::write(place.events(name), torn).unwrap();
        let log = place.log(name);
        assert_eq!(everything(&log), durable, "{name}");
        append(&log, vec![event("t1", "next")]);
        close(log);
        let log = place.log(name);
        assert_eq!(everything(&log).len(), durable.len() + 1, "{name}");
        log.verify().unwrap();
    }
    assert_eq!(everything(&log).len(), durable.len() + 50);
}

/// The first commit of a segment is torn like any other, also of a log that has a witness.
#[test]
fn a_segment_whose_first_commit_was_torn_is_empty_and_used_again() {
    let place = Place::new();
    let options = SledOptions { segment_bytes: 1, ..place.options("a") };
    let log = place.open(options.clone()).unwrap();
    fill(&log, "x", 30);
    close(log);
    let log = place.open(options.clone()).unwrap();
    let durable = everything(&log);
    let (_, length) = commit_large(&place, &log);
    for (number, cut) in [0, 9, 40_000, length - 1].into_iter().enumerate() {
        let name = number.to_string();
        place.copy("a", &name);
        File::options().write(true).open(place.events(&name)).unwrap().set_len(cut).unwrap();
        let options = SledOptions { directory: place.path(&name), ..options.clone() };
        for more in 0..2 {
            let log = place.open(options.clone()).unwrap();
            assert_eq!(everything(&log).len(), durable.len() + more, "cut to {cut}");
            append(&log, vec![event("t1", "next")]);
            log.verify().unwrap();
            close(log);
        }
    }
}

/// The witness says how far the log was durable: up to there nothing can be torn.
#[test]
fn what_is_wrong_before_the_witness_is_damage_even_at_the_end() {
    let place = Place::new();
    let log = place.log("a");
    fill(&log, "x", 10);
    close(log);
    let db = place.raw("a");
    db.remove([&[0x0b][..], &1u64.to_be_bytes()].concat()).unwrap().expect("the row of the segment");
    db.flush().unwrap();
    drop(db);
    place.copy("a", "whole");
    assert_eq!(everything(&place.log("whole")).len(), 40, "a segment without a row is read");
    let length = place.length("a");
    // Only zeros up to the end look like room that was written ahead, and still are none.
    for (name, zeroed) in [("a hole", 70), ("all of the end", 64)] {
        place.copy("a", name);
        zero(&place.events(name), length - zeroed);
        for _ in 0..2 {
            let refused = place.open(place.options(name)).map(drop).unwrap_err();
            assert!(matches!(&refused, OpenError::Damaged(_)), "{name}: {refused:?}");
            assert_eq!(place.length(name), length, "{name}: nothing was cut off");
        }
    }
}

fn zero(path: &Path, at: u64) {
    File::options().write(true).open(path).unwrap().write_all_at(&[0; 64], at).unwrap();
}

#[test]
fn files_of_events_that_are_missing_or_unknown_are_damage_and_nothing_is_removed() {
    let place = Place::new();
    let log = place.open(SledOptions { segment_bytes: 4_096, ..place.options("a") }).unwrap();
    fill(&log, "x", 100);
    close(log);
    let mut files: Vec<PathBuf> = std::fs::read_dir(place.path("a").join("events"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 4, "{files:?}");
    for (number, file) in files.iter().enumerate() {
        let name = format!("missing-{number}");
        place.copy("a", &name);
        let file = place.path(&name).join("events").join(file.file_name().unwrap());
        std::fs::remove_file(&file).unwrap();
        let refused = place.open(place.options(&name)).map(drop).unwrap_err();
        assert!(refused.to_string().contains("is missing"), "{refused}");
    }
    place.copy("a", "unknown");
    let unknown = place.path("unknown").join("events").join("00000000000000009999.3");
    std::fs::write(&unknown, b"whatever").unwrap();
    let refused = place.open(place.options("unknown")).map(drop).unwrap_err();
    assert!(refused.to_string().contains("belongs to no segment"), "{refused}");
    assert!(unknown.exists());

    // What is newer than the index is read, if it is what its name says.
    place.copy("a", "renamed");
    let renamed = place.path("renamed").join("events").join("00000000000000009999.0");
    std::fs::copy(&files[2], &renamed).unwrap();
    let refused = place.open(place.options("renamed")).map(drop).unwrap_err();
    assert!(
        refused.to_string().contains("9999") && refused.to_string().contains("out of order"),
        "{refused}"
    );

    // Half of a packed file whose row was never written, and the file of one whose row was.
    place.copy("a", "left-over");
    let folder = place.path("left-over").join("events");
    let names: Vec<_> =
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let left_over = folder.join(names[1].replace(".0", ".1"));
    std::fs::write(&left_over, b"half of it").unwrap();
    let log = place.log("left-over");
    assert_eq!(everything(&log).len(), 400);
    assert!(!left_over.exists());
    log.verify().unwrap();
}

/// A segment that grew after its row was written, and is full now, is never written to again: its row has to be all the same.
#[test]
fn a_segment_that_was_full_when_the_process_was_killed_is_whole_after_the_next_start() {
    let place = Place::new();
    let options = SledOptions { segment_bytes: 4_096, ..place.options("a") };
    let log = place.open(options.clone()).unwrap();
    append(&log, vec![event("small", "")]);
    close(log);
    let log = place.open(options.clone()).unwrap();
    append(&log, vec![event("large", &"x".repeat(60_000))]);
    place.copy("a", "b");
    let options = SledOptions { directory: place.path("b"), ..options };
    for events in 3..5 {
        let log = place.open(options.clone()).unwrap();
        append(&log, vec![event("small", "")]);
        assert_eq!(everything(&log).len(), events);
        log.verify().unwrap();
        close(log);
    }
    assert_eq!(everything(&place.open(options).unwrap()).len(), 4);
}

/// Between two commits nothing in the files says that one is missing, but the places do: after a checkpoint each follows the one
/// before.
#[test]
fn files_of_events_that_are_not_in_the_index_yet_and_end_too_early_are_damage() {
    let place = Place::new();
    let log = place.open(SledOptions { segment_bytes: 1_024, ..place.options("a") }).unwrap();
    fill(&log, "x", 5);
    close(log);
    let log = place.open(SledOptions { segment_bytes: 1_024, ..place.options("a") }).unwrap();
    let mut files = Vec::new();
    while files.len() < 6 {
        fill(&log, "y", 1);
        files = std::fs::read_dir(place.path("a").join("events"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
    }
    files.sort();
    let events = everything(&log).len();
    place.copy("a", "whole");
    assert_eq!(everything(&place.log("whole")).len(), events);
    // The first one is in the index for the most part, and the last one may end anywhere.
    for file in &files[2..5] {
        let empty = format!("{file}-empty");
        place.copy("a", &empty);
        File::options()
            .write(true)
            .open(place.path(&empty).join("events").join(file))
            .unwrap()
            .set_len(0)
            .unwrap();
        let refused = place.open(place.options(&empty)).map(drop).unwrap_err();
        assert!(matches!(&refused, OpenError::Damaged(what) if what.contains(file)), "{file}: {refused:?}");

        let shorter = format!("{file}-shorter");
        place.copy("a", &shorter);
        let path = place.path(&shorter).join("events").join(file);
        let bytes = std::fs::read(&path).unwrap();
        let length = |at: usize| 24 + u32::from_be_bytes(*bytes[at + 16..].first_chunk().unwrap()) as usize;
        assert!(length(0) < bytes.len(), "it has several commits");
        File::options().write(true).open(&path).unwrap().set_len(length(0) as u64).unwrap();
        let refused = place.open(place.options(&shorter)).map(drop).unwrap_err();
        assert!(refused.to_string().contains("missing"), "{file}: {refused}");

        let missing = format!("{file}-missing");
        place.copy("a", &missing);
        std::fs::remove_file(place.path(&missing).join("events").join(file)).unwrap();
        let refused = place.open(place.options(&missing)).map(drop).unwrap_err();
        assert!(refused.to_string().contains("missing"), "{file}: {refused}");
    }
}
