//! The actor that packs: it looks for blocks whose bytes are worth giving back, and works on them in small steps.
//!
//! It has a thread of its own. A step is planned here and carried out by the writer, one at a time; between two steps it
//! rests longer than a step took, so that neither publishers nor readers are held up. When the disk holds much more than
//! what is kept, it becomes less choosy.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use event_log::{Position, ReadError, Removals};
use tokio::sync::oneshot;

use crate::blocks::{self, Block, BlockNumber};
use crate::pack;
use crate::shared::Shared;
use crate::steps::hand_over;
use crate::store::{Store, panic_text};
use crate::writer::Request;
use crate::{Queue, chunk};

/// How often it looks for work.
const INTERVAL: Duration = Duration::from_millis(250);
/// Blocks that are looked at under one lock.
const LOOKED_AT_ONCE: usize = 16_384;
/// Blocks that one look brings.
const FOUND_AT_ONCE: usize = 256;
/// Bytes that a step may need while the disk is nearly full.
const STEP_BYTES: usize = 1 << 20;
/// Bytes on disk that nobody minds.
const SPARE_BYTES: u64 = 24 << 20;

/// Starts the thread. It ends when the log takes no more reads; unpark it then, so that it sees that at once.
pub(crate) fn start(shared: &Arc<Shared>, queue: &Queue) -> io::Result<JoinHandle<()>> {
    let (shared, queue) = (Arc::clone(shared), Arc::clone(queue));
    let run = move || {
        let packer = Packer { shared: &shared, queue: &queue };
        match catch_unwind(AssertUnwindSafe(|| packer.run())) {
            Ok(Ok(()) | Err(ReadError::Closed)) => {}
            Ok(Err(error)) => shared.fail(error.to_string()),
            Err(panic) => shared.fail(format!("the packer panicked: {}", panic_text(&*panic))),
        }
    };
    thread::Builder::new().name("log-packer".to_owned()).spawn(run)
}

struct Packer<'a> {
    shared: &'a Shared,
    queue: &'a Queue,
}

/// What a look for work depends on.
type Seen = (Removals, Position, bool);

impl Packer<'_> {
    fn run(&self) -> Result<(), ReadError> {
        let mut seen: Option<Seen> = None;
        while self.shared.takes_reads() {
            let now = self.state();
            if seen == Some(now) {
                thread::park_timeout(INTERVAL);
                continue;
            }
            let found = self.look(now.2);
            if found.is_empty() {
                seen = Some(now);
                continue;
            }
            let mut changed = false;
            for number in found {
                changed |= self.pack(number)?;
            }
            if !changed {
                seen = Some(now);
            }
        }
        Ok(())
    }

    fn state(&self) -> Seen {
        let is_tight = self.shared.is_disk_tight(SPARE_BYTES);
        let catalog = &self.shared.view().catalog;
        (catalog.removals, catalog.indexed_through(), is_tight)
    }

    /// Blocks that are worth it, the oldest first.
    fn look(&self, is_tight: bool) -> Vec<BlockNumber> {
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            let view = self.shared.view();
            let catalog = &view.catalog;
            // The newest blocks still grow.
            let end = blocks::number_of(catalog.indexed_through());
            let mut looked_at = catalog.blocks.range(from..end).take(LOOKED_AT_ONCE).peekable();
            if looked_at.peek().is_none() {
                return found;
            }
            for (number, block) in looked_at {
                from = number + 1;
                if is_worth_it(block, is_tight) {
                    found.push(number);
                }
                if found.len() == FOUND_AT_ONCE {
                    return found;
                }
            }
        }
    }

    /// Packs a block; whether that changed anything.
    fn pack(&self, number: BlockNumber) -> Result<bool, ReadError> {
        let mut changed = false;
        let mut after = Position::ORIGIN;
        while self.shared.takes_reads() {
            if self.shared.has_room(STEP_BYTES).is_err() && !self.is_empty(number) {
                return Ok(changed);
            }
            let begun = Instant::now();
            let store = self.shared.store()?;
            let pack::Step { plan, rest_after } = pack::plan(self.shared, &store, number, after)?;
            drop::<Arc<Store>>(store);
            let held = match plan {
                None => true,
                Some(plan) => {
                    let (answer, held) = oneshot::channel();
                    changed = true;
                    // Here and not in the writer, so that no publisher waits for those who read.
                    let _nobody_reads = self.shared.nobody_reads();
                    hand_over(self.queue, Request::Pack(plan, answer))?;
                    held.blocking_recv().map_err(|_| ReadError::Closed)?
                }
            };
            let took = begun.elapsed();
            thread::park_timeout(if self.shared.is_disk_tight(SPARE_BYTES) { took / 2 } else { took * 2 });
            match rest_after {
                // A removal came first: the step is planned anew.
                _ if !held => {}
                Some(place) => after = place,
                None => return Ok(changed),
            }
        }
        Ok(changed)
    }

    fn is_empty(&self, number: BlockNumber) -> bool {
        self.shared.view().catalog.blocks.get(number).live_events == 0
    }
}

/// Whether packing a block gives back enough for the work.
fn is_worth_it(block: &Block, is_tight: bool) -> bool {
    let (disk, dead) = (block.disk_bytes(), block.dead_bytes());
    let full_chunks = disk / chunk::VALUE_BYTES_MAX as u64 + 1;
    let is_scattered = u64::from(block.chunks) > 4 * full_chunks;
    let least_share = if is_tight { 16 } else { 4 };
    block.stored_events > 0
        && (block.live_events == 0
            || dead * least_share >= disk
            || (!block.packed && (is_scattered || is_tight)))
}
