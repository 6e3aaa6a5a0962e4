//! The wake-up of one subscription: a level, not an edge.
//!
//! The follower lowers it, looks for events, and waits only if it found none; whoever adds events adds them first and
//! raises it then. So an event that comes between the look and the wait leaves the signal raised, and no wake-up is lost.

use std::task::{Context, Poll};

use crate::sync::{AtomicBool, AtomicWaker, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Something may have come. Cheap if it was raised already.
    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Before a look. It is read, and not only written: so the look sees what came before a raise that this takes back.
    pub(crate) fn lower(&self) {
        self.raised.swap(false, Ordering::AcqRel);
    }

    /// Ready while raised.
    pub(crate) fn poll_raised(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        match self.raised.load(Ordering::SeqCst) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
