//! Readers that do not read: they lose nothing, hold nobody up, and cost little memory, however much waits for them.
//!
//! Whether somebody is held up is judged by counts: while the stalled ones have read nothing at all, everything is
//! published and read by others. Kernel buffers hold a few MiB for each connection, so every backlog here is larger.

use std::thread;
use std::time::Duration;

use crate::harness::Broker;
use crate::harness::heavy::{self, resident_bytes};
use crate::harness::stream::{Publisher, Stream, sequence};

const MIB: u64 = 1_024 * 1_024;
const KIB: usize = 1_024;

/// Text of exactly so many bytes that tells its number.
fn text(number: usize, bytes: usize) -> String {
    format!("{number:0>12}{}", "z".repeat(bytes - 12))
}

/// Publishes the numbered texts in batches of about 1 MiB.
fn publish(port: u16, numbers: std::ops::Range<usize>, bytes: usize) {
    let mut publisher = Publisher::connect(port).unwrap();
    let batch_events = (1_024 * KIB / bytes).max(1);
    for from in numbers.clone().step_by(batch_events) {
        let lines: String = (from..(from + batch_events).min(numbers.end))
            .map(|number| format!("{{\"topic\":\"slow\",\"data\":\"{}\"}}\n", text(number, bytes)))
            .collect();
        let (status, body) = publisher.post_batch(lines.as_bytes()).unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }
}

/// Reads the numbered texts, each once, in order, and nothing else.
fn read(stream: &mut Stream, numbers: std::ops::Range<usize>, bytes: usize) {
    let mut before = 0;
    for number in numbers {
        loop {
            assert!(stream.next().unwrap(), "the stream ended before {number}");
            let kind = String::from_utf8_lossy(&stream.block.event);
            assert!(kind != "$gap" && kind != "$closing", "{kind} before {number}");
            if !stream.block.is_broker() {
                break;
            }
        }
        let place = sequence(&stream.block.id);
        assert!(place > before, "{place} came after {before}");
        before = place;
        let came = String::from_utf8_lossy(&stream.block.data);
        assert!(came == text(number, bytes), "instead of {number} came {}", &came[..came.len().min(40)]);
    }
}

fn open(server: &Broker, from: &str) -> Stream {
    Stream::open(server.port(), &format!("/v1/events?topic=slow&from={from}"), None).unwrap()
}

#[test]
fn a_stalled_reader_gets_everything_later_and_holds_up_nobody() {
    let _turn = heavy::turn();
    const EVENTS: usize = 6_000;
    let server = Broker::start();
    let port = server.port();
    let mut stalled = [open(&server, "latest"), open(&server, "latest")];
    let mut lively = open(&server, "latest");
    // About 94 MiB, while the two stalled readers read nothing.
    thread::scope(|scope| {
        scope.spawn(|| publish(port, 0..EVENTS, 16 * KIB));
        read(&mut lively, 0..EVENTS, 16 * KIB);
    });
    let queued = queued_bytes(port);
    assert!(
        queued < (EVENTS * 16 * KIB) as u64,
        "the kernel holds all of it ({queued} bytes): nobody was behind"
    );
    for stream in &mut stalled {
        read(stream, 0..EVENTS, 16 * KIB);
    }
    // They are live again like any other.
    publish(port, EVENTS..EVENTS + 10, 16 * KIB);
    for stream in stalled.iter_mut().chain([&mut lively]) {
        read(stream, EVENTS..EVENTS + 10, 16 * KIB);
    }
}

/// Bytes that the kernel holds for the connections of this port, in both directions.
fn queued_bytes(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let of_port =
        |line: &&str| line.split_whitespace().skip(1).take(2).any(|address| address.ends_with(&port));
    let queues = |line: &str| -> u64 {
        let (out, into) = line.split_whitespace().nth(4).and_then(|both| both.split_once(':')).unwrap();
        u64::from_str_radix(out, 16).unwrap() + u64::from_str_radix(into, 16).unwrap()
    };
    table.lines().skip(1).filter(of_port).map(queues).sum()
}

/// Waits until the broker can give nothing more to anybody: what the kernel holds stands still.
fn settled(server: &Broker) {
    let mut before = 0;
    heavy::eventually("the kernel's buffers are full", Duration::from_secs(120), || {
        thread::sleep(Duration::from_millis(700));
        let now = queued_bytes(server.port());
        let same = now == before;
        before = now;
        same
    });
    assert!(before > MIB, "only {before} bytes wait for the stalled readers");
}

#[test]
fn a_hundred_stalled_readers_cost_at_most_a_mebibyte_each_whatever_their_backlog() {
    let _turn = heavy::turn();
    const READERS: usize = 100;
    const EVENTS: usize = 12_800;
    /// What the store itself may take more while the log doubles; a queue for each reader would take gigabytes.
    const SLACK: u64 = 96 * MIB;
    let server = Broker::start();
    publish(server.port(), 0..EVENTS, 16 * KIB);
    let alone = resident_bytes(server.pid());
    // Half of them begin with a backlog of 200 MiB, half are live when it begins to grow.
    let mut replaying: Vec<Stream> = (0..READERS / 2).map(|_| open(&server, "earliest")).collect();
    let mut live: Vec<Stream> = (0..READERS / 2).map(|_| open(&server, "latest")).collect();
    settled(&server);
    let with_readers = resident_bytes(server.pid());
    publish(server.port(), EVENTS..2 * EVENTS, 16 * KIB);
    settled(&server);
    let with_backlog = resident_bytes(server.pid());
    println!(
        "resident: {} MiB alone, {} MiB with {READERS} stalled readers, {} MiB with 200 MiB more behind them",
        alone / MIB,
        with_readers / MIB,
        with_backlog / MIB
    );
    let allowed = READERS as u64 * MIB + SLACK;
    assert!(with_readers <= alone + allowed, "{with_readers} is more than {alone} + {allowed}");
    assert!(with_backlog <= alone + allowed, "{with_backlog} is more than {alone} + {allowed}");
    // Nobody was dropped for being slow, and what they get is exact.
    read(&mut replaying[0], 0..2 * EVENTS, 16 * KIB);
    read(&mut live[0], EVENTS..2 * EVENTS, 16 * KIB);
}

#[test]
fn stalled_readers_of_the_largest_events_full_of_line_ends_cost_no_more() {
    let _turn = heavy::turn();
    const READERS: usize = 40;
    const EVENTS: usize = 60;
    const SLACK: u64 = 48 * MIB;
    let server = Broker::start();
    let data = vec![b'\n'; 256 * KIB];
    // Each line end becomes a line `data: `, so a frame is seven times as large as its event.
    let mut publisher = Publisher::connect(server.port()).unwrap();
    for _ in 0..EVENTS {
        assert_eq!(publisher.post("/v1/topics/slow/events", "", &data).unwrap().0, 201);
    }
    let alone = resident_bytes(server.pid());
    let mut streams: Vec<Stream> = (0..READERS).map(|_| open(&server, "earliest")).collect();
    settled(&server);
    let with_readers = resident_bytes(server.pid());
    println!("resident: {} MiB alone, {} MiB with {READERS} readers", alone / MIB, with_readers / MIB);
    let allowed = READERS as u64 * MIB + SLACK;
    assert!(with_readers <= alone + allowed, "{with_readers} is more than {alone} + {allowed}");
    let stream = &mut streams[0];
    let mut came = 0;
    while came < EVENTS {
        assert!(stream.next().unwrap(), "the stream ended after {came} events");
        if !stream.block.is_broker() {
            came += 1;
            assert!(stream.block.data == data, "event {came} came back as {} bytes", stream.block.data.len());
        }
    }
}
