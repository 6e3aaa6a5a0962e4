//! The engine keeps the contract that the in-memory model keeps.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::sync::Arc;

use event_log::contract::{Harness, WINDOW, clock};
use event_log::{EventLog, ManualClock};
use event_log_sled::{SledLog, SledOptions};
use futures_executor::block_on;

struct Engine {
    clock: Arc<ManualClock>,
    options: SledOptions,
    log: SledLog,
    _directory: tempfile::TempDir,
}

impl Engine {
    /// Reads near the head are answered from memory.
    fn warm() -> Self {
        Engine::with_recent_bytes(1 << 20)
    }

    /// Every read goes to the store.
    fn cold() -> Self {
        Engine::with_recent_bytes(0)
    }

    fn with_recent_bytes(recent_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SledOptions {
            idempotency_window: WINDOW,
            free_disk_bytes_min: 0,
            // Small, so that the cases meet rows of the index as well as what is in memory only.
            checkpoint_events: 17,
            recent_bytes,
            ..SledOptions::new(directory.path().join("data"))
        };
        let clock = clock();
        let log = SledLog::open(options.clone(), Arc::<ManualClock>::clone(&clock)).unwrap();
        Engine { clock, options, log, _directory: directory }
    }
}

impl Harness for Engine {
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.log.clone())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn reopen(&mut self) {
        block_on(self.log.close());
        self.log = SledLog::open(self.options.clone(), Arc::<ManualClock>::clone(&self.clock)).unwrap();
        self.log.verify().unwrap();
    }
}

mod from_memory {
    event_log::contract_tests!(super::Engine::warm);
}

mod from_disk {
    event_log::contract_tests!(super::Engine::cold);
}
