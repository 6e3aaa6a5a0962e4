//! Backups of a running broker, restores, and the check of a data directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::command_line::assert_fails;
use crate::harness::archive::{EVERYTHING, events, on, run, text_of, without_epoch};
use crate::harness::envelope::sequence;
use crate::harness::{Broker, Envelope, PATIENCE, heavy};

fn backup(broker: &Broker, directory: &Path) -> std::process::Output {
    run(broker.command(&["backup", directory.to_str().unwrap()]), b"")
}

/// A broker on a copy that a backup made.
fn restored(copy: &Path) -> Broker {
    let mut broker = Broker::quick();
    broker.terminate();
    fs::remove_dir_all(broker.data()).unwrap();
    fs::rename(copy, broker.data()).unwrap();
    broker.restart();
    broker
}

/// What is published at full rate.
const TOPICS: [&str; 3] = ["kept.on", "limited", "other"];

/// Stops the publishers when the test goes on, and when it fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes numbered batches until it is told to stop, and returns how many events were answered.
fn publish_until(broker: &Broker, topic: &str, stop: &AtomicBool) -> usize {
    let mut published = 0;
    while !stop.load(Ordering::Relaxed) {
        published += broker.publish_many(topic, published..published + 200).len();
    }
    published
}

/// Checks that a topic's events are numbered without a hole, and returns the number behind the last.
fn check_numbers(events: &[Envelope]) -> usize {
    let numbers: Vec<usize> = events.iter().map(|event| event.data.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    numbers.last().map_or(0, |last| last + 1)
}

fn by_sequence(events: Vec<Envelope>) -> BTreeMap<u64, Envelope> {
    without_epoch(events).into_iter().map(|event| (event.sequence(), event)).collect()
}

#[test]
fn a_backup_while_publishing_and_retention_go_on_is_one_moment_of_the_log() {
    let _turn = heavy::turn();
    let broker = Broker::quick();
    broker.put_policy("limited", r#"{"max_events":500}"#);
    broker.put_policy("state", r#"{"compact":"key"}"#);
    for first in [0, 10_000] {
        broker.publish_many("kept", first..first + 10_000);
    }
    let (stop, copy) = (AtomicBool::new(false), broker.place().join("copy"));
    let published = thread::scope(|scope| {
        let (broker, stop) = (&broker, &stop);
        let stopping = StopAtEnd(stop);
        let publishers = TOPICS.map(|topic| scope.spawn(move || (topic, publish_until(broker, topic, stop))));
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                broker.publish_state("state", &format!("k{}", number % 7), &number.to_string());
                number += 1;
            }
        });
        // Each publisher is under way before the copy begins.
        for topic in TOPICS.iter().chain(&["state"]) {
            let path = format!("/v1/topics/{topic}");
            heavy::eventually("publishing goes on", PATIENCE, || broker.get(&path).status == 200);
        }
        let output = backup(broker, &copy);
        drop(stopping);
        assert!(output.status.success(), "{output:?}");
        publishers.map(|publisher| publisher.join().unwrap()).into_iter().collect::<BTreeMap<_, _>>()
    });
    let verified = run(on(&copy, &["verify"]), b"");
    assert!(verified.status.success(), "{verified:?}");
    let copied = by_sequence(events(&text_of(&run(on(&copy, &["export"]), b""))));
    let restored = restored(&copy);
    let head = sequence(&restored.head());
    assert!(head <= sequence(&broker.head()));
    // What the original still has was there when the copy was made.
    for (sequence, event) in by_sequence(broker.envelopes(EVERYTHING)).range(..=head) {
        assert_eq!(copied.get(sequence), Some(event));
    }
    let of = |topic: &str| restored.envelopes(&format!("topic={topic}"));
    assert_eq!(check_numbers(&of("kept")), 20_000);
    for topic in ["kept.on", "other"] {
        let events = of(topic);
        assert!(events.first().is_none_or(|event| event.data == "0"));
        assert!(check_numbers(&events) <= published[topic]);
    }
    assert!(check_numbers(&of("limited")) <= published["limited"]);
    restored.passed();
    restored.check_counts();
}

#[test]
fn a_backup_goes_into_a_new_or_empty_directory_only() {
    let broker = Broker::start();
    broker.publish("t", "x");
    let copy = broker.place().join("copies/monday");
    fs::create_dir_all(&copy).unwrap();
    assert!(backup(&broker, &copy).status.success());
    assert_fails(&backup(&broker, &copy), &[1], "empty directory");
    let mut nobody = broker.command(&["backup", "--url", "http://127.0.0.1:1", "unmade"]);
    nobody.current_dir(broker.place());
    assert_fails(&run(nobody, b""), &[1], "127.0.0.1:1");
    assert!(!broker.place().join("unmade").exists());
    assert_eq!(restored(&copy).data_of("t"), ["x"]);
}

#[test]
fn verify_counts_what_is_sound_and_changes_nothing() {
    let mut broker = Broker::quick();
    broker.publish_many("t", 0..2_000);
    broker.put_policy("t", r#"{"max_events":1200}"#);
    broker.until_kept("t", 1_200);
    broker.terminate();
    let export = || text_of(&run(on(&broker.data(), &["export"]), b""));
    let before = export();
    let told = text_of(&run(on(&broker.data(), &["verify"]), b""));
    let line = |name: &str| {
        let found = told.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("{name} in {told}")).trim().to_owned()
    };
    // The change of the policy is an event too.
    assert_eq!((line("events").as_str(), line("topics").as_str()), ("1,201", "2"));
    assert_eq!(export(), before);
}

/// The one file that holds the events of a small log.
fn events_file(data: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        fs::read_dir(data.join("events")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// What a stopped broker's log says of itself, which must be nothing good.
fn refusals(data: &Path) -> String {
    let verify = run(on(data, &["verify"]), b"");
    assert!(verify.stdout.is_empty(), "{verify:?}");
    let export = run(on(data, &["export"]), b"");
    assert!(!String::from_utf8_lossy(&export.stdout).contains("\"$end\""), "it does not look whole");
    assert_fails(&export, &[1], "");
    assert_fails(&verify, &[1], "");
    String::from_utf8_lossy(&verify.stderr).into_owned()
}

#[test]
fn verify_finds_a_flipped_byte_and_says_where() {
    let mut broker = Broker::start();
    broker.publish_many("before", 0..300);
    broker.publish("t", "a text that stands only once");
    broker.publish_many("after", 0..300);
    broker.terminate();
    let path = events_file(&broker.data());
    let (bytes, text) = (fs::read(&path).unwrap(), b"that stands only once");
    let place = bytes.windows(text.len()).position(|window| window == text).expect("the text in the file");
    File::options().write(true).open(&path).unwrap().write_all_at(b"T", place as u64).unwrap();
    let told = refusals(&broker.data());
    assert!(told.contains("damaged") && told.contains("301"), "{told}");
}

#[test]
fn verify_finds_that_a_file_is_gone_or_too_short_and_says_which() {
    let mut broker = Broker::start();
    broker.publish_many("before", 0..300);
    broker.terminate();
    let path = events_file(&broker.data());
    let name = path.file_name().unwrap().to_str().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let told = refusals(&broker.data());
    assert!(told.contains(name) && told.contains("were durable"), "{told}");
    fs::remove_file(&path).unwrap();
    let told = refusals(&broker.data());
    assert!(told.contains(name) && told.contains("missing"), "{told}");
}
