//! Who runs next: one thread, and tasks that are polled in an order that the numbers choose.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::LocalBoxFuture;

use crate::numbers::Numbers;

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Task {
    number: u64,
    work: LocalBoxFuture<'static, ()>,
    ready: Arc<Ready>,
}

/// Tasks under way.
#[derive(Default)]
pub(crate) struct Tasks {
    all: Vec<Task>,
    next: u64,
}

impl Tasks {
    /// Adds a task, and says its number.
    pub(crate) fn spawn(&mut self, work: impl Future<Output = ()> + 'static) -> u64 {
        self.next += 1;
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        self.all.push(Task { number: self.next, work: Box::pin(work), ready });
        self.next
    }

    /// Ends a task wherever it is.
    pub(crate) fn cut(&mut self, number: u64) {
        self.all.retain(|task| task.number != number);
    }

    /// Polls one that is ready; its number, if there is any.
    pub(crate) fn turn(&mut self, numbers: &mut Numbers) -> Option<u64> {
        let is_ready = |task: &Task| task.ready.0.load(Ordering::SeqCst);
        let ready: Vec<usize> = (0..self.all.len()).filter(|at| is_ready(&self.all[*at])).collect();
        let at = *ready.get(numbers.index(ready.len()))?;
        let task = &mut self.all[at];
        task.ready.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&task.ready));
        let number = task.number;
        if task.work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.all.remove(at);
        }
        Some(number)
    }
}

/// Lets others go first, so many times.
pub(crate) async fn step_back(times: u64) {
    let mut left = times;
    poll_fn(|context| match left {
        0 => Poll::Ready(()),
        _ => {
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
