//! The in-memory model keeps the contract that engines are compared with.

use std::sync::Arc;

use event_log::contract::{Harness, WINDOW, clock};
use event_log::memory::MemoryLog;
use event_log::{EventLog, ManualClock};
use futures_executor::block_on;

struct Model {
    clock: Arc<ManualClock>,
    log: MemoryLog,
}

impl Model {
    fn new() -> Self {
        let clock = clock();
        let log = MemoryLog::new(Arc::<ManualClock>::clone(&clock), WINDOW);
        Model { clock, log }
    }
}

impl Harness for Model {
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.log.clone())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn reopen(&mut self) {
        block_on(self.log.close());
        self.log = self.log.reopened();
    }
}

event_log::contract_tests!(Model::new);
