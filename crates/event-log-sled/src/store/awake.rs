//! What keeps a write to sled from waiting for ever.
//!
//! sled hands its buffers to threads that write them, and whoever needs one to be durable waits for word of it. A write that the
//! system refuses is noted down for all of sled; but in one of the two places where that happens, nobody is told (0.34.7,
//! `Log::exit_reservation`), and who waits already waits for ever: no append would be answered any more, and none refused.
//! Whoever wants to write after that finds the note, and tells all who wait. So there is a thread here that wants to, when a
//! write takes long.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::guarded;

/// A write that takes longer may wait for ever.
const LONG: Duration = Duration::from_secs(1);
/// The row that is written for it. Nobody reads it.
const ROW: [u8; 1] = [2];

/// The thread, as long as this is held.
pub(super) struct Awake {
    writes: Arc<Writes>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Writes {
    begun: AtomicU64,
    ended: AtomicU64,
    is_over: AtomicBool,
}

impl Awake {
    /// Starts it. What it writes goes to a tree in which nobody reads.
    pub(super) fn start(scratch: &sled::Tree) -> io::Result<Self> {
        let writes = Arc::<Writes>::default();
        let (seen, scratch) = (Arc::clone(&writes), scratch.clone());
        let thread =
            thread::Builder::new().name("log-awake".to_owned()).spawn(move || seen.watch(&scratch))?;
        Ok(Awake { writes, thread: Some(thread) })
    }

    /// Does what may wait for a write of sled.
    pub(super) fn during<T>(&self, write: impl FnOnce() -> T) -> T {
        self.writes.begun.fetch_add(1, Ordering::SeqCst);
        let _ends = Ends(&self.writes);
        write()
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.writes.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}

/// Also where sled panics.
struct Ends<'a>(&'a Writes);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Writes {
    fn watch(&self, scratch: &sled::Tree) {
        let (mut last_seen, mut count) = (0, 0_u64);
        while !self.is_over.load(Ordering::SeqCst) {
            thread::park_timeout(LONG);
            let ended = self.ended.load(Ordering::SeqCst);
            if ended == last_seen && self.begun.load(Ordering::SeqCst) > ended {
                count += 1;
                // The one who waits is told of what is wrong.
                drop(guarded("written", || scratch.insert(ROW, &count.to_be_bytes())));
            }
            last_seen = ended;
        }
    }
}
