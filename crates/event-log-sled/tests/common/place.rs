//! A place for logs, each a directory with a name, which can be copied, opened as the engine opens it, and damaged.
#![allow(dead_code, reason = "each suite uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use event_log::contract::{WINDOW, clock, event};
use event_log::{Appended, Batch, EventLog, ManualClock, NewEvent};
use event_log_sled::{OpenError, SledLog, SledOptions};
use futures_executor::block_on;

use super::copy_log;

pub struct Place {
    directory: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
}

impl Place {
    pub fn new() -> Self {
        Place { directory: tempfile::tempdir().unwrap(), clock: clock() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Without checkpoints, until it is closed.
    pub fn options(&self, name: &str) -> SledOptions {
        SledOptions {
            idempotency_window: WINDOW,
            free_disk_bytes_min: 0,
            checkpoint_events: usize::MAX,
            ..SledOptions::new(self.path(name))
        }
    }

    pub fn open(&self, options: SledOptions) -> Result<SledLog, OpenError> {
        SledLog::open(options, Arc::<ManualClock>::clone(&self.clock))
    }

    pub fn log(&self, name: &str) -> SledLog {
        self.open(self.options(name)).unwrap()
    }

    /// What a process that is killed now leaves behind.
    pub fn copy(&self, from: &str, to: &str) {
        copy_log(&self.path(from), &self.path(to));
    }

    pub fn db(&self, name: &str) -> PathBuf {
        self.path(name).join("sled/db")
    }

    /// The newest file of events.
    pub fn events(&self, name: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.path(name).join("events")).unwrap();
        entries.map(|entry| entry.unwrap().path()).max().unwrap()
    }

    pub fn length(&self, name: &str) -> u64 {
        std::fs::metadata(self.events(name)).unwrap().len()
    }

    /// The store itself. sled's own threads may let go of a file that was closed a moment ago only now.
    pub fn raw(&self, name: &str) -> sled::Db {
        let begun = std::time::Instant::now();
        loop {
            let config = sled::Config::new().path(self.path(name).join("sled"));
            match config.segment_size(1 << 20).flush_every_ms(None).open() {
                Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                    assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => return opened.unwrap(),
            }
        }
    }
}

pub fn append(log: &SledLog, events: Vec<NewEvent>) -> Vec<Appended> {
    block_on(log.append(Batch::new(events))).unwrap().events
}

pub fn fill(log: &SledLog, prefix: &str, batches: usize) {
    for n in 0..batches {
        append(
            log,
            (0..4).map(|m| event(&format!("t{}", (n + m) % 7), &format!("{prefix}.{n}.{m}"))).collect(),
        );
    }
}

pub fn close(log: SledLog) {
    block_on(log.close());
}

pub fn flip(db: &sled::Db, key: &[u8]) {
    let mut value = db.get(key).unwrap().unwrap().to_vec();
    let last = value.len() - 1;
    value[last] ^= 1;
    db.insert(key, value).unwrap();
}
