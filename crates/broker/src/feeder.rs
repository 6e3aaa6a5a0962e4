//! The one thread that reads what has just become durable and routes it to those who follow.
//!
//! It reads the log like any other reader: it is woken by the tail, so it cannot see what is not durable, and an engine
//! never has to push. It has a thread of its own so that no publisher and no stream waits for it.

use std::sync::Arc;
use std::thread::JoinHandle;

use event_log::limits::{COMMIT_BYTES_MAX, COMMIT_REQUESTS_MAX};
use event_log::{EventLog, Filter, LogReader, PageLimit, Position, ReadError};
use futures_executor::block_on;
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
        let from = log.tail().head();
        let feed = move || {
            if let Err(error) = block_on(feed(&*log, &hub, from)) {
                tracing::error!(%error, "recent events cannot be read; ending all streams");
            }
            hub.end();
        };
        let thread = std::thread::Builder::new().name("feeder".into()).spawn(feed)?;
        Ok(Feeder { thread: Mutex::new(Some(thread)) })
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

async fn feed(log: &dyn EventLog, hub: &Hub, from: Position) -> Result<(), ReadError> {
    let mut reader: Box<dyn LogReader> = log.reader(Arc::new(Filter::everything()));
    let mut tail = log.tail();
    let mut routed = from;
    while tail.wait_past(routed).await.is_ok() {
        loop {
            let page = reader.read(routed, LIMIT).await?;
            routed = page.next;
            hub.route(page.events, routed);
            if page.at_head {
                break;
            }
        }
    }
    Ok(())
}
