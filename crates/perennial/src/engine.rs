//! The room that names an engine. To run on another one, change this file, `archive/store.rs` and `Cargo.toml`.

use std::sync::Arc;

use anyhow::Context;
use broker_http::{Archives, Writable};
use event_log::{EventLog, SystemClock};
use event_log_sled::{SledLog, SledOptions};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;

use crate::config::Config;

/// An open log, and what the daemon must know of it beside the contract.
pub(crate) struct Engine {
    pub(crate) log: Arc<dyn EventLog>,
    /// Whether it would take an append now.
    pub(crate) writable: Writable,
    /// Copies of it, while appends go on.
    pub(crate) archives: Archives,
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
    Ok(Engine {
        failed: log.failed(),
        writable: Arc::new(move || asked.is_writable()),
        archives: archives(log.clone()),
        log: Arc::new(log),
    })
}

fn archives(log: SledLog) -> Archives {
    Arc::new(move || {
        let items = stream::try_unfold(log.archive(), |mut archive| async move {
            let items = archive.next().await?;
            Ok((!items.is_empty()).then_some((items, archive)))
        });
        items.boxed()
    })
}
