//! The actor that packs: it looks for segments whose bytes are worth giving back, and writes them anew.
//!
//! It has a thread of its own. A new file is made here, and the writer puts it in the place of the old ones, a few at a time.
//! The less there is to give back, the longer it rests in between, and the more of a segment must be dead.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use event_log::{Position, ReadError, Removals};
use tokio::sync::oneshot;

use crate::pack;
use crate::packer::runs::{Run, Runs, Share};
use crate::segments::segment::Segment;
use crate::shared::Shared;
use crate::steps::hand_over;
use crate::store::{Store, panic_text};
use crate::writer::Request;
use crate::{Queue, blocks};

mod runs;

/// How often it looks for work.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often it says what it did.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Segments that are looked at under one lock.
const LOOKED_AT_ONCE: usize = 256;
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

/// Packs once, on this thread, what is worth it; whether anything was.
pub(crate) fn pack_once(shared: &Shared, queue: &Queue) -> Result<bool, ReadError> {
    let packer = Packer { shared, queue };
    let mut packed = 0;
    packer.pass(packer.state().haste, &mut HashMap::new(), &mut packed)?;
    Ok(packed > 0)
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
    /// Segments.
    packed: usize,
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
    /// Records of removed events pile up.
    Much,
}

impl Haste {
    /// A segment is packed if at least this share of it, in hundredths, is dead.
    fn least_dead(self) -> u64 {
        match self {
            Haste::None => 50,
            Haste::Some => 25,
            Haste::Much => 10,
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

/// What came of packing a run.
enum Packed {
    Yes,
    /// Not now.
    No,
    /// There is nothing to leave out, though its blocks looked so: they reach beyond it.
    InVain,
}

impl Packer<'_> {
    fn run(&self) -> Result<(), ReadError> {
        let mut seen: Option<Seen> = None;
        let mut report = Report { since: Instant::now(), packed: 0 };
        let mut in_vain = HashMap::new();
        while self.shared.takes_reads() {
            let now = self.state();
            let before = report.packed;
            if seen != Some(now) {
                self.pass(now.haste, &mut in_vain, &mut report.packed)?;
            }
            let changed = report.packed > before;
            report.tell(self.shared, now.haste);
            if !changed {
                seen = Some(now);
                thread::park_timeout(INTERVAL);
            }
        }
        Ok(())
    }

    /// Looks for work and does it, and counts the segments that were packed.
    fn pass(
        &self,
        haste: Haste,
        in_vain: &mut HashMap<Position, u64>,
        packed: &mut usize,
    ) -> Result<(), ReadError> {
        for Run { segments, dead_bytes, .. } in self.look(haste, in_vain)? {
            match self.pack(&segments)? {
                Packed::Yes => *packed += segments.len(),
                Packed::InVain => drop(in_vain.insert(segments[0].first, dead_bytes)),
                Packed::No => {}
            }
        }
        Ok(())
    }

    fn state(&self) -> Seen {
        let is_tight = self.shared.is_disk_tight(SPARE_BYTES);
        let catalog = &self.shared.view().catalog;
        let debris = catalog.blocks.dead_bytes();
        // Before publishers are slowed down.
        let haste = match is_tight {
            _ if debris > catalog.bytes / 4 + SPARE_BYTES => Haste::Much,
            false => Haste::None,
            true => Haste::Some,
        };
        Seen { removals: catalog.removals, indexed_through: catalog.indexed_through(), haste }
    }

    /// Runs of neighbouring segments that are worth it, those with the most to give first.
    fn look(&self, haste: Haste, in_vain: &mut HashMap<Position, u64>) -> Result<Vec<Run>, ReadError> {
        let store = self.shared.store()?;
        let mut runs = Runs::new(self.shared.segment_bytes());
        // In this order: what is listed and does not grow now will never grow again.
        let all = store.segments.list();
        let growing = store.segments.growing();
        in_vain.retain(|first, _| all.binary_search_by_key(first, |segment| segment.first).is_ok());
        for segments in all.chunks(LOOKED_AT_ONCE) {
            let catalog = &self.shared.view().catalog;
            let is_whole = |segment: &&Arc<Segment>| {
                // A block's row is that of the last checkpoint, so no block that has grown since is touched.
                let last = blocks::last_of(blocks::number_of(segment.through()));
                growing != Some(segment.first) && last <= catalog.indexed_through()
            };
            for segment in segments.iter().take_while(is_whole) {
                runs.add(segment, Share::of(segment, &catalog.blocks), haste.least_dead());
            }
        }
        let mut found = runs.finish();
        found.retain(|run| in_vain.get(&run.segments[0].first) != Some(&run.dead_bytes));
        Ok(found)
    }

    /// Packs neighbouring segments.
    fn pack(&self, run: &[Arc<Segment>]) -> Result<Packed, ReadError> {
        let bytes: u64 = run.iter().map(|segment| segment.bytes()).sum();
        if !self.shared.has_room_to_pack(bytes) && !self.is_empty(run) {
            return Ok(Packed::No);
        }
        let begun = Instant::now();
        let store = self.shared.store()?;
        let Some(plan) = pack::plan(self.shared, &store, run, &|| self.shared.takes_reads())? else {
            return Ok(Packed::No);
        };
        if plan.is_in_vain() {
            self.unlink(&store, &plan.new);
            return Ok(Packed::InVain);
        }
        let new_bytes = plan.new.bytes();
        let (answer, taken) = oneshot::channel();
        let refused = {
            // Here and not in the writer, so that no publisher waits for those who read.
            let _nobody_reads = self.shared.nobody_reads();
            hand_over(self.queue, Request::Pack(Box::new(plan), answer))?;
            taken.blocking_recv().map_err(|_| ReadError::Closed)?
        };
        let is_taken = refused.is_none();
        if is_taken {
            self.shared.stats.packed(run.len() as u64, bytes, new_bytes);
        }
        let useless = run.iter().filter(|_| is_taken).map(Arc::as_ref).chain(&refused);
        useless.for_each(|segment| self.unlink(&store, segment));
        thread::park_timeout(self.state().haste.rest(begun.elapsed()));
        Ok(if is_taken { Packed::Yes } else { Packed::No })
    }

    /// Unlinks a file that does not count. One that stays is found at the next start.
    fn unlink(&self, store: &Store, segment: &Segment) {
        if let Err(error) = store.segments.unlink(segment) {
            tracing::warn!(%error, "a file of events that is of no use any more cannot be removed");
        }
    }

    fn is_empty(&self, run: &[Arc<Segment>]) -> bool {
        let view = self.shared.view();
        run.iter().all(|segment| Share::of(segment, &view.catalog.blocks).is_dead())
    }
}
