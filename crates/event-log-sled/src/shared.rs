//! What the writer and the readers share: the view of what is durable, the tail, and whether the log failed.
//!
//! The writer alone changes the view, and only after the barrier. The first failure counts; after it the tail is over,
//! appends are refused, and nothing is written any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log::{AppendError, Bounds, Epochs, LogStats, Position, ReadError, Tail, TailWatch, limits};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

use crate::catalog::Catalog;
use crate::fresh::Fresh;
use crate::pool::Jobs;
use crate::store::{INDEX_DAMAGE, Store};
use crate::{SledOptions, directory};

/// How old the answer may be to how much the log takes on disk.
const DISK_USE_AGE_MAX: Duration = Duration::from_millis(100);

/// What is durable, as of one head.
pub(crate) struct View {
    pub(crate) epochs: Epochs,
    pub(crate) catalog: Catalog,
    pub(crate) fresh: Fresh,
}

pub(crate) struct Shared {
    /// `None` once the log is closed.
    store: RwLock<Option<Arc<Store>>>,
    view: RwLock<View>,
    /// `None` once the head will not move again.
    tail: Mutex<Option<Tail>>,
    last_tail: TailWatch,
    /// Closed once no more reads are taken.
    pub(crate) jobs: Arc<Jobs>,
    /// Read by all who read chunks, written by whoever replaces them: who reads the index and then the
    /// segments must find what it named.
    packing: RwLock<()>,
    failure: watch::Sender<Option<String>>,
    closed: watch::Sender<bool>,
    directory: PathBuf,
    free_disk_bytes_min: u64,
    segment_bytes: u64,
    disk_use: Mutex<Option<(Instant, u64)>>,
    pub(crate) stats: LogStats,
}

impl Shared {
    pub(crate) fn new(store: Store, view: View, options: &SledOptions) -> Self {
        let tail = Tail::new(view.catalog.head);
        Shared {
            store: RwLock::new(Some(Arc::new(store))),
            view: RwLock::new(view),
            last_tail: tail.watch(),
            tail: Mutex::new(Some(tail)),
            jobs: Arc::default(),
            packing: RwLock::new(()),
            failure: watch::Sender::new(None),
            closed: watch::Sender::new(false),
            directory: options.directory.clone(),
            free_disk_bytes_min: options.free_disk_bytes_min,
            segment_bytes: options.segment_bytes,
            disk_use: Mutex::new(None),
            stats: LogStats::default(),
        }
    }

    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read()
    }

    /// While this is held, no chunk is replaced by another one.
    pub(crate) fn chunks_stay(&self) -> RwLockReadGuard<'_, ()> {
        self.packing.read()
    }

    /// The same, if nobody waits to replace one.
    pub(crate) fn chunks_stay_at_once(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.packing.try_read()
    }

    /// While this is held, nobody reads chunks.
    pub(crate) fn nobody_reads(&self) -> RwLockWriteGuard<'_, ()> {
        self.packing.write()
    }

    /// The store, as long as the log is open.
    pub(crate) fn store(&self) -> Result<Arc<Store>, ReadError> {
        self.store.read().clone().ok_or(ReadError::Closed)
    }

    /// Whether reads are still answered; no more once the log is closing.
    pub(crate) fn takes_reads(&self) -> bool {
        !self.jobs.is_closed()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.store.read().is_none()
    }

    /// Changes the view. Only the writer does.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.view.write())
    }

    /// Shows a new head to all who wait for it.
    pub(crate) fn advance_tail(&self, head: Position) {
        if let Some(tail) = &*self.tail.lock() {
            tail.advance(head);
        }
    }

    pub(crate) fn tail(&self) -> TailWatch {
        self.tail.lock().as_ref().map_or_else(|| self.last_tail.clone(), Tail::watch)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let bytes_on_disk = self.bytes_on_disk();
        let view = self.view();
        Bounds {
            epochs: view.epochs.clone(),
            oldest: view.catalog.oldest(),
            head: view.catalog.head,
            events: view.catalog.events,
            bytes: view.catalog.bytes,
            bytes_on_disk,
        }
    }

    /// What the log takes on disk, as of a moment ago.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        let mut known = self.disk_use.lock();
        match *known {
            Some((at, bytes)) if at.elapsed() < DISK_USE_AGE_MAX => bytes,
            _ => {
                let bytes = directory::bytes_on_disk(&self.directory);
                *known = Some((Instant::now(), bytes));
                bytes
            }
        }
    }

    /// Whether the log takes much more on disk than what it keeps, beyond some bytes that nobody minds.
    pub(crate) fn is_disk_tight(&self, spare: u64) -> bool {
        let kept = self.view().catalog.bytes;
        self.bytes_on_disk().saturating_sub(spare) > kept + kept / 4 * 3
    }

    /// How long a file of events becomes.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// How many times as much as it may, in hundredths, the bytes of removed events that were not given back yet are.
    pub(crate) fn debris(&self) -> u64 {
        let catalog = &self.view().catalog;
        catalog.blocks.dead_bytes() * 100 / (catalog.bytes / 4 + limits::DEBRIS_BYTES_MAX)
    }

    /// Whether so many bytes of events may be written without going below the floor of free space. With their
    /// index, and packed once, they take up to three times as much for a while.
    pub(crate) fn has_room(&self, bytes: usize) -> Result<(), AppendError> {
        let free =
            directory::free_bytes(&self.directory).map_err(|error| AppendError::Engine(error.into()))?;
        let floor = self.free_disk_bytes_min;
        match free.saturating_sub(3 * bytes as u64) < floor {
            true => Err(AppendError::NoSpace { free, floor }),
            false => Ok(()),
        }
    }

    /// Whether so many bytes may be written to give more back. The floor of free space is there for that, too.
    pub(crate) fn has_room_to_pack(&self, bytes: u64) -> bool {
        directory::free_bytes(&self.directory).is_ok_and(|free| free >= 2 * bytes)
    }

    /// The log failed for good. The first reason counts.
    pub(crate) fn fail(&self, reason: String) {
        if reason.contains(INDEX_DAMAGE) {
            Store::ask_for_rebuild(&self.directory);
        }
        let first = self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(reason);
            first
        });
        if first {
            tracing::error!(reason = self.failure.borrow().as_deref(), "the log failed");
            self.end_tail();
        }
    }

    /// The error that later appends get, if the log failed.
    pub(crate) fn is_open(&self) -> Result<(), AppendError> {
        match &*self.failure.borrow() {
            Some(reason) => Err(AppendError::Engine(reason.clone().into())),
            None => Ok(()),
        }
    }

    pub(crate) fn failed(&self) -> BoxFuture<'static, String> {
        let mut failure = self.failure.subscribe();
        async move {
            match failure.wait_for(Option::is_some).await.map(|reason| reason.clone().unwrap_or_default()) {
                Ok(reason) => reason,
                // The log was closed and dropped: it will never fail.
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }

    pub(crate) fn end_tail(&self) {
        self.tail.lock().take();
    }

    /// Lets go of the store. Whoever still has it finishes first.
    pub(crate) fn release_store(&self) -> Option<Arc<Store>> {
        self.store.write().take()
    }

    pub(crate) fn set_closed(&self) {
        self.closed.send_replace(true);
    }

    pub(crate) async fn closed(&self) {
        // The sender is in `self`, so this cannot fail before it is true.
        drop(self.closed.subscribe().wait_for(|closed| *closed).await);
    }
}
