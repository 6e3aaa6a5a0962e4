//! The one writer: a thread that makes the order.
//!
//! It takes one request, then all that are ready, judges them, and commits what is new: the events with one write and one
//! barrier, then what else changes, if anything does, in one batch with another (group commit without a timer). Between the
//! first request and the others it steps back once for threads that want its core: those are about to bring more, and a commit
//! costs about the same for one event as for a hundred. Where nobody wants the core, that is no wait.
//!
//! Then, in this order: the view shows it, the tail moves, the answers leave. All answers wait for the barrier, refusals too,
//! because a refusal may name an event of the same commit.
//!
//! Any error or panic on the way is final: nothing is written any more, and all that waits is refused. What was being
//! written is neither acknowledged nor refused.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::Receiver;
use event_log::{Batch, Clock, Commit, Position, ReadError, Receipt, Removed, limits};
use tokio::sync::oneshot;

use crate::SledOptions;
use crate::answer::{Answer, Answers};
use crate::chunk::ChunkWriter;
use crate::directory::Lock;
use crate::idempotency::Used;
use crate::removal::{Changes, PackPlan, TopicPlan};
use crate::segments::segment::Segment;
use crate::shared::Shared;
use crate::stage::{Ground, Stage, Verdict};
use crate::store::{Store, Writes, panic_text};
use crate::witness::{Testimony, Witness};

/// The longest pause between two commits.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Plans, and who waits for what comes of them.
type Remove = (Vec<TopicPlan>, oneshot::Sender<Removed>);
type Pack = (Box<PackPlan>, oneshot::Sender<Option<Segment>>);
/// Who waits, and for what.
type RemoveDone = (oneshot::Sender<Removed>, Removed);
type PackDone = (oneshot::Sender<Option<Segment>>, Option<Segment>);

/// Something that waits for the writer.
pub(crate) enum Request {
    Append(Append),
    /// Plans of removals; the answer is what was removed.
    Remove(Vec<TopicPlan>, oneshot::Sender<Removed>),
    /// The answer is the plan's file if the plan did not hold any more.
    Pack(Box<PackPlan>, oneshot::Sender<Option<Segment>>),
    /// Writes the projections down as of now.
    Checkpoint(oneshot::Sender<()>),
}

/// An append that waits for the writer.
pub(crate) struct Append {
    pub(crate) batch: Batch,
    pub(crate) weight: usize,
    pub(crate) answer: Answer,
}

impl Request {
    fn weight(&self) -> usize {
        match self {
            Request::Append(append) => append.weight,
            Request::Remove(..) | Request::Pack(..) | Request::Checkpoint(_) => 0,
        }
    }
}

/// What one commit takes, each kind in the order in which it came.
#[derive(Default)]
struct Gathered {
    appends: Vec<Append>,
    removes: Vec<Remove>,
    packs: Vec<Pack>,
    checkpoints: Vec<oneshot::Sender<()>>,
}

impl Gathered {
    fn take(&mut self, request: Request) {
        match request {
            Request::Append(append) => self.appends.push(append),
            Request::Remove(plans, answer) => self.removes.push((plans, answer)),
            Request::Pack(plan, answer) => self.packs.push((plan, answer)),
            Request::Checkpoint(answer) => self.checkpoints.push(answer),
        }
    }
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Receiver<Request>,
    /// What is not an append: it is never slowed down.
    pub(crate) upkeep: Receiver<Request>,
    pub(crate) queued_bytes: Arc<AtomicUsize>,
    pub(crate) used: Used,
    pub(crate) witness: Witness,
    /// What the witness file says is durable.
    pub(crate) witnessed: Position,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: SledOptions,
    /// The bytes of the commit before: room for those of the next.
    pub(crate) buffer: Vec<u8>,
    /// The threads that read; they are joined before the store is let go.
    pub(crate) readers: Vec<JoinHandle<()>>,
    pub(crate) lock: Lock,
}

impl Writer {
    pub(crate) fn start(self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("log-writer".to_owned()).spawn(|| self.run())
    }

    fn run(mut self) {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.shared.fail(error.to_string()),
            Err(panic) => self.shared.fail(format!("the writer panicked: {}", panic_text(&*panic))),
        }
        self.finish();
    }

    fn serve(&mut self) -> Result<(), ReadError> {
        let store = self.shared.store()?;
        while let Some(first) = self.wait() {
            if self.shared.is_open().is_err() {
                // A reader found damage: the rest of the queue is refused when it is dropped.
                return Ok(());
            }
            thread::yield_now();
            let gathered = self.gather(first);
            let bytes = gathered.appends.iter().map(|append| append.weight).sum();
            self.carry_out(&store, gathered)?;
            self.slow_down(&store, bytes)?;
        }
        let something_new = self.shared.view().catalog.has_unindexed();
        // On a full disk the projections stay as they are: the next start reads the events again.
        if something_new && self.shared.is_open().is_ok() && self.shared.has_room(0).is_ok() {
            self.checkpoint(&store)?;
        }
        // The last checkpoint may have been that of a removal.
        let durable = self.shared.view().catalog.indexed_through();
        match self.witnessed < durable && self.shared.is_open().is_ok() {
            true => self.testify(),
            false => Ok(()),
        }
    }

    /// The next request; none once the log takes no more and all that was sent is done.
    fn wait(&self) -> Option<Request> {
        crossbeam_channel::select! {
            recv(self.queue) -> request => request.or_else(|_| self.upkeep.recv()).ok(),
            recv(self.upkeep) -> request => request.or_else(|_| self.queue.recv()).ok(),
        }
    }

    fn carry_out(&mut self, store: &Store, mut gathered: Gathered) -> Result<(), ReadError> {
        let asked_for_checkpoint = std::mem::take(&mut gathered.checkpoints);
        self.commit(store, gathered)?;
        let is_due = self.shared.view().catalog.checkpoint_is_due(self.options.checkpoint_events);
        if is_due || !asked_for_checkpoint.is_empty() {
            self.checkpoint(store)?;
        }
        asked_for_checkpoint.into_iter().for_each(|answer| answer.send(()).unwrap_or_default());
        Ok(())
    }

    /// Where publishers fill the disk faster than policies can give it back, they are slowed down to a rate at which that
    /// is caught up with, the more the worse it is: a bound that is not kept would help nobody. Upkeep goes on meanwhile.
    fn slow_down(&mut self, store: &Store, bytes: usize) -> Result<(), ReadError> {
        let debris = self.shared.debris();
        if bytes == 0 || debris <= 100 {
            return Ok(());
        }
        let times = debris.min(10_000) as f64 / 100.0;
        let seconds = bytes as f64 / f64::from(limits::SLOWED_APPEND_BYTES_PER_SECOND);
        let pause = Duration::from_secs_f64(seconds * times * times);
        let begun = Instant::now();
        let end = begun + pause.min(PAUSE_MAX);
        while let Ok(request) = self.upkeep.recv_deadline(end) {
            let mut gathered = Gathered::default();
            gathered.take(request);
            self.carry_out(store, gathered)?;
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
        self.shared.stats.slowed(begun.elapsed());
        Ok(())
    }

    /// All that is ready, up to the bounds of a commit.
    fn gather(&self, first: Request) -> Gathered {
        let mut gathered = Gathered::default();
        let (mut bytes, mut count) = (0, 0);
        let mut next = Some(first);
        while let Some(request) = next {
            bytes += request.weight();
            count += 1;
            gathered.take(request);
            let is_full = count >= limits::COMMIT_REQUESTS_MAX || bytes >= limits::COMMIT_BYTES_MAX;
            next = match is_full {
                true => None,
                false => self.upkeep.try_recv().or_else(|_| self.queue.try_recv()).ok(),
            };
        }
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        gathered
    }

    fn commit(&mut self, store: &Store, gathered: Gathered) -> Result<(), ReadError> {
        let Gathered { appends, removes, packs, .. } = gathered;
        let bytes = appends.iter().map(|append| append.weight).sum();
        let (stage, verdicts) = self.judge(store, appends, bytes)?;
        let mut changes = Changes::default();
        let (removed, packed) = self.take_plans(store, &mut changes, removes, packs)?;
        // If the write fails or panics, only the next start knows whether its events are in the log. So nobody is told
        // either way: these answers are never sent, not even by a drop, and their connections break with the process.
        let answers = ManuallyDrop::new((verdicts, removed));
        let commit = count(&stage, &answers.0);
        let head = match stage.events.is_empty() && changes.is_empty() {
            true => self.shared.view().catalog.head,
            false => self.write(store, stage, changes)?,
        };
        self.shared.stats.committed(commit);
        let (verdicts, removed) = ManuallyDrop::into_inner(answers);
        let mut answers = Answers::default();
        for (answer, verdict) in verdicts {
            answers.add(answer, verdict.map(|events| Receipt { events, head }));
        }
        drop(answers);
        removed.into_iter().for_each(|(answer, removed)| answer.send(removed).unwrap_or_default());
        packed.into_iter().for_each(|(answer, packed)| answer.send(packed).unwrap_or_default());
        Ok(())
    }

    /// Takes the plans that still hold, and says what each comes to.
    fn take_plans(
        &self,
        store: &Store,
        changes: &mut Changes,
        removes: Vec<Remove>,
        packs: Vec<Pack>,
    ) -> Result<(Vec<RemoveDone>, Vec<PackDone>), ReadError> {
        let view = self.shared.view();
        let removed = removes.into_iter().map(|(plans, answer)| {
            let removed = plans.into_iter().fold(Removed::default(), |sum, plan| {
                let step = changes.take_topic(plan, &view);
                Removed { more: sum.more || step.more, ..sum.and(step) }
            });
            (answer, removed)
        });
        let removed = removed.collect();
        let packed = packs.into_iter().map(|(plan, answer)| {
            let refused = changes.take_pack(*plan, &view, store)?.err();
            Ok((answer, refused))
        });
        Ok((removed, packed.collect::<Result<_, ReadError>>()?))
    }

    /// Makes everything of a commit durable: the events in their file, then what else changes in one batch. Then shows it, and
    /// returns the head.
    fn write(&mut self, store: &Store, stage: Stage, mut changes: Changes) -> Result<Position, ReadError> {
        let mut chunks = ChunkWriter::reusing(std::mem::take(&mut self.buffer));
        stage.events.iter().for_each(|(event, key)| chunks.push(event, key.as_ref()));
        let chunks = chunks.finish();
        if let Some(barrier) = store.append(&chunks)? {
            self.shared.stats.barrier(barrier);
        }
        self.buffer = chunks.bytes;
        self.buffer.shrink_to(limits::COMMIT_BYTES_MAX);
        let with_checkpoint = changes.is_removal();
        if !changes.is_empty() {
            let mut writes = Writes::default();
            if with_checkpoint {
                self.put_checkpoint(store, &changes, &mut writes)?;
            }
            changes.put(&mut writes);
            store.write(writes)?;
        }
        if with_checkpoint {
            store.segments.checkpointed();
        }
        changes.take_packs().into_iter().for_each(|(old, new)| store.segments.replaced(&old, new));
        let grows = !stage.events.is_empty();
        let head = self.shared.change(|view| {
            if with_checkpoint {
                view.catalog.checkpointed();
            }
            if changes.events() > 0 {
                view.fresh.forget_through(changes.through());
            }
            view.catalog.change(changes);
            for (event, _) in stage.events {
                view.catalog.add(&event.topic, event.position, event.time, event.weight());
                view.fresh.push(event);
            }
            view.catalog.head
        });
        self.used.extend(stage.keys);
        // From the first removal on the events alone do not say any more what the log is.
        if with_checkpoint && self.witnessed == Position::ORIGIN {
            self.testify()?;
        }
        if grows {
            self.shared.advance_tail(head);
        }
        Ok(head)
    }

    fn judge(
        &self,
        store: &Store,
        requests: Vec<Append>,
        bytes: usize,
    ) -> Result<(Stage, Vec<(Answer, Verdict)>), ReadError> {
        let view = self.shared.view();
        let window = self.options.idempotency_window;
        let ground = Ground { view: &view, used: &self.used, store, window };
        let mut stage = Stage::new(&view, self.clock.now(), requests.len());
        // The disk is asked once for a commit, and only if it has something new.
        let is_roomy = Cell::new(false);
        let room = || match is_roomy.get() {
            true => Ok(()),
            false => self.shared.has_room(bytes).inspect(|()| is_roomy.set(true)),
        };
        let mut verdicts = Vec::with_capacity(requests.len());
        for Append { batch, answer, .. } in requests {
            let verdict = stage.judge(batch, &ground, room)?;
            verdicts.push((answer, verdict));
        }
        Ok((stage, verdicts))
    }

    /// Puts the projections as of the head into a batch.
    fn put_checkpoint(
        &mut self,
        store: &Store,
        changes: &Changes,
        writes: &mut Writes,
    ) -> Result<(), ReadError> {
        let forgotten = self.clock.now().saturating_sub(self.options.idempotency_window);
        self.used.put_checkpoint(store, forgotten, writes)?;
        self.shared.view().catalog.put_checkpoint(changes, writes);
        store.segments.put_checkpoint(writes);
        Ok(())
    }

    /// Writes the projections down, then the witness.
    fn checkpoint(&mut self, store: &Store) -> Result<(), ReadError> {
        let mut writes = Writes::default();
        self.put_checkpoint(store, &Changes::default(), &mut writes)?;
        store.write(writes)?;
        self.shared.change(|view| view.catalog.checkpointed());
        store.segments.checkpointed();
        self.testify()
    }

    /// Lets the witness say what was written down.
    fn testify(&mut self) -> Result<(), ReadError> {
        let testimony = {
            let view = self.shared.view();
            let catalog = &view.catalog;
            let head = catalog.indexed_through();
            Testimony { epoch: view.epochs.current(), head, events: catalog.events }
        };
        self.witness.write(testimony).map_err(|error| {
            ReadError::Engine(format!("the witness cannot be made durable: {error}").into())
        })?;
        self.witnessed = testimony.head;
        Ok(())
    }

    /// Takes no more reads and ends the tail, waits for the reads that are under way, lets go of the store, and of the directory last.
    fn finish(self) {
        let Writer { shared, queue, upkeep, readers, lock, .. } = self;
        // From here on the readers refuse what waits in their queue.
        shared.jobs.close();
        shared.end_tail();
        // Drops, and so refuses, what was not taken.
        drop((queue, upkeep));
        for reader in readers {
            // The packer or the cleaner may be resting.
            reader.thread().unpark();
            // Reads are guarded one by one; a reader's thread has nothing else that could panic.
            drop(reader.join());
        }
        let store = shared.release_store();
        store.iter().for_each(|store| store.segments.finish());
        // sled writes and syncs when it is dropped, and may panic at that after a failure.
        let is_closed = catch_unwind(AssertUnwindSafe(|| drop(store))).is_ok() && shared.is_open().is_ok();
        match is_closed {
            true => lock.close(),
            false => drop(lock),
        }
        shared.set_closed();
    }
}

/// What a commit comes to.
fn count(stage: &Stage, verdicts: &[(Answer, Verdict)]) -> Commit {
    let taken = verdicts.iter().filter_map(|(_, verdict)| verdict.as_ref().ok());
    let (publishes, answers) =
        taken.fold((0, 0), |(publishes, answers), events| (publishes + 1, answers + events.len()));
    Commit {
        publishes,
        events: stage.events.len() as u64,
        bytes: stage.events.iter().map(|(event, _)| event.weight() as u64).sum(),
        duplicates: (answers - stage.events.len()) as u64,
    }
}
