//! The format of the store on disk, version by version, as frozen steps.
//!
//! A store carries a stamp, the version of its format. [`run`] reads it before anything else is read, refuses a store
//! that a newer program wrote, and applies the steps that are missing; each step and its stamp are one atomic batch,
//! so a crash between two steps only means that the next start goes on there. Files that a step writes are durable before
//! its batch, and a step that finds files of a run that was killed begins anew. So are rows of new kinds, if they are too
//! many for one batch: the older program takes no notice of them, and the next run writes them again.
//!
//! Records are not migrated: each carries a version byte of its own, and the engine reads every version. A step is for
//! the layout of keys and files, or to drop projections so that the engine makes them anew. A step is never edited after
//! its release and never uses a type of another crate of ours. The byte tables are in `README.md`.
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

mod v0001_initial;
mod v0002_removals;
mod v0003_segments;

/// The key of the stamp. It sorts before every other key and has the same meaning in all versions.
pub const STAMP_KEY: [u8; 2] = [0x00, 0x00];

/// One step: what it changes in the store is put into the batch that also carries the new stamp. The path is that of the
/// data directory, in which `sled/` lies.
pub type Step = fn(&sled::Db, &Path, &mut sled::Batch) -> Result<(), Error>;

/// All steps, oldest first. The step at index `n` leads from version `n` to version `n + 1`; version 0 is a store that
/// holds nothing.
pub const STEPS: &[Step] = &[v0001_initial::apply, v0002_removals::apply, v0003_segments::apply];

/// The newest version that this program knows, and the one it writes.
pub const KNOWN: u32 = 3;

const _: () = assert!(STEPS.len() == KNOWN as usize, "one step leads to each version");

/// Why a store cannot be brought to the newest version.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A newer program wrote the store.
    #[error(
        "the store has format {found}, and this program knows formats up to {known}; start the newer program that wrote it"
    )]
    FormatTooNew {
        /// The version that the store carries.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The store holds something, but no stamp.
    #[error(
        "the store holds rows but no format stamp, so it was not written by this program; choose another directory"
    )]
    NoStamp,
    /// The stamp is not one.
    #[error(
        "the format stamp is damaged (its bytes are {0:02x?}, and 4 that are not all zero are expected); restore a backup"
    )]
    BadStamp(Vec<u8>),
    /// A row of events is not what was written.
    #[error(
        "the chunk of events that begins at {first} is damaged (its part {part}: {what}), so the events cannot be moved; restore a backup"
    )]
    DamagedChunk {
        /// The place of the chunk's first event.
        first: u64,
        /// Which part of a large event it is; 0 for every other one.
        part: u16,
        /// What is wrong with it.
        what: String,
    },
    /// A row stands among those of events and is none.
    #[error("the row {0:02x?} stands among the events, and no row has such a key; restore a backup")]
    UnknownRow(Vec<u8>),
    /// There are files of events that the store knows nothing of, and they are none that can be made anew.
    #[error(
        "the store knows no events, but {0} holds files of some; restore a backup, or move them away if nobody needs them"
    )]
    UnknownFiles(PathBuf),
    /// A file or a folder of the data directory cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was to be done.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The engine failed.
    #[error("the engine failed: {0}")]
    Engine(#[from] sled::Error),
}

impl Error {
    fn file(what: &'static str, path: &Path, source: io::Error) -> Self {
        Error::File { what, path: path.to_owned(), source }
    }
}

/// Brings a store to the newest version and returns the version that it had before: 0 if it was new. `data` is the data
/// directory, in which `sled/` lies.
pub fn run(db: &sled::Db, data: &Path) -> Result<u32, Error> {
    let found = read_stamp(db)?;
    if found > KNOWN {
        return Err(Error::FormatTooNew { found, known: KNOWN });
    }
    for version in found + 1..=KNOWN {
        let mut batch = sled::Batch::default();
        STEPS[version as usize - 1](db, data, &mut batch)?;
        batch.insert(&STAMP_KEY, &version.to_be_bytes());
        db.apply_batch(batch)?;
        // The next step, and everything that is written after the last one, relies on this stamp.
        db.flush()?;
    }
    // The steps may have been done by a run that was killed before it came to this.
    v0003_segments::remove_moved(db, data)?;
    Ok(found)
}

fn read_stamp(db: &sled::Db) -> Result<u32, Error> {
    let Some(bytes) = db.get(STAMP_KEY)? else {
        return if db.is_empty() { Ok(0) } else { Err(Error::NoStamp) };
    };
    match <[u8; 4]>::try_from(&*bytes).map(u32::from_be_bytes) {
        Ok(version) if version > 0 => Ok(version),
        _ => Err(Error::BadStamp(bytes.to_vec())),
    }
}

#[cfg(test)]
mod tests;
