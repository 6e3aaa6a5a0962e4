//! What is removed gives its room back: the data directory stays in bounds that come from what is kept, and memory does not
//! grow with history.
//!
//! The directory is measured twice, as the sizes that its files show and as the blocks that they really take, so that
//! neither holes nor preallocation can hide anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::Broker;
use crate::harness::heavy::{self, resident_bytes};
use crate::harness::history::{QUICK, WITHIN};
use crate::harness::stream::Publisher;

const MIB: u64 = 1_024 * 1_024;

/// What the files of a directory show as their sizes, and what they take.
#[derive(Debug, Default, Clone, Copy)]
struct Directory {
    sizes: u64,
    blocks: u64,
}

impl Directory {
    fn measure(path: &Path) -> Self {
        let mut measured = Directory::default();
        let mut left = vec![path.to_owned()];
        while let Some(directory) = left.pop() {
            // A file may go while this looks.
            for entry in fs::read_dir(&directory).into_iter().flatten().map_while(Result::ok) {
                let Ok(about) = entry.metadata() else { continue };
                if about.is_dir() {
                    left.push(entry.path());
                } else {
                    measured.sizes += about.len();
                    measured.blocks += about.blocks() * 512;
                }
            }
        }
        measured
    }

    fn bytes(self) -> u64 {
        self.sizes.max(self.blocks)
    }
}

/// The promise: 2.5 times what is kept and 64 MiB.
fn allowed(kept: u64) -> u64 {
    kept * 5 / 2 + 64 * MIB
}

/// Topics limited to 200 MiB in all, each in another way, with the bytes of one event's data and of each topic's share.
const LIMITED: [(&str, usize, u64); 5] = [
    ("limited.large", 60_000, 64 * MIB),
    ("limited.middle", 4_000, 56 * MIB),
    ("limited.small", 150, 32 * MIB),
    ("limited.few", 1_000, 32 * MIB),
    ("limited.keyed", 900, 16 * MIB),
];

/// What is kept of them in all, and the broker's own few events.
const LIMIT: u64 = 201 * MIB;

fn set_policies(broker: &Broker) {
    for (topic, data, share) in LIMITED {
        let policy = match topic {
            "limited.few" => json!({ "max_events": share / (data as u64 + topic.len() as u64) }),
            // Ten thousand keys have about ten MiB of newest states.
            "limited.keyed" => json!({ "compact": "key", "max_bytes": share }),
            _ => json!({ "max_bytes": share, "max_age": "1d" }),
        };
        broker.put_policy(topic, policy.to_string());
    }
}

/// A batch of about 2 MiB for one topic. No two texts are alike, so that nothing is saved by compressing them.
fn batch(topic: &str, data: usize, number: u64) -> String {
    let mut numbers = heavy::Numbers::from_seed(number);
    let count = (2 * MIB as usize / (data + 64)).max(1);
    let line = |_| {
        let mut text = String::with_capacity(data + 16);
        while text.len() < data {
            text += &format!("{:016x}", numbers.below(u64::MAX));
        }
        text.truncate(data);
        let key = if topic == "limited.keyed" {
            format!(",\"key\":\"k{}\"", numbers.below(10_000))
        } else {
            String::new()
        };
        format!("{{\"topic\":\"{topic}\"{key},\"data\":\"{text}\"}}\n")
    };
    (0..count).map(line).collect()
}

/// What a directory and a process took at their worst.
#[derive(Debug, Default, Clone, Copy)]
struct Worst {
    /// Bytes over what is allowed.
    excess: u64,
    directory: u64,
    resident: u64,
}

/// The directory, and the bytes that are kept.
fn look(broker: &Broker) -> (Directory, u64) {
    let kept = broker.json("/v1/status")["bytes"].as_u64().unwrap();
    (Directory::measure(&broker.data()), kept)
}

/// Publishes so many bytes in turn to the limited topics, and looks all the while.
fn publish_limited(broker: &Broker, bytes: u64, first: u64) -> Worst {
    let published = AtomicU64::new(0);
    let mut worst = Worst::default();
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..2)
            .map(|publisher| {
                let published = &published;
                scope.spawn(move || {
                    let mut connection = Publisher::connect(broker.port()).unwrap();
                    for number in (0..).map(|n| first + n * 2 + publisher) {
                        if published.load(Ordering::SeqCst) >= bytes {
                            return;
                        }
                        let (topic, data, _) = LIMITED[number as usize % LIMITED.len()];
                        let lines = batch(topic, data, number);
                        let (status, body) = connection.post_batch(lines.as_bytes()).unwrap();
                        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
                        published.fetch_add(lines.len() as u64, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        while publishers.iter().any(|publisher| !publisher.is_finished()) {
            thread::sleep(Duration::from_millis(500));
            let (directory, kept) = look(broker);
            worst.excess = worst.excess.max(directory.bytes().saturating_sub(allowed(kept)));
            worst.directory = worst.directory.max(directory.bytes());
            worst.resident = worst.resident.max(resident_bytes(broker.pid()));
        }
    });
    worst
}

/// Waits until no more than this is kept and the directory is within what is allowed, and returns its bytes.
fn within_bounds(broker: &Broker, kept_max: u64) -> u64 {
    let deadline = Instant::now() + WITHIN;
    loop {
        let (directory, kept) = look(broker);
        if kept <= kept_max && directory.bytes() <= allowed(kept) {
            println!("{directory:?} for {kept} bytes kept");
            return directory.bytes();
        }
        assert!(Instant::now() < deadline, "after {WITHIN:?}: {directory:?} for {kept} bytes kept");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn two_gigabytes_through_topics_of_two_hundred_megabytes_stay_within_the_bound() {
    let _turn = heavy::turn();
    const SLACK: u64 = 96 * MIB;
    let mut broker = Broker::with(&["--set", "retention_interval=200ms"]);
    set_policies(&broker);
    let first = publish_limited(&broker, 500 * MIB, 0);
    let second = publish_limited(&broker, 1_548 * MIB, 1_000_000);
    println!("the first quarter: {first:?}\nthe rest: {second:?}");
    // The topics are full since the first quarter.
    assert_eq!(second.excess, 0, "the directory was over its bound by {} MiB", second.excess / MIB);
    let directory = within_bounds(&broker, LIMIT);
    let status = broker.json("/v1/status");
    let told = status["bytes_on_disk"].as_u64().unwrap();
    assert!(told >= directory / 2 && told <= directory * 2, "told are {told} of {directory} bytes");
    // The index of four times as many events has gone through the same memory.
    assert!(second.resident <= first.resident + SLACK, "from {} to {}", first.resident, second.resident);
    for (topic, _, share) in LIMITED {
        // All together may be within their bounds a pass of retention before each is.
        heavy::eventually("the topic is within its share", WITHIN, || {
            broker.topic(topic)["bytes"].as_u64().unwrap() <= share
        });
    }
    broker.kill();
    broker.restart();
    within_bounds(&broker, LIMIT);
    assert!(broker.terminate().success());
    broker.verify();
}

#[test]
fn events_that_come_one_by_one_take_no_more_room_than_batches() {
    let _turn = heavy::turn();
    let broker = Broker::with(&QUICK);
    broker.put_policy("single", r#"{"max_bytes":"4MiB"}"#);
    // Four publishers at once, so that some share a barrier and some do not.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = Publisher::connect(broker.port()).unwrap();
                for n in 0..4_000 {
                    let data = format!("{n}-{}", "s".repeat(n % 40 * 100));
                    let (status, body) =
                        connection.post("/v1/topics/single/events", "", data.as_bytes()).unwrap();
                    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
                }
            });
        }
    });
    within_bounds(&broker, 5 * MIB);
}

#[test]
fn the_room_of_a_purged_topic_is_used_again() {
    let _turn = heavy::turn();
    const ROUND: u64 = 192;
    const SLACK: u64 = 64 * MIB;
    let mut broker = Broker::with(&QUICK);
    let mut directories = Vec::new();
    for round in 0..4 {
        let mut connection = Publisher::connect(broker.port()).unwrap();
        for number in 0..ROUND / 2 {
            let lines = batch("purged", 4_000, round * 1_000 + number);
            assert_eq!(connection.post_batch(lines.as_bytes()).unwrap().0, 201);
        }
        directories.push(Directory::measure(&broker.data()).bytes() / MIB);
        broker.purge("purged");
        if round == 2 {
            broker.kill();
            broker.restart();
        }
    }
    println!("the directory before each purge, in MiB: {directories:?}");
    for later in &directories[1..] {
        assert!(*later <= directories[0] + SLACK / MIB, "the directory grows: {directories:?}");
    }
}
