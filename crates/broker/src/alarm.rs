//! What wakes the retention actor, and what tells it to stop.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    stopping: bool,
}

impl Alarm {
    /// Ends a wait, or the next one if nobody waits now.
    pub(crate) fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_all();
    }

    /// Ends every wait from now on.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// Waits until it is woken, told to stop, or the time is up. Whether to stop.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.woken && !state.stopping, time);
        state.woken = false;
        state.stopping
    }

    /// Waits for a time, or until there is something else to do; that is not forgotten.
    pub(crate) fn rest(&self, time: Duration) {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.woken && !state.stopping, time);
    }
}
