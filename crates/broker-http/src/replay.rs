//! How many streams read history from the log at one time.
//!
//! A reader of history takes a turn on its thread for each page ([`crate::turns`]); where the number of readers is limited, it also
//! takes a place among those of all threads, from before the page is asked for until it was read. Who waits is served in order, page
//! by page, so a long history holds up a short one for a page. A client that does not read holds no place: its next page is
//! not asked for.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use broker::Subscription;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// One stream's place among the readers of history.
pub(crate) struct Replay {
    /// Nothing where their number is not limited.
    places: Option<Box<Places>>,
}

struct Places {
    all: PollSemaphore,
    mine: Option<OwnedSemaphorePermit>,
}

impl Replay {
    pub(crate) fn new(places: Option<&Arc<Semaphore>>) -> Self {
        let places = places.map(|all| Places { all: PollSemaphore::new(Arc::clone(all)), mine: None });
        Replay { places: places.map(Box::new) }
    }

    /// Ready when a subscription may ask for what comes next: at once, unless it is in the log.
    pub(crate) fn poll_allowed(
        &mut self,
        context: &mut Context<'_>,
        subscription: &Subscription,
    ) -> Poll<()> {
        let Some(places) = &mut self.places else { return Poll::Ready(()) };
        if places.mine.is_none() && subscription.is_behind() {
            places.mine = ready!(places.all.poll_acquire(context));
        }
        Poll::Ready(())
    }

    /// It has read what it asked for.
    pub(crate) fn end(&mut self) {
        if let Some(places) = &mut self.places {
            places.mine = None;
        }
    }
}
