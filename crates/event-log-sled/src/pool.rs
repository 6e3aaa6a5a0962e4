//! The threads that read from disk. sled blocks, so no read runs on a thread of the one who asks.
//!
//! The queue has no bound of its own: a reader has one read at a time, and a read whose asker went away is skipped. It is
//! fair because every job is short: one walks past a bounded number of bytes, and a longer read queues again. When the
//! log closes, the reads in the queue are not worked off but refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use event_log::{ReadError, limits};
use tokio::sync::oneshot;

use crate::shared::Shared;
use crate::store::{Store, panic_text};

/// One read.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Starts the threads; they end when `shared.jobs` is taken away and what was in the queue is refused.
pub(crate) fn start(shared: &Shared) -> std::io::Result<Vec<JoinHandle<()>>> {
    let (sender, jobs) = crossbeam_channel::unbounded::<Job>();
    *shared.jobs.write() = Some(sender);
    let threads = (0..limits::READ_THREADS).map(|number| {
        let jobs = jobs.clone();
        let name = format!("log-reader-{number}");
        thread::Builder::new().name(name).spawn(move || jobs.into_iter().for_each(|job| job()))
    });
    threads.collect()
}

/// Runs a read on one of the threads. Damage that it finds, or a panic of the engine, fails the log for good.
pub(crate) async fn run<T: Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(&Shared, &Store) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let (answer, answered) = oneshot::channel();
    let job: Job = {
        let shared = Arc::clone(&shared);
        Box::new(move || {
            if !answer.is_closed() {
                // The asker may go away while we read.
                drop(answer.send(attempt(&shared, read)));
            }
        })
    };
    let sent = shared.jobs.read().as_ref().map(|jobs| jobs.send(job));
    match sent {
        Some(Ok(())) => answered.await.unwrap_or(Err(ReadError::Closed)),
        Some(Err(_)) | None => Err(ReadError::Closed),
    }
}

fn attempt<T>(
    shared: &Shared,
    read: impl FnOnce(&Shared, &Store) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    if !shared.takes_reads() {
        return Err(ReadError::Closed);
    }
    let store = shared.store()?;
    let _chunks_stay = shared.chunks_stay();
    let result = catch_unwind(AssertUnwindSafe(|| read(shared, &store))).unwrap_or_else(|panic| {
        Err(ReadError::Damaged(format!("the engine panicked while it read: {}", panic_text(&*panic))))
    });
    if let Err(error) = &result {
        shared.fail(error.to_string());
    }
    result
}
