//! Making a log of an archive: the same places, times and identities, in a directory that holds none yet.
//!
//! Every item is judged before it is written, and all of them before a log is opened on them (`judge`). Chunks are written as
//! the events come. A mark in the directory says that the import is not complete, and no log opens while it is there; it goes
//! when everything was read back once. A new epoch begins behind the archive's head, and the old ones are remembered, so
//! that a reader's old cursor goes on where the copy stands for the original.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event_log::{ArchivedKey, ArchivedTopic, Clock, Epoch, Event, EventLog, Item, Position, ReadError};

use crate::chunk::ChunkWriter;
use crate::rows::{self, IdempotencyRow, RemovalRow};
use crate::store::{Store, Writes};
use crate::{OpenError, SledLog, SledOptions, directory, keys};

mod judge;

use judge::Judge;

/// Bytes of rows that are written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// What was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The epoch that begins behind it.
    pub epoch: Epoch,
    /// The newest place.
    pub head: Position,
    /// Events that are kept.
    pub events: u64,
}

/// Why an archive cannot be imported. The directory is of no use then, and says so when it is opened.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The items are not those of a whole archive in order.
    #[error("this is not a whole archive: {0}")]
    Malformed(String),
    /// The store failed, or the log does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be written.
    #[error("the log cannot be written: {0}")]
    Write(#[from] ReadError),
}

/// An import that is under way.
pub struct Importer {
    options: SledOptions,
    clock: Arc<dyn Clock>,
    lock: directory::Lock,
    judge: Judge,
    /// Made when there is something to write.
    store: Option<Store>,
    chunks: ChunkWriter,
    writes: Writes,
    pending: usize,
}

impl Importer {
    /// Begins an import into a directory, which is made if it is not there and must hold no log.
    pub fn begin(options: SledOptions, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let lock = directory::take(&options.directory)?;
        let data = &options.directory;
        if mark(data).exists()
            || data.join("sled").exists()
            || data.join("events").exists()
            || data.join("witness").exists()
        {
            return Err(OpenError::NotEmpty { directory: data.clone() });
        }
        let marked = fs::write(mark(data), b"").and_then(|()| directory::sync(data));
        marked.map_err(|error| OpenError::io("begin an import in", data, error))?;
        Ok(Importer {
            options,
            clock,
            lock,
            judge: Judge::default(),
            store: None,
            chunks: ChunkWriter::packing(),
            writes: Writes::default(),
            pending: 0,
        })
    }

    /// Takes the next item of the archive.
    pub fn push(&mut self, item: Item) -> Result<(), ImportError> {
        self.judge.take(&item).map_err(ImportError::Malformed)?;
        match item {
            Item::Event(event) => self.event(&event),
            Item::Topic(topic) => self.topic(topic),
            Item::Key(key) => self.key(key),
            Item::Start { .. } | Item::End { .. } => {}
        }
        if self.pending >= WRITTEN_AT_ONCE { self.write() } else { Ok(()) }
    }

    fn event(&mut self, event: &Event) {
        self.pending += event.weight() + 128;
        self.chunks.push(event, None);
    }

    fn topic(&mut self, topic: ArchivedTopic) {
        let ArchivedTopic { topic, last, removed_through, missing_through } = topic;
        if missing_through > Position::ORIGIN {
            let key = keys::removal(&topic);
            let row = RemovalRow { topic, last, removed_through, missing_through };
            self.put(&key, &row.encode());
        }
    }

    fn key(&mut self, key: ArchivedKey) {
        let ArchivedKey { key, content, position, time, uuid } = key;
        let row = IdempotencyRow { position, time, uuid, content };
        // In a row of its own: keys may come in any order.
        self.put(&keys::used(position), &rows::encode_used(&[(key, row)]));
    }

    fn put(&mut self, key: &[u8], body: &[u8]) {
        self.pending += body.len() + 64;
        self.writes.put_sealed(key, body);
    }

    fn write(&mut self) -> Result<(), ImportError> {
        let writes = std::mem::take(&mut self.writes);
        let chunks = std::mem::replace(&mut self.chunks, ChunkWriter::packing());
        let store = match &self.store {
            Some(store) => store,
            None => self.store.insert(Store::open(&self.options, None, false)?),
        };
        store.append(&chunks.finish())?;
        self.pending = 0;
        Ok(store.write(writes)?)
    }

    /// Ends the import: everything is read back and put into the index once. Takes as long as the log is large.
    pub fn finish(mut self) -> Result<Imported, ImportError> {
        let (epochs, head, time) = self.judge.end().map_err(ImportError::Malformed)?;
        let epochs = rows::encode_epochs(epochs);
        self.put(&keys::EPOCHS, &epochs);
        self.write()?;
        let Importer { options, clock, store, lock, .. } = self;
        drop(store);
        let data = options.directory.clone();
        // A new epoch begins behind the head, as when an older copy is put back.
        let options = SledOptions { restored: true, ..options };
        let log = SledLog::open_locked(options, clock, lock, time)?;
        let bounds = log.bounds();
        if bounds.head != head {
            return Err(ImportError::Malformed(format!(
                "its head is {head}, and its events end at {}",
                bounds.head
            )));
        }
        let imported = Imported { epoch: bounds.epochs.current(), head, events: bounds.events };
        // From a checkpoint on places follow one another, which those of an archive need not. So there is one at its head, and not
        // only where one happened to be due.
        log.checkpoint()?;
        drop(log);
        let unmarked = fs::remove_file(mark(&data)).and_then(|()| directory::sync(&data));
        unmarked.map_err(|error| OpenError::io("end the import in", &data, error))?;
        Ok(imported)
    }
}

/// The file that says that an import into a directory is not complete.
fn mark(data: &Path) -> PathBuf {
    data.join("importing")
}

/// Refuses a directory whose import was not completed.
pub(crate) fn refuse_incomplete(data: &Path) -> Result<(), OpenError> {
    match mark(data).try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(OpenError::HalfImported { directory: data.to_owned() }),
        Err(error) => Err(OpenError::io("look into", data, io::Error::other(error))),
    }
}
