//! When a publisher sends its next request, and how many events go in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::meter::Meter;

/// Saturated, events that have been published and not reached all readers yet, at most: enough to keep them busy, and
/// few enough that the latency is that of the broker and not of a backlog.
const WINDOW_EVENTS: u64 = 64;
/// How often a full window is looked at.
const WINDOW_PAUSE: Duration = Duration::from_micros(500);

/// What drives a publisher.
#[derive(Clone)]
pub(super) enum Pace {
    /// It sends when the last request was answered.
    Answered { batch: usize },
    /// It sends an event when one is due, whatever became of the last one.
    Timed { due: Instant, every: Duration },
    /// It sends an event when the readers, so many, have got most of those before it.
    Followed { published: Arc<Meter>, delivered: Arc<Meter>, readers: u64 },
    /// It sends when the last request was answered, until none of the events that all publishers share are left.
    Counted { left: Arc<AtomicU64>, batch: usize },
}

/// A request that goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) events: usize,
    /// Since when the events wait: latencies begin here.
    pub(super) since: Instant,
}

impl Pace {
    /// Waits until it is time; `None` once it is over.
    pub(super) async fn next(&mut self, over: &CancellationToken) -> Option<Turn> {
        if over.is_cancelled() {
            return None;
        }
        let now = Instant::now();
        match self {
            Pace::Answered { batch } => Some(Turn { events: *batch, since: now }),
            Pace::Timed { due, every } => {
                let was_due = *due;
                *due += *every;
                Some(Turn { events: 1, since: wait_until(was_due, over).await? })
            }
            Pace::Followed { published, delivered, readers } => {
                while published.events() >= delivered.events() / *readers + WINDOW_EVENTS {
                    over.run_until_cancelled(sleep(WINDOW_PAUSE)).await?;
                }
                Some(Turn { events: 1, since: Instant::now() })
            }
            Pace::Counted { left, batch } => {
                let batch = *batch as u64;
                let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    Some(left.saturating_sub(batch))
                });
                let events = before.unwrap_or_default().min(batch) as usize;
                (events > 0).then_some(Turn { events, since: now })
            }
        }
    }

    /// One event, now.
    pub(super) fn one() -> Self {
        Pace::Counted { left: Arc::new(AtomicU64::new(1)), batch: 1 }
    }

    /// So many events a second from all of so many publishers, for the one with this number.
    pub(super) fn timed(per_second: f64, publishers: usize, number: usize) -> Self {
        let every = Duration::from_secs_f64(publishers as f64 / per_second);
        let first = every.mul_f64(number as f64 / publishers as f64);
        Pace::Timed { due: Instant::now() + first, every }
    }
}

/// Waits until an event is due, and returns since when it counts; `None` if it is over before.
async fn wait_until(due: Instant, over: &CancellationToken) -> Option<Instant> {
    if due <= Instant::now() {
        return Some(due);
    }
    over.run_until_cancelled(sleep_until(due.into())).await?;
    // The timer wakes up to a millisecond late, which is not the broker's doing.
    Some(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn publishers_share_a_rate_and_take_turns() {
        let dues: Vec<Instant> = (0..4)
            .map(|number| {
                let Pace::Timed { due, every } = Pace::timed(100.0, 4, number) else { panic!() };
                assert_eq!(every, Duration::from_millis(40));
                due
            })
            .collect();
        let gaps: Vec<Duration> = dues.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(10)), "{gaps:?}");
    }

    #[test]
    fn an_event_that_could_not_be_sent_in_time_counts_from_when_it_was_due() {
        let over = CancellationToken::new();
        let due = Instant::now();
        let mut pace = Pace::Timed { due, every: Duration::from_millis(5) };
        std::thread::sleep(Duration::from_millis(12));
        let sinces: Vec<Duration> = block_on(async {
            let mut sinces = Vec::new();
            for _ in 0..4 {
                sinces.push(pace.next(&over).await.unwrap().since - due);
            }
            sinces
        });
        assert_eq!(&sinces[..3], [0, 5, 10].map(Duration::from_millis));
        assert!(sinces[3] >= Duration::from_millis(12), "it was in time again: {sinces:?}");
    }

    #[test]
    fn a_count_is_shared_and_ends_with_what_is_left() {
        let mut paces = vec![Pace::Counted { left: Arc::new(AtomicU64::new(25)), batch: 10 }; 2];
        let over = CancellationToken::new();
        let mut given = Vec::new();
        for turn in 0..4 {
            given.push(block_on(paces[turn % 2].next(&over)).map(|turn| turn.events));
        }
        assert_eq!(given, [Some(10), Some(10), Some(5), None]);
    }

    #[test]
    fn a_full_window_waits_for_the_readers_and_for_the_end() {
        let [published, delivered] = [0, 0].map(|_| Arc::new(Meter::new(1)));
        published.advance(WINDOW_EVENTS);
        let mut pace = Pace::Followed { published, delivered: Arc::clone(&delivered), readers: 2 };
        let over = CancellationToken::new();
        block_on(async {
            let wait = Duration::from_millis(20);
            assert!(tokio::time::timeout(wait, pace.next(&over)).await.is_err(), "the window is full");
            delivered.advance(2);
            assert!(pace.next(&over).await.is_some());
            over.cancel();
            assert_eq!(pace.next(&over).await, None);
        });
    }
}
