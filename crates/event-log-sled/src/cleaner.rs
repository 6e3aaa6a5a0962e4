//! The actor that keeps the engine's file small: sled takes a segment of its file again only once every page in it has moved
//! elsewhere, and moves pages hardly by itself.
//!
//! What is small and changes all over the place, such as the newest events of compaction keys, leaves a few live pages in every
//! segment of its file. A thread of its own lets sled move them, the longer at a time the more the file exceeds what is kept.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use event_log::{Position, ReadError, Removals};

use crate::shared::Shared;
use crate::store::panic_text;

/// How often it looks whether the file is too long, and how long a turn of moving and resting takes.
const TURN: Duration = Duration::from_millis(100);
/// Pages that are moved between two looks at the clock.
const MOVED_AT_ONCE: usize = 16;
/// The least and the most of a turn, in hundredths, that pages are moved.
const SHARE: (u64, u64) = (5, 60);
/// Turns in which nothing was written and the file did not become shorter, after which it is as short as it gets.
const TURNS_IN_VAIN: u32 = 600;
/// Turns between two segments that are filled, while nothing is written.
const TURNS_PER_SEGMENT: u32 = 16;
/// Bytes on disk that nobody minds.
const SPARE_BYTES: u64 = 28 << 20;
/// Bytes that a turn may need while the disk is nearly full.
const TURN_BYTES: usize = 1 << 20;

/// Starts the thread. It ends when the log takes no more reads; unpark it then, so that it sees that at once.
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let run = move || match catch_unwind(AssertUnwindSafe(|| run(&shared))) {
        Ok(Ok(()) | Err(ReadError::Closed)) => {}
        Ok(Err(error)) => shared.fail(error.to_string()),
        Err(panic) => shared.fail(format!("the cleaner panicked: {}", panic_text(&*panic))),
    };
    thread::Builder::new().name("log-cleaner".to_owned()).spawn(run)
}

/// Moves some pages, on this thread.
pub(crate) fn clean_once(shared: &Shared) -> Result<(), ReadError> {
    let store = shared.store()?;
    store.clean(MOVED_AT_ONCE)?;
    store.fill_segment()
}

/// What was written and how long the file is; as long as that changes, moving pages is worth a try.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Seen {
    head: Position,
    removals: Removals,
    /// The least that it was since.
    bytes_on_disk: u64,
}

fn run(shared: &Shared) -> Result<(), ReadError> {
    let mut seen = Seen::default();
    let mut in_vain = 0;
    while shared.takes_reads() {
        let share = share(shared);
        if share == 0 || in_vain > TURNS_IN_VAIN || shared.has_room(TURN_BYTES).is_err() {
            thread::park_timeout(TURN);
        } else {
            let time = TURN / 100 * u32::try_from(share).expect("hundredths");
            move_pages(shared, time)?;
            if in_vain % TURNS_PER_SEGMENT == TURNS_PER_SEGMENT - 1 {
                shared.store()?.fill_segment()?;
            }
            thread::park_timeout(TURN - time);
        }
        let now = look(shared, seen.bytes_on_disk);
        in_vain = if now == seen { in_vain + 1 } else { 0 };
        seen = now;
    }
    Ok(())
}

fn look(shared: &Shared, least: u64) -> Seen {
    let bytes = shared.bytes_on_disk();
    let catalog = &shared.view().catalog;
    // A little longer is what filling a segment makes it.
    let bytes_on_disk = if bytes > least + least / 8 { bytes } else { bytes.min(least) };
    Seen { head: catalog.head, removals: catalog.removals, bytes_on_disk }
}

/// How much of a turn pages should be moved, in hundredths.
fn share(shared: &Shared) -> u64 {
    let kept = shared.view().catalog.bytes;
    let bytes = shared.bytes_on_disk();
    // From the one on something is done, and from the other on as much as can be.
    let (low, high) = (kept + kept / 2 + SPARE_BYTES, kept * 2 + kept / 4 + 2 * SPARE_BYTES);
    match bytes {
        _ if bytes <= low => 0,
        _ => SHARE.1.min(SHARE.0 + (SHARE.1 - SHARE.0) * (bytes - low) / (high - low)),
    }
}

/// Lets the engine move pages for so long. It cannot say when it has nothing left to move.
fn move_pages(shared: &Shared, time: Duration) -> Result<(), ReadError> {
    let store = shared.store()?;
    let begun = Instant::now();
    while begun.elapsed() < time && shared.takes_reads() {
        store.clean(MOVED_AT_ONCE)?;
    }
    Ok(())
}
