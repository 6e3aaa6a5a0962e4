//! How fast each subject may publish: events and bytes, from buckets that fill with time.
//!
//! Whoever published nothing for the longest is forgotten when there are too many subjects, so the memory is bounded; that takes
//! as many others as are remembered.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use actix_web::http::StatusCode;
use event_log::NewEvent;
use event_log::limits::RATED_SUBJECTS_MAX;
use governor::clock::{Clock, MonotonicClock};
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use lru::LruCache;
use parking_lot::Mutex;

use super::{Limit, Limits, Subject};
use crate::problem::Problem;

/// A bucket's cells come at most so often in a second: the clock counts nanoseconds, and what is lost in rounding stays small.
const CELLS_PER_SECOND_MAX: u64 = 1_000_000;

/// How much of something a subject may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So much in a second, in the long run.
    pub per_second: u64,
    /// And so much at once. More than this in one request is refused whenever it comes.
    pub burst: u64,
}

/// The buckets of all subjects.
pub(crate) struct Rates {
    events: Option<Buckets>,
    bytes: Option<Buckets>,
}

impl Rates {
    /// Nothing if no rate is limited.
    pub(crate) fn new(limits: &Limits) -> Option<Self> {
        let events = limits.publish_rate.map(|rate| Buckets::new(Limit::PublishRate, rate));
        let bytes = limits.publish_bytes.map(|rate| Buckets::new(Limit::PublishBytes, rate));
        (events.is_some() || bytes.is_some()).then_some(Rates { events, bytes })
    }

    /// Takes what a request publishes from its subject's buckets, or says when there will be enough, or that there never is. What
    /// is refused by the second bucket has taken from the first: who waits as told does not feel it.
    pub(crate) fn take(&self, subject: &Subject, events: &[NewEvent]) -> Result<(), Problem> {
        if let Some(buckets) = &self.events {
            buckets.take(subject, events.len())?;
        }
        if let Some(buckets) = &self.bytes {
            buckets.take(subject, events.iter().map(NewEvent::weight).sum())?;
        }
        Ok(())
    }
}

/// The buckets of one kind.
struct Buckets {
    limit: Limit,
    rate: Rate,
    /// How much one cell stands for.
    cell: u64,
    limiter: RateLimiter<Subject, Remembered, MonotonicClock>,
}

impl Buckets {
    fn new(limit: Limit, rate: Rate) -> Self {
        let cell = rate.per_second.div_ceil(CELLS_PER_SECOND_MAX).max(1);
        let limiter = RateLimiter::new(quota(rate, cell), Remembered::default(), MonotonicClock);
        Buckets { limit, rate, cell, limiter }
    }

    fn take(&self, subject: &Subject, amount: usize) -> Result<(), Problem> {
        // A cell may stand for more than a small burst.
        if amount as u64 > self.rate.burst {
            return Err(self.never(amount));
        }
        let cells = (amount as u64).div_ceil(self.cell).max(1);
        let Some(cells) = u32::try_from(cells).ok().and_then(NonZeroU32::new) else {
            return Err(self.never(amount));
        };
        match self.limiter.check_key_n(subject, cells) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(self.later(until.wait_time_from(MonotonicClock.now()))),
            Err(_) => Err(self.never(amount)),
        }
    }

    fn what(&self) -> &'static str {
        if self.limit == Limit::PublishRate { "events" } else { "bytes" }
    }

    fn burst_key(&self) -> &'static str {
        if self.limit == Limit::PublishRate { "publish_burst" } else { "publish_bytes_burst" }
    }

    /// 429: it goes better by waiting.
    fn later(&self, wait: Duration) -> Problem {
        let Rate { per_second, burst } = self.rate;
        let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
        let detail = format!(
            "more was published than {} allows, which is {per_second} {what} a second and {burst} at once; the next come in \
             {seconds} s",
            self.limit.name(),
            what = self.what(),
        );
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail)
            .with_retry_after(seconds)
            .with_limit(self.limit)
    }

    /// 413: however long one waits, so much at once is too much.
    fn never(&self, amount: usize) -> Problem {
        let detail = format!(
            "the request publishes {amount} {what}, and {} allows {} at once; publish them in several requests",
            self.burst_key(),
            self.rate.burst,
            what = self.what(),
        );
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "burst-too-large", detail).with_limit(self.limit)
    }
}

fn quota(rate: Rate, cell: u64) -> Quota {
    let period = Duration::from_nanos((1_000_000_000 * cell / rate.per_second.max(1)).max(1));
    let burst = u32::try_from(rate.burst.div_ceil(cell)).unwrap_or(u32::MAX);
    Quota::with_period(period)
        .expect("a nanosecond is a period")
        .allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
}

/// How full the buckets are of those who published last.
struct Remembered(Mutex<LruCache<Subject, Nanos>>);

impl Default for Remembered {
    fn default() -> Self {
        let most = NonZeroUsize::new(RATED_SUBJECTS_MAX).unwrap_or(NonZeroUsize::MIN);
        // Room is taken as subjects come.
        let mut subjects = LruCache::unbounded();
        subjects.resize(most);
        Remembered(Mutex::new(subjects))
    }
}

impl StateStore for Remembered {
    type Key = Subject;

    fn measure_and_replace<T, F, E>(&self, subject: &Subject, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut subjects = self.0.lock();
        if let Some(state) = subjects.get_mut(subject) {
            let (outcome, next) = measure(Some(*state))?;
            *state = next;
            return Ok(outcome);
        }
        let (outcome, state) = measure(None)?;
        subjects.put(subject.clone(), state);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use event_log::contract::event;

    use super::*;

    fn rates(events: Option<(u64, u64)>, bytes: Option<(u64, u64)>) -> Rates {
        let rate = |(per_second, burst)| Rate { per_second, burst };
        let (publish_rate, publish_bytes) = (events.map(rate), bytes.map(rate));
        Rates::new(&Limits { publish_rate, publish_bytes, ..Limits::default() }).unwrap()
    }

    fn named(name: &str) -> Subject {
        Subject::Named(name.into())
    }

    #[test]
    fn without_a_rate_nothing_is_kept() {
        assert!(Rates::new(&Limits::default()).is_none());
    }

    #[test]
    fn a_subject_has_its_burst_and_then_its_rate_and_others_have_theirs() {
        let mut rates = rates(Some((1, 3)), None);
        // Nothing comes back while this runs.
        let slow = quota(Rate { per_second: 1, burst: 3 }, 1_000).allow_burst(NonZeroU32::new(3).unwrap());
        rates.events.as_mut().unwrap().limiter =
            RateLimiter::new(slow, Remembered::default(), MonotonicClock);
        let events = [event("a", "x"), event("a", "y")];
        assert!(rates.take(&named("a"), &events).is_ok());
        let refused = rates.take(&named("a"), &events).unwrap_err();
        assert_eq!(refused.parts(), (429, "rate-limited", None, None));
        assert_eq!(refused.limit(), Some(Limit::PublishRate));
        assert!(
            rates.take(&named("a"), &events[..1]).is_ok(),
            "one is left, and was not taken by what was refused"
        );
        assert!(rates.take(&named("b"), &events).is_ok());
    }

    #[test]
    fn what_is_more_than_a_burst_is_never_taken() {
        let rates = rates(Some((1_000_000, 2)), Some((1 << 30, 10)));
        let refused = rates.take(&named("a"), &vec![event("a", "x"); 3]).unwrap_err();
        assert_eq!(refused.parts(), (413, "burst-too-large", None, None));
        assert!(refused.to_string().contains("publish_burst allows 2 at once"), "{refused}");
        let refused = rates.take(&named("b"), &[event("a", "0123456789")]).unwrap_err();
        assert_eq!(refused.parts(), (413, "burst-too-large", None, None));
        assert!(
            refused.to_string().contains("publishes 11 bytes, and publish_bytes_burst allows 10"),
            "{refused}"
        );
    }

    #[test]
    fn high_rates_lose_little_in_rounding() {
        for per_second in [1, 7, 999_983, 3_000_017, 123_456_789, 1 << 30] {
            let rate = Rate { per_second, burst: per_second };
            let cell = Buckets::new(Limit::PublishBytes, rate).cell;
            let cells = quota(rate, cell).replenish_interval().as_secs_f64().recip();
            let actual = cells * cell as f64 / per_second as f64;
            assert!((0.99..1.01).contains(&actual), "{per_second}: {actual}");
        }
    }

    #[test]
    fn who_published_nothing_for_the_longest_is_forgotten() {
        let remembered = Remembered::default();
        let measure = |name: &str| {
            remembered
                .measure_and_replace(&named(name), |state| Ok::<_, ()>((state.is_some(), Nanos::new(1))))
                .unwrap()
        };
        assert!(!measure("first") && measure("first"));
        (0..RATED_SUBJECTS_MAX).for_each(|n| assert!(!measure(&n.to_string())));
        assert!(!measure("first"));
        assert_eq!(remembered.0.lock().len(), RATED_SUBJECTS_MAX);
    }
}
