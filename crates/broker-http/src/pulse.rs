//! Wake-ups at a time, for the many who only wait for their next heartbeat: one timer for all of a thread.
//!
//! Moments are told apart by a fiftieth of a second; all who are due in the same one are woken together, and never before
//! they are due. Whoever was busy meanwhile looks at the clock and goes on waiting, so nothing is moved when a stream writes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::turns::Turns;

/// How far apart the moments are.
const TICK: Duration = Duration::from_millis(20);

/// The timer of a thread.
pub(crate) struct Pulse {
    began: Instant,
    /// Everything up to this tick was woken.
    fired: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Slab<Waker>>>,
    /// Somebody waits for an earlier tick than all others.
    nearer: Notify,
    over: Cell<bool>,
    turns: Rc<Turns>,
}

impl Pulse {
    /// Starts the timer of this thread, and its turns. When `shutdown` is cancelled, all who wait are woken, once.
    pub(crate) fn start(shutdown: CancellationToken) -> Rc<Self> {
        let pulse = Rc::new(Pulse {
            began: Instant::now(),
            fired: Cell::new(0),
            waiting: RefCell::default(),
            nearer: Notify::new(),
            over: Cell::new(false),
            turns: Turns::start(),
        });
        actix_web::rt::spawn(Rc::clone(&pulse).run(shutdown));
        pulse
    }

    async fn run(self: Rc<Self>, shutdown: CancellationToken) {
        loop {
            let next = self.waiting.borrow().keys().next().copied();
            let due = async {
                match next {
                    Some(tick) => sleep_until(self.moment(tick)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled(), if !self.over.get() => self.end(),
                () = due => self.fire(self.tick(Instant::now())),
                () = self.nearer.notified() => {}
            }
        }
    }

    /// Wakes all who wait for a moment up to this one.
    fn fire(&self, tick: u64) {
        let later = self.waiting.borrow_mut().split_off(&(tick + 1));
        let due = self.waiting.replace(later);
        self.fired.set(tick);
        due.into_values().flatten().for_each(|(_, waker)| waker.wake());
    }

    /// Wakes all who wait, so that they see that it is over. What they are set to stays.
    fn end(&self) {
        self.over.set(true);
        self.waiting.borrow().values().flatten().for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// Whether the server stops.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// The turns of the same thread.
    pub(crate) fn turns(&self) -> Rc<Turns> {
        Rc::clone(&self.turns)
    }

    fn tick(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.began).as_millis() / TICK.as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn moment(&self, tick: u64) -> Instant {
        self.began + TICK * u32::try_from(tick).unwrap_or(u32::MAX)
    }

    fn insert(&self, tick: u64, waker: Waker) -> usize {
        let mut waiting = self.waiting.borrow_mut();
        let is_nearer = waiting.keys().next().is_none_or(|first| tick < *first);
        let key = waiting.entry(tick).or_default().insert(waker);
        if is_nearer {
            self.nearer.notify_one();
        }
        key
    }

    fn remove(&self, tick: u64, key: usize) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(wakers) = waiting.get_mut(&tick) {
            wakers.try_remove(key);
            if wakers.is_empty() {
                waiting.remove(&tick);
            }
        }
    }
}

/// One task's wake-up. It costs nothing to ask as long as it is set.
pub(crate) struct Alarm {
    pulse: Rc<Pulse>,
    /// The tick that it is set to, and its number there.
    set: Option<(u64, usize)>,
}

impl Alarm {
    pub(crate) fn new(pulse: Rc<Pulse>) -> Self {
        Alarm { pulse, set: None }
    }

    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Ready once a moment has come. Until then the task is woken, at that moment or, if it asked for an earlier one
    /// before, to ask again.
    pub(crate) fn poll_due(&mut self, context: &Context<'_>, due: Instant) -> Poll<()> {
        let wanted = self.pulse.tick(due) + 1;
        if self.is_set_up_to(wanted) {
            return Poll::Pending;
        }
        self.unset();
        if Instant::now() >= due {
            return Poll::Ready(());
        }
        self.set = Some((wanted, self.pulse.insert(wanted, context.waker().clone())));
        Poll::Pending
    }

    fn is_set_up_to(&self, wanted: u64) -> bool {
        self.set.is_some_and(|(tick, _)| tick > self.pulse.fired.get() && tick <= wanted)
    }

    fn unset(&mut self) {
        if let Some((tick, key)) = self.set.take()
            && tick > self.pulse.fired.get()
        {
            self.pulse.remove(tick, key);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}

#[cfg(test)]
mod tests;
