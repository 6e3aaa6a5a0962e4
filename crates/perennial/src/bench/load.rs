//! All publishers.

use std::sync::Arc;

use anyhow::Context;
use event_log::{EventId, Position};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ledger::{Faults, Published};
use super::meter::Meter;
use super::pace::Pace;
use super::publisher::Publisher;
use super::session::Session;

pub(super) struct Load {
    session: Arc<Session>,
    runtime: Handle,
    /// Counts answers.
    pub(super) meter: Arc<Meter>,
    /// By their numbers, while they do not publish.
    idle: Vec<Publisher>,
    busy: JoinSet<anyhow::Result<Publisher>>,
    over: CancellationToken,
}

impl Load {
    /// Publishers that run on the threads that work, where no readers are in their way.
    pub(super) fn alone(session: &Arc<Session>) -> Self {
        Self::new(session, &session.working)
    }

    /// Publishers beside readers.
    pub(super) fn beside_readers(session: &Arc<Session>) -> Self {
        Self::new(session, &session.timing)
    }

    fn new(session: &Arc<Session>, runtime: &Handle) -> Self {
        Load {
            session: Arc::clone(session),
            runtime: runtime.clone(),
            meter: Arc::new(Meter::new(session.threads)),
            idle: Vec::new(),
            busy: JoinSet::new(),
            over: CancellationToken::new(),
        }
    }

    /// Opens so many connections.
    pub(super) async fn open(&mut self, publishers: usize, is_batch: bool) -> anyhow::Result<()> {
        for number in (0..=u16::MAX).take(publishers) {
            let session = Arc::clone(&self.session);
            let opened = async move { Publisher::open(&session, number, is_batch).await };
            self.busy.spawn_on(opened, &self.runtime);
        }
        self.settle().await
    }

    /// Lets each publish at its pace, which the number of the publisher may decide.
    pub(super) fn start(&mut self, pace: impl Fn(usize) -> Pace) {
        for publisher in std::mem::take(&mut self.idle) {
            let pace = pace(usize::from(publisher.number));
            let (session, meter) = (Arc::clone(&self.session), Arc::clone(&self.meter));
            let run = publisher.run(session, pace, meter, self.over.clone());
            self.busy.spawn_on(run, &self.runtime);
        }
    }

    /// Tells of a publisher that failed.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        while let Some(joined) = self.busy.try_join_next() {
            self.take_back(joined)?;
        }
        Ok(())
    }

    /// Whether all have ended by themselves.
    pub(super) fn has_ended(&self) -> bool {
        self.busy.is_empty()
    }

    /// Ends publishing, once what is under way has been answered.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        self.over.cancel();
        self.settle().await?;
        self.over = CancellationToken::new();
        Ok(())
    }

    /// Publishes one more event, when all others were answered: whoever was given it was given everything. Returns its
    /// place.
    pub(super) async fn last(&mut self) -> anyhow::Result<Position> {
        let others = self.idle.split_off(1);
        self.start(|_| Pace::one());
        self.settle().await?;
        self.idle.extend(others);
        Ok(self.idle.first().map(Publisher::newest).unwrap_or_default())
    }

    /// The id of the event that stands first in the log.
    pub(super) fn first(&self) -> Option<EventId> {
        let firsts = self.idle.iter().filter_map(|publisher| publisher.ends.map(|(first, _)| first));
        firsts.min_by_key(|id| id.position)
    }

    /// All that was answered.
    pub(super) fn published(&self) -> Published {
        let mut published = Published::default();
        for publisher in &self.idle {
            published.counts.push(publisher.tally.events);
            published.tally += publisher.tally;
        }
        published
    }

    /// What was wrong with the answers.
    pub(super) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        self.idle.iter().for_each(|publisher| faults += publisher.faults);
        faults
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        while let Some(joined) = self.busy.join_next().await {
            self.take_back(joined)?;
        }
        Ok(())
    }

    fn take_back(&mut self, joined: Result<anyhow::Result<Publisher>, JoinError>) -> anyhow::Result<()> {
        self.idle.push(joined.context("a publisher panicked")??);
        self.idle.sort_unstable_by_key(|publisher| publisher.number);
        Ok(())
    }
}
