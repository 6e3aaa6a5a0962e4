//! Who follows a pattern, and how they are woken.
//!
//! To wake a task of a runtime of one thread from outside costs a system call, and a thousand tasks may follow a topic. From
//! inside, a wake-up is an entry in a queue. So a follower is known by the runtime that it runs on, and for all that is
//! routed at once each runtime is given one task, which raises their signals.

use std::sync::Arc;

use slab::Slab;
use tokio::runtime::Handle;

use crate::signal::Signal;
use crate::sync::Mutex;

/// Those who follow a pattern, by their runtime.
#[derive(Default)]
pub(crate) struct Followers {
    groups: Vec<Arc<Group>>,
}

/// Followers who run on the same runtime, or on none.
struct Group {
    runtime: Option<Handle>,
    signals: Mutex<Slab<Arc<Signal>>>,
}

/// Where a follower is.
pub(crate) struct Place {
    group: Arc<Group>,
    number: usize,
}

impl Followers {
    /// Adds a follower who runs here.
    pub(crate) fn join(&mut self, signal: Arc<Signal>) -> Place {
        let runtime = Handle::try_current().ok();
        let id = runtime.as_ref().map(Handle::id);
        let known = self.groups.iter().find(|group| group.runtime.as_ref().map(Handle::id) == id);
        let group = match known {
            Some(group) => Arc::clone(group),
            None => {
                let group = Arc::new(Group { runtime, signals: Mutex::default() });
                self.groups.push(Arc::clone(&group));
                group
            }
        };
        let number = group.signals.lock().insert(signal);
        Place { group, number }
    }

    /// Removes a follower; whether it was the last one.
    pub(crate) fn leave(&mut self, place: &Place) -> bool {
        let is_empty = {
            let mut signals = place.group.signals.lock();
            signals.remove(place.number);
            signals.is_empty()
        };
        if is_empty {
            self.groups.retain(|group| !Arc::ptr_eq(group, &place.group));
        }
        self.groups.is_empty()
    }
}

/// Those who are to be woken. They are when this is dropped.
#[derive(Default)]
pub(crate) struct WakeUps {
    runtimes: Vec<(Option<Handle>, Raise)>,
}

impl WakeUps {
    pub(crate) fn add(&mut self, followers: &Followers) {
        for group in &followers.groups {
            let id = group.runtime.as_ref().map(Handle::id);
            let known = self.runtimes.iter_mut().find(|(known, _)| known.as_ref().map(Handle::id) == id);
            match known {
                Some((_, raise)) => raise.0.push(Arc::clone(group)),
                None => self.runtimes.push((group.runtime.clone(), Raise(vec![Arc::clone(group)]))),
            }
        }
    }
}

impl Drop for WakeUps {
    fn drop(&mut self) {
        for (runtime, raise) in self.runtimes.drain(..) {
            match runtime {
                Some(runtime) if !raise.is_of_one() => drop(runtime.spawn(async move { drop(raise) })),
                // A single one is not worth a task.
                _ => drop(raise),
            }
        }
    }
}

/// Raises signals when it is dropped: by its task, or by a runtime that takes no more tasks.
struct Raise(Vec<Arc<Group>>);

impl Raise {
    fn is_of_one(&self) -> bool {
        matches!(&*self.0, [group] if group.signals.lock().len() == 1)
    }
}

impl Drop for Raise {
    fn drop(&mut self) {
        for group in &self.0 {
            group.signals.lock().iter().for_each(|(_, signal)| signal.raise());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    fn join(followers: &mut Followers, runtime: &Runtime) -> (Arc<Signal>, Place) {
        let _inside = runtime.enter();
        let signal = Arc::new(Signal::default());
        (Arc::clone(&signal), followers.join(signal))
    }

    fn wake(followers: &Followers) {
        let mut wake_ups = WakeUps::default();
        wake_ups.add(followers);
    }

    async fn raised(signal: &Signal) {
        poll_fn(|context| signal.poll_raised(context)).await;
    }

    #[test]
    fn all_are_woken_on_every_runtime_and_outside_of_any() {
        let runtimes = [runtime(), runtime()];
        let mut followers = Followers::default();
        let inside: Vec<_> = [0, 1, 1, 0, 0].map(|n| (n, join(&mut followers, &runtimes[n]))).into();
        let outside = Arc::new(Signal::default());
        let _place = followers.join(Arc::clone(&outside));
        wake(&followers);
        futures_executor::block_on(raised(&outside));
        for (n, (signal, _)) in &inside {
            runtimes[*n].block_on(raised(signal));
        }
    }

    #[test]
    fn who_has_left_is_not_woken_and_the_last_one_says_so() {
        let runtime = runtime();
        let mut followers = Followers::default();
        let (gone, place) = join(&mut followers, &runtime);
        let (stays, other) = join(&mut followers, &runtime);
        assert!(!followers.leave(&place));
        wake(&followers);
        runtime.block_on(raised(&stays));
        let is_raised = poll_fn(|context| std::task::Poll::Ready(gone.poll_raised(context).is_ready()));
        assert!(!runtime.block_on(is_raised));
        assert!(followers.leave(&other));
        assert!(followers.groups.is_empty());
    }

    #[test]
    fn a_runtime_that_has_ended_loses_no_wake_up() {
        let ended = runtime();
        let mut followers = Followers::default();
        let all: Vec<_> = (0..3).map(|_| join(&mut followers, &ended)).collect();
        drop(ended);
        wake(&followers);
        all.iter().for_each(|(signal, _)| futures_executor::block_on(raised(signal)));
    }
}
