//! How much happened, and how long it took: counted where it happens, and taken from there every so often.
//!
//! Every thread counts in a part of its own, so that none waits for another, and locks it once for all that one read brought.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Longest latency that is told apart, in microseconds: an hour.
const LATENCY_MICROS_MAX: u64 = 3_600_000_000;
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;

/// Latencies in microseconds.
pub(super) fn histogram() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, DIGITS);
    made.expect("the bounds are those of a histogram")
}

/// Milliseconds of a number of microseconds.
pub(super) fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

/// What was counted since it was last taken.
pub(super) struct Counts {
    pub(super) events: u64,
    pub(super) requests: u64,
    latencies: Histogram<u64>,
}

impl Counts {
    fn new() -> Self {
        Counts { events: 0, requests: 0, latencies: histogram() }
    }

    /// Counts an event, or whatever takes time.
    pub(super) fn latency(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: &Counts) {
        self.events += other.events;
        self.requests += other.requests;
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
    }

    fn clear(&mut self) {
        (self.events, self.requests) = (0, 0);
        self.latencies.reset();
    }
}

/// Threads that have counted so far, and the number of this one among them.
static THREADS: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// Where all publishers count, or all readers.
pub(super) struct Meter {
    parts: Vec<Mutex<Counts>>,
    /// Events since the beginning.
    events: AtomicU64,
}

impl Meter {
    /// A meter for so many threads.
    pub(super) fn new(threads: usize) -> Self {
        let parts = (0..threads).map(|_| Mutex::new(Counts::new())).collect();
        Meter { parts, events: AtomicU64::new(0) }
    }

    /// The part of this thread.
    pub(super) fn part(&self) -> MutexGuard<'_, Counts> {
        self.parts[THREAD.with(|number| number % self.parts.len())].lock()
    }

    /// Tells of so many events that a part has counted.
    pub(super) fn advance(&self, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    /// All events since the beginning.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Takes what was counted since the last time.
    fn take(&self, into: &mut Counts) {
        into.clear();
        for part in &self.parts {
            let mut part = part.lock();
            into.add(&part);
            part.clear();
        }
    }
}

/// What happened in one stretch of time.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    /// The end of the stretch, since the measuring began.
    pub(super) seconds: f64,
    pub(super) events_per_second: f64,
    /// None if nothing was timed.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// The course of one measurement.
pub(super) struct Course {
    begun: Instant,
    sampled: Instant,
    every: Duration,
    processor_before: Duration,
    /// Everything since it began.
    whole: Counts,
    stretch: Counts,
    pub(super) samples: Vec<Sample>,
    /// The length of it, and the processor time of this process in it, once it has ended.
    pub(super) length: Duration,
    pub(super) processor: Duration,
}

impl Course {
    /// Begins now: what was counted before is forgotten.
    pub(super) fn begin(meter: &Meter, every: Duration) -> Self {
        let mut stretch = Counts::new();
        meter.take(&mut stretch);
        let now = Instant::now();
        Course {
            begun: now,
            sampled: now,
            every,
            processor_before: processor_time(),
            whole: Counts::new(),
            stretch,
            samples: Vec::new(),
            length: Duration::ZERO,
            processor: Duration::ZERO,
        }
    }

    /// Takes a sample, if it is time for one.
    pub(super) fn tick(&mut self, meter: &Meter) {
        if self.sampled.elapsed() >= self.every {
            self.sample(meter);
        }
    }

    /// Ends now.
    pub(super) fn end(&mut self, meter: &Meter) {
        // What is left may be too little to tell a rate of.
        match self.samples.is_empty() || self.sampled.elapsed() >= self.every / 2 {
            true => self.sample(meter),
            false => self.gather(meter),
        }
        self.length = self.begun.elapsed();
        self.processor = processor_time().saturating_sub(self.processor_before);
    }

    /// Forgets how long it took, where that means nothing.
    pub(super) fn without_latencies(mut self) -> Self {
        self.samples.iter_mut().for_each(|sample| (sample.p50_ms, sample.p99_ms) = (None, None));
        self
    }

    fn gather(&mut self, meter: &Meter) {
        meter.take(&mut self.stretch);
        self.whole.add(&self.stretch);
    }

    fn sample(&mut self, meter: &Meter) {
        self.gather(meter);
        let (length, now) = (self.sampled.elapsed(), Instant::now());
        let latencies = &self.stretch.latencies;
        let quantile = |q| (!latencies.is_empty()).then(|| millis(latencies.value_at_quantile(q)));
        self.samples.push(Sample {
            seconds: rounded((now - self.begun).as_secs_f64()),
            events_per_second: rounded(per_second(self.stretch.events, length)),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
        });
        self.sampled = now;
    }

    pub(super) fn events_per_second(&self) -> f64 {
        per_second(self.whole.events, self.length)
    }

    pub(super) fn requests_per_second(&self) -> f64 {
        per_second(self.whole.requests, self.length)
    }

    pub(super) fn latencies(&self) -> &Histogram<u64> {
        &self.whole.latencies
    }
}

/// Three places behind the point: finer than anything that is measured.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

pub(super) fn per_second(count: u64, length: Duration) -> f64 {
    count as f64 / length.as_secs_f64().max(1e-6)
}

/// What this process has computed so far, on all processors together.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_counts_what_happens_while_it_lasts() {
        let meter = Meter::new(2);
        let count = |events: u64, latency: u64| {
            let mut counts = meter.part();
            counts.events += events;
            counts.requests += 1;
            counts.latency(Duration::from_micros(latency));
            meter.advance(events);
        };
        count(5, 900_000);
        let mut course = Course::begin(&meter, Duration::ZERO);
        count(2, 1_000);
        course.tick(&meter);
        std::thread::scope(|scope| scope.spawn(|| count(3, 3_000)).join()).unwrap();
        course.end(&meter);
        assert_eq!((meter.events(), course.whole.events, course.samples.len()), (10, 5, 2));
        assert_eq!((course.latencies().len(), course.latencies().max() / 100), (2, 30));
        assert!((course.samples[0].p50_ms.unwrap() - 1.0).abs() < 0.01, "{:?}", course.samples);
        assert!(course.events_per_second() > 0.0 && course.requests_per_second() > 0.0);
    }

    #[test]
    fn a_stretch_in_which_nothing_happened_has_no_latency() {
        let meter = Meter::new(1);
        let mut course = Course::begin(&meter, Duration::ZERO);
        course.end(&meter);
        let Sample { events_per_second, p50_ms, .. } = course.samples[0];
        assert_eq!((events_per_second, p50_ms), (0.0, None));
    }
}
