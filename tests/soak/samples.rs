//! What is measured every second, and what is made of it: a table, and the judgement whether disk and memory are flat.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::harness::Broker;
use crate::harness::heavy::resident_bytes;
use crate::load::{Run, locked};

pub(crate) const MIB: u64 = 1_024 * 1_024;
/// A steady state is promised, and a minute to come to it.
const STEADY_SECONDS: f64 = 60.0;
/// What the resident memory may be more in the last third than in the second.
const MEMORY_SLACK: u64 = 96 * MIB;

/// One second of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Since the beginning of the run.
    pub(crate) seconds: f64,
    pub(crate) published_per_second: f64,
    pub(crate) delivered_per_second: f64,
    pub(crate) removed_per_second: f64,
    pub(crate) single_p50_ms: f64,
    pub(crate) single_p99_ms: f64,
    pub(crate) batch_p50_ms: f64,
    pub(crate) batch_p99_ms: f64,
    pub(crate) kept_events: u64,
    pub(crate) kept_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) gaps: u64,
    pub(crate) missing: u64,
    /// The broker was killed in this second.
    pub(crate) is_kill: bool,
}

/// The samples of a run, and what the next one is a difference to.
#[derive(Default)]
pub(crate) struct Samples {
    pub(crate) all: Vec<Sample>,
    published: u64,
    delivered: u64,
    removed: u64,
    seconds: f64,
}

impl Samples {
    /// Looks at everything. The broker must be running.
    pub(crate) fn take(&mut self, broker: &Broker, run: &Run, seconds: f64, is_kill: bool) {
        let status = broker.json("/v1/status");
        let number = |name: &str| status[name].as_u64().unwrap_or_else(|| panic!("{name} in {status}"));
        let published = run.published.load(Ordering::Relaxed);
        let delivered = run.delivered.load(Ordering::Relaxed);
        // What was published and is not kept was removed; the broker's own few events do not matter.
        let removed = published.saturating_sub(number("events")).max(self.removed);
        let per_second = |now: u64, before: u64| (now - before) as f64 / (seconds - self.seconds).max(0.001);
        let (single_p50_ms, single_p99_ms) = quantiles(&run.singles);
        let (batch_p50_ms, batch_p99_ms) = quantiles(&run.batches);
        self.all.push(Sample {
            seconds,
            published_per_second: per_second(published, self.published),
            delivered_per_second: per_second(delivered, self.delivered),
            removed_per_second: per_second(removed, self.removed),
            single_p50_ms,
            single_p99_ms,
            batch_p50_ms,
            batch_p99_ms,
            kept_events: number("events"),
            kept_bytes: number("bytes"),
            disk_bytes: disk_bytes(&broker.data()),
            resident_bytes: resident_bytes(broker.pid()),
            gaps: run.gaps.load(Ordering::Relaxed),
            missing: run.missing.load(Ordering::Relaxed),
            is_kill,
        });
        (self.published, self.delivered, self.removed, self.seconds) =
            (published, delivered, removed, seconds);
    }

    /// What is wrong with disk and memory.
    pub(crate) fn judge(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        // Policies become narrower here, and a directory does not shrink at once: the most that was kept so far counts.
        let mut kept_most = 0;
        for sample in &self.all {
            kept_most = kept_most.max(sample.kept_bytes);
            if sample.seconds > STEADY_SECONDS && sample.disk_bytes > allowed(kept_most) {
                wrong.push(format!(
                    "after {:.0} s the directory takes {} MiB for at the most {} MiB kept",
                    sample.seconds,
                    sample.disk_bytes / MIB,
                    kept_most / MIB
                ));
            }
        }
        wrong.truncate(5);
        let third = self.all.len() / 3;
        let peak = |part: &[Sample]| part.iter().map(|sample| sample.resident_bytes).max().unwrap_or(0);
        let (second, last) = (peak(&self.all[third..2 * third]), peak(&self.all[2 * third..]));
        // A short run has not filled its caches before the last third begins.
        if self.all.len() > 300 && last > second + MEMORY_SLACK {
            wrong.push(format!("memory grew from {} to {} MiB", second / MIB, last / MIB));
        }
        wrong
    }

    /// The table, with a line for each sample.
    pub(crate) fn write_csv(&self, path: &Path) -> std::io::Result<()> {
        let mut text = String::from(
            "seconds,published_per_second,delivered_per_second,removed_per_second,single_p50_ms,single_p99_ms,\
             batch_p50_ms,batch_p99_ms,kept_events,kept_bytes,disk_bytes,resident_bytes,gaps,missing,kill\n",
        );
        for s in &self.all {
            let written = writeln!(
                text,
                "{:.1},{:.0},{:.0},{:.0},{:.3},{:.3},{:.3},{:.3},{},{},{},{},{},{},{}",
                s.seconds,
                s.published_per_second,
                s.delivered_per_second,
                s.removed_per_second,
                s.single_p50_ms,
                s.single_p99_ms,
                s.batch_p50_ms,
                s.batch_p99_ms,
                s.kept_events,
                s.kept_bytes,
                s.disk_bytes,
                s.resident_bytes,
                s.gaps,
                s.missing,
                u8::from(s.is_kill)
            );
            written.map_err(std::io::Error::other)?;
        }
        fs::write(path, text)
    }
}

/// The promise: 2.5 times what is kept and 64 MiB.
pub(crate) fn allowed(kept: u64) -> u64 {
    kept * 5 / 2 + 64 * MIB
}

/// The median and the 99th percentile in milliseconds, of what came since the last time.
fn quantiles(times: &Mutex<Vec<u32>>) -> (f64, f64) {
    let mut times = std::mem::take(&mut *locked(times));
    (quantile(&mut times, 0.5), quantile(&mut times, 0.99))
}

/// A quantile in milliseconds of microseconds; 0 of nothing.
pub(crate) fn quantile(micros: &mut [u32], share: f64) -> f64 {
    micros.sort_unstable();
    let at = (micros.len() as f64 * share) as usize;
    micros.get(at.min(micros.len().saturating_sub(1))).map_or(0.0, |micros| f64::from(*micros) / 1_000.0)
}

/// What the files of a directory take on disk.
fn disk_bytes(directory: &Path) -> u64 {
    let mut bytes = 0;
    // A file may go while this looks.
    for entry in fs::read_dir(directory).into_iter().flatten().map_while(Result::ok) {
        let Ok(about) = entry.metadata() else { continue };
        bytes += if about.is_dir() { disk_bytes(&entry.path()) } else { about.blocks() * 512 };
    }
    bytes
}
