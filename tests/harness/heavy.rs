//! What the heavy tests share: a turn, so that they do not fight for the machine, and small measures.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Broker, Request};
use serde_json::Value;

static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other heavy test runs. A heavy test holds what it gets to its end.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks again and again until the answer is yes; fails with `what` when it never is.
pub(crate) fn eventually(what: &str, limit: Duration, mut yes: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !yes() {
        assert!(Instant::now() < deadline, "after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Numbers(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (mix(self.0) >> 11) % limit
    }
}

/// A rolling checksum: every byte and its place change it.
pub(crate) fn roll(mut sum: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        sum = mix(sum ^ u64::from_le_bytes(word.try_into().unwrap()));
    }
    for byte in words.remainder() {
        sum = mix(sum ^ u64::from(*byte));
    }
    mix(sum ^ bytes.len() as u64)
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    word ^ (word >> 29)
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kib * 1_024
}

/// The log as it is now, each event an envelope. `query` begins with `topic=`.
pub(crate) fn history(broker: &Broker, query: &str) -> Vec<Value> {
    let target = format!("/v1/events?{query}&from=earliest");
    let response = broker.send(&Request::new("GET", &target).header("Accept", "application/x-ndjson"));
    assert_eq!(response.status, 200, "{response}");
    response.lines()
}

#[test]
fn the_checksum_sees_every_byte_and_every_order() {
    let sums: std::collections::HashSet<u64> =
        [&b""[..], b"\0", b"abcdefgh", b"abcdefgi", b"bbcdefgh", b"abcdefgh\0", b"hgfedcba"]
            .iter()
            .map(|bytes| roll(1, bytes))
            .collect();
    assert_eq!(sums.len(), 7);
    assert_ne!(roll(roll(1, b"a"), b"b"), roll(roll(1, b"b"), b"a"));
}
