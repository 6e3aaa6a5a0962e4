//! The one writer: a thread that makes the order.
//!
//! It takes one request, then all that are ready, judges them, and commits what is new as one batch with one barrier
//! (group commit without a timer). Then, in this order: the view shows it, the tail moves, the answers leave. All
//! answers wait for the barrier, refusals too, because a refusal may name an event of the same commit.
//!
//! Any error or panic on the way is final: nothing is written any more, and all that waits is refused. What was being
//! written is neither acknowledged nor refused.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::{io, thread};

use crossbeam_channel::Receiver;
use event_log::{AppendError, Batch, Clock, Position, ReadError, Receipt, limits};
use tokio::sync::oneshot;

use crate::SledOptions;
use crate::chunk::ChunkWriter;
use crate::directory::Lock;
use crate::idempotency::Recent;
use crate::shared::Shared;
use crate::stage::{Ground, Stage, Verdict};
use crate::store::{Store, Writes, panic_text};
use crate::witness::{Testimony, Witness};

type Answer = oneshot::Sender<Result<Receipt, AppendError>>;

/// An append that waits for the writer.
pub(crate) struct Request {
    pub(crate) batch: Batch,
    pub(crate) weight: usize,
    pub(crate) answer: Answer,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Receiver<Request>,
    pub(crate) queued_bytes: Arc<AtomicUsize>,
    pub(crate) recent: Recent,
    pub(crate) witness: Witness,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: SledOptions,
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
        while let Ok(first) = self.queue.recv() {
            if self.shared.is_open().is_err() {
                // A reader found damage: the rest of the queue is refused when it is dropped.
                return Ok(());
            }
            let requests = self.gather(first);
            self.commit(&store, requests)?;
            if self.shared.view().catalog.checkpoint_is_due(self.options.checkpoint_events) {
                self.checkpoint(&store)?;
            }
        }
        let something_new = self.shared.view().catalog.has_unindexed();
        // On a full disk the projections stay as they are: the next start reads the events again.
        if something_new && self.shared.is_open().is_ok() && self.shared.has_room(0).is_ok() {
            self.checkpoint(&store)?;
        }
        Ok(())
    }

    /// All that is ready, up to the bounds of a commit.
    fn gather(&self, first: Request) -> Vec<Request> {
        let mut bytes = first.weight;
        let mut requests = vec![first];
        while requests.len() < limits::COMMIT_REQUESTS_MAX && bytes < limits::COMMIT_BYTES_MAX {
            let Ok(next) = self.queue.try_recv() else { break };
            bytes += next.weight;
            requests.push(next);
        }
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        requests
    }

    fn commit(&mut self, store: &Store, requests: Vec<Request>) -> Result<(), ReadError> {
        let bytes = requests.iter().map(|request| request.weight).sum();
        let (stage, verdicts) = self.judge(store, requests, bytes)?;
        // If the write fails or panics, only the next start knows whether its events are in the log. So nobody is told
        // either way: these answers are never sent, not even by a drop, and their connections break with the process.
        let verdicts = ManuallyDrop::new(verdicts);
        let head = if stage.events.is_empty() {
            self.shared.view().catalog.head
        } else {
            let mut writes = Writes::default();
            let mut chunks = ChunkWriter::default();
            stage.events.iter().for_each(|(event, key)| chunks.push(event, key.as_ref()));
            chunks.finish().into_iter().for_each(|(key, value)| writes.put(&key, value));
            store.write(writes)?;
            self.show(stage)
        };
        for (answer, verdict) in ManuallyDrop::into_inner(verdicts) {
            // Whoever went away in the meantime does not hear it; the append stands.
            drop(answer.send(verdict.map(|events| Receipt { events, head })));
        }
        Ok(())
    }

    fn judge(
        &self,
        store: &Store,
        requests: Vec<Request>,
        bytes: usize,
    ) -> Result<(Stage, Vec<(Answer, Verdict)>), ReadError> {
        let view = self.shared.view();
        let window = self.options.idempotency_window;
        let ground = Ground { view: &view, recent: &self.recent, store, window };
        let mut stage = Stage::new(&view, self.clock.now());
        // The disk is asked once for a commit, and only if it has something new.
        let is_roomy = Cell::new(false);
        let room = || match is_roomy.get() {
            true => Ok(()),
            false => self.shared.has_room(bytes).inspect(|()| is_roomy.set(true)),
        };
        let mut verdicts = Vec::with_capacity(requests.len());
        for Request { batch, answer, .. } in requests {
            let verdict = stage.judge(batch, &ground, room)?;
            verdicts.push((answer, verdict));
        }
        Ok((stage, verdicts))
    }

    /// Makes a durable commit visible, and returns the new head.
    fn show(&mut self, stage: Stage) -> Position {
        let head = self.shared.change(|view| {
            for (event, _) in stage.events {
                view.oldest.get_or_insert(event.position);
                view.catalog.add(&event.topic, event.position, event.time, event.weight());
                view.fresh.push(event);
            }
            view.catalog.head
        });
        self.recent.extend(stage.keys);
        self.shared.advance_tail(head);
        head
    }

    /// Writes the projections down, then the witness.
    fn checkpoint(&mut self, store: &Store) -> Result<(), ReadError> {
        let mut writes = Writes::default();
        let forgotten = self.clock.now().saturating_sub(self.options.idempotency_window);
        self.recent.put_checkpoint(store, forgotten, &mut writes)?;
        self.shared.view().catalog.put_checkpoint(&mut writes);
        store.write(writes)?;
        self.shared.change(|view| view.catalog.checkpointed());
        self.recent.checkpointed();
        let testimony = {
            let view = self.shared.view();
            let catalog = &view.catalog;
            Testimony { epoch: view.epochs.current(), head: catalog.head, events: catalog.events }
        };
        self.witness
            .write(testimony)
            .map_err(|error| ReadError::Engine(format!("the witness cannot be made durable: {error}").into()))
    }

    /// Takes no more reads and ends the tail, waits for the reads that are under way, lets go of the store, and of the directory last.
    fn finish(self) {
        let Writer { shared, queue, readers, lock, .. } = self;
        // From here on the readers refuse what waits in their queue.
        shared.jobs.write().take();
        shared.end_tail();
        // Drops, and so refuses, what was not taken.
        drop(queue);
        for reader in readers {
            // Reads are guarded one by one; a reader's thread has nothing else that could panic.
            drop(reader.join());
        }
        let store = shared.release_store();
        // sled writes and syncs when it is dropped, and may panic at that after a failure.
        drop(catch_unwind(AssertUnwindSafe(|| drop(store))));
        drop(lock);
        shared.set_closed();
    }
}
