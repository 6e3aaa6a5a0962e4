//! The threads that read from disk. sled blocks, so no read runs on a thread of the one who asks.
//!
//! The queue has no bound of its own: a reader has one read at a time, and a read whose asker went away is skipped. It is
//! fair because every job is short: one walks past a bounded number of bytes, and a longer read queues again. When the
//! log closes, the reads in the queue are not worked off but refused.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use event_log::{ReadError, limits};
use parking_lot::{Condvar, Mutex, RwLockReadGuard};
use tokio::sync::oneshot;

#[cfg(test)]
pub(crate) mod gate;

use crate::at_once::is_would_wait;
use crate::shared::Shared;
use crate::store::{Store, panic_text};

/// One read.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The reads that wait for a thread. A thread that has nothing to do sleeps at once: a channel's would look again several times
/// and give way between, which all of them do after each page, and takes up to a tenth of what history can be replayed at.
#[derive(Default)]
pub(crate) struct Jobs {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Jobs {
    /// Adds a job; whether it is taken.
    pub(crate) fn send(&self, job: Job) -> bool {
        let mut waiting = self.waiting.lock();
        if !waiting.is_closed {
            waiting.jobs.push_back(job);
            self.changed.notify_one();
        }
        !waiting.is_closed
    }

    /// Takes no more jobs. The threads end when there are none left.
    pub(crate) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().is_closed
    }

    /// The next job, once there is one; none when it was closed.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            match waiting.jobs.pop_front() {
                Some(job) => return Some(job),
                None if waiting.is_closed => return None,
                None => self.changed.wait(&mut waiting),
            }
        }
    }
}

/// Starts the threads; they end when `shared.jobs` is closed and what was in the queue is refused.
pub(crate) fn start(shared: &Shared) -> std::io::Result<Vec<JoinHandle<()>>> {
    let threads = (0..limits::READ_THREADS).map(|number| {
        let jobs = Arc::clone(&shared.jobs);
        let name = format!("log-reader-{number}");
        let work = move || std::iter::from_fn(|| jobs.next()).for_each(|job| job());
        thread::Builder::new().name(name).spawn(work)
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
    match shared.jobs.send(job) {
        true => answered.await.unwrap_or(Err(ReadError::Closed)),
        false => Err(ReadError::Closed),
    }
}

/// Runs a read here, if nobody has to be waited for; none if it has to go to one of the threads.
pub(crate) fn run_at_once<T>(
    shared: &Shared,
    read: impl FnOnce(&Shared, &Store) -> Result<T, ReadError>,
) -> Option<Result<T, ReadError>> {
    let chunks_stay = shared.chunks_stay_at_once()?;
    let result = guarded(shared, &chunks_stay, read);
    (!matches!(&result, Err(error) if is_would_wait(error))).then_some(result)
}

fn attempt<T>(
    shared: &Shared,
    read: impl FnOnce(&Shared, &Store) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    guarded(shared, &shared.chunks_stay(), read)
}

fn guarded<T>(
    shared: &Shared,
    _chunks_stay: &RwLockReadGuard<'_, ()>,
    read: impl FnOnce(&Shared, &Store) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    if !shared.takes_reads() {
        return Err(ReadError::Closed);
    }
    let store = shared.store()?;
    let result = catch_unwind(AssertUnwindSafe(|| read(shared, &store))).unwrap_or_else(|panic| {
        Err(ReadError::Damaged(format!("the engine panicked while it read: {}", panic_text(&*panic))))
    });
    if let Err(error) = &result
        && !is_would_wait(error)
    {
        shared.fail(error.to_string());
    }
    result
}
