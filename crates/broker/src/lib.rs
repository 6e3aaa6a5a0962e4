//! Publish, open, subscribe: what a broker does with a log, without bytes on a wire or on a disk.
//!
//! The one idea: **a live subscriber is a replaying one whose cursor has reached the head.** Publisher and subscriber
//! never meet; between them stands the log. [`Subscription::next`] is the only loop; what it reads comes from the
//! events of the last moments in memory (`hub`) when the cursor is near the head, and from the log when it is not.
//! There is no queue for a subscriber, so there is none that could overflow.
//!
//! Never here: bytes of a wire format, an engine's name, a wait that holds a publisher.
#![forbid(unsafe_code)]

mod feeder;
mod hub;
mod routes;
mod signal;
mod start;
mod subscription;
pub mod units;

use std::sync::Arc;

use event_log::{AppendError, Batch, Epochs, EventLog, Filter, Position, ReadError, Receipt};
use futures_util::future::BoxFuture;

pub use hub::{Memo, Recent};
pub use start::{Gap, GapReason, OnGap, Opened, Start};
pub use subscription::{Events, Step, Subscription};

use feeder::Feeder;
use hub::Hub;

/// A broker on a log. A clone is another handle on the same broker.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<dyn EventLog>,
    epochs: Epochs,
    hub: Arc<Hub>,
    feeder: Feeder,
}

impl Broker {
    /// Begins to serve a log that is open. Starts the one thread that feeds recent events to the subscriptions.
    pub fn start(log: Arc<dyn EventLog>) -> std::io::Result<Self> {
        let hub = Arc::new(Hub::new(log.tail().head()));
        let feeder = Feeder::start(Arc::clone(&log), Arc::clone(&hub))?;
        let epochs = log.bounds().epochs;
        Ok(Broker { inner: Arc::new(Inner { log, epochs, hub, feeder }) })
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

    /// Everything that a filter wants after the place that was opened, for ever.
    pub fn subscribe(&self, filter: Arc<Filter>, opened: &Opened) -> Subscription {
        let Inner { log, epochs, hub, .. } = &*self.inner;
        Subscription::new(Arc::clone(log), epochs.current(), Arc::clone(hub), filter, opened)
    }

    /// Ends every subscription, those that begin later too.
    pub fn end_subscriptions(&self) {
        self.inner.hub.end();
    }

    /// Ends every subscription, then closes the log and waits for it.
    pub async fn stop(&self) {
        self.end_subscriptions();
        self.inner.log.close().await;
        self.inner.feeder.join();
    }
}
