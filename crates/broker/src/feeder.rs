//! The one thread that reads what has just become durable and routes it to those who follow.
//!
//! It reads the log like any other reader: it is woken by the tail, so it cannot see what is not durable, and an engine
//! never has to push. It has a thread of its own so that no publisher and no stream waits for it.

use std::sync::Arc;
use std::thread::JoinHandle;

use event_log::limits::{COMMIT_BYTES_MAX, COMMIT_REQUESTS_MAX};
use event_log::{Cursor, EventLog, Filter, LogReader, PageLimit, ReadError};
use futures_executor::block_on;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::hub::Hub;

/// Enough for a whole group commit, so that each is routed and told of once.
const LIMIT: PageLimit = PageLimit { events: COMMIT_REQUESTS_MAX, bytes: COMMIT_BYTES_MAX };

pub(crate) struct Feeder {
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Feeder {
    /// Routes everything after the present head, until the log closes.
    pub(crate) fn start(log: Arc<dyn EventLog>, hub: Arc<Hub>) -> std::io::Result<Self> {
        let (feeder, work) = Self::without_thread(log, hub);
        let thread = std::thread::Builder::new().name("feeder".into()).spawn(move || block_on(work))?;
        *feeder.thread.lock() = Some(thread);
        Ok(feeder)
    }

    /// The same, done by whoever polls the work.
    pub(crate) fn without_thread(log: Arc<dyn EventLog>, hub: Arc<Hub>) -> (Self, BoxFuture<'static, ()>) {
        let from = Cursor { removals: log.removals(), position: log.tail().head() };
        let work = async move {
            if let Err(error) = feed(&*log, &hub, from).await {
                tracing::error!(%error, "recent events cannot be read; ending all streams");
            }
            hub.end();
        };
        (Feeder { thread: Mutex::new(None) }, Box::pin(work))
    }

    /// Waits for the thread to end, which it does when the log is closed.
    pub(crate) fn join(&self) {
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the feeder panicked");
        }
    }
}

async fn feed(log: &dyn EventLog, hub: &Hub, from: Cursor) -> Result<(), ReadError> {
    let mut reader: Box<dyn LogReader> = log.reader(Arc::new(Filter::everything()));
    let mut tail = log.tail();
    let mut routed = from;
    while tail.wait_past(routed.position).await.is_ok() {
        while !route_page(&mut *reader, hub, &mut routed).await? {}
    }
    Ok(())
}

/// Routes the next page of what is durable; whether that is all.
pub(crate) async fn route_page(
    reader: &mut dyn LogReader,
    hub: &Hub,
    routed: &mut Cursor,
) -> Result<bool, ReadError> {
    let page = reader.read(*routed, LIMIT).await?;
    *routed = page.next;
    hub.route(page.events, routed.position);
    if page.gap {
        // What was removed before it could be routed wakes nobody by itself. Whose loss it is they find out.
        hub.wake();
    }
    Ok(page.at_head)
}
