//! Coming back from a crash with a large log, and from a full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::heavy;
use crate::harness::stream::{Publisher, Stream};
use crate::harness::{Broker, Request};

const MIB: usize = 1_024 * 1_024;

/// A batch of 4 MiB: 4,096 events of 1 KiB that differ.
fn batch(number: usize) -> String {
    let filler = "r".repeat(1_000);
    (0..4_096)
        .map(|event| {
            format!(
                "{{\"topic\":\"large.t{}\",\"data\":\"{number:0>10}-{event:0>13}{filler}\"}}\n",
                event % 8
            )
        })
        .collect()
}

#[test]
fn a_log_of_one_gibibyte_is_open_again_within_five_seconds_of_a_crash() {
    let _turn = heavy::turn();
    const BATCHES: usize = 256;
    let mut server = Broker::start();
    let port = server.port();
    let (taken, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut publisher = Publisher::connect(port).unwrap();
                // The crash comes while publishing goes on; only what was answered is counted.
                while let Ok((201, _)) =
                    publisher.post_batch(batch(taken.fetch_add(1, Ordering::SeqCst)).as_bytes())
                {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        heavy::eventually("one GiB is published", Duration::from_secs(300), || {
            answered.load(Ordering::SeqCst) >= BATCHES
        });
        server.kill();
    });
    let size_on_disk = disk_usage(&server.data());
    let began = Instant::now();
    server.restart();
    let took = began.elapsed();
    println!("{} MiB in {} MiB on disk: open again after {took:?}", BATCHES * 4, size_on_disk / MIB);
    assert!(took < Duration::from_secs(5), "recovery took {took:?}");

    let status = server.json("/v1/status");
    let events = status["events"].as_u64().unwrap() as usize;
    assert!(events >= answered.load(Ordering::SeqCst) * 4_096, "{status}");
    // A batch is there wholly or not at all.
    assert_eq!(events % 4_096, 0, "{status}");
    let mut stream = Stream::open(port, "/v1/events?topic=large.t3&from=earliest", None).unwrap();
    for _ in 0..10_000 {
        assert!(stream.next().unwrap());
        assert!(stream.block.event != b"$gap");
    }
    let newest = server.json("/v1/events?topic=large.**&from=-1");
    assert_eq!(newest["events"].as_array().unwrap().len(), 1, "{newest}");
    server.publish("large.t0", "after the crash");
}

fn disk_usage(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() { disk_usage(&entry.path()) } else { entry.metadata().unwrap().len() as usize }
        })
        .sum()
}

/// A small file system in memory, unmounted at the end. Only root may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mebibytes: usize) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the broker may still have files open, and is ended right after.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// The answer to one more MiB.
fn publish_mebibyte(server: &Broker, number: usize) -> crate::harness::Response {
    let lines: String = (0..16)
        .map(|part| {
            format!("{{\"topic\":\"full\",\"data\":\"{number}-{part}-{}\"}}\n", "d".repeat(64 * 1_024))
        })
        .collect();
    server.post_batch(lines)
}

#[test]
fn a_full_disk_refuses_publishing_and_not_reading_until_there_is_room_again() {
    let _turn = heavy::turn();
    let mut server = Broker::start();
    assert!(server.terminate().success());
    fs::remove_dir_all(server.data()).unwrap();
    fs::create_dir(server.data()).unwrap();
    let Some(disk) = SmallDisk::mount(&server.data(), 400) else {
        println!("mounting is not allowed here: the floor is raised above the disk instead");
        return the_floor_is_above_the_whole_disk();
    };
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![1; 100 * MIB]).unwrap();
    server.restart();

    let mut published = 0;
    let refused = loop {
        let response = publish_mebibyte(&server, published);
        if response.status != 201 {
            break response;
        }
        published += 1;
        assert!(published < 400, "a disk of 400 MiB never was full");
    };
    refused.problem(507);
    println!(
        "507 after {published} MiB on a disk of 400 MiB, of which 100 MiB were taken and 64 MiB are the floor"
    );
    assert!(published > 0, "nothing was published before the disk was full");
    // Something small may still fit above the floor; once the disk is below it, nothing does.
    let second_filler = disk.0.join("second_filler");
    fs::write(&second_filler, vec![2; 32 * MIB]).unwrap();
    server.post("/v1/topics/full/events", "one more").problem(507);
    reading_goes_on(&server, published * 16);
    // The process is the same one all the time, so its stream lives through it.
    let mut stream = Stream::open(server.port(), "/v1/events?topic=full", None).unwrap();
    fs::remove_file(&filler).unwrap();
    fs::remove_file(&second_filler).unwrap();
    heavy::eventually("publishing works again by itself", Duration::from_secs(60), || {
        publish_mebibyte(&server, published).status == 201
    });
    let mut came = 0;
    while came < 16 {
        assert!(stream.next().unwrap());
        came += usize::from(!stream.block.is_broker());
    }
    server.kill();
    server.restart();
    reading_goes_on(&server, published * 16 + 16);
    server.kill();
}

/// Everything that was acknowledged, and nothing that was refused.
fn reading_goes_on(server: &Broker, events: usize) {
    let history = heavy::history(server, "topic=full");
    assert_eq!(history.len(), events);
    let first = history[0]["data"].as_str().unwrap();
    assert!(first.starts_with("0-0-d"), "{}", &first[..20]);
}

/// What can be shown of a full disk without a disk of one's own.
fn the_floor_is_above_the_whole_disk() {
    let mut server = Broker::start();
    for number in 0..3 {
        assert_eq!(publish_mebibyte(&server, number).status, 201);
    }
    assert!(server.terminate().success());
    let mut serve = crate::harness::broker::command();
    serve.args([
        "serve",
        "--listen",
        &format!("127.0.0.1:{}", server.port()),
        "--set",
        "min_free_disk=1000000GiB",
    ]);
    let mut child = serve.arg("--data").arg(server.data()).spawn().unwrap();
    heavy::eventually("it listens", Duration::from_secs(20), || {
        std::net::TcpStream::connect(("127.0.0.1", server.port())).is_ok()
    });
    server.send(&Request::new("POST", "/v1/topics/full/events").body("one more")).problem(507);
    reading_goes_on(&server, 48);
    child.kill().unwrap();
    child.wait().unwrap();
}
