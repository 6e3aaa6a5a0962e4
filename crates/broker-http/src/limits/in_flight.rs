//! Bytes of requests that are being received, of all together: each may be slow and large, and there may be many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Limit;

/// How much is being received.
#[derive(Debug)]
pub(crate) struct InFlight {
    most: usize,
    bytes: AtomicUsize,
}

impl InFlight {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(InFlight { most, bytes: AtomicUsize::new(0) })
    }

    /// A share for one request, empty at first.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { in_flight: Arc::clone(self), bytes: 0 }
    }
}

/// What one request holds of it, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    in_flight: Arc<InFlight>,
    bytes: usize,
}

impl Share {
    /// Holds so many bytes from now on, unless all together would then hold too many. It costs nothing if nothing changes.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Limit> {
        let InFlight { most, bytes: all } = &*self.in_flight;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let before = all.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > *most {
                all.fetch_sub(more, Ordering::Relaxed);
                return Err(Limit::BodiesInFlight);
            }
        } else if bytes < self.bytes {
            all.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.in_flight.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_hold_no_more_than_they_may_and_what_is_let_go_is_free() {
        let in_flight = InFlight::new(10);
        let (mut one, mut other) = (in_flight.share(), in_flight.share());
        assert_eq!(one.hold(6), Ok(()));
        assert_eq!(other.hold(5), Err(Limit::BodiesInFlight));
        assert_eq!(other.hold(4), Ok(()), "what was refused is not held");
        assert_eq!(one.hold(7), Err(Limit::BodiesInFlight));
        assert_eq!(one.hold(2), Ok(()));
        assert_eq!(other.hold(8), Ok(()));
        drop(other);
        assert_eq!(one.hold(10), Ok(()));
        drop(one);
        assert_eq!(in_flight.bytes.load(Ordering::Relaxed), 0);
    }
}
