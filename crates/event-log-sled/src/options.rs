//! How a log is opened, and why it may not open.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use event_log::{EngineError, Position, limits};

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct SledOptions {
    /// Where the log lives; made if there is none. One process at a time has it.
    pub directory: PathBuf,
    /// How long idempotency keys are kept.
    pub idempotency_window: Duration,
    /// Below this much room on the disk appends are refused; reads go on.
    pub free_disk_bytes_min: u64,
    /// What the engine may keep in memory of what is on disk.
    pub cache_bytes: u64,
    /// How much of the newest events is kept in memory for readers near the head. With 0 all is read from disk.
    pub recent_bytes: usize,
    /// The directory is an older copy that was put back: a new epoch begins at its head, so that no id is used twice.
    pub restored: bool,
    /// After so many events the projections are written down; opening reads at most about so many again.
    pub checkpoint_events: usize,
    /// So many of the newest idempotency keys are in memory as a whole, of older ones only a few bytes.
    pub key_bucket_entries: usize,
    /// A file of events that has so many bytes is not added to any more; only then can it be packed.
    pub segment_bytes: u64,
    /// Give bytes of removed events back, in the background.
    pub pack: bool,
}

impl SledOptions {
    /// The defaults.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        SledOptions {
            directory: directory.into(),
            idempotency_window: Duration::from_micros(limits::IDEMPOTENCY_WINDOW_MICROS_DEFAULT),
            free_disk_bytes_min: limits::FREE_DISK_BYTES_DEFAULT,
            cache_bytes: 64 * limits::MIB as u64,
            recent_bytes: 8 * limits::MIB,
            restored: false,
            checkpoint_events: 16_384,
            key_bucket_entries: 65_536,
            segment_bytes: 8 * limits::MIB as u64,
            pack: true,
        }
    }
}

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {} is in use by process {holder}; stop that process, or choose another directory",
        directory.display()
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// Who has it: a process id, as it wrote it down.
        holder: String,
    },
    /// A newer program wrote it.
    #[error(
        "the store has format {found}, and this program knows formats up to {known}; start the newer program that wrote it"
    )]
    FormatTooNew {
        /// The format of the store.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// What is stored is not what was written.
    #[error("the log is damaged: {0}. Restore a backup of the data directory and start once with --restored")]
    Damaged(String),
    /// The store ends before what was durable once.
    #[error(
        "the store ends at {found}, but its witness file says that {witnessed} was durable: the end of the log is lost. \
         Restore the data directory from a backup; to go on from what is there, start once with --restored"
    )]
    ShorterThanWitness {
        /// The newest event in the store.
        found: Position,
        /// The newest event that was durable at the last checkpoint.
        witnessed: Position,
    },
    /// An import needs a directory without a log.
    #[error(
        "the directory {} holds a log already; import into one that is empty or does not exist yet", directory.display()
    )]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// An import did not come to its end.
    #[error(
        "an import into the directory {} was begun and not completed; remove the directory and import again",
        directory.display()
    )]
    HalfImported {
        /// The directory.
        directory: PathBuf,
    },
    /// Flushes of the engine are not barriers in this build.
    #[error(
        "this build cannot make the log durable: the engine's flush does not end in this program's barrier. Build it \
         again with the symbol sync_file_range of event-log-sled linked in"
    )]
    BarrierNotLinked,
    /// A file could not be read or written.
    #[error("could not {what} {}: {source}; check that the disk is sound and that this user may write there", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The engine failed.
    #[error("the storage engine could not open the store: {0}; check the disk's room and this user's rights")]
    Engine(EngineError),
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        OpenError::Io { what, path: path.to_owned(), source }
    }
}
