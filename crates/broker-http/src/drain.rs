//! How streams end when the broker stops: not all at once, as their clients would then come back at once.

use std::sync::OnceLock;
use std::time::Duration;

use event_log::limits::DRAIN_MILLIS_PER_STREAM;
use rand::RngExt;

/// The end of all streams. It is laid out when it is first asked for.
#[derive(Debug)]
pub(crate) struct Drain {
    most: Duration,
    time: OnceLock<Duration>,
}

impl Drain {
    /// One that takes no longer than `most`.
    pub(crate) fn new(most: Duration) -> Self {
        Drain { most, time: OnceLock::new() }
    }

    /// How long it takes to end so many streams as are open when this is asked first: a few need not be spread as far.
    pub(crate) fn time(&self, streams: usize) -> Duration {
        let needed = Duration::from_millis(DRAIN_MILLIS_PER_STREAM.saturating_mul(streams as u64));
        *self.time.get_or_init(|| needed.min(self.most))
    }

    /// How long one of them goes on.
    pub(crate) fn moment(&self, streams: usize) -> Duration {
        self.time(streams).mul_f64(rand::rng().random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_follows_the_streams_up_to_what_it_may_be_and_stays() {
        let most = Duration::from_secs(2);
        assert_eq!(Drain::new(most).time(0), Duration::ZERO);
        assert_eq!(Drain::new(most).time(100), Duration::from_millis(500));
        assert_eq!(Drain::new(most).time(usize::MAX), most);
        let drain = Drain::new(most);
        assert_eq!(
            (drain.time(10), drain.time(10_000)),
            (Duration::from_millis(50), Duration::from_millis(50))
        );
    }

    #[test]
    fn the_streams_are_spread_over_the_time() {
        let drain = Drain::new(Duration::from_millis(1_000));
        let moments: Vec<u128> = (0..1_000).map(|_| drain.moment(10_000).as_millis()).collect();
        for tenth in 0..10 {
            let within = moments.iter().filter(|moment| **moment / 100 == tenth).count();
            assert!((30..300).contains(&within), "{within} of a thousand in the tenth number {tenth}");
        }
    }
}
