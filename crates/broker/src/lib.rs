//! Publish, open, subscribe, retain: what a broker does with a log, without bytes on a wire or on a disk.
//!
//! The one idea: **a live subscriber is a replaying one whose cursor has reached the head.** Publisher and subscriber
//! never meet; between them stands the log. [`Subscription::next`] is the only loop; what it reads comes from the
//! events of the last moments in memory (`hub`) when the cursor is near the head, and from the log when it is not.
//! There is no queue for a subscriber, so there is none that could overflow.
//!
//! Never here: bytes of a wire format, an engine's name, a wait that holds a publisher.
#![forbid(unsafe_code)]

mod start;
mod subscription;

mod feeder;
mod followers;
mod hub;
mod routes;
mod signal;
mod sync;

#[cfg(all(test, feature = "interleavings"))]
mod interleavings;

mod administration;
mod policies;
mod policy;
mod policy_topic;
mod revocation_topic;
mod stats_topic;
mod told;

mod alarm;
mod remover;
mod retention;
mod retention_stats;

mod options;
mod own;
pub mod units;

use std::sync::Arc;

use event_log::{
    AppendError, Batch, Clock, Encoder, Epochs, EventLog, Filter, Position, ReadError, Receipt, Timestamp,
};
use futures_executor::block_on;
use futures_util::future::BoxFuture;

pub use administration::ActError;
pub use hub::{Memo, Recent};
pub use options::Options;
pub use policies::Policies;
pub use policy::{InvalidPolicy, Policy, Stated};
pub use retention_stats::{RemovedCounts, RetentionCounts, RetentionStats};
pub use start::{Gap, GapReason, OnGap, Opened, Start};
pub use subscription::{Events, Step, Subscription};

use feeder::Feeder;
use hub::Hub;
use policy_topic::PolicyTopic;
use remover::Remover;
use retention::{Retention, Tools};
use revocation_topic::RevocationTopic;
use stats_topic::StatsTopic;

/// A broker on a log. A clone is another handle on the same broker.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<dyn EventLog>,
    epochs: Epochs,
    clock: Arc<dyn Clock>,
    options: Options,
    hub: Arc<Hub>,
    feeder: Feeder,
    policies: Arc<PolicyTopic>,
    revocations: Arc<RevocationTopic>,
    stats: StatsTopic,
    remover: Remover,
    retention: Retention,
}

/// What a broker that was started without threads has to be given turns for.
pub struct Turns {
    feed: BoxFuture<'static, ()>,
    retain: retention::Actor,
}

impl Turns {
    /// Takes the work of the feeder, to be polled apart.
    pub fn take_feed(&mut self) -> BoxFuture<'static, ()> {
        std::mem::replace(&mut self.feed, Box::pin(std::future::pending()))
    }

    /// Carries the policies out once.
    pub async fn retain(&mut self) {
        self.retain.turn().await;
    }
}

impl Broker {
    /// Begins to serve a log that is open: reads the policies and revocations that it holds, and starts one thread that feeds recent
    /// events to the subscriptions and one that carries policies out.
    pub fn start(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, options: Options) -> std::io::Result<Self> {
        let feed = |log, hub| Ok((Feeder::start(log, hub)?, ()));
        let retain = |tools| Ok((Retention::start(tools)?, ()));
        Self::start_with(log, clock, options, feed, retain).map(|(broker, ..)| broker)
    }

    /// The same without threads: whoever asked for it gives the turns, in an order of its own, as a simulation does.
    pub fn start_in_turns(
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> std::io::Result<(Self, Turns)> {
        let feed = |log, hub| Ok(Feeder::without_thread(log, hub));
        let retain = |tools| Ok(Retention::without_thread(tools));
        let (broker, feed, retain) = Self::start_with(log, clock, options, feed, retain)?;
        Ok((broker, Turns { feed, retain }))
    }

    /// Starts what feeds the subscriptions and what carries policies out in the way that is asked for, and returns what that
    /// leaves to be done.
    fn start_with<F, R>(
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        options: Options,
        feed: impl FnOnce(Arc<dyn EventLog>, Arc<Hub>) -> std::io::Result<(Feeder, F)>,
        retain: impl FnOnce(Tools) -> std::io::Result<(Retention, R)>,
    ) -> std::io::Result<(Self, F, R)> {
        let policies = Arc::new(PolicyTopic::new(Arc::clone(&log), policy_topic::NAME));
        block_on(policies.current()).map_err(std::io::Error::other)?;
        let revocations = Arc::new(RevocationTopic::new(Arc::clone(&log), revocation_topic::NAME));
        block_on(revocations.current()).map_err(std::io::Error::other)?;
        let hub = Arc::new(Hub::new(log.tail().head(), log.removals()));
        let remover = Remover::new(Arc::clone(&log), Arc::clone(&hub));
        let (feeder, feed) = feed(Arc::clone(&log), Arc::clone(&hub))?;
        let (retention, retain) = retain(Tools {
            log: Arc::clone(&log),
            remover: remover.clone(),
            policies: Arc::clone(&policies),
            clock: Arc::clone(&clock),
            options,
        })?;
        let inner = Inner {
            epochs: log.bounds().epochs,
            log,
            clock,
            options,
            hub,
            feeder,
            policies,
            revocations,
            stats: StatsTopic::new(),
            remover,
            retention,
        };
        Ok((Broker { inner: Arc::new(inner) }, feed, retain))
    }

    /// The log.
    pub fn log(&self) -> &Arc<dyn EventLog> {
        &self.inner.log
    }

    /// The histories that the log knows. They do not change while it is open.
    pub fn epochs(&self) -> &Epochs {
        &self.inner.epochs
    }

    /// The newest durable place.
    pub fn head(&self) -> Position {
        self.inner.log.tail().head()
    }

    /// The present moment, as the broker counts time.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// What the retention actor has done.
    pub fn retention(&self) -> &RetentionStats {
        self.inner.retention.stats()
    }

    /// Appends a batch; see [`EventLog::append`].
    pub fn publish(&self, batch: Batch) -> BoxFuture<'static, Result<Receipt, AppendError>> {
        self.inner.log.append(batch)
    }

    /// Turns what a reader asked for into a place of this log. What cannot be honoured is told as a gap, never an error.
    pub async fn open(
        &self,
        filter: &Arc<Filter>,
        start: &Start,
        on_gap: OnGap,
    ) -> Result<Opened, ReadError> {
        start::open(&*self.inner.log, &self.inner.epochs, filter, start, on_gap).await
    }

    /// Everything that a filter wants after the place that was opened, for ever. What comes from the log is given as the encoder
    /// makes it.
    pub fn subscribe(&self, filter: Arc<Filter>, opened: &Opened, encoder: Arc<dyn Encoder>) -> Subscription {
        let Inner { log, epochs, hub, .. } = &*self.inner;
        Subscription::new(Arc::clone(log), epochs.current(), Arc::clone(hub), filter, opened, encoder)
    }

    /// Ends every subscription, those that begin later too.
    pub fn end_subscriptions(&self) {
        self.inner.hub.end();
    }

    /// Ends every subscription and the work on policies, then closes the log and waits for it.
    pub async fn stop(&self) {
        self.end_subscriptions();
        self.inner.retention.stop();
        self.inner.log.close().await;
        self.inner.feeder.join();
    }
}
