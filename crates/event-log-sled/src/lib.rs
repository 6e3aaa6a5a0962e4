//! The default engine: the events in files that are only appended to, their index in one sled tree, in a directory of its own.
//!
//! One thread writes (`writer`): it takes all appends that wait, judges them, writes them as chunks (`chunk`, `record`)
//! behind the newest file (`segments`), waits for the barrier (`barrier`), and only then shows them (`shared`) and answers.
//! A few threads read from disk (`pool`, `cold`, `seek`); what is new is answered from memory (`fresh`). All else on disk is
//! made from the chunks and can be made anew (`catalog`, `idempotency`, `recovery`, `verify`).
//!
//! Invariants: nothing is visible before the barrier; after a failure nothing is written any more; no type of sled is in
//! the public signatures, and only `store.rs` and the crate `migrations` know sled.

mod options;

mod archive;
mod import;

mod answer;
mod stage;
mod writer;

mod at_once;
mod cold;
mod fresh;
mod merge;
mod pool;
mod reader;
mod seek;

mod catalog;
mod idempotency;
mod recovery;
mod shared;
mod verify;

mod blocks;
mod dead;
mod postings;

mod cleaner;
mod compaction;
mod pack;
mod packer;
mod plan;
mod removal;
mod steps;

mod chunk;
mod keys;
mod record;
mod rows;
mod segments;
mod varint;

mod barrier;
mod directory;
mod store;
mod witness;

#[cfg(test)]
mod format_tests;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, TrySendError};
use event_log::{
    AppendError, Batch, Bounds, Clock, EventLog, Filter, LogCounts, LogReader, Pattern, Position, ReadError,
    Receipt, Removal, Removals, Removed, TailWatch, Timestamp, Topic, TopicStats, limits,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

pub use archive::Archive;
pub use import::{ImportError, Imported, Importer};
pub use options::{OpenError, SledOptions};
pub use verify::Verified;

use answer::Answer;
use shared::Shared;
use writer::{Append, Request};

/// A log in a directory. A clone is another handle on the same log; when the last one is dropped, the log is closed.
#[derive(Clone)]
pub struct SledLog {
    inner: Arc<Inner>,
}

/// The writer's queues; `None` once it takes nothing more.
type Queue = Arc<RwLock<Option<Senders>>>;

/// Appends and upkeep come by ways of their own: where publishers are slowed down, upkeep is not.
#[derive(Clone)]
struct Senders {
    appends: Sender<Request>,
    upkeep: Sender<Request>,
}

struct Inner {
    shared: Arc<Shared>,
    /// `None` once the log takes no more appends; the writer ends when it has taken all that was sent before.
    queue: Queue,
    queued_bytes: Arc<AtomicUsize>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SledLog {
    /// Opens the log of a directory, or makes a new one there.
    pub fn open(options: SledOptions, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let lock = directory::take(&options.directory)?;
        import::refuse_incomplete(&options.directory)?;
        Self::open_locked(options, clock, lock, Timestamp::default())
    }

    /// `newest_time` is that of an event that may be gone.
    fn open_locked(
        options: SledOptions,
        clock: Arc<dyn Clock>,
        lock: directory::Lock,
        newest_time: Timestamp,
    ) -> Result<Self, OpenError> {
        let found = recovery::Found { is_left: lock.is_left(), newest_time };
        let recovery::Recovered { store, view, used, witness } = recovery::recover(&options, &*clock, found)?;
        let witnessed = view.catalog.indexed_through();
        let shared = Arc::new(Shared::new(store, view, &options));
        let thread_error = |error| OpenError::io("start the threads of", &options.directory, error);
        let mut readers = pool::start(&shared).map_err(thread_error)?;
        let (appends, requests) = crossbeam_channel::bounded(limits::APPEND_QUEUE_REQUESTS_MAX);
        let (upkeep, upkeep_requests) = crossbeam_channel::bounded(limits::UPKEEP_QUEUE_REQUESTS_MAX);
        let queue: Queue = Arc::new(RwLock::new(Some(Senders { appends, upkeep })));
        if options.pack {
            readers.push(packer::start(&shared, &queue).map_err(thread_error)?);
            readers.push(cleaner::start(&shared).map_err(thread_error)?);
        }
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = writer::Writer {
            shared: Arc::clone(&shared),
            queue: requests,
            upkeep: upkeep_requests,
            queued_bytes: Arc::clone(&queued_bytes),
            used,
            witness,
            witnessed,
            clock,
            options: options.clone(),
            buffer: Vec::new(),
            readers,
            lock,
        };
        let writer = Mutex::new(Some(writer.start().map_err(thread_error)?));
        Ok(SledLog { inner: Arc::new(Inner { shared, queue, queued_bytes, writer }) })
    }

    /// Resolves when the log failed for good, with the reason. Nothing is written any more; the process should end.
    pub fn failed(&self) -> BoxFuture<'static, String> {
        self.inner.shared.failed()
    }

    /// Whether an append would be taken now, as far as can be told without one.
    pub fn is_writable(&self) -> Result<(), AppendError> {
        self.inner.shared.is_open()?;
        match *self.inner.queue.read() {
            Some(_) => self.inner.shared.has_room(0),
            None => Err(AppendError::Closed),
        }
    }

    /// Gives bytes of removed events back now, on this thread, as far as that is worth it, and moves pages of the index; whether
    /// any segment was packed. For a log without threads for that ([`SledOptions::pack`]), which decides itself when it is done.
    pub fn give_back(&self) -> Result<bool, ReadError> {
        cleaner::clean_once(&self.inner.shared)?;
        packer::pack_once(&self.inner.shared, &self.inner.queue)
    }

    /// Writes the index down as of the head. Blocks until that is durable.
    fn checkpoint(&self) -> Result<(), ReadError> {
        let (answer, done) = oneshot::channel();
        steps::hand_over(&self.inner.queue, Request::Checkpoint(answer))?;
        // On a thread of its own: whoever calls this may be one of a runtime, on which nobody may wait in this way.
        let waited = thread::scope(|scope| scope.spawn(|| done.blocking_recv()).join());
        waited.ok().and_then(Result::ok).ok_or(ReadError::Closed)
    }

    /// Everything that an exact copy needs, as of the moment when its end is reached; appends and removals may go on.
    pub fn archive(&self) -> Archive {
        Archive::new(Arc::clone(&self.inner.shared), Arc::clone(&self.inner.queue))
    }

    /// Reads every record and compares every index with the log. Blocks for as long as that takes; appends wait for it
    /// no longer than for any reader.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        self.verify_with(&mut |_| {})
    }

    /// The same, and tells now and then how many records were read.
    pub fn verify_with(&self, progress: &mut dyn FnMut(u64)) -> Result<Verified, ReadError> {
        let store = self.inner.shared.store()?;
        verify::verify(&self.inner.shared, &store, progress)
    }
}

impl EventLog for SledLog {
    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Receipt, AppendError>> {
        match self.inner.enqueue(batch) {
            Ok(answer) => {
                let shared = Arc::clone(&self.inner.shared);
                async move {
                    // The writer drops what it cannot answer when it fails, or when it closed before it saw this.
                    answer
                        .await
                        .unwrap_or_else(|_| Err(shared.is_open().err().unwrap_or(AppendError::Closed)))
                }
                .boxed()
            }
            Err(refused) => std::future::ready(Err(refused)).boxed(),
        }
    }

    fn reader(&self, filter: Arc<Filter>) -> Box<dyn LogReader> {
        Box::new(reader::SledReader::new(Arc::clone(&self.inner.shared), filter))
    }

    fn remove(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        steps::remove(Arc::clone(&self.inner.shared), Arc::clone(&self.inner.queue), removals).boxed()
    }

    fn removable(&self, removals: Vec<Removal>) -> BoxFuture<'static, Result<Removed, ReadError>> {
        steps::removable(Arc::clone(&self.inner.shared), removals).boxed()
    }

    fn removals(&self) -> Removals {
        self.inner.shared.view().catalog.removals
    }

    fn count_after(&self, place: Position) -> u64 {
        self.inner.shared.view().catalog.count_after(place)
    }

    fn tail(&self) -> TailWatch {
        self.inner.shared.tail()
    }

    fn bounds(&self) -> Bounds {
        self.inner.shared.bounds()
    }

    fn counts(&self) -> LogCounts {
        self.inner.shared.stats.counts()
    }

    fn topics(&self, pattern: Option<&Pattern>) -> Vec<TopicStats> {
        self.inner.shared.view().catalog.topics.stats(pattern)
    }

    fn topic(&self, topic: &Topic) -> Option<TopicStats> {
        self.inner.shared.view().catalog.topics.get(topic.as_str()).map(catalog::stats)
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.inner.queue.write().take();
        let inner = Arc::clone(&self.inner);
        async move {
            inner.shared.closed().await;
            inner.join();
        }
        .boxed()
    }
}

impl Inner {
    fn enqueue(&self, batch: Batch) -> Result<oneshot::Receiver<Result<Receipt, AppendError>>, AppendError> {
        assert!(!batch.events.is_empty(), "a batch has at least one event");
        self.shared.is_open()?;
        let queue = self.queue.read();
        let queue = queue.as_ref().ok_or(AppendError::Closed)?;
        let weight = batch.weight();
        let before = self.queued_bytes.fetch_add(weight, Ordering::Relaxed);
        let (answer, receipt) = Answer::new();
        let refused = match before.saturating_add(weight) > limits::APPEND_QUEUE_BYTES_MAX {
            true => AppendError::Overloaded,
            false => match queue.appends.try_send(Request::Append(Append { batch, weight, answer })) {
                Ok(()) => return Ok(receipt),
                Err(TrySendError::Full(_)) => AppendError::Overloaded,
                Err(TrySendError::Disconnected(_)) => AppendError::Closed,
            },
        };
        self.queued_bytes.fetch_sub(weight, Ordering::Relaxed);
        Err(refused)
    }

    /// Waits for the writer's thread, which is over or soon will be.
    fn join(&self) {
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            self.shared.fail("the writer's thread panicked while it closed the log".to_owned());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.write().take();
        self.join();
    }
}
