//! The newest durable place, as a level that can be waited for.
//!
//! Level-triggered: what is watched is the place itself, never an event, so a wake-up that comes late or twice, or for
//! three commits at once, tells the same truth. Nobody sees a place here before it is durable.

use tokio::sync::watch;

use crate::Position;

/// The engine's side: moved forward once a commit is durable. Dropping it closes every watch.
#[derive(Debug)]
pub struct Tail(watch::Sender<Position>);

impl Tail {
    /// A tail at the head that was recovered.
    pub fn new(head: Position) -> Self {
        Tail(watch::Sender::new(head))
    }

    /// The newest durable place.
    pub fn head(&self) -> Position {
        *self.0.borrow()
    }

    /// Makes a durable place visible. Panics if it does not grow: the one order would be broken.
    pub fn advance(&self, head: Position) {
        self.0.send_modify(|current| {
            assert!(head > *current, "the head went from {current} to {head}");
            *current = head;
        });
    }

    /// A reader's side.
    pub fn watch(&self) -> TailWatch {
        TailWatch(self.0.subscribe())
    }
}

/// The log was closed, or it failed: the head will not move again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is closed")]
pub struct TailClosed;

/// A reader's side of the newest durable place.
#[derive(Debug, Clone)]
pub struct TailWatch(watch::Receiver<Position>);

impl TailWatch {
    /// The newest durable place.
    pub fn head(&self) -> Position {
        *self.0.borrow()
    }

    /// Waits until the head is past a place, and says where it is.
    pub async fn wait_past(&mut self, place: Position) -> Result<Position, TailClosed> {
        self.0.wait_for(|head| *head > place).await.map(|head| *head).map_err(|_| TailClosed)
    }
}
