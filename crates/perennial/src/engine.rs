//! The only room that names an engine. To run on another one, change this file and `Cargo.toml`.

use std::sync::Arc;

use anyhow::Context;
use broker_http::Writable;
use event_log::{EventLog, SystemClock};
use event_log_sled::{SledLog, SledOptions};
use futures_util::future::BoxFuture;

use crate::config::Config;

/// An open log, and what the daemon must know of it beside the contract.
pub(crate) struct Engine {
    pub(crate) log: Arc<dyn EventLog>,
    /// Whether it would take an append now.
    pub(crate) writable: Writable,
    /// Resolves with the reason when the log can no longer promise anything; the process must then end.
    pub(crate) failed: BoxFuture<'static, String>,
}

/// Opens the log in the data directory, or makes one. `restored` says that the directory is an older copy.
pub(crate) fn open(config: &Config, restored: bool) -> anyhow::Result<Engine> {
    let options = SledOptions {
        idempotency_window: config.idempotency_window,
        free_disk_bytes_min: config.free_disk_bytes_min,
        cache_bytes: config.cache_bytes,
        restored,
        ..SledOptions::new(&config.data)
    };
    let log = SledLog::open(options, Arc::new(SystemClock))
        .with_context(|| format!("the log in {} cannot be opened", config.data.display()))?;
    let asked = log.clone();
    Ok(Engine { failed: log.failed(), writable: Arc::new(move || asked.is_writable()), log: Arc::new(log) })
}
