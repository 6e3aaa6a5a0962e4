//! The actor that packs: it looks for blocks whose bytes are worth giving back, and works on them in small steps.
//!
//! It has a thread of its own. A step is planned here and carried out by the writer, one at a time. The less there is to
//! give back, the longer it rests between two steps, and the more of a block must be dead.

use std::io;
use std::ops::RangeInclusive;
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
use crate::store::panic_text;
use crate::writer::Request;
use crate::{Queue, chunk};

/// How often it looks for work.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often it says what it did.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Blocks that are looked at under one lock.
const LOOKED_AT_ONCE: usize = 16_384;
/// Blocks that one look brings.
const FOUND_AT_ONCE: usize = 128;
/// Bytes that a step may need while the disk is nearly full.
const STEP_BYTES: usize = 1 << 20;
/// Bytes on disk that nobody minds.
const SPARE_BYTES: u64 = 40 << 20;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    removals: Removals,
    indexed_through: Position,
    haste: Haste,
}

/// Tells now and then what was done.
struct Report {
    since: Instant,
    /// Blocks.
    packed: u64,
}

impl Report {
    fn tell(&mut self, shared: &Shared, haste: Haste) {
        if self.packed == 0 || self.since.elapsed() < REPORT_INTERVAL {
            return;
        }
        let (dead, kept) = {
            let catalog = &shared.view().catalog;
            (catalog.blocks.dead_bytes(), catalog.bytes)
        };
        let (packed, bytes_on_disk) = (self.packed, shared.bytes_on_disk());
        tracing::info!(packed, ?haste, kept, dead, bytes_on_disk, "bytes of removed events were given back");
        *self = Report { since: Instant::now(), packed: 0 };
    }
}

/// How much there is to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Haste {
    /// The disk holds little more than what is kept.
    None,
    /// It holds much more.
    Some,
    /// And most of that are records of removed events.
    Much,
}

impl Haste {
    /// A block is packed if at least this share of it, in hundredths, is dead.
    fn least_dead(self) -> u64 {
        match self {
            Haste::None => 50,
            Haste::Some => 25,
            Haste::Much => 33,
        }
    }

    /// How long to rest after a step that took so long.
    fn rest(self, took: Duration) -> Duration {
        match self {
            Haste::None => took * 3,
            Haste::Some => took,
            Haste::Much => Duration::ZERO,
        }
    }
}

impl Packer<'_> {
    fn run(&self) -> Result<(), ReadError> {
        let mut seen: Option<Seen> = None;
        let mut report = Report { since: Instant::now(), packed: 0 };
        while self.shared.takes_reads() {
            let now = self.state();
            let found = match seen == Some(now) {
                true => Vec::new(),
                false => self.look(now.haste),
            };
            let mut changed = false;
            for blocks in found {
                if self.pack(blocks.clone())? {
                    changed = true;
                    report.packed += blocks.end() - blocks.start() + 1;
                }
            }
            report.tell(self.shared, now.haste);
            if !changed {
                seen = Some(now);
                thread::park_timeout(INTERVAL);
            }
        }
        Ok(())
    }

    fn state(&self) -> Seen {
        let is_tight = self.shared.is_disk_tight(SPARE_BYTES);
        let catalog = &self.shared.view().catalog;
        let debris = catalog.blocks.dead_bytes();
        let haste = match is_tight {
            false => Haste::None,
            true if debris > catalog.bytes / 4 + SPARE_BYTES => Haste::Much,
            true => Haste::Some,
        };
        Seen { removals: catalog.removals, indexed_through: catalog.indexed_through(), haste }
    }

    /// Blocks that are worth it, those with the most to give first, and neighbours together.
    fn look(&self, haste: Haste) -> Vec<RangeInclusive<BlockNumber>> {
        // What is whole but loose comes when nothing else is left.
        let found = self.blocks(|block| worth(block, haste));
        match found.is_empty() && haste == Haste::Some {
            true => self.blocks(|block| (!block.packed && block.stored_events > 0).then_some(0)),
            false => found,
        }
    }

    fn blocks(&self, worth: impl Fn(&Block) -> Option<u64>) -> Vec<RangeInclusive<BlockNumber>> {
        let mut found: Vec<(u64, BlockNumber)> = Vec::new();
        let mut from = 0;
        loop {
            let view = self.shared.view();
            let catalog = &view.catalog;
            // The newest blocks still grow.
            let end = blocks::number_of(catalog.indexed_through());
            let mut looked_at = catalog.blocks.range(from..end).take(LOOKED_AT_ONCE).peekable();
            if looked_at.peek().is_none() {
                break;
            }
            for (number, block) in looked_at {
                from = number + 1;
                found.extend(worth(block).map(|worth| (worth, number)));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(FOUND_AT_ONCE);
        let mut numbers: Vec<BlockNumber> = found.into_iter().map(|(_, number)| number).collect();
        numbers.sort_unstable();
        let runs = numbers.chunk_by(|a, b| *b == a + 1);
        runs.map(|run| run[0]..=run[run.len() - 1]).collect()
    }

    /// Packs neighbouring blocks; whether that changed anything.
    fn pack(&self, blocks: RangeInclusive<BlockNumber>) -> Result<bool, ReadError> {
        let mut changed = false;
        let mut after = Position::ORIGIN;
        while self.shared.takes_reads() {
            if self.shared.has_room(STEP_BYTES).is_err() && !self.are_empty(&blocks) {
                return Ok(changed);
            }
            let begun = Instant::now();
            let store = self.shared.store()?;
            let pack::Step { plan, rest_after } = pack::plan(self.shared, &store, blocks.clone(), after)?;
            let held = match plan {
                None => true,
                Some(plan) => {
                    changed = true;
                    let (answer, held) = oneshot::channel();
                    // Here and not in the writer, so that no publisher waits for those who read.
                    let _nobody_reads = self.shared.nobody_reads();
                    hand_over(self.queue, Request::Pack(plan, answer))?;
                    held.blocking_recv().map_err(|_| ReadError::Closed)?
                }
            };
            drop(store);
            let haste = self.state().haste;
            thread::park_timeout(haste.rest(begun.elapsed()));
            match rest_after {
                // A removal came first: the step is planned anew.
                _ if !held => {}
                Some(place) => after = place,
                None => return Ok(changed),
            }
        }
        Ok(changed)
    }

    fn are_empty(&self, blocks: &RangeInclusive<BlockNumber>) -> bool {
        let view = self.shared.view();
        blocks.clone().all(|number| view.catalog.blocks.get(number).live_events == 0)
    }
}

/// How much packing a block is worth, in hundredths of it; `None` if it is not worth the work.
fn worth(block: &Block, haste: Haste) -> Option<u64> {
    let disk = block.disk_bytes().max(1);
    let dead = block.dead_bytes() * 100 / disk;
    let full_chunks = disk / chunk::VALUE_BYTES_MAX as u64 + 1;
    let is_scattered = u64::from(block.chunks) > 4 * full_chunks;
    let is_loose = !block.packed && is_scattered;
    let is_worth_it = block.stored_events > 0 && (dead >= haste.least_dead() || is_loose);
    is_worth_it.then_some(dead)
}
