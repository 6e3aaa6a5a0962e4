//! The families of one answer, made from counts.

use std::time::Duration;

use event_log::HistogramCounts;
use prometheus::core::Collector;
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};
use prometheus::{
    Counter, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// What a histogram of microseconds is divided by to be one of seconds.
pub(super) const MICROS_PER_SECOND: f64 = 1_000_000.0;

/// The families of one answer. The registry refuses what is named wrong, or twice.
#[derive(Default)]
pub(super) struct Families {
    registry: Registry,
    /// The library's own histograms count by themselves; these were counted already.
    histograms: Vec<MetricFamily>,
}

impl Families {
    /// All of them as text, sorted by name.
    pub(super) fn to_text(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend_from_slice(&self.histograms);
        families.sort_by(|one, other| one.name().cmp(other.name()));
        TextEncoder::new().encode_to_string(&families)
    }

    pub(super) fn build_info(
        &mut self,
        name: &str,
        help: &str,
        label: (&str, &str),
    ) -> prometheus::Result<()> {
        let gauge = IntGauge::with_opts(Opts::new(name, help).const_label(label.0, label.1))?;
        gauge.set(1);
        self.add(gauge)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.add(gauge)
    }

    pub(super) fn int_gauge(&mut self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(shown(value));
        self.add(gauge)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.add(counter)
    }

    pub(super) fn seconds_counter(
        &mut self,
        name: &str,
        help: &str,
        value: Duration,
    ) -> prometheus::Result<()> {
        let counter = Counter::new(name, help)?;
        counter.inc_by(value.as_secs_f64());
        self.add(counter)
    }

    /// A gauge for each value of a label.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) -> prometheus::Result<()> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        values
            .into_iter()
            .for_each(|(word, value)| gauges.with_label_values(&[word.as_ref()]).set(shown(value)));
        self.add(gauges)
    }

    /// A counter for each value of a label.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> prometheus::Result<()> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        values.into_iter().for_each(|(word, value)| counters.with_label_values(&[word]).inc_by(value));
        self.add(counters)
    }

    /// A histogram whose values are shown divided by `unit`.
    pub(super) fn histogram(&mut self, name: &str, help: &str, counts: &HistogramCounts, unit: f64) {
        let up_to = counts.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let buckets = counts.bounds.iter().zip(up_to).map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / unit);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.count());
        histogram.set_sample_sum(counts.sum as f64 / unit);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        self.histograms.push(family);
    }

    fn add(&mut self, family: impl Collector + 'static) -> prometheus::Result<()> {
        self.registry.register(Box::new(family))
    }
}

fn shown(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
