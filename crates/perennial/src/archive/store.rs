//! A data directory without a broker on it. Beside `engine.rs` the only file that names an engine.
//!
//! Idempotency keys are kept for the longest window that there is while a log is copied or checked: whoever serves it
//! later forgets what is too old for him, and nothing must be lost because a copy knew another window.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use event_log::{EventId, EventLog, Item, SystemClock};
use event_log_sled::{Archive, Importer, OpenError, SledLog, SledOptions};

use crate::cli::ServeArgs;
use crate::config::{self, Config};

/// The most that `idempotency_window` may be set to.
const LONGEST_WINDOW: Duration = Duration::from_secs(366 * 24 * 3_600);

/// A log that is there, opened to be read.
pub(crate) struct Store(SledLog);

impl Store {
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        // Opening would make a log, and nobody wants a new one copied or checked. Every log has these, but one that is damaged.
        if !["LOCK", "sled", "events"].iter().any(|name| directory.join(name).exists()) {
            bail!(
                "there is no log in {}; name the directory that `perennial serve --data` has",
                directory.display()
            );
        }
        Ok(Store(open(options(directory)?)?))
    }

    /// Events kept.
    pub(crate) fn events(&self) -> u64 {
        self.0.bounds().events
    }

    /// The newest place.
    pub(crate) fn head(&self) -> EventId {
        let bounds = self.0.bounds();
        bounds.epochs.id(bounds.head)
    }

    pub(crate) fn archive(&self) -> Archive {
        self.0.archive()
    }

    /// Reads and compares all there is. Gives what was counted, by its name.
    pub(crate) fn verify(&self, progress: &mut dyn FnMut(u64)) -> anyhow::Result<[(&'static str, u64); 6]> {
        let verified = self.0.verify_with(progress)?;
        Ok([
            ("events", verified.events),
            ("topics", verified.topics),
            ("records", verified.records),
            ("chunks", verified.chunks),
            ("idempotency keys", verified.keys),
            ("compaction keys", verified.compaction_keys),
        ])
    }

    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}

/// A log to append to, as `serve` would open it with the environment's settings; made if there is none.
pub(crate) fn open_to_append(directory: &Path) -> anyhow::Result<Arc<dyn EventLog>> {
    let config = settings()?;
    let options = SledOptions {
        idempotency_window: config.idempotency_window,
        free_disk_bytes_min: config.free_disk_bytes_min,
        ..options(directory)?
    };
    Ok(Arc::new(open(options)?))
}

/// An exact copy under construction.
pub(crate) struct Copy(Importer);

/// What an exact copy holds.
pub(crate) struct Copied {
    pub(crate) head: EventId,
    pub(crate) events: u64,
}

impl Copy {
    /// Begins one in a new or empty directory; `None` if there is a log with events already.
    pub(crate) fn begin(directory: &Path) -> anyhow::Result<Option<Self>> {
        match Importer::begin(options(directory)?, Arc::new(SystemClock)) {
            Ok(importer) => Ok(Some(Copy(importer))),
            Err(OpenError::NotEmpty { .. }) => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("no log can be made in {}", directory.display()))
            }
        }
    }

    pub(crate) fn push(&mut self, item: Item) -> anyhow::Result<()> {
        Ok(self.0.push(item)?)
    }

    /// The copy is a log from here on.
    pub(crate) fn finish(self) -> anyhow::Result<Copied> {
        let imported = self.0.finish()?;
        Ok(Copied { head: EventId::new(imported.head, imported.epoch), events: imported.events })
    }
}

fn open(options: SledOptions) -> anyhow::Result<SledLog> {
    let directory = options.directory.clone();
    SledLog::open(options, Arc::new(SystemClock))
        .with_context(|| format!("the log in {} cannot be opened", directory.display()))
}

fn options(directory: &Path) -> anyhow::Result<SledOptions> {
    Ok(SledOptions {
        idempotency_window: LONGEST_WINDOW,
        cache_bytes: settings()?.cache_bytes,
        ..SledOptions::new(directory)
    })
}

/// What the environment sets.
fn settings() -> anyhow::Result<Config> {
    let args = ServeArgs {
        listen: None,
        data: None,
        config: None,
        set: Vec::new(),
        demo: false,
        tls_self_signed: false,
        restored: false,
    };
    Ok(Config::load(&args, config::environment()?.into_iter())?)
}
