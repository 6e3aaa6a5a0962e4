//! Who replays history takes turns with everybody else on its thread.
//!
//! A page of history keeps a thread busy for as long as a dozen publishes, and hundreds of readers may come back at once. So one page
//! is written at a time, and between two of them the thread looks at its sockets and does all else that is ready: however
//! many replay, a publisher waits for one page and not for one of each.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// The turns of a thread.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: RefCell<VecDeque<Rc<Place>>>,
    somebody: Notify,
}

/// A place in the queue.
struct Place {
    granted: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Turns {
    /// Starts to give turns on this thread.
    pub(crate) fn start() -> Rc<Self> {
        let turns = Rc::new(Turns::default());
        actix_web::rt::spawn(Rc::clone(&turns).run());
        turns
    }

    async fn run(self: Rc<Self>) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                Some(place) => {
                    place.granted.set(true);
                    place.waker.borrow().wake_by_ref();
                    // Goes on once the sockets were looked at, and the log's writer, who wants the core for a moment only, had it.
                    yield_now().await;
                    std::thread::yield_now();
                }
                None => self.somebody.notified().await,
            }
        }
    }
}

/// One stream's turns.
pub(crate) struct Turn {
    turns: Rc<Turns>,
    place: Option<Rc<Place>>,
}

impl Turn {
    pub(crate) fn new(turns: Rc<Turns>) -> Self {
        Turn { turns, place: None }
    }

    /// Ready when it is this stream's turn, which it is until it ends it.
    pub(crate) fn poll_begun(&mut self, context: &Context<'_>) -> Poll<()> {
        match &self.place {
            Some(place) if place.granted.get() => Poll::Ready(()),
            Some(place) => {
                place.waker.borrow_mut().clone_from(context.waker());
                Poll::Pending
            }
            None => {
                let waker = RefCell::new(context.waker().clone());
                let place = Rc::new(Place { granted: Cell::new(false), waker });
                self.turns.waiting.borrow_mut().push_back(Rc::clone(&place));
                self.turns.somebody.notify_one();
                self.place = Some(place);
                Poll::Pending
            }
        }
    }

    /// The turn is over, if it has begun.
    pub(crate) fn end(&mut self) {
        self.place.take_if(|place| place.granted.get());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[actix_web::test]
    async fn turns_go_round_one_at_a_time_and_who_has_left_holds_up_nobody() {
        let turns = Turns::start();
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut gone = Turn::new(Rc::clone(&turns));
        assert!(poll_fn(|context| Poll::Ready(gone.poll_begun(context))).await.is_pending());
        drop(gone);
        let tasks = [0, 1, 2].map(|number| {
            let (mut turn, order) = (Turn::new(Rc::clone(&turns)), Rc::clone(&order));
            actix_web::rt::spawn(async move {
                for _ in 0..50 {
                    poll_fn(|context| turn.poll_begun(context)).await;
                    turn.end();
                    order.borrow_mut().push(number);
                }
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.take();
        assert_eq!(order.len(), 150);
        for round in order[3..147].chunks(3) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2], "{order:?}");
        }
    }
}
