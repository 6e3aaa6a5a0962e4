//! The locks and atomics at which readers, the feeder and removals meet.
//!
//! They are the real ones, or, with the feature `interleavings`, those of [loom](https://docs.rs/loom), under which a test goes
//! through every order in which threads may come to them (`interleavings.rs`).

#[cfg(not(feature = "interleavings"))]
pub(crate) use atomic_waker::AtomicWaker;
#[cfg(not(feature = "interleavings"))]
pub(crate) use parking_lot::{Mutex, RwLock};
#[cfg(not(feature = "interleavings"))]
pub(crate) use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "interleavings")]
pub(crate) use explored::{AtomicWaker, Mutex, RwLock};
#[cfg(feature = "interleavings")]
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

/// loom's, with the names and the shape of the real ones.
#[cfg(feature = "interleavings")]
mod explored {
    use std::task::Waker;

    use loom::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    const NO_POISON: &str = "a thread that panics ends the run";

    #[derive(Debug)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl Default for AtomicWaker {
        fn default() -> Self {
            AtomicWaker(loom::future::AtomicWaker::new())
        }
    }

    impl AtomicWaker {
        pub(crate) fn wake(&self) {
            self.0.wake();
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect(NO_POISON)
        }
    }

    #[derive(Debug)]
    pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            RwLock(loom::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect(NO_POISON)
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect(NO_POISON)
        }
    }
}
