//! The wake-up of one subscription: a level, not an edge.
//!
//! The follower lowers it, looks for events, and waits only if it found none; whoever adds events adds them first and
//! raises it then. So an event that comes between the look and the wait leaves the signal raised, and no wake-up is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

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

    /// Before a look.
    pub(crate) fn lower(&self) {
        self.raised.store(false, Ordering::SeqCst);
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
